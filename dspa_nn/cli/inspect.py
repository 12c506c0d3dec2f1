"""`dspa inspect`: what a file of ours is, here or on the hub."""

import json
from typing import Annotated

import typer

from dspa_nn.cli.options import AsJSON
from dspa_nn.hub import identify


def inspect(
    source: Annotated[
        str, typer.Argument(metavar="PATH_OR_ID", help="A file, a folder, or owner/name.")
    ],
    as_json: AsJSON = False,
) -> None:
    """Say what a file of dspa-nn is, here or on the hub: a map, counts, a receipt, a job.

    Local arrays are read through for their checksums; of the hub descriptions alone are fetched.
    Exits with 1 where something is damaged.
    """
    found = identify(source)
    if as_json:
        typer.echo(json.dumps([one.to_dict() for one in found], indent=1))
    else:
        typer.echo("\n".join(map(str, found)))
    if any(one.problem for one in found):
        raise typer.Exit(1)
