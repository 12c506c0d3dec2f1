"""`dspa audit`: what a map steers; or one prompt, answered twice, as a report in HTML."""

import json
from pathlib import Path
from typing import Annotated, cast

import typer

from dspa_nn.audit import causal_check, coverage, report, stability, steered_latents
from dspa_nn.cli.build import build
from dspa_nn.cli.maps import read_map
from dspa_nn.cli.options import (
    DEFAULT_PRESET,
    Alpha,
    Chat,
    InputSAE,
    KDiff,
    KPrompt,
    Layers,
    MapArgument,
    MaxNewTokens,
    Mode,
    Model,
    OutputSAE,
    Preset,
    PromptRule,
    Weights,
)
from dspa_nn.cli.steer import twice
from dspa_nn.counts import CountRun, count_or_recall
from dspa_nn.errors import SteeringError
from dspa_nn.files import write_atomically
from dspa_nn.maps import FIT_OPTIONS, ConditionalDifferenceMap, FitOptions
from dspa_nn.steering import DSPA
from dspa_nn.triples import load_triples


def audit(
    map_folder: MapArgument,
    text: Annotated[
        str | None,
        typer.Argument(metavar="PROMPT", help="What to say to the model.", show_default=False),
    ] = None,
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("report.html"),
    top: Annotated[
        int, typer.Option(min=1, help="Without a prompt: latents of each set to print.")
    ] = 10,
    triples: Annotated[
        str | None,
        typer.Option(help="Without a prompt: new triples; how many of their prompts open a row."),
    ] = None,
    fitted_on: Annotated[
        str | None,
        typer.Option(help="Without a prompt: the map's own triples; are its top sets stable?"),
    ] = None,
    causal: Annotated[
        str | None,
        typer.Option(
            help="Without a prompt: held-out triples, on which each of 20 top latents is ablated "
            "alone."
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="With --causal: folder that keeps what is done, and causal.json."),
    ] = None,
    preset: Preset = DEFAULT_PRESET,
    weights: Weights = None,
    model: Model = None,
    input_sae: InputSAE = None,
    output_sae: OutputSAE = None,
    layers: Layers = None,
    chat: Chat = False,
    max_new_tokens: MaxNewTokens = 64,
    alpha: Alpha = None,
    k_prompt: KPrompt = None,
    k_diff: KDiff = None,
    mode: Mode = None,
    prompt_rule: PromptRule = None,
) -> None:
    """Answer a prompt unsteered and steered, and explain every edit in one HTML file.

    The file needs nothing beside it and fetches nothing. Without a prompt, print what the map
    steers most; no model is loaded for that, but for --triples and --fitted-on, whose tokens are
    counted, and for --causal.
    """
    fitted = read_map(map_folder)
    if text is None:
        typer.echo(steered_latents(fitted, top))
        if (triples, fitted_on, causal) != (None, None, None):
            dspa = build(preset, model, input_sae, output_sae, layers, weights)
            _reach(fitted, dspa, triples, fitted_on, top, chat)
            if causal is not None:
                _check(fitted, dspa, causal, chat, max_new_tokens, checkpoint)
        return
    if (triples, fitted_on, causal) != (None, None, None):
        raise SteeringError(
            "a prompt came with --triples or --fitted-on or --causal, which tell of the map "
            "alone; leave one of them out"
        )
    dspa = build(preset, model, input_sae, output_sae, layers, weights)
    answers = twice(
        fitted,
        dspa,
        [{"role": "user", "content": text}] if chat else text,
        max_new_tokens,
        alpha=alpha,
        k_prompt=k_prompt,
        k_diff=k_diff,
        mode=mode,
        prompt_rule=prompt_rule,
    )
    unsteered = answers.unsteered.strip()
    path = report(answers.edits, out, dspa=dspa, map=fitted, unsteered=unsteered)
    typer.echo(answers.edits)
    typer.echo(f"The report is {path}; open it in a browser.")


def _check(
    fitted: ConditionalDifferenceMap,
    dspa: DSPA,
    source: str,
    chat: bool,
    max_new_tokens: int,
    folder: Path | None,
) -> None:
    """Ablate the top latents one by one, and say whether their places predict what that does."""
    triples = load_triples(source, chat=chat)
    check = causal_check(dspa, fitted, triples, max_new_tokens=max_new_tokens, folder=folder)
    typer.echo(check)
    if folder is not None:
        write_atomically(folder / "causal.json", json.dumps(check.to_dict(), indent=1))


def _reach(
    fitted: ConditionalDifferenceMap,
    dspa: DSPA,
    triples: str | None,
    fitted_on: str | None,
    top: int,
    chat: bool,
) -> None:
    """Print on which new prompts the map acts, and whether other triples would give the same."""
    for source, new in ((triples, True), (fitted_on, False)):
        if source is None:
            continue
        counts = count_or_recall(CountRun(dspa, load_triples(source, chat=chat)))
        if new:
            typer.echo(coverage(fitted, counts))
            continue
        options = cast(
            FitOptions,
            {name: value for name, value in fitted.fitted.items() if name in FIT_OPTIONS},
        )
        typer.echo(stability(counts, n=top, **options))
