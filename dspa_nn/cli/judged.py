"""What the benchmarks with a judge have in common: their options, the judge, the steering."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from dspa_nn.errors import EvaluationError
from dspa_nn.files import require_folder, write_atomically
from dspa_nn.judges import Endpoint, Judge, ReplyCache
from dspa_nn.maps import ConditionalDifferenceMap, identity_of
from dspa_nn.personas import read_map
from dspa_nn.steering import DSPA, DSPAMethod, SteeringOptions

Name = Annotated[str, typer.Option(help="The steered model's name in the results.")]
MapFolder = Annotated[
    str | None,
    typer.Option("--map", help="A saved map, its hub id, or a persona's file; none: unsteered."),
]
AnswerLength = Annotated[int, typer.Option(min=1, help="Length of an answer.")]
JudgeURL = Annotated[
    str | None, typer.Option(help="Base of an OpenAI-compatible API; without it, answers alone.")
]
JudgeModel = Annotated[
    str | None, typer.Option(help="The judge's name at that API; there is no default judge.")
]
KeyVariable = Annotated[str, typer.Option(help="Environment variable that holds the judge's key.")]
JudgeTimeout = Annotated[
    float,
    typer.Option(min=1, help="Seconds that the judge may be silent before it is asked again."),
]
DEFAULT_KEY = "OPENAI_API_KEY"
# Bytes of a name after which a file is named: file systems take 255, endings included.
_LONGEST_NAME = 200


def judge_of(
    url: str | None, model: str | None, key_variable: str, out: Path, timeout: float = 120.0
) -> Judge | None:
    """The judge that the options name, its replies kept in `out`; None where there is no URL.

    Example:
        >>> judge_of("http://127.0.0.1:8000/v1", "my-judge", "OPENAI_API_KEY", Path("out")).name
        'my-judge'

    Raises:
        EvaluationError: a URL without the judge's name, or one of more than 200 bytes.
    """
    if url is None:
        return None
    if model is None:
        raise EvaluationError("--judge-url came without --judge-model; name the judge")
    _check_length("--judge-model", model)
    return Judge(
        Endpoint(url, model, key_variable, timeout), ReplyCache(out / "judge_replies.jsonl")
    )


def check_run(
    out: Path, name: str, map_folder: str | None, settings: SteeringOptions
) -> ConditionalDifferenceMap | None:
    """Refuse what cannot be answered with, before a model is loaded; the map of --map, or None.

    >>> check_run(Path("out"), "plain", None, {"alpha": None})

    Raises:
        FileError, EvaluationError: `out` is a file, a name that is no file's, no map there, or
            settings of steering without a map.
    """
    require_folder("--out", out)
    if not name.strip() or Path(name).name != name:
        raise EvaluationError(f"--name is {name!r}; give a word or two, of which files are named")
    _check_length("--name", name)
    if map_folder is not None:
        return read_map(map_folder)
    given = [f"--{setting}" for setting, value in settings.items() if value is not None]
    if given:
        raise EvaluationError(
            f"{' and '.join(given)} came without --map, and so nothing would be steered; name a "
            "map, or leave that out"
        )
    return None


def _check_length(option: str, name: str) -> None:
    if (length := len(os.fsencode(name))) > _LONGEST_NAME:
        raise EvaluationError(
            f"{option} has {length} bytes; files are named after it, so give one of at most "
            f"{_LONGEST_NAME}"
        )


def method_of(
    dspa: DSPA, name: str, map: ConditionalDifferenceMap | None, settings: SteeringOptions
) -> DSPAMethod | None:
    """Steering with the map of --map; None where there is none.

    Example:
        >>> method_of(dspa, "plain", None, {}) is None
        True
    """
    return None if map is None else DSPAMethod(name, dspa, map, settings)


def check_answers(out: Path, name: str, method: DSPAMethod | None, made: dict[str, Any]) -> None:
    """Refuse to go on with answers of this name that another map or other settings gave.

    What they are made with is kept beside them, in `NAME.run.json`.

    Example:
        >>> check_answers(Path("out"), "plain", None, {"max_new_tokens": 64})

    Args:
        made: whatever else decides the answers, as values of JSON.

    Raises:
        EvaluationError: the first difference, and what to do.
    """
    known = {"map": None, "settings": None, **made}
    if method is not None:
        known |= {"map": identity_of(method.map), "settings": dict(method.options)}
    path = out / f"{name}.run.json"
    if not path.exists():
        write_atomically(path, json.dumps(known, indent=1) + "\n")
        return
    try:
        before = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError):
        raise EvaluationError(
            f"{path} cannot be read, which says what the answers of {name!r} were made with; give "
            "another --name"
        ) from None
    for key, value in json.loads(json.dumps(known)).items():
        if before.get(key, value) != value:
            hashed = key in ("map", "question set")
            told = "" if hashed else f" ({before.get(key)!r} before, now {value!r})"
            raise EvaluationError(
                f"the answers of {name!r} in {out} were made with another {key}{told}; give the "
                "same options again, or another --name"
            )
