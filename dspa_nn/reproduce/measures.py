"""The figures of one row: MT-Bench, AlpacaEval and multiple choice, each with its interval."""

import logging
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dspa_nn.evaluation import Interval
from dspa_nn.harness import (
    alpaca_win_rate,
    git_kept_quiet,
    model_class,
    write_outputs,
    write_tasks,
)
from dspa_nn.imports import untyped
from dspa_nn.judges import Judge
from dspa_nn.mt_bench import (
    MTBench,
    answer_questions,
    judge_answers,
    load_judgments,
    score_judgments,
)
from dspa_nn.reproduce.settings import Settings
from dspa_nn.reproduce.setup import Inputs, Task
from dspa_nn.steering import DSPA, SteeringMethod

# Of a normal distribution: what a standard error is multiplied by for an interval of 95 %.
_Z = 1.96


def answer_mt_bench(
    dspa: DSPA, inputs: Inputs, settings: Settings, folder: Path, method: SteeringMethod
) -> int:
    """Answer MT-Bench's questions, one at a time; those that are in the folder are kept."""
    said = answer_questions(
        dspa, inputs.bench, folder, method, name=method.name, stop=settings.stop,
        max_new_tokens=settings.max_new_tokens, limit=settings.questions, seed=settings.seed,
    )  # fmt: skip
    return len(said)


def rate_mt_bench(bench: MTBench, folder: Path, judge: Judge, name: str) -> dict[str, Any]:
    """Have the answers rated: the mean rating, its interval over questions, and every question's.

    The interval is a bootstrap's, as in `mt_bench.score_judgments`.
    """
    with _without_their_logs():
        path = judge_answers(bench, folder, judge, name=name)
    rows = [row for row in load_judgments(path) if row["model"] == name]
    table: Any = score_judgments(rows)
    scores: Any = table.loc[name]
    rated: dict[int, list[float]] = {}
    for row in rows:
        if row["score"] != -1:
            rated.setdefault(int(row["question_id"]), []).append(float(row["score"]))
    mean, low, high = (float(scores[end]) for end in ("mean", "low", "high"))
    found = Interval(mean, low, high, len(rated))
    return {
        "mt_bench": found.to_dict(),
        "by_question": {str(number): sum(own) / len(own) for number, own in rated.items()},
        "without_a_rating": int(scores["without a rating"] or 0),
    }


def answer_alpaca_eval(
    dspa: DSPA, inputs: Inputs, settings: Settings, folder: Path, method: SteeringMethod
) -> Path:
    """Answer AlpacaEval's instructions, in batches; those that are in the folder are kept."""
    return write_outputs(
        dspa, inputs.alpaca_eval, folder / f"{method.name}.json", method, name=method.name,
        max_new_tokens=settings.max_new_tokens, batch_size=settings.batch_size,
        limit=settings.questions, stop=settings.stop,
    )  # fmt: skip


def rate_alpaca_eval(answers: Path, reference: Path, judge: Judge) -> dict[str, Any]:
    """Have the answers compared with the reference's: the win rate in per cent, and its interval.

    The interval is 1.96 standard errors, as alpaca_eval takes them over instructions.
    """
    with _without_their_logs():
        rate = alpaca_win_rate(answers, reference, judge)
    return {"alpaca_eval": around(rate["win_rate"], rate["standard_error"], int(rate["n_total"]))}


def measure_choices(
    dspa: DSPA, tasks: Mapping[str, Task], settings: Settings, method: SteeringMethod
) -> dict[str, Any]:
    """Multiple choice by lm-eval: per cent that is right for each figure, and its interval.

    The interval is 1.96 standard errors, as lm-eval takes them over questions.
    """
    with tempfile.TemporaryDirectory() as folder, _without_their_logs(), git_kept_quiet():
        local = {task.name: str(task.file) for task in tasks.values() if task.file is not None}
        names = write_tasks(folder, local)
        wanted = names[1:] if local else names[:1]
        lm = model_class()(dspa=dspa, method=method, batch_size=settings.batch_size)
        manager: Any = untyped("lm_eval.tasks").TaskManager(
            include_path=folder, include_defaults=not local
        )
        done: Any = untyped("lm_eval").simple_evaluate(
            model=lm, tasks=wanted, task_manager=manager, limit=settings.questions,
            log_samples=False,
            random_seed=settings.seed, fewshot_random_seed=settings.seed,
        )  # fmt: skip
    found: dict[str, Any] = {}
    for figure, task in tasks.items():
        own: Any = done["results"][task.name]
        value = 100 * float(own[f"{task.metric},none"])
        error = float(own[f"{task.metric}_stderr,none"])
        found[figure] = around(value, 100 * error, questions_of(done, task.name))
    return found


@contextmanager
def _without_their_logs() -> Generator[None]:
    """Keep others from logging what goes as it should, such as each request to a judge."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def questions_of(done: Mapping[str, Any], task: str) -> int:
    """Questions of a task in lm-eval's results; of a group, such as MMLU, of all tasks in it.

    >>> counts = {name: {"effective": 4} for name in ("a", "b", "other")}
    >>> done = {"n-samples": counts, "group_subtasks": {"all": ["part"], "part": ["a", "b"]}}
    >>> questions_of(done, "other"), questions_of(done, "all")
    (4, 8)
    """
    counted = done["n-samples"].get(task)
    if counted is not None:
        return int(counted["effective"])
    return sum(questions_of(done, own) for own in done.get("group_subtasks", {}).get(task, ()))


def around(value: float, error: float, n: int) -> dict[str, Any]:
    """An interval of 1.96 standard errors on both sides, within 0 and 100 per cent.

    >>> around(50.0, 1.0, 100)
    {'mean': 50.0, 'low': 48.04, 'high': 51.96, 'n': 100}
    """
    low, high = max(0.0, value - _Z * error), min(100.0, value + _Z * error)
    return Interval(value, low, high, n).to_dict()
