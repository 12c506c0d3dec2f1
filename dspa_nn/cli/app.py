"""The command `dspa`: each subcommand reads its arguments and calls the library."""

import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

from dspa_nn.errors import CountsError, DSPAError, DSPAWarning

DEFAULT_PRESET = "smollm2-135m-instruct"


class _OneSentence(TyperGroup):
    """Print errors and warnings of ours as the one sentence that they are, without a traceback."""

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


app = typer.Typer(
    cls=_OneSentence,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Steer a language model towards a preference, one SAE feature at a time.",
)

Preset = Annotated[str, typer.Option(help="model, layers and SAEs")]


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="folder for report.json")] = Path("demo"),
    fit: Annotated[int, typer.Option(min=1, help="embedded triples to fit on")] = 250,
    test: Annotated[int, typer.Option(min=1, help="held-out prompts to steer")] = 50,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 32,
    seed: Annotated[int, typer.Option(help="of bootstraps and permutations")] = 0,
) -> None:
    """Fit a map on embedded triples, steer held-out prompts, and print the measured effect."""
    from rich.console import Console

    from dspa_nn.demo import run_demo

    run_demo(
        out, n_fit=fit, n_test=test, max_new_tokens=max_new_tokens, seed=seed, console=Console()
    )


# Of the fit, for `fit` and `merge` alike.
Percentile = Annotated[float | None, typer.Option(help="of the gates")]
KDiff = Annotated[int | None, typer.Option(help="latents kept in each direction")]
Gate = Annotated[str, typer.Option(help="active or literal")]
Sparsify = Annotated[str, typer.Option(help="paper, rows or none")]
MaxEntries = Annotated[int | None, typer.Option(help="entries that the map may have")]
PromptTokens = Annotated[str | None, typer.Option(help="content or all")]

NOT_ASKED = {
    "percentile": None,
    "k_diff": None,
    "gate": "active",
    "sparsify": "paper",
    "max_entries": None,
    "prompt_tokens": None,
}


@app.command()
def fit(
    source: Annotated[str, typer.Argument(help="JSON Lines, Parquet, or a datasets name")],
    out: Annotated[Path, typer.Option(help="folder for the map; with --shards, for all shards")],
    preset: Preset = DEFAULT_PRESET,
    chat: Annotated[bool, typer.Option(help="lift string prompts to one user message")] = True,
    percentile: Percentile = None,
    k_diff: KDiff = None,
    gate: Gate = "active",
    sparsify: Sparsify = "paper",
    max_entries: MaxEntries = None,
    prompt_tokens: PromptTokens = None,
    checkpoint: Annotated[Path | None, typer.Option(help="folder to resume from")] = None,
    shards: Annotated[int | None, typer.Option(help="count one of so many parts")] = None,
    shard: Annotated[int | None, typer.Option(help="which part, from 0")] = None,
) -> None:
    """Fit a conditional-difference map on preference triples and save it.

    With --shards and --shard only that part is counted; `dspa merge` fits when all are there.
    """
    from dspa_nn.counts.run import CountRun
    from dspa_nn.counts.shards import shard_folder
    from dspa_nn.steering.dspa import DSPA
    from dspa_nn.triples.sources import load_triples

    options = {
        "percentile": percentile, "k_diff": k_diff, "gate": gate, "sparsify": sparsify,
        "max_entries": max_entries, "prompt_tokens": prompt_tokens,
    }  # fmt: skip
    counting_only = _counting_only(shards, shard, options)
    triples = load_triples(source, chat=chat)
    dspa = DSPA.from_preset(preset)
    if counting_only:
        place, parts = shard or 0, shards or 1
        run = CountRun(dspa, triples)
        typer.echo(run.keep(out, shard=place, shards=parts, checkpoint=checkpoint))
        typer.echo(f"saved in {shard_folder(out, place, parts)}")
    else:
        _save(dspa.fit(triples, checkpoint=checkpoint, **options), out)


@app.command()
def merge(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="where the shards are")],
    out: Annotated[Path, typer.Option(help="folder for the map")],
    percentile: Percentile = None,
    k_diff: KDiff = None,
    gate: Gate = "active",
    sparsify: Sparsify = "paper",
    max_entries: MaxEntries = None,
    prompt_tokens: PromptTokens = None,
) -> None:
    """Merge the shards that `dspa fit --shards` counted, fit a map and save it.

    No model is loaded; the map is the one of a single run, byte for byte.
    """
    from dspa_nn.steering.fit import fit_merged

    options = {
        "percentile": percentile, "k_diff": k_diff, "gate": gate, "sparsify": sparsify,
        "max_entries": max_entries, "prompt_tokens": prompt_tokens,
    }  # fmt: skip
    _save(fit_merged(folder, options), out)


def _counting_only(shards: int | None, shard: int | None, options: dict[str, Any]) -> bool:
    """Whether one shard was asked for; what cannot be meant is refused before anything runs."""
    from dspa_nn.counts.shards import check_shard

    if shards is None and shard is None:
        return False
    if shards is None or shard is None:
        raise CountsError(
            f"{'--shard' if shards is None else '--shards'} came alone; give both --shards, how "
            "many parts, and --shard, which of them from 0"
        )
    check_shard(shard, shards)
    given = [f"--{name.replace('_', '-')}" for name in options if options[name] != NOT_ASKED[name]]
    if given:
        raise CountsError(
            f"{', '.join(given)} came with --shards, which only counts; give it to dspa merge"
        )
    return True


def _save(made: Any, folder: Path) -> None:
    made.save(folder)
    typer.echo(made)
    typer.echo(f"saved in {folder}")


@app.command()
def steer(
    map_folder: Annotated[str, typer.Argument(metavar="MAP", help="a saved map, or its hub id")],
    text: Annotated[str, typer.Argument(metavar="PROMPT", help="what to say to the model")],
    preset: Preset = DEFAULT_PRESET,
    chat: Annotated[bool, typer.Option(help="the prompt is one user message")] = True,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 64,
    alpha: Annotated[float | None, typer.Option(help="size of an edit, in M_t")] = None,
    k_prompt: Annotated[int | None, typer.Option(help="prompt latents that vote")] = None,
    k_diff: Annotated[int | None, typer.Option(help="latents planned in each direction")] = None,
    mode: Annotated[str | None, typer.Option(help="ablate, augment or both")] = None,
    prompt_rule: Annotated[str | None, typer.Option(help="density, gated or centred")] = None,
) -> None:
    """Answer a prompt twice, unsteered and steered, and say what was edited."""
    from dspa_nn.maps.map import ConditionalDifferenceMap
    from dspa_nn.steering.dspa import DSPA

    fitted = ConditionalDifferenceMap.load(map_folder)
    dspa = DSPA.from_preset(preset)
    model, prompt = dspa.model, dspa.render([{"role": "user", "content": text}] if chat else text)
    settings = {"max_new_tokens": max_new_tokens, "do_sample": False}
    with model.generate(prompt.ids, **settings) as tracer:
        plain = tracer.result.save()
    with model.generate(prompt.ids, **settings) as tracer:
        edits = dspa.apply(
            fitted,
            prompt=prompt,
            alpha=alpha,
            k_prompt=k_prompt,
            k_diff=k_diff,
            mode=mode,
            prompt_rule=prompt_rule,
        )
        steered = tracer.result.save()
    for name, ids in (("unsteered", plain), ("steered", steered)):
        answer = model.tokenizer.decode(ids[0, len(prompt.ids) :], skip_special_tokens=True)
        typer.echo(f"{name}:\n{answer}\n")
    typer.echo(edits.plans[0])
    typer.echo(edits)


@app.command()
def payload(
    map_folder: Annotated[
        str | None, typer.Argument(metavar="[MAP]", help="a saved map, or its hub id")
    ] = None,
    preset: Preset = DEFAULT_PRESET,
    payload_dtype: Annotated[str | None, typer.Option(help="cast both SAEs, inexact")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="latents of both SAEs")] = None,
    columns: Annotated[int, typer.Option(min=0, help="output latents a map can edit")] = 159,
) -> None:
    """Print what a run on NDIF would send, part by part; nothing is sent.

    With a map its SAEs are loaded and the request is packed, without a model. Without one, sizes
    come from the preset's shapes alone (or --width), and nothing is loaded.
    """
    from dspa_nn.maps.map import ConditionalDifferenceMap
    from dspa_nn.models.configs import model_shape
    from dspa_nn.ndif.sizes import from_shapes
    from dspa_nn.steering.dspa import DSPA

    if map_folder is None:
        shape = model_shape(preset)
        widths = (shape.d_in, shape.d_out) if width is None else (width, width)
        typer.echo(from_shapes(shape.config.hidden_size, *widths, columns=columns))
        return
    fitted = ConditionalDifferenceMap.load(map_folder)
    typer.echo(DSPA.unloaded(preset, payload_dtype=payload_dtype).payload(fitted))


@app.command()
def bench(
    preset: Preset = DEFAULT_PRESET,
    prompt: Annotated[int, typer.Option(min=0, help="tokens of a prompt")] = 1000,
    chosen: Annotated[int, typer.Option(min=1, help="tokens of a chosen response")] = 1000,
    rejected: Annotated[int, typer.Option(min=1, help="tokens of a rejected response")] = 1000,
    json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Print what fitting costs in FLOPs, beside DPO and RAHF-SCIT; no model is loaded."""
    from json import dumps

    from dspa_nn.costs.table import preset_costs

    table = preset_costs(preset, [(prompt, chosen, rejected)])
    typer.echo(dumps(table.to_dict(), indent=1) if json else table)
