"""`dspa mt-bench`: answers, judgments and scores by FastChat's protocol."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from dspa_nn.cli.build import build
from dspa_nn.cli.judged import (
    DEFAULT_KEY,
    AnswerLength,
    JudgeModel,
    JudgeTimeout,
    JudgeURL,
    KeyVariable,
    MapFolder,
    Name,
    check_answers,
    check_run,
    judge_of,
    method_of,
)
from dspa_nn.cli.options import (
    DEFAULT_PRESET,
    Alpha,
    AsJSON,
    InputSAE,
    Layers,
    Mode,
    Model,
    OutputSAE,
    Preset,
)
from dspa_nn.cli.stopping import kept_in, resumable
from dspa_nn.files import as_path, sha256_of_json
from dspa_nn.mt_bench import (
    MTBench,
    answer_questions,
    judge_answers,
    load_judgments,
    score_judgments,
)
from dspa_nn.progress import show_progress
from dspa_nn.steering import SteeringOptions


def mt_bench(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Folder in the layout of FastChat's mt_bench.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of answers, judgments and scores.")],
    name: Name,
    map_folder: MapFolder = None,
    preset: Preset = DEFAULT_PRESET,
    model: Model = None,
    input_sae: InputSAE = None,
    output_sae: OutputSAE = None,
    layers: Layers = None,
    alpha: Alpha = None,
    mode: Mode = None,
    max_new_tokens: AnswerLength = 1024,
    limit: Annotated[int | None, typer.Option(min=1, help="The first questions alone.")] = None,
    judge_url: JudgeURL = None,
    judge_model: JudgeModel = None,
    key_variable: KeyVariable = DEFAULT_KEY,
    judge_timeout: JudgeTimeout = 120.0,
    parallel: Annotated[int, typer.Option(min=1, help="Requests to the judge at a time.")] = 4,
    corrections: Annotated[
        Path | None, typer.Option(help="Reference answers that replace those of the data.")
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Answer MT-Bench's questions, have a judge of your choice rate them, and print the scores.

    Answers and judgments are kept in FastChat's files; a run that was cut off goes on where it was.
    """
    out = as_path(out)
    settings: SteeringOptions = {"alpha": alpha, "mode": mode}
    map = check_run(out, name, map_folder, settings)
    judge = judge_of(judge_url, judge_model, key_variable, out, judge_timeout)
    bench = MTBench.load(data, corrections=corrections)
    total = len(list(bench.questions)[:limit])
    dspa = build(preset, model, input_sae, output_sae, layers)
    method = method_of(dspa, name, map, settings)
    check_answers(
        out,
        name,
        method,
        {
            "preset": preset,
            "model": model,
            "max_new_tokens": max_new_tokens,
            "question set": sha256_of_json(
                [[number, one["category"], one["turns"]] for number, one in bench.questions.items()]
            ),
        },
    )
    with resumable(kept_in(out)), show_progress("answering", total, "questions") as advance:
        answer_questions(
            dspa,
            bench,
            out,
            method,
            name=name,
            max_new_tokens=max_new_tokens,
            limit=limit,
            advance=advance,
        )
    if judge is None:
        path = out / "model_answer" / f"{name}.jsonl"
        unjudged = f"answers are in {path}; not judged"
        typer.echo(json.dumps({"answers": str(path)}) if as_json else unjudged)
        return
    with resumable(kept_in(out)), show_progress("judging", 2 * total, "turns") as advance:
        path = judge_answers(
            bench, out, judge, name=name, limit=limit, parallel=parallel, advance=advance
        )
    table: Any = score_judgments(load_judgments(path), bench)
    if as_json:
        typer.echo(json.dumps(json.loads(table.to_json(orient="index")), indent=1))
        return
    typer.echo(table.T.to_string(float_format="%.2f"))
    typer.echo(f"{judge.name} as the judge: {judge.spend}")
    typer.echo(f"judgments are in {path}")
