"""The command `dspa`: which subcommands there are, and errors as one sentence.

A subcommand's module is imported when it is called, so that `dspa --help` loads no model library.
"""

import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperCommand, TyperGroup

from dspa_nn._version import __version__
from dspa_nn.errors import DSPAError, DSPAWarning

# Name of a subcommand -> the module of `cli/` that defines it, and its line in `dspa --help`.
COMMANDS = {
    "demo": (
        "demo",
        "Fit a map on embedded triples, steer held-out prompts, and print the measured effect.",
    ),
    "fit": ("fit", "Fit a conditional-difference map on preference triples and save it."),
    "merge": ("fit", "Merge the shards that `dspa fit --shards` counted, fit a map and save it."),
    "sweep": (
        "sweep",
        "Count SAEs at several layers in one run, and print which pair of layers does best.",
    ),
    "steer": ("steer", "Answer a prompt twice, unsteered and steered, and say what was edited."),
    "evaluate": (
        "evaluate",
        "Write a page on what a map does, what it damages, and whether anything simpler does it.",
    ),
    "tune": (
        "tune",
        "Choose a map's settings by what steers best on development triples, within limits on "
        "damage.",
    ),
    "serve": (
        "serve",
        "Answer the OpenAI API's chat completions, each request steered by its own map and "
        "settings.",
    ),
    "audit": (
        "audit",
        "Answer a prompt unsteered and steered, and explain every edit in one HTML file.",
    ),
    "mt-bench": (
        "mt_bench",
        "Answer MT-Bench's questions, have a judge of your choice rate them, and print the scores.",
    ),
    "alpaca-eval": (
        "alpaca_eval",
        "Answer AlpacaEval's instructions, and print how often a judge prefers the answers.",
    ),
    "lm-eval": (
        "lm_eval",
        "Run lm-evaluation-harness with the model class `dspa`, a steered model.",
    ),
    "counts": ("counts", "List the counts that `dspa fit` has kept, or remove them."),
    "payload": ("payload", "Print what a run on NDIF would send, part by part; nothing is sent."),
    "bench": (
        "bench",
        "Print what fitting costs in FLOPs, beside DPO and RAHF-SCIT; no model is loaded.",
    ),
}


def function_of(name: str) -> Callable[..., None]:
    """Import the function behind a subcommand.

    >>> function_of("bench").__module__
    'dspa_nn.cli.bench'
    """
    module = import_module(f"dspa_nn.cli.{COMMANDS[name][0]}")
    return getattr(module, name.replace("-", "_"))


class _Late(TyperCommand):
    """A subcommand whose module is imported when its arguments are read."""

    def make_context(self, info_name: str | None, *args: Any, **extra: Any) -> Any:
        alone = typer.Typer(add_completion=False, rich_markup_mode=None)
        alone.command(self.name)(function_of(str(self.name)))
        return typer.main.get_command(alone).make_context(info_name, *args, **extra)


class _Commands(TyperGroup):
    """Print errors and warnings of ours as the one sentence that they are, without a traceback."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, (_, line) in COMMANDS.items():
            self.add_command(_Late(name, callback=None, help=line, short_help=line))

    def invoke(self, ctx: Any) -> Any:
        with warnings.catch_warnings():
            others = warnings.showwarning

            def show(
                message: Warning | str,
                category: type[Warning],
                filename: str,
                lineno: int,
                file: TextIO | None = None,
                line: str | None = None,
            ) -> None:
                if issubclass(category, DSPAWarning):
                    typer.echo(f"dspa: {message}", err=True)
                else:
                    others(message, category, filename, lineno, file, line)

            warnings.showwarning = show
            try:
                return super().invoke(ctx)
            except DSPAError as error:
                typer.echo(f"dspa: {error}", err=True)
                sys.exit(1)
            except KeyboardInterrupt:
                typer.echo("dspa: stopped: run the same command again to start over", err=True)
                sys.exit(130)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    # Plain text wraps in any width; rich's tables of options cut words off in 80 columns.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Steer a language model towards a preference, one SAE feature at a time.",
)


def _print_version(asked: bool) -> bool:
    if asked:
        typer.echo(f"dspa-nn {__version__}")
        raise typer.Exit
    return asked


@app.callback()
def every_command(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print it."),
    ] = False,
) -> None:
    """Typer makes a group of commands only of an app that has a callback."""
