"""`dspa mt-bench`: answers, judgments and scores by FastChat's protocol."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from dspa_nn.cli.build import build
from dspa_nn.cli.options import (
    DEFAULT_PRESET,
    Alpha,
    InputSAE,
    Layers,
    Mode,
    Model,
    OutputSAE,
    Preset,
)
from dspa_nn.errors import EvaluationError
from dspa_nn.files import as_path
from dspa_nn.judges import Endpoint, Judge, ReplyCache
from dspa_nn.maps import ConditionalDifferenceMap
from dspa_nn.mt_bench import (
    MTBench,
    answer_questions,
    judge_answers,
    load_judgments,
    score_judgments,
)
from dspa_nn.progress import show_progress
from dspa_nn.steering import DSPAMethod


def mt_bench(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Folder in the layout of FastChat's mt_bench.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of answers, judgments and scores.")],
    name: Annotated[str, typer.Option(help="The steered model's name in the results.")],
    map_folder: Annotated[
        str | None, typer.Option("--map", help="A saved map, or its hub id; none: unsteered.")
    ] = None,
    preset: Preset = DEFAULT_PRESET,
    model: Model = None,
    input_sae: InputSAE = None,
    output_sae: OutputSAE = None,
    layers: Layers = None,
    alpha: Alpha = None,
    mode: Mode = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Length of an answer.")] = 1024,
    limit: Annotated[int | None, typer.Option(min=1, help="The first questions alone.")] = None,
    judge_url: Annotated[
        str | None,
        typer.Option(help="Base of an OpenAI-compatible API; without it, answers alone."),
    ] = None,
    judge_model: Annotated[
        str | None, typer.Option(help="The judge's name at that API; there is no default judge.")
    ] = None,
    key_variable: Annotated[
        str, typer.Option(help="Environment variable that holds the judge's key.")
    ] = "OPENAI_API_KEY",
    parallel: Annotated[int, typer.Option(min=1, help="Requests to the judge at a time.")] = 4,
    corrections: Annotated[
        Path | None, typer.Option(help="Reference answers that replace those of the data.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")] = False,
) -> None:
    """Answer MT-Bench's questions, have a judge of your choice rate them, and print the scores.

    Answers and judgments are kept in FastChat's files; a run that was cut off goes on where it was.
    """
    if judge_url is not None and judge_model is None:
        raise EvaluationError("--judge-url came without --judge-model; name the judge")
    out, judge = as_path(out), None
    if judge_url is not None:
        cache = ReplyCache(out / "judge_replies.jsonl")
        judge = Judge(Endpoint(judge_url, str(judge_model), key_variable), cache)
    bench = MTBench.load(data, corrections=corrections)
    total = len(list(bench.questions)[:limit])
    dspa = build(preset, model, input_sae, output_sae, layers)
    method = None
    if map_folder is not None:
        fitted = ConditionalDifferenceMap.load(map_folder)
        method = DSPAMethod(name, dspa, fitted, {"alpha": alpha, "mode": mode})
    with show_progress("answering", total, "questions") as advance:
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
        typer.echo(f"answers are in {out / 'model_answer' / f'{name}.jsonl'}; not judged")
        return
    with show_progress("judging", 2 * total, "turns") as advance:
        path = judge_answers(bench, out, judge, name=name, parallel=parallel, advance=advance)
    table: Any = score_judgments(load_judgments(path), bench)
    if as_json:
        typer.echo(json.dumps(json.loads(table.to_json(orient="index")), indent=1))
        return
    typer.echo(table.T.to_string(float_format="%.2f"))
    typer.echo(f"{judge.name} as the judge: {judge.spend}")
    typer.echo(f"judgments are in {path}")
