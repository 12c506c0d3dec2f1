"""`dspa fit` and `dspa merge`: from preference triples, or from counted shards, to a saved map."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from dspa_nn.cli.build import build
from dspa_nn.cli.options import (
    DEFAULT_PRESET,
    AsJSON,
    Chat,
    Gate,
    InputSAE,
    KDiff,
    Layers,
    MaxEntries,
    Model,
    OutputSAE,
    Percentile,
    Preset,
    PromptTokens,
    Remote,
    Source,
    Sparsify,
    Split,
    Weights,
    asked,
)
from dspa_nn.cli.stopping import how_to_go_on, resumable
from dspa_nn.counts import CountRun, check_shard, kept_date, shard_folder
from dspa_nn.errors import CountsError
from dspa_nn.files import as_path, require_folder
from dspa_nn.maps import ConditionalDifferenceMap, FitOptions, check_fit
from dspa_nn.steering import fit_merged
from dspa_nn.triples import load_triples


def fit(
    source: Source,
    out: Annotated[Path, typer.Option(help="Folder for the map; with --shards, for all shards.")],
    preset: Preset = DEFAULT_PRESET,
    weights: Weights = None,
    model: Model = None,
    input_sae: InputSAE = None,
    output_sae: OutputSAE = None,
    layers: Layers = None,
    chat: Chat = False,
    split: Split = "train",
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many triples.")] = None,
    percentile: Percentile = None,
    k_diff: KDiff = None,
    gate: Gate = None,
    sparsify: Sparsify = None,
    max_entries: MaxEntries = None,
    prompt_tokens: PromptTokens = None,
    refused: Annotated[
        Literal["error", "skip"],
        typer.Option(help="Name a triple that the chat template refuses, or leave it out."),
    ] = "error",
    checkpoint: Annotated[Path | None, typer.Option(help="Folder to resume from.")] = None,
    cache: Annotated[
        bool,
        typer.Option(help="Keep counts for a next equal fit, and use those of an earlier one."),
    ] = True,
    shards: Annotated[int | None, typer.Option(help="Count one of so many parts.")] = None,
    shard: Annotated[int | None, typer.Option(help="Which part, from 0.")] = None,
    remote: Remote = False,
    as_json: AsJSON = False,
) -> None:
    """Fit a conditional-difference map on preference triples and save it.

    With --shards and --shard only that part is counted; `dspa merge` fits when all are there.
    """
    options = asked(
        percentile=percentile, k_diff=k_diff, gate=gate, sparsify=sparsify,
        max_entries=max_entries, prompt_tokens=prompt_tokens,
    )  # fmt: skip
    part = _part(shards, shard, options)
    if part is not None and remote:
        raise CountsError(
            "--shards came with --remote, and parts are counted on machines of your own; leave one "
            "of them out: a remote run is not the work of this machine"
        )
    _require_folders(out, checkpoint)
    check_fit(options)
    triples = load_triples(source, chat=chat, split=split, limit=limit)
    dspa = build(preset, model, input_sae, output_sae, layers, weights, remote)
    with resumable(how_to_go_on(checkpoint, kept=cache and part is None)):
        if part is None:
            counting: Any = {"checkpoint": checkpoint, "refused": refused, "cache": cache}
            _save(dspa.fit(triples, remote=remote, **counting, **options), out, as_json)
            return
        index, number = part
        kept = kept_date(out, checkpoint)
        run = CountRun(dspa, triples, refused=refused, rendered_on=kept)
        counts = run.keep(out, shard=index, shards=number, checkpoint=checkpoint)
        folder = shard_folder(out, index, number)
        if as_json:
            told = {"saved_in": str(folder), "triples": len(counts), "left_out": counts.skipped}
            typer.echo(json.dumps(told, indent=1))
            return
        typer.echo(counts)
        typer.echo(f"saved in {folder}")


def merge(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the shards are.")],
    out: Annotated[Path, typer.Option(help="Folder for the map.")],
    percentile: Percentile = None,
    k_diff: KDiff = None,
    gate: Gate = None,
    sparsify: Sparsify = None,
    max_entries: MaxEntries = None,
    prompt_tokens: PromptTokens = None,
    as_json: AsJSON = False,
) -> None:
    """Merge the shards that `dspa fit --shards` counted, fit a map and save it.

    No model is loaded; the map is the one of a single run, byte for byte.
    """
    options = asked(
        percentile=percentile, k_diff=k_diff, gate=gate, sparsify=sparsify,
        max_entries=max_entries, prompt_tokens=prompt_tokens,
    )  # fmt: skip
    _require_folders(out, None)
    check_fit(options)
    _save(fit_merged(folder, options), out, as_json)


def _part(shards: int | None, shard: int | None, options: FitOptions) -> tuple[int, int] | None:
    """The shard asked for and how many there are, or None; refused before anything runs."""
    if shards is None and shard is None:
        return None
    if shards is None or shard is None:
        raise CountsError(
            f"{'--shard' if shards is None else '--shards'} came alone; give both --shards, how "
            "many parts, and --shard, which of them from 0"
        )
    check_shard(shard, shards)
    if options:
        asked = [f"--{name.replace('_', '-')}" for name in options]
        raise CountsError(
            f"{', '.join(asked)} came with --shards, which only counts; give it to dspa merge"
        )
    return shard, shards


def _require_folders(out: Path, checkpoint: Path | None) -> None:
    """Refuse what cannot be written to, before anything is loaded or run."""
    require_folder("--out", as_path(out))
    if checkpoint is not None:
        require_folder("--checkpoint", as_path(checkpoint))


def _save(fitted: ConditionalDifferenceMap, folder: Path, as_json: bool) -> None:
    fitted.save(folder)
    if as_json:
        told = {
            "saved_in": str(folder), "shape": list(fitted.shape), "entries": len(fitted.values),
            "fitted": fitted.fitted, "defaults": fitted.defaults, "provenance": fitted.provenance,
        }  # fmt: skip
        typer.echo(json.dumps(told, indent=1))
        return
    typer.echo(fitted)
    typer.echo(f"saved in {folder}")
