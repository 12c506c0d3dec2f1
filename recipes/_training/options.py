"""Options that the training recipes have in common, and what each recipe then does first."""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any

import typer

from dspa_nn.errors import DSPAError
from dspa_nn.triples import PreferenceTriple

from . import run


@dataclass(frozen=True)
class Given:
    """What the common options came to."""

    model: Any
    tokenizer: Any
    triples: list[PreferenceTriple]
    out: Path
    budget: run.Budget

    def done(self, losses: list[float]) -> None:
        """Say how the loss went and where the result is."""
        print(f"{len(losses)} steps, loss {losses[0]:.4f} to {losses[-1]:.4f}; saved to {self.out}")


def common(
    source: Annotated[str, typer.Argument(help="triples: what load_triples takes")],
    out: Annotated[Path, typer.Option(help="receives the model or the adapter")],
    epochs: Annotated[float, typer.Option(min=0, help="passes over the triples")],
    accumulate: Annotated[int, typer.Option(min=1, help="batches to a step")],
    max_tokens: Annotated[int, typer.Option(min=1, help="of a sequence")],
    model: Annotated[str | None, typer.Option(help="hub id or folder; the embedded one")] = None,
    triples: Annotated[int | None, typer.Option(min=1, help="how many; all")] = None,
    start: Annotated[int, typer.Option(min=0, help="the first row that is taken")] = 0,
    steps: Annotated[
        int | None, typer.Option(min=1, help="optimiser steps in place of epochs")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="rows that are run at once")] = 4,
    max_response: Annotated[
        int | None, typer.Option(min=1, help="tokens of a response; no limit")
    ] = None,
    save_every: Annotated[int, typer.Option(min=1, help="steps between checkpoints")] = 20,
    fast: Annotated[bool, typer.Option(help="bfloat16 products on a CPU as well")] = False,
    checkpointing: Annotated[bool, typer.Option(help="less memory, a forward more")] = False,
    seed: Annotated[int, typer.Option(help="of the order and of what is drawn")] = 0,
) -> Given:
    """Load the model and the triples, and put the budget together."""
    loaded, tokenizer = run.load(model)
    budget = run.Budget(
        epochs,
        steps,
        batch,
        accumulate,
        max_tokens,
        max_response,
        save_every,
        seed,
        fast,
        checkpointing,
    )
    return Given(loaded, tokenizer, run.take(source, triples, start), out, budget)


def command(**defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Put the common options before a recipe's own; the recipe is given what they came to.

    Args:
        defaults: of the common options, where the recipe has its own.
    """

    def wrap(main: Callable[..., None]) -> Callable[..., None]:
        own = list(signature(main).parameters.values())[1:]
        shared = [
            each.replace(default=defaults.get(each.name, each.default))
            for each in signature(common).parameters.values()
        ]
        names = [each.name for each in shared]

        def run_it(**options: Any) -> None:
            given = common(**{name: options.pop(name) for name in names})
            main(given, **options)

        # Typer reads the options off the signature; what has no default comes first.
        told = [each.replace(kind=Parameter.KEYWORD_ONLY) for each in [*shared, *own]]
        whole: Any = run_it
        whole.__signature__ = signature(main).replace(parameters=told)
        whole.__annotations__ = {each.name: each.annotation for each in told}
        whole.__doc__ = main.__doc__
        return whole

    return wrap


def start(main: Callable[..., None]) -> None:
    """Run a recipe from the command line; what is wrong with its input is told in a sentence."""
    try:
        typer.run(main)
    except DSPAError as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from None
