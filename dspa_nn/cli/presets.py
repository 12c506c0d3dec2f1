"""`dspa presets`: what there is by name, and what each takes."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from dspa_nn.cli.options import AsJSON
from dspa_nn.costs import needs_table, preset_needs
from dspa_nn.models import PRESETS, get_preset


def presets(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="PRESET", help="Some of them alone.")
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """List the presets: model, layers, SAEs, memory, download, and what NDIF would be sent.

    Counted from shapes, nothing is loaded: the model in bfloat16 with its SAEs in float32, eight
    answers of 2048 tokens at once. Those of the published models were not run here.
    """
    chosen = names or list(PRESETS)
    if as_json:
        listed = {
            name: asdict(get_preset(name)) | {"needs": preset_needs(name).to_dict()}
            for name in chosen
        }
        typer.echo(json.dumps(listed, indent=1))
        return
    typer.echo(needs_table(chosen))
