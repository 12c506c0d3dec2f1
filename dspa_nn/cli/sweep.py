"""`dspa sweep`: SAEs at several layers, counted in one run, and the pairs of layers compared."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from dspa_nn.cli.build import build_sweep
from dspa_nn.cli.options import (
    DEFAULT_PRESET,
    Alpha,
    AsJSON,
    Chat,
    Gate,
    KDiff,
    KPrompt,
    MaxEntries,
    Mode,
    Model,
    Percentile,
    Preset,
    PromptRule,
    PromptTokens,
    Remote,
    Source,
    Sparsify,
    Split,
    Weights,
    asked,
)
from dspa_nn.cli.stopping import how_to_go_on, resumable
from dspa_nn.errors import CountsError
from dspa_nn.evaluation import Interval, LayerPair, rank_pairs, steer_pairs
from dspa_nn.files import as_path, require_folder
from dspa_nn.maps import check_fit
from dspa_nn.progress import show_progress
from dspa_nn.triples import load_triples

SAES = "LAYER=FOLDER or LAYER=release/sae_id, once a layer; an SAE may name its layer itself."


def sweep(
    source: Source,
    input_sae: Annotated[list[str] | None, typer.Option(help=SAES)] = None,
    output_sae: Annotated[list[str] | None, typer.Option(help=SAES)] = None,
    preset: Preset = DEFAULT_PRESET,
    weights: Weights = None,
    model: Model = None,
    chat: Chat = False,
    split: Split = "train",
    limit: Annotated[int | None, typer.Option(min=2, help="Stop after so many triples.")] = None,
    held_out: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default="a fifth",
            help="How many triples, the last ones, are not fitted on.",
        ),
    ] = None,
    margin: Annotated[
        int,
        typer.Option(min=0, help="Steer so many of these under each pair, and order by margin."),
    ] = 0,
    percentile: Percentile = None,
    k_diff: KDiff = None,
    gate: Gate = None,
    sparsify: Sparsify = None,
    max_entries: MaxEntries = None,
    prompt_tokens: PromptTokens = None,
    alpha: Alpha = None,
    k_prompt: KPrompt = None,
    mode: Mode = None,
    prompt_rule: PromptRule = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Folder to resume from.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the counts of all SAEs.")] = None,
    remote: Remote = False,
    as_json: AsJSON = False,
) -> None:
    """Count SAEs at several layers in one run, and print which pair of layers does best.

    The last triples of the source are held out. Each pair's map is fitted on the others and ranks
    the held-out ones, from counts alone; with --margin it also steers some of them. The best of
    several pairs looks better than it is: measure it again on triples that chose nothing.
    """
    if remote and margin:
        raise CountsError(
            f"--margin {margin} came with --remote, and the responses that it steers are scored "
            "here; leave one of them out"
        )
    options = asked(
        percentile=percentile, k_diff=k_diff, gate=gate, sparsify=sparsify,
        max_entries=max_entries, prompt_tokens=prompt_tokens,
    )  # fmt: skip
    check_fit(options)
    for name, folder in (("--out", out), ("--checkpoint", checkpoint)):
        if folder is not None:
            require_folder(name, as_path(folder))
    triples = load_triples(source, chat=chat, split=split, limit=limit)
    last = max(1, len(triples) // 5) if held_out is None else held_out
    if last >= len(triples):
        raise CountsError(
            f"{last} triples are to be held out of {len(triples)}; leave at least one to fit on, "
            "with a smaller --held-out or more triples"
        )
    built = build_sweep(preset, model, input_sae or [], output_sae or [], weights, remote)
    with resumable(how_to_go_on(checkpoint)):
        swept = built.count(triples, checkpoint=checkpoint, remote=remote)
    if out is not None:
        swept.save(out)
    held = range(len(triples) - last, len(triples))
    pairs = rank_pairs(
        swept, [index for index in held if index in swept.table.index],
        rule={"prompt_rule": prompt_rule, "k_prompt": k_prompt}, **options,
    )  # fmt: skip
    if margin:
        steered = [triples[index] for index in held][:margin]
        settings: Any = {
            "alpha": alpha, "k_prompt": k_prompt, "mode": mode, "prompt_rule": prompt_rule,
            "k_diff": k_diff,
        }  # fmt: skip
        runs = (len(pairs) + len({pair.output_layer for pair in pairs})) * 2 * len(steered)
        with show_progress("steering", runs, "responses") as advance:
            pairs = steer_pairs(built, pairs, steered, settings, advance=advance)
    if as_json:
        typer.echo(json.dumps([pair.to_dict() for pair in pairs], indent=1))
        return
    typer.echo(_table(pairs, len(swept)))
    if out is not None:
        typer.echo(f"saved in {out}")


def _table(pairs: list[LayerPair], counted: int) -> str:
    """The pairs, best first, in at most 80 columns."""
    held, of = pairs[0].ranking.n, "pair" if len(pairs) == 1 else "pairs"
    lines = [
        f"{len(pairs)} {of} of layers, fitted on {counted - held} triples; {held} were held out",
        "",
        "share of the held-out triples that is ranked rightly: by the map, by one",
        "difference for all prompts, and the first less the second (95 % bootstrap)",
        f"{'layers':>7} {'map':<21}{'one difference':<23}less",
    ]
    lines += [
        f"{_layers(pair)} {_share(pair.ranking):<21}{_share(pair.of_one_difference):<23}"
        f"{pair.over_one_difference}"
        for pair in pairs
    ]
    steered = [(pair, pair.effect) for pair in pairs if pair.effect is not None]
    if steered:
        lines += [
            "",
            f"change of log p under steering, nats a token, on {steered[0][1].margin.n} of these",
            f"{'layers':>7} {'margin':<24}{'chosen':<24}rejected",
        ]
        lines += [
            f"{_layers(pair)} {effect.margin!s:<24}{effect.chosen!s:<24}{effect.rejected}"
            for pair, effect in steered
        ]
        lines.append(f"layers {_layers(steered[0][0]).strip()}: {steered[0][1].moved()}")
    return "\n".join(lines)


def _layers(pair: LayerPair) -> str:
    return f"{f'{pair.input_layer}->{pair.output_layer}':>7}"


def _share(value: Interval) -> str:
    return f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"
