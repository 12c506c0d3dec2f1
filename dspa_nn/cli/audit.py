"""`dspa audit`: what a map steers; or one prompt, answered twice, as a report in HTML."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from dspa_nn.audit import (
    CausalCheck,
    causal_check,
    coverage,
    report,
    stability,
    steered_latents,
)
from dspa_nn.cli.build import build
from dspa_nn.cli.options import (
    DEFAULT_PRESET,
    Alpha,
    AsJSON,
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
    Remote,
    Weights,
)
from dspa_nn.cli.steer import twice
from dspa_nn.cli.stopping import how_to_go_on, resumable
from dspa_nn.counts import CountRun, count_or_recall
from dspa_nn.errors import SteeringError
from dspa_nn.files import as_path, require_file, require_folder, write_atomically
from dspa_nn.maps import FIT_OPTIONS, ConditionalDifferenceMap, FitOptions
from dspa_nn.personas import read_map
from dspa_nn.steering import DSPA
from dspa_nn.triples import Triples, load_triples


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
    remote: Remote = False,
    as_json: AsJSON = False,
) -> None:
    """Answer a prompt unsteered and steered, and explain every edit in one HTML file.

    The file needs nothing beside it and fetches nothing. Without a prompt, print what the map
    steers most; no model is loaded for that, but for --triples and --fitted-on, whose tokens are
    counted, and for --causal.
    """
    about_the_map = {"--triples": triples, "--fitted-on": fitted_on, "--causal": causal}
    given = [name for name, source in about_the_map.items() if source is not None]
    if text is not None and given:
        raise SteeringError(
            f"a prompt came with {' and '.join(given)}, which tell of the map alone; leave one of "
            "them out"
        )
    if text is None and remote:
        raise SteeringError(
            "--remote came without a prompt, and what a map steers is told on this machine; leave "
            "it out, or give a prompt"
        )
    if checkpoint is not None:
        if causal is None:
            raise SteeringError(
                "--checkpoint came without --causal, whose parts it keeps; leave it out, or give "
                "--causal"
            )
        require_folder("--checkpoint", as_path(checkpoint))
    if text is not None:
        require_file("--out", as_path(out))
    fitted = read_map(map_folder)
    if text is None:
        told: dict[str, Any] = {"latents": steered_latents(fitted, top)}
        if given:
            read = {
                name: load_triples(source, chat=chat)
                for name, source in about_the_map.items()
                if source is not None
            }
            dspa = build(preset, model, input_sae, output_sae, layers, weights)
            told |= _reach(fitted, dspa, read, top)
            if causal is not None:
                with resumable(how_to_go_on(checkpoint, done="measured")):
                    told["causal"] = _check(
                        fitted, dspa, read["--causal"], max_new_tokens, checkpoint
                    )
        _print(told, as_json)
        return
    dspa = build(preset, model, input_sae, output_sae, layers, weights, remote)
    answers = twice(
        fitted,
        dspa,
        [{"role": "user", "content": text}] if chat else text,
        max_new_tokens,
        remote,
        alpha=alpha,
        k_prompt=k_prompt,
        k_diff=k_diff,
        mode=mode,
        prompt_rule=prompt_rule,
    )
    unsteered = answers.unsteered.strip()
    path = report(answers.edits, out, dspa=dspa, map=fitted, unsteered=unsteered)
    if as_json:
        told = {"report": str(path), **answers.to_dict()}
        typer.echo(json.dumps(told, ensure_ascii=False, indent=1))
        return
    typer.echo(answers.edits)
    typer.echo(f"The report is {path}; open it in a browser.")


def _print(told: dict[str, Any], as_json: bool) -> None:
    """What is told of a map: one thing after another, or one JSON object."""
    if not as_json:
        for one in told.values():
            typer.echo(one)
        return
    plain = {
        name: one.to_dict() if hasattr(one, "to_dict") else asdict(one)
        for name, one in told.items()
    }
    typer.echo(json.dumps(plain, ensure_ascii=False, indent=1, default=_listed))


def _check(
    fitted: ConditionalDifferenceMap,
    dspa: DSPA,
    triples: Triples,
    max_new_tokens: int,
    folder: Path | None,
) -> CausalCheck:
    """Ablate the top latents one by one, and say whether their places predict what that does."""
    check = causal_check(dspa, fitted, triples, max_new_tokens=max_new_tokens, folder=folder)
    if folder is not None:
        write_atomically(folder / "causal.json", json.dumps(check.to_dict(), indent=1))
    return check


def _reach(
    fitted: ConditionalDifferenceMap,
    dspa: DSPA,
    read: dict[str, Triples],
    top: int,
) -> dict[str, Any]:
    """Say on which new prompts the map acts, and whether other triples would give the same."""
    found: dict[str, Any] = {}
    for name in ("--triples", "--fitted-on"):
        if name not in read:
            continue
        counts = count_or_recall(CountRun(dspa, read[name]))
        if name == "--triples":
            found["coverage"] = coverage(fitted, counts)
            continue
        options = cast(
            FitOptions,
            {name: value for name, value in fitted.fitted.items() if name in FIT_OPTIONS},
        )
        found["stability"] = stability(counts, n=top, **options)
    return found


def _listed(value: Any) -> Any:
    """An array in JSON."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
