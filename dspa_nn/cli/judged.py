"""What the benchmarks with a judge have in common: their options, the judge, the steering."""

from pathlib import Path
from typing import Annotated

import typer

from dspa_nn.cli.maps import read_map
from dspa_nn.errors import EvaluationError
from dspa_nn.judges import Endpoint, Judge, ReplyCache
from dspa_nn.steering import DSPA, DSPAMethod, SteeringOptions

Name = Annotated[str, typer.Option(help="The steered model's name in the results.")]
MapFolder = Annotated[
    str | None, typer.Option("--map", help="A saved map, or its hub id; none: unsteered.")
]
AnswerLength = Annotated[int, typer.Option(min=1, help="Length of an answer.")]
JudgeURL = Annotated[
    str | None, typer.Option(help="Base of an OpenAI-compatible API; without it, answers alone.")
]
JudgeModel = Annotated[
    str | None, typer.Option(help="The judge's name at that API; there is no default judge.")
]
KeyVariable = Annotated[str, typer.Option(help="Environment variable that holds the judge's key.")]
DEFAULT_KEY = "OPENAI_API_KEY"


def judge_of(url: str | None, model: str | None, key_variable: str, out: Path) -> Judge | None:
    """The judge that the options name, its replies kept in `out`; None where there is no URL.

    Example:
        >>> judge_of("http://127.0.0.1:8000/v1", "my-judge", "OPENAI_API_KEY", Path("out")).name
        'my-judge'

    Raises:
        EvaluationError: a URL without the judge's name.
    """
    if url is None:
        return None
    if model is None:
        raise EvaluationError("--judge-url came without --judge-model; name the judge")
    return Judge(Endpoint(url, model, key_variable), ReplyCache(out / "judge_replies.jsonl"))


def method_of(
    dspa: DSPA, name: str, map_folder: str | None, settings: SteeringOptions
) -> DSPAMethod | None:
    """Steering with the map that --map names; None where there is none.

    Example:
        >>> method_of(dspa, "plain", None, {}) is None
        True

    Raises:
        MapError, FileError: no map can be read there.
    """
    if map_folder is None:
        return None
    return DSPAMethod(name, dspa, read_map(map_folder), settings)
