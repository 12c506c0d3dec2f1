"""Tasks for lm-eval: the paper's five, and tasks on files that are on disk."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dspa_nn.errors import EvaluationError
from dspa_nn.files import as_path, write_atomically

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
        EvaluationError: a file of questions that is missing or in another layout, or a name that no
            task can have.
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
    try:
        with path.open(encoding="utf-8") as file:
            first = json.loads(file.readline())
        columns = {str(name) for name in first}
    except (OSError, ValueError, TypeError) as error:
        raise EvaluationError(
            f"{path} cannot be read as questions ({error}); give JSON Lines with query, choices "
            "and gold."
        ) from error
    for names, layout in _LAYOUTS.items():
        if columns >= set(names):
            return layout
    wanted = " or ".join(", ".join(names) for names in _LAYOUTS)
    raise EvaluationError(f"{path} has {', '.join(sorted(columns))}; expected {wanted}")


def _write(path: Path, body: dict[str, Any]) -> None:
    # JSON is YAML, and needs no writer of its own.
    write_atomically(path, json.dumps(body, indent=1) + "\n")
