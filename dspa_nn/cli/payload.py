"""`dspa payload`: the bytes of a run on NDIF, before anything is sent."""

from typing import Annotated

import typer

from dspa_nn.cli.maps import read_map
from dspa_nn.cli.options import DEFAULT_PRESET, Preset
from dspa_nn.models import get_preset
from dspa_nn.ndif import from_shapes
from dspa_nn.steering import DSPA


def payload(
    map_folder: Annotated[
        str | None, typer.Argument(metavar="[MAP]", help="A saved map, or its hub id.")
    ] = None,
    preset: Preset = DEFAULT_PRESET,
    payload_dtype: Annotated[
        str | None,
        typer.Option(help="Cast both SAEs to a dtype such as bfloat16; results are then inexact."),
    ] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Latents of both SAEs.")] = None,
    columns: Annotated[int, typer.Option(min=0, help="Output latents that a map can edit.")] = 159,
) -> None:
    """Print what a run on NDIF would send, part by part; nothing is sent.

    With a map its SAEs are loaded and the request is packed, without a model. Without one, sizes
    come from the preset's shapes alone (or --width), and nothing is loaded.
    """
    if map_folder is None:
        shape = get_preset(preset)
        widths = (shape.d_in, shape.d_out) if width is None else (width, width)
        typer.echo(from_shapes(shape.config.hidden_size, *widths, columns=columns))
        return
    fitted = read_map(map_folder)
    dspa = DSPA.from_preset(preset, dispatch=False, payload_dtype=payload_dtype)
    typer.echo(dspa.payload(fitted))
