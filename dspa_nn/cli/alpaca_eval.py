"""`dspa alpaca-eval`: answers to AlpacaEval's instructions, and a win rate."""

import json
from pathlib import Path
from typing import Annotated

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
from dspa_nn.harness import alpaca_win_rate, write_outputs
from dspa_nn.judges import Endpoint, Judge, ReplyCache
from dspa_nn.maps import ConditionalDifferenceMap
from dspa_nn.progress import show_progress
from dspa_nn.steering import DSPAMethod


def alpaca_eval(
    reference: Annotated[
        Path,
        typer.Argument(
            metavar="REFERENCE", help="JSON of another model's outputs, with the instructions."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the answers and the judge's replies.")],
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
    batch_size: Annotated[int, typer.Option(min=1, help="Instructions answered at once.")] = 8,
    limit: Annotated[int | None, typer.Option(min=1, help="The first instructions alone.")] = None,
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
    annotator: Annotated[
        str, typer.Option(help="A config of alpaca_eval: its prompt and parser.")
    ] = "alpaca_eval_llama3_70b_fn",
) -> None:
    """Answer AlpacaEval's instructions, and print how often a judge prefers the answers.

    A run that was cut off goes on where it was, and asks the judge nothing twice.
    """
    if judge_url is not None and judge_model is None:
        raise EvaluationError("--judge-url came without --judge-model; name the judge")
    out, judge = as_path(out), None
    if judge_url is not None:
        cache = ReplyCache(out / "judge_replies.jsonl")
        judge = Judge(Endpoint(judge_url, str(judge_model), key_variable), cache)
    dspa = build(preset, model, input_sae, output_sae, layers)
    method = None
    if map_folder is not None:
        fitted = ConditionalDifferenceMap.load(map_folder)
        method = DSPAMethod(name, dspa, fitted, {"alpha": alpha, "mode": mode})
    with show_progress("answering", limit or 805, "instructions") as advance:
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
        typer.echo(f"answers are in {path}; not judged")
        return
    figures = alpaca_win_rate(path, reference, judge, annotator=annotator)
    typer.echo(json.dumps(figures, indent=1))
    typer.echo(f"{judge.name} as the judge: {judge.spend}", err=True)
