"""`dspa counts`: what `dspa fit` has kept, so that no model run is done twice."""

from typing import Annotated, Literal

import typer

from dspa_nn.counts import clear_counts, kept_counts
from dspa_nn.errors import CountsError


def counts(
    action: Annotated[
        Literal["list", "clear"], typer.Argument(help="List what is kept, or remove it.")
    ] = "list",
    keys: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY", help="Which entries to clear; left out, all of them."),
    ] = None,
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
        typer.echo(repr(kept_counts()))
        return
    gone = clear_counts(*(keys or ()))
    for entry in gone:
        typer.echo(f"removed {entry}")
    typer.echo(repr(kept_counts()))
