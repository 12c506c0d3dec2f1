"""`dspa alpaca-eval`: answers to AlpacaEval's instructions, and a win rate."""

import json
from math import isfinite
from pathlib import Path
from typing import Annotated

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
from dspa_nn.files import as_path
from dspa_nn.harness import alpaca_win_rate, read_outputs, write_outputs
from dspa_nn.progress import show_progress
from dspa_nn.steering import SteeringOptions


def alpaca_eval(
    reference: Annotated[
        Path,
        typer.Argument(
            metavar="REFERENCE", help="JSON of another model's outputs, with the instructions."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the answers and the judge's replies.")],
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
    batch_size: Annotated[int, typer.Option(min=1, help="Instructions answered at once.")] = 8,
    limit: Annotated[int | None, typer.Option(min=1, help="The first instructions alone.")] = None,
    judge_url: JudgeURL = None,
    judge_model: JudgeModel = None,
    key_variable: KeyVariable = DEFAULT_KEY,
    judge_timeout: JudgeTimeout = 120.0,
    annotator: Annotated[
        str, typer.Option(help="A config of alpaca_eval: its prompt and parser.")
    ] = "alpaca_eval_llama3_70b_fn",
    as_json: AsJSON = False,
) -> None:
    """Answer AlpacaEval's instructions, and print how often a judge prefers the answers.

    A run that was cut off goes on where it was, and asks the judge nothing twice.
    """
    out = as_path(out)
    settings: SteeringOptions = {"alpha": alpha, "mode": mode}
    map = check_run(out, name, map_folder, settings)
    judge = judge_of(judge_url, judge_model, key_variable, out, judge_timeout)
    total = len(read_outputs(as_path(reference))[:limit])
    dspa = build(preset, model, input_sae, output_sae, layers)
    method = method_of(dspa, name, map, settings)
    check_answers(
        out, name, method, {"preset": preset, "model": model, "max_new_tokens": max_new_tokens}
    )
    with resumable(kept_in(out)), show_progress("answering", total, "instructions") as advance:
        path = write_outputs(
            dspa,
            reference,
            out / f"{name}.json",
            method,
            name=name,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            limit=limit,
            advance=advance,
        )
    if judge is None:
        unjudged = f"answers are in {path}; not judged"
        typer.echo(json.dumps({"answers": str(path)}) if as_json else unjudged)
        return
    with resumable(kept_in(out)):
        figures = alpaca_win_rate(path, reference, judge, annotator=annotator, limit=limit)
    # Of one answer there is no standard error, and JSON has no NaN.
    told = {name: value if isfinite(value) else None for name, value in figures.items()}
    typer.echo(json.dumps(told, indent=1))
    typer.echo(f"{judge.name} as the judge: {judge.spend}", err=True)
