"""`dspa bench`: what fitting costs, counted from shapes."""

import json
from typing import Annotated

import typer

from dspa_nn.cli.options import DEFAULT_PRESET, AsJSON, Preset
from dspa_nn.costs import preset_costs


def bench(
    preset: Preset = DEFAULT_PRESET,
    prompt: Annotated[int, typer.Option(min=0, help="Tokens of a prompt.")] = 1000,
    chosen: Annotated[int, typer.Option(min=1, help="Tokens of a chosen response.")] = 1000,
    rejected: Annotated[int, typer.Option(min=1, help="Tokens of a rejected response.")] = 1000,
    as_json: AsJSON = False,
) -> None:
    """Print what fitting costs in FLOPs, beside DPO and RAHF-SCIT; no model is loaded."""
    table = preset_costs(preset, [(prompt, chosen, rejected)])
    typer.echo(json.dumps(table.to_dict(), indent=1) if as_json else table)
