"""lm-eval's own command line, with the model class `dspa` known to it and git kept quiet."""

import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from dspa_nn.errors import EvaluationError
from dspa_nn.harness.lm_eval_model import model_class
from dspa_nn.imports import untyped


def run_lm_eval(arguments: Sequence[str]) -> None:
    """Run lm-eval's command with these arguments; `--model dspa` is a steered model.

    Example:
        >>> run_lm_eval(["run", "--model", "dspa", "--tasks", "arc_easy"])  # doctest: +SKIP

    Raises:
        EvaluationError: lm-eval is not installed, refuses the arguments, or finds fewer questions
            than shots.
        SystemExit: what lm-eval's command exits with.
    """
    model_class()
    command: Any = untyped("lm_eval.__main__").cli_evaluate
    before = sys.argv
    sys.argv = ["lm-eval", *arguments]
    try:
        with git_kept_quiet():
            command()
    except ValueError as error:
        if "Sample larger than population" in str(error):
            raise EvaluationError(
                "a task has fewer questions than the shots that are drawn from it; give a smaller "
                "--num_fewshot"
            ) from None
        if not _of_the_command_line(error):
            raise
        raise EvaluationError(
            f"lm-evaluation-harness refused its command line ({error}); `dspa lm-eval -- ls tasks` "
            "lists its tasks, and --local TASK=FILE makes one of a file"
        ) from None
    finally:
        sys.argv = before


def _of_the_command_line(error: ValueError) -> bool:
    """Whether lm-eval raised it while it read its arguments, before it evaluated anything."""
    if str(error).startswith("No tasks specified"):
        return True
    last: Any = error.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    return str(last.tb_frame.f_globals.get("__name__")).startswith(
        ("lm_eval.config", "lm_eval._cli")
    )


@contextmanager
def git_kept_quiet() -> Generator[None]:
    """Keep git's "fatal: not a git repository" off the screen where lm-eval asks for a commit.

    Example:
        >>> with git_kept_quiet():
        ...     run_lm_eval(["run", "--model", "dspa", "--tasks", "arc_easy"])  # doctest: +SKIP

    lm-eval notes the commit of the folder that it is started in, if that is a repository.
    """
    evaluator: Any = untyped("lm_eval.evaluator")
    before = evaluator.get_git_commit_hash
    evaluator.get_git_commit_hash = _commit_here
    try:
        yield
    finally:
        evaluator.get_git_commit_hash = before


def _commit_here() -> str | None:
    """The commit of the folder at hand; None outside a repository, or without git."""
    try:
        said = subprocess.run(
            ["git", "describe", "--always"], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return said.stdout.strip() or None
