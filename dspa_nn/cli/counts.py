"""`dspa counts`: what `dspa fit` has kept, so that no model run is done twice."""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import typer

from dspa_nn.cli.options import AsJSON
from dspa_nn.counts import KeptCounts, clear_counts, counts_folder, kept_counts
from dspa_nn.errors import CountsError


def counts(
    action: Annotated[
        Literal["list", "clear"], typer.Argument(help="List what is kept, or remove it.")
    ] = "list",
    keys: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY", help="Which entries to clear; left out, all of them."),
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """List the counts that `dspa fit` has kept, or remove them.

    They lie in the folder that DSPA_CACHE names, or in ~/.cache/dspa_nn.
    """
    if action == "list":
        if keys:
            raise CountsError(
                f"dspa counts list was given {', '.join(keys)}, and lists all that is kept; to "
                "remove entries, write dspa counts clear with their keys"
            )
        if as_json:
            typer.echo(json.dumps(_listed(kept_counts()), indent=1))
            return
        typer.echo(repr(kept_counts()))
        return
    gone = clear_counts(*(keys or ()))
    if as_json:
        typer.echo(json.dumps({"removed": [entry.key for entry in gone]}, indent=1))
        return
    for entry in gone:
        typer.echo(f"removed {entry}")
    typer.echo(repr(kept_counts()))


def _listed(entries: Sequence[KeptCounts]) -> dict[str, Any]:
    """What is kept, as plain values."""
    shown = [
        {
            "key": entry.key, "folder": str(entry.folder), "bytes": entry.nbytes,
            "used": entry.used, "finished": entry.finished, "provenance": entry.provenance,
        }
        for entry in entries
    ]  # fmt: skip
    return {"folder": str(counts_folder()), "kept": shown}
