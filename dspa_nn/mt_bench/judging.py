"""Single-answer grading: each turn of each answer gets a rating from the judge."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from dspa_nn.checks import check_positive_int
from dspa_nn.errors import EvaluationError, FileError, JudgeError
from dspa_nn.files import as_path, held, write_atomically
from dspa_nn.imports import untyped
from dspa_nn.judges import Judge
from dspa_nn.mt_bench.data import (
    TURNS,
    WITH_REFERENCE,
    MTBench,
    judge_prompt,
    load_answers,
    load_judgments,
)
from dspa_nn.mt_bench.rating import Rating, read_rating
from dspa_nn.mt_bench.refused import record_refusals
from dspa_nn.progress import warn

# What FastChat writes for a judgment that did not come.
_NO_REPLY = "$ERROR$"


def judge_answers(
    bench: MTBench,
    out: str | os.PathLike[str],
    judge: Judge,
    *,
    name: str,
    limit: int | None = None,
    parallel: int = 4,
    advance: Callable[[int], object] | None = None,
) -> Path:
    """Grade a model's answers, and add the judgments to FastChat's file of them.

    Example:
        >>> path = judge_answers(bench, "mt", judge, name="dspa")  # doctest: +SKIP

    Answers are read from `model_answer/NAME.jsonl`, judgments go to
    `model_judgment/JUDGE_single.jsonl`, which FastChat's own viewer and `show_result` read. Math,
    reasoning and coding are graded against a reference answer. A judgment without a rating from 1
    to 10 is asked for again, as often as `judge.attempts` says; if none comes, it is recorded with
    score -1 and left out of means, as in FastChat. So is a request that the judge refuses, such as
    one that is too long, unless it refuses the first ones, or a short one too: it is asked that
    after every third refusal and at the end, and the run ends where it refuses. What is in doubt
    about a rating stands in the row's `note`. What was judged before is not asked again.

    Args:
        bench: questions, references and judge prompts.
        out: folder of results.
        judge: who grades.
        name: the model's name in the results.
        limit: the answers to the first questions alone; None takes all.
        parallel: requests at a time.
        advance: called with 1 for each turn that is judged.

    Raises:
        EvaluationError: no answers, answers of another question set, or judgments of other answers
            under the same name; another run judges into the same file; or `limit` or `parallel` is
            no whole number of at least 1.
        FileError: the file of judgments cannot be written; what was judged before is on disk.
        JudgeError: the judge refused or did not answer; what was judged before is on disk.
    """
    check_positive_int("parallel", parallel, EvaluationError)
    if limit is not None:
        check_positive_int("limit", limit, EvaluationError)
    root = as_path(out)
    source = root / "model_answer" / f"{name}.jsonl"
    answers = load_answers(source, bench)
    if not answers:
        raise EvaluationError(f"{source} holds no answers; answer the questions first")
    first = set(list(bench.questions)[:limit])
    answers = {number: said for number, said in answers.items() if number in first}
    _tell_of_empty_answers(answers, name)
    path = root / "model_judgment" / f"{judge.name.replace('/', '--')}_single.jsonl"
    with _alone(path):
        _judge_what_is_open(bench, path, judge, answers, name, parallel, advance)
    return path


def _judge_what_is_open(
    bench: MTBench,
    path: Path,
    judge: Judge,
    answers: Mapping[int, list[str]],
    name: str,
    parallel: int,
    advance: Callable[[int], object] | None,
) -> None:
    if path.exists():
        _drop_torn_line(path)
    rows = load_judgments(path) if path.exists() else []
    own = [row for row in rows if _same(row, name, judge)]
    _refuse_other_answers(own, bench, answers, path)
    judged = {(row["question_id"], row["turn"]) for row in own}
    turns = [(number, turn) for number in answers for turn in range(1, TURNS + 1)]
    open_turns = [turn for turn in turns if turn not in judged]
    if advance is not None and len(open_turns) < len(turns):
        advance(len(turns) - len(open_turns))
    if not open_turns:
        return
    _append(path, "")  # before anything is asked, and paid for
    lock = threading.Lock()

    def record(lines: str) -> None:
        with lock:
            _append(path, lines)

    def grade(number: int, turn: int) -> tuple[str, JudgeError | None]:
        row, refusal = _judgment(bench, judge, number, turn, answers[number], name)
        line = json.dumps(row) + "\n"
        if refusal is None:
            record(line)
        if advance is not None:
            advance(1)
        return line, refusal

    with ThreadPoolExecutor(max_workers=parallel) as pool:
        tasks = [pool.submit(grade, number, turn) for number, turn in open_turns]
        try:
            outcomes = (task.result() for task in tasks)
            record_refusals(outcomes, record, judge, answered=bool(own))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _judgment(
    bench: MTBench, judge: Judge, number: int, turn: int, answer: list[str], name: str
) -> tuple[dict[str, Any], JudgeError | None]:
    """A row of judgments, and the refusal where the judge refused this request."""
    prompt_name, user_prompt = _prompt_of(bench, number, turn, answer)
    judged = answer[turn - 1]
    refusal = None
    try:
        text = judge.ask(
            [
                {"role": "system", "content": bench.prompts[prompt_name]["system_prompt"]},
                {"role": "user", "content": user_prompt},
            ],
            accept=lambda text: read_rating(text, judged).usable,
        ).text
        rating = read_rating(text, judged)
    except JudgeError as error:
        if not error.of_request:
            raise
        text, rating, refusal = _NO_REPLY, Rating(-1, str(error)), error
    row: dict[str, Any] = {
        "question_id": number,
        "model": name,
        "judge": [judge.name, prompt_name],
        "user_prompt": user_prompt,
        "judgment": text,
        "score": rating.score,
        "turn": turn,
        "tstamp": time.time(),
    }
    return row | ({"note": rating.note} if rating.note else {}), refusal


def _prompt_of(bench: MTBench, number: int, turn: int, answer: list[str]) -> tuple[str, str]:
    """The name of the judge prompt, and the text that it becomes."""
    question = bench.questions[number]
    referenced = question["category"] in WITH_REFERENCE
    name = judge_prompt("math-v1" if referenced else "v1", turn)
    values = {"question": question["turns"][0], "answer": answer[0]}
    for index in range(TURNS):
        values[f"question_{index + 1}"] = question["turns"][index]
        values[f"answer_{index + 1}"] = answer[index]
        if referenced:
            values[f"ref_answer_{index + 1}"] = bench.references[number][index]
    return name, bench.prompts[name]["prompt_template"].format(**values)


def _alone(path: Path) -> AbstractContextManager[None]:
    """Hold a file of judgments: two runs at once would ask and write everything twice."""

    def refuse() -> None:
        raise EvaluationError(
            f"another run is judging into {path}; wait for it, or give another folder"
        )

    return held(untyped("filelock").FileLock(path.with_name(f".{path.name}.lock")), refuse)


def _append(path: Path, line: str) -> None:
    """Add a line, or leave the file as it was."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.stat().st_size if path.exists() else 0
        try:
            with path.open("ab") as file:
                file.write(line.encode())
        except OSError:
            with suppress(OSError):
                os.truncate(path, before)
            raise
    except OSError as error:
        raise FileError(
            f"{path} could not be written ({error.strerror}); what was judged before is kept: free "
            "some space or choose another folder, then run again."
        ) from error


def _drop_torn_line(path: Path) -> None:
    """Leave out a last line that was cut off while it was written: it is judged again."""
    content = path.read_bytes()
    kept, _, last = content.rpartition(b"\n")
    if not last:
        return
    try:
        json.loads(last)
    except ValueError:
        write_atomically(path, kept + b"\n" if kept else b"")
    else:
        write_atomically(path, content + b"\n")


def _refuse_other_answers(
    rows: Iterable[Mapping[str, Any]],
    bench: MTBench,
    answers: Mapping[int, list[str]],
    path: Path,
) -> None:
    """Refuse judgments of what is not the answer any more; they would be taken for its own."""
    for row in rows:
        number, turn = row["question_id"], row["turn"]
        if "user_prompt" not in row or number not in answers:
            continue
        if row["user_prompt"] != _prompt_of(bench, number, turn, answers[number])[1]:
            raise EvaluationError(
                f"{path} judges turn {turn} of question {number} by {row['model']} with another "
                "answer, question or reference than there is now; remove its judgments, or give "
                "the answers another name."
            )


def _same(row: Mapping[str, Any], name: str, judge: Judge) -> bool:
    return row["model"] == name and row["judge"][0] == judge.name


def _tell_of_empty_answers(answers: Mapping[int, list[str]], name: str) -> None:
    empty = [
        f"question {number}, turn {turn}"
        for number, turns in answers.items()
        for turn, text in enumerate(turns, 1)
        if not text.strip()
    ]
    if empty:
        warn(
            f"{len(empty)} answers of {name} are empty ({empty[0]} is the first); they are judged "
            "as they stand, as FastChat does."
        )
