"""`dspa doctor`: what stands between this machine and a run."""

import json
from typing import Annotated

import typer

from dspa_nn.checkup import check_up
from dspa_nn.cli.options import DEFAULT_PRESET, AsJSON, Preset
from dspa_nn.progress import quiet_loaders


def doctor(
    preset: Preset = DEFAULT_PRESET,
    remote: Annotated[
        bool, typer.Option("--remote", help="The model is to run on NDIF, not here.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds that NDIF may take for an answer.")
    ] = 5.0,
    as_json: AsJSON = False,
) -> None:
    """Look at what runs need here: versions, model and SAEs, hub, NDIF, memory; name each fix.

    Nothing is loaded or fetched. "note" is what stands in the way of some runs only. Exits with 1
    where there is a problem.
    """
    with quiet_loaders():
        findings = check_up(preset, remote=remote, timeout=timeout)
    typer.echo(json.dumps({"preset": preset, **findings.to_dict()}, indent=1) if as_json
               else findings)  # fmt: skip
    if not findings.well:
        raise typer.Exit(1)
