"""Options that several subcommands take, each with its line of help."""

from typing import Annotated, TypedDict

import typer

DEFAULT_PRESET = "smollm2-135m-instruct"

Preset = Annotated[str, typer.Option(help="model, layers and SAEs")]
Chat = Annotated[
    bool,
    typer.Option(
        "--chat/--no-chat",
        help="lift string prompts to one user message; as load_triples(chat=...) does",
    ),
]

# Of the fit, for `fit` and `merge` alike.
Percentile = Annotated[float | None, typer.Option(help="of the gates")]
FitKDiff = Annotated[int | None, typer.Option("--k-diff", help="latents kept in each direction")]
Gate = Annotated[str, typer.Option(help="active or literal")]
Sparsify = Annotated[str, typer.Option(help="paper, rows or none")]
MaxEntries = Annotated[int | None, typer.Option(help="entries that the map may have")]
PromptTokens = Annotated[str | None, typer.Option(help="content or all")]

# Of `apply`.
Alpha = Annotated[float | None, typer.Option(help="size of an edit, in M_t")]
KPrompt = Annotated[int | None, typer.Option(help="prompt latents that vote")]
KDiff = Annotated[int | None, typer.Option(help="latents planned in each direction")]
Mode = Annotated[str | None, typer.Option(help="ablate, augment or both")]
PromptRule = Annotated[str | None, typer.Option(help="density, gated or centred")]


class FitOptions(TypedDict):
    """What `ActivationCounts.fit` is asked for on the command line."""

    percentile: float | None
    k_diff: int | None
    gate: str
    sparsify: str
    max_entries: int | None
    prompt_tokens: str | None


NOT_ASKED: FitOptions = {
    "percentile": None,
    "k_diff": None,
    "gate": "active",
    "sparsify": "paper",
    "max_entries": None,
    "prompt_tokens": None,
}
