"""Answers in AlpacaEval's format: what is read of them, and what is refused."""

import json
from pathlib import Path
from typing import Any, cast

from dspa_nn.errors import EvaluationError


def read_outputs(path: Path) -> list[dict[str, Any]]:
    """Instructions and answers in AlpacaEval's format.

    Example:
        >>> read_outputs(Path("reference_outputs.json"))  # doctest: +SKIP

    Raises:
        EvaluationError: no JSON, or no list of objects with an instruction.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise EvaluationError(
            f"{path} cannot be read as JSON ({error}); give a list of objects with an instruction."
        ) from error
    entries: list[Any] = cast(list[Any], rows) if isinstance(rows, list) else []
    if not entries or not all(isinstance(row, dict) and "instruction" in row for row in entries):
        raise EvaluationError(f"{path} is no list of objects with an instruction; see AlpacaEval's")
    return entries


def answered(path: Path) -> list[dict[str, Any]]:
    """Instructions and answers that can be judged: texts, one answer to each instruction.

    Example:
        >>> answered(Path("reference_outputs.json"))  # doctest: +SKIP

    Raises:
        EvaluationError: an answer that is missing or no text, or two to one instruction.
    """
    rows = read_outputs(path)
    seen: set[str] = set()
    for position, row in enumerate(rows, 1):
        for name in ("instruction", "output"):
            if not isinstance(row.get(name), str):
                raise EvaluationError(
                    f"entry {position} of {path} has no text as its {name}; give one to each"
                )
        if row["instruction"] in seen:
            raise EvaluationError(
                f"{path} answers {row['instruction'][:60]!r} twice; remove one of the two"
            )
        seen.add(row["instruction"])
    return rows
