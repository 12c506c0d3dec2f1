"""lm-eval's own command line, with the model class `dspa` known to it."""

import sys
from collections.abc import Sequence
from typing import Any

from dspa_nn.harness.lm_eval_model import model_class
from dspa_nn.imports import untyped


def run_lm_eval(arguments: Sequence[str]) -> None:
    """Run lm-eval's command with these arguments; `--model dspa` is a steered model.

    Example:
        >>> run_lm_eval(["run", "--model", "dspa", "--tasks", "arc_easy"])  # doctest: +SKIP

    Raises:
        EvaluationError: lm-eval is not installed.
        SystemExit: what lm-eval's command exits with.
    """
    model_class()
    command: Any = untyped("lm_eval.__main__").cli_evaluate
    before = sys.argv
    sys.argv = ["lm-eval", *arguments]
    try:
        command()
    finally:
        sys.argv = before
