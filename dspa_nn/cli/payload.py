"""`dspa payload`: the bytes of a run on NDIF, before anything is sent."""

import json
from typing import Annotated

import typer

from dspa_nn.cli.options import DEFAULT_PRESET, AsJSON, Preset
from dspa_nn.errors import NDIFError
from dspa_nn.models import get_preset
from dspa_nn.ndif import MAX_REQUEST_BYTES, from_shapes, sizes_from_shapes
from dspa_nn.personas import read_map
from dspa_nn.steering import DSPA


def payload(
    map_folder: Annotated[
        str | None,
        typer.Argument(metavar="MAP", help="A saved map, its hub id, or a persona's file."),
    ] = None,
    preset: Preset = DEFAULT_PRESET,
    payload_dtype: Annotated[
        str | None,
        typer.Option(
            help="With a map: cast both SAEs to a dtype such as bfloat16, which is inexact."
        ),
    ] = None,
    width: Annotated[
        int | None, typer.Option(min=1, help="Without a map: latents of both SAEs.")
    ] = None,
    columns: Annotated[
        int | None,
        typer.Option(
            min=0, help="Without a map: output latents that one could edit.", show_default="159"
        ),
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Print what a run on NDIF would send, part by part; nothing is sent.

    With a map its SAEs are loaded and the request is packed, without a model. Without one, sizes
    come from the preset's shapes alone (or --width), and nothing is loaded.
    """
    others = {"--payload-dtype": payload_dtype}
    if map_folder is not None:
        others = {"--width": width, "--columns": columns}
    for name, value in others.items():
        if value is not None:
            raise NDIFError(
                f"{name} came {'without' if map_folder is None else 'with'} a map, where it has no "
                "meaning; leave it out"
            )
    if map_folder is None:
        columns = 159 if columns is None else columns
        shape = get_preset(preset)
        widths = (shape.d_in, shape.d_out) if width is None else (width, width)
        sizes: tuple[int, int, int] = (shape.config.hidden_size, *widths)
        if as_json:
            requests = [
                {"name": name, "float32": whole, "bfloat16": half}
                for name, whole, half in sizes_from_shapes(*sizes, columns=columns)
            ]
            typer.echo(json.dumps({"requests": requests, "limit": MAX_REQUEST_BYTES}, indent=1))
            return
        typer.echo(from_shapes(*sizes, columns=columns))
        return
    fitted = read_map(map_folder)
    dspa = DSPA.from_preset(preset, dispatch=False, payload_dtype=payload_dtype)
    told = dspa.payload(fitted)
    typer.echo(json.dumps(told.to_dict(), indent=1) if as_json else told)
