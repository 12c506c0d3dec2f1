"""Tasks for lm-eval: the paper's five, and tasks on files that are on disk."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from dspa_nn.errors import EvaluationError
from dspa_nn.files import as_path, numbered_lines, write_atomically

# Task -> (shots, metric): the paper's appendix; docs/method.md 6.
PAPER_TASKS = {
    "mmlu": (5, "acc"),
    "arc_easy": (25, "acc_norm"),
    "truthfulqa_mc2": (0, "acc"),
    "hellaswag": (10, "acc_norm"),
    "winogrande": (5, "acc"),
}
_METRICS = ("acc", "acc_norm")
# Columns of a local file -> how lm-eval reads a question of it.
_LAYOUTS: dict[tuple[str, ...], dict[str, str]] = {
    ("query", "choices", "gold"): {
        "doc_to_text": "{{query}}\nAnswer:",
        "doc_to_target": "gold",
        "doc_to_choice": "choices",
    },
    # WinoGrande by partial evaluation: the contexts differ, the continuation is the same.
    ("context_options", "continuation", "gold"): {
        "doc_to_text": "{{gold}}",
        "doc_to_target": "continuation",
        "doc_to_choice": "context_options",
    },
}


def write_tasks(
    folder: str | os.PathLike[str], local: Mapping[str, str | os.PathLike[str]] | None = None
) -> list[str]:
    r"""Write task files for lm-eval's `--include_path`; returns the names of the tasks.

    Example:
        >>> import tempfile
        >>> write_tasks(tempfile.mkdtemp())
        ['dspa_paper']

    `dspa_paper` groups the five multiple-choice tasks with the numbers of shots of the paper, read
    from the hub. A local file is JSON Lines in the layout of llm-foundry: `query`, `choices`,
    `gold`, or `context_options`, `continuation`, `gold`; its shots are drawn from the same file.

    Args:
        folder: where the task files go.
        local: task name -> file of its questions.

    Raises:
        EvaluationError: a file of questions that is missing or in another layout, a question
            without texts or whose `gold` is none of its choices, or a name that no task can have.
    """
    root = as_path(folder)
    tasks = [{"task": name, "num_fewshot": shots} for name, (shots, _) in PAPER_TASKS.items()]
    _write(root / "dspa_paper.yaml", {"group": "dspa_paper", "task": tasks})
    for name, source in (local or {}).items():
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise EvaluationError(
                f"task name {name!r} came; give letters, digits, dots, dashes and underscores"
            )
        path = as_path(source).resolve()
        body: dict[str, Any] = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(path)}},
            "output_type": "multiple_choice",
            "test_split": "test",
            "fewshot_split": "test",
            "metric_list": [
                {"metric": metric, "aggregation": "mean", "higher_is_better": True}
                for metric in _METRICS
            ],
            "metadata": {"version": 1.0},
        }
        _write(root / f"{name}.yaml", body | _layout(path))
    return ["dspa_paper", *(local or {})]


def _layout(path: Path) -> dict[str, str]:
    """How lm-eval reads the file; what it would score as a wrong answer is refused here."""
    lines = numbered_lines(path, "JSON Lines with query, choices and gold", EvaluationError)
    if not lines:
        raise EvaluationError(f"{path} holds no questions; give JSON Lines, one question a line")
    rows = [(where, _row(where, line)) for where, line in lines]
    columns = rows[0][1]
    for names, layout in _LAYOUTS.items():
        if set(columns) >= set(names):
            for where, row in rows:
                _check_question(where, row, names)
            return layout
    wanted = " or ".join(", ".join(names) for names in _LAYOUTS)
    raise EvaluationError(f"{path} has {', '.join(sorted(columns))}; expected {wanted}")


def _row(where: str, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise EvaluationError(f"{where} is no JSON object; give one question a line")
    return cast(dict[str, Any], row)


def _check_question(where: str, row: Mapping[str, Any], names: tuple[str, ...]) -> None:
    """names: of the columns of one layout."""
    for name in names:
        value: Any = row.get(name)
        if name in ("choices", "context_options"):
            texts = cast(list[Any], value) if isinstance(value, list) else []
            options = len(texts) if all(isinstance(text, str) and text for text in texts) else 0
            if options < 2:
                raise EvaluationError(f"{where} has {name} {value!r:.60}; expected a list of texts")
            gold: Any = row.get("gold")
            if type(gold) is not int or not 0 <= gold < options:
                raise EvaluationError(
                    f"{where} has gold {gold!r:.40}; expected a whole number from 0 to "
                    f"{options - 1}, the right one of its {name}"
                )
        elif name != "gold" and not (isinstance(value, str) and value):
            raise EvaluationError(f"{where} has {name} {value!r:.60}; expected a text")


def _write(path: Path, body: dict[str, Any]) -> None:
    # JSON is YAML, and needs no writer of its own.
    write_atomically(path, json.dumps(body, indent=1) + "\n")
