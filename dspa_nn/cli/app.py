"""The command `dspa`: subcommands that are imported when they are called, and errors as sentences.

So `dspa --help` loads no model library. What a command exits with is in docs/howto/cli.md.
"""

import errno
import sys
import traceback
import warnings
from copy import copy
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperCommand, TyperGroup

from dspa_nn._version import __version__
from dspa_nn.cli.commands import COMMANDS, function_of
from dspa_nn.cli.stopping import STOPPED
from dspa_nn.errors import DSPAError, DSPAWarning
from dspa_nn.progress import slow_bars_of_others

# What the process exits with, beside 0 and click's 2 for a command line that cannot be read.
REFUSED, UNEXPECTED = 1, 70

_DEBUG = "dspa_nn.debug"
_DEBUG_HELP = "Print the traceback of an error, too."


def _remember_debug(ctx: Any, _: Any, asked: bool) -> bool:
    if asked:
        ctx.meta[_DEBUG] = True  # which nested contexts share
    return asked


class _Late(TyperCommand):
    """A subcommand whose module is imported when its arguments are read."""

    def make_context(self, info_name: str | None, *args: Any, **extra: Any) -> Any:
        name = str(self.name)
        alone = typer.Typer(add_completion=False, rich_markup_mode=None)
        alone.command(name, epilog=f"Example: {COMMANDS[name].example}")(function_of(name))
        command = typer.main.get_command(alone)
        # The option of `dspa` itself is taken here as well, where people look for it.
        for option in extra["parent"].command.params if extra.get("parent") else ():
            if option.name == "debug":
                debug = copy(option)
                debug.expose_value = False
                command.params.append(debug)
        return command.make_context(info_name, *args, **extra)


class _Commands(TyperGroup):
    """Print errors and warnings of ours as the one sentence that they are, without a traceback."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, (_, line, _) in COMMANDS.items():
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
            except KeyboardInterrupt:
                typer.echo("dspa: stopped: run the same command again to start over", err=True)
                sys.exit(STOPPED)
            except Exception as error:
                if _is_typers(error):
                    raise
                if ctx.meta.get(_DEBUG):
                    typer.echo(traceback.format_exc(), err=True, nl=False)
                typer.echo(f"dspa: {in_words(error)}", err=True)
                foreseen = isinstance(error, DSPAError) or _is_full(error)
                sys.exit(REFUSED if foreseen else UNEXPECTED)


def _is_typers(error: Exception) -> bool:
    """Whether typer shows it itself: a wrong option, an exit, or a pipe that was closed."""
    return type(error).__module__.startswith(("typer", "click")) or isinstance(
        error, BrokenPipeError
    )


def _is_full(error: Exception) -> bool:
    """Whether what is printed had nowhere to go; files say so themselves, as a `FileError`."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def in_words(error: Exception) -> str:
    """An error as the one line that the command prints.

    >>> in_words(DSPAError("there is no preset 'gpt-9'"))
    "there is no preset 'gpt-9'"
    >>> in_words(KeyError("rows"))
    "KeyError: 'rows': this was not foreseen; add --debug for the traceback, and report it"
    """
    if isinstance(error, DSPAError):
        return str(error)
    if _is_full(error):
        return "the disk that the output goes to is full; free some of it, and run this again"
    said = str(error).strip().partition("\n")[0]
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError):
        return (
            f"the memory is full ({said or 'no more of it is to be had'}); `dspa doctor` says "
            "what this needs, and a smaller model, shorter texts or fewer at once need less"
        )
    kind = type(error).__name__
    return (
        f"{kind}{f': {said}' if said else ''}: this was not foreseen; add --debug for the "
        "traceback, and report it"
    )


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    # Plain text wraps in any width; rich's tables of options cut words off in 80 columns.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Steer a language model towards a preference, one SAE feature at a time.",
    epilog="dspa COMMAND --help says what a command takes, with an example. "
    "Without a GPU or a map, begin with: dspa demo",
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
    debug: Annotated[
        bool, typer.Option("--debug", callback=_remember_debug, is_eager=True, help=_DEBUG_HELP)
    ] = False,
) -> None:
    """What comes before every command."""
    slow_bars_of_others()
