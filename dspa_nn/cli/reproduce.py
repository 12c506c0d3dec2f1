"""`dspa reproduce`: the paper's tables from nothing, beside what the paper reports."""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from dspa_nn.cli.judged import DEFAULT_KEY, JudgeModel, JudgeURL, KeyVariable, judge_of
from dspa_nn.cli.options import AsJSON, Seed
from dspa_nn.cli.stopping import resumable
from dspa_nn.errors import EvaluationError
from dspa_nn.files import as_path, require_folder
from dspa_nn.imports import untyped
from dspa_nn.progress import say
from dspa_nn.reproduce import (
    STEPS,
    Judges,
    Settings,
    Sources,
    reproduction_needs,
    rows_of,
    shortfalls,
    steps_of,
)
from dspa_nn.reproduce import reproduce as run

_FIRST = Settings()


def reproduce(
    preset: Annotated[
        str, typer.Argument(metavar="PRESET", help="gemma-2-2b, gemma-2-9b or qwen3-8b.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="The run's folder.", show_default="reproduce-PRESET")
    ] = None,
    stand_in: Annotated[
        bool,
        typer.Option(
            "--stand-in",
            help="All of the path on a tiny random model, with a judge that rates by a hash.",
        ),
    ] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Say what it needs, and stop.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Start without asking, whatever this machine lacks.")
    ] = False,
    row: Annotated[
        list[str] | None,
        typer.Option(help="Of the tables, such as main-dspa; repeatable.", show_default="all"),
    ] = None,
    step: Annotated[
        list[str] | None,
        typer.Option(help=f"Of {', '.join(STEPS)}; repeatable.", show_default="all"),
    ] = None,
    judge_url: JudgeURL = None,
    judge_model: JudgeModel = None,
    key_variable: KeyVariable = DEFAULT_KEY,
    annotator_url: Annotated[
        str | None, typer.Option(help="AlpacaEval's judge.", show_default="--judge-url")
    ] = None,
    annotator_model: Annotated[
        str | None, typer.Option(help="Its name there.", show_default="--judge-model")
    ] = None,
    annotator_key_variable: KeyVariable = DEFAULT_KEY,
    trained: Annotated[
        list[str] | None,
        typer.Option(metavar="ROW=FOLDER", help="What a training recipe wrote; repeatable."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Folder or hub id, such as of the paper's SFT, made by you.")
    ] = None,
    input_sae: Annotated[str | None, typer.Option(help="Folder or release/sae_id.")] = None,
    output_sae: Annotated[str | None, typer.Option(help="Folder or release/sae_id.")] = None,
    triples: Annotated[
        str | None, typer.Option(help="Preference data.", show_default="UltraFeedback")
    ] = None,
    mt_bench: Annotated[
        Path | None, typer.Option(help="Folder in FastChat's layout.", show_default="fetched")
    ] = None,
    alpaca_eval: Annotated[
        Path | None, typer.Option(help="Reference outputs.", show_default="fetched")
    ] = None,
    limit_triples: Annotated[
        int | None, typer.Option(min=1, help="So many triples, for a trial.")
    ] = None,
    limit_questions: Annotated[
        int | None, typer.Option(min=1, help="So many questions of each kind, for a trial.")
    ] = None,
    percentile: Annotated[
        float, typer.Option(min=0, max=100, help="Of the gates; the paper gives none.")
    ] = _FIRST.percentile,
    few: Annotated[
        int, typer.Option(min=1, help="Triples of the restricted setting.")
    ] = _FIRST.few,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="Length of an answer.")
    ] = _FIRST.max_new_tokens,
    batch_size: Annotated[int, typer.Option(min=1, help="At once.")] = _FIRST.batch_size,
    seed: Seed = 0,
    as_json: AsJSON = False,
) -> None:
    """Measure the paper's tables on one of its models, and write them beside the published figures.

    It says first what it needs. Every step leaves whole files, and the same command goes on where
    it was cut off; without a judge it answers, and a later call with one rates.
    """
    rows, steps = tuple(row or ()), tuple(step or ())
    wanted, asked = rows_of(preset, rows), steps_of(steps)
    folder = as_path(out or f"reproduce-{preset}")
    require_folder("--out", folder)
    settings = Settings(
        percentile=percentile, few=few, seed=seed, max_new_tokens=max_new_tokens,
        batch_size=batch_size, triples=limit_triples, questions=limit_questions,
    )  # fmt: skip
    needs = reproduction_needs(preset, wanted, asked, settings)
    if plan:
        if stand_in:
            say("what the real run needs; --stand-in needs no GPU, download or judge, and a minute")
        typer.echo(json.dumps(needs.to_dict(), indent=1) if as_json else needs)
        return
    if not stand_in:
        say(str(needs), not as_json)
        _ask(shortfalls(needs, _gpu_memory(), shutil.disk_usage(_existing(folder)).free), yes)
    judges = Judges(
        judge_of(judge_url, judge_model, key_variable, folder / "mt-bench"),
        judge_of(
            annotator_url or judge_url, annotator_model or judge_model,
            annotator_key_variable if annotator_url else key_variable, folder / "alpaca-eval",
        ),
    )  # fmt: skip
    sources = Sources(
        triples=triples, mt_bench=mt_bench, alpaca_eval=alpaca_eval, model=model,
        input_sae=input_sae, output_sae=output_sae, trained=_folders(trained or ()),
    )  # fmt: skip
    if stand_in and (sources != Sources() or settings != Settings() or judge_url is not None):
        raise EvaluationError(
            "--stand-in came with inputs, settings or a judge, and has its own; leave those out"
        )
    with resumable(f"what is finished is in {folder}, and the same command goes on from it"):
        done = run(
            preset, folder, rows=rows, steps=steps, stand_in=stand_in,
            settings=None if stand_in else settings, sources=None if stand_in else sources,
            judges=None if stand_in else judges, progress=False if as_json else None,
        )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(done.figures, indent=1))
        return
    typer.echo(done)
    typer.echo(f"the page is {done.page}, every figure is in {done.json}")


def _ask(lacking: Sequence[str], yes: bool) -> None:
    """Start at once with --yes; else ask on a terminal, or refuse."""
    for line in lacking:
        say(f"dspa: {line}")
    if yes:
        return
    if not sys.stdin.isatty():
        raise EvaluationError(
            "nobody can be asked whether to start, since this is no terminal; read what it needs, "
            "and add --yes, or try the whole of it with --stand-in"
        )
    typer.confirm("Start?", abort=True)


def _gpu_memory() -> int | None:
    torch: Any = untyped("torch")
    if not torch.cuda.is_available():
        return None
    devices = range(torch.cuda.device_count())
    return sum(int(torch.cuda.get_device_properties(index).total_memory) for index in devices)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    whole = folder.absolute()
    return next(path for path in (whole, *whole.parents) if path.exists())


def _folders(given: Sequence[str]) -> dict[str, Path]:
    """What --trained names: "main-dpo=folder"."""
    found: dict[str, Path] = {}
    for text in given:
        slug, equals, folder = text.partition("=")
        if not equals or not as_path(folder).is_dir():
            raise EvaluationError(
                f"--trained is {text!r}; expected a row and a folder that a training recipe wrote, "
                "such as main-dpo=dpo"
            )
        found[slug] = as_path(folder)
    return found
