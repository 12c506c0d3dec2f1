"""`dspa demo`: the demo, on the console that called it."""

import json
from io import StringIO
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dspa_nn import demo as application
from dspa_nn.cli.options import AsJSON, MaxNewTokens


def demo(
    out: Annotated[Path, typer.Option(help="Folder for report.json and the pictures.")] = Path(
        "demo"
    ),
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help=f"Which triples to show, several if repeated: {', '.join(application.SETS)}.",
        ),
    ] = None,
    fit: Annotated[int, typer.Option(min=1, help="Embedded triples to fit on.")] = 250,
    test: Annotated[int, typer.Option(min=1, help="Held-out prompts to steer.")] = 50,
    max_new_tokens: MaxNewTokens = 32,
    seed: Annotated[int, typer.Option(min=0, help="Seed of bootstraps and permutations.")] = 0,
    as_json: AsJSON = False,
) -> None:
    """Fit a map on embedded triples, steer held-out prompts, and print the measured effect."""
    found = application.run_demo(
        out,
        sets=sets or application.SHOWN,
        n_fit=fit,
        n_test=test,
        max_new_tokens=max_new_tokens,
        seed=seed,
        console=Console(file=StringIO()) if as_json else application.terminal(),
    )
    if as_json:
        typer.echo(json.dumps(found, indent=1))
