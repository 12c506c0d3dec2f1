"""AlpacaEval: answers in its format, and its own win rate with a judge of your choice."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from dspa_nn.checks import check_positive_int
from dspa_nn.errors import EvaluationError, JudgeError
from dspa_nn.evaluation import answer
from dspa_nn.files import as_path, write_atomically
from dspa_nn.harness.alpaca_files import answered, read_outputs
from dspa_nn.imports import late, untyped
from dspa_nn.judges import Judge, Message, Reply
from dspa_nn.progress import warn
from dspa_nn.prompts import warn_without_template
from dspa_nn.steering import DSPA, SteeringMethod

ANNOTATOR = "alpaca_eval_llama3_70b_fn"
MAX_NEW_TOKENS = 1024
_ROLES = ("<|im_start|>", "<|im_end|>")


def write_outputs(
    dspa: DSPA,
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    method: SteeringMethod | None = None,
    *,
    name: str,
    max_new_tokens: int = MAX_NEW_TOKENS,
    batch_size: int = 8,
    limit: int | None = None,
    stop: str | None = None,
    advance: Callable[[int], object] | None = None,
) -> Path:
    """Answer AlpacaEval's instructions greedily, and write the answers as `alpaca_eval` reads them.

    Example:
        >>> import json, pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> _ = (folder / "asked.json").write_text('[{"instruction": "Say hello."}]')
        >>> path = write_outputs(
        ...     dspa, folder / "asked.json", folder / "said.json", name="plain", max_new_tokens=2
        ... )
        >>> sorted(json.loads(path.read_text())[0])
        ['dataset', 'generator', 'instruction', 'output']

    The file is written after each batch; a run that was cut off goes on with those that are
    missing. A tokenizer without a chat template is warned of.

    Args:
        dspa: the model that answers, and its tokenizer.
        source: JSON with a list of objects that have an `instruction`, such as AlpacaEval's own
            reference outputs.
        out: file of the answers.
        method: how it is steered; None leaves it unsteered.
        name: the model's name, `generator` in the file.
        max_new_tokens: length of an answer, at most.
        batch_size: instructions that are answered at once.
        limit: the first instructions alone; None takes all.
        stop: as for `evaluation.answer`.
        advance: called with the number of instructions that are done.

    Raises:
        EvaluationError: a file without instructions, or answers in `out` to others.
    """
    if limit is not None:
        check_positive_int("limit", limit, EvaluationError)
    warn_without_template(dspa.facts.tokenizer, dspa.facts.model_id)
    every = read_outputs(as_path(source))
    asked = every[:limit]
    path = as_path(out)
    done = read_outputs(path) if path.exists() else []
    if [row["instruction"] for row in done] != [row["instruction"] for row in every[: len(done)]]:
        raise EvaluationError(
            f"{path} answers other instructions than {source}; give another file for the answers"
        )
    if advance is not None:
        advance(min(len(done), len(asked)))
    for start in range(len(done), len(asked), batch_size):
        rows = asked[start : start + batch_size]
        prompts = [
            dspa.render([{"role": "user", "content": str(row["instruction"])}]) for row in rows
        ]
        said = answer(
            dspa, prompts, method, max_new_tokens=max_new_tokens, batch_size=batch_size, stop=stop
        ).texts
        done += [
            {
                "dataset": row.get("dataset", ""),
                "instruction": row["instruction"],
                "output": text,
                "generator": name,
            }
            for row, text in zip(rows, said, strict=True)
        ]
        write_atomically(path, json.dumps(done, indent=1) + "\n")
        if advance is not None:
            advance(len(rows))
    return path


def alpaca_win_rate(
    outputs: str | os.PathLike[str],
    reference: str | os.PathLike[str],
    judge: Judge,
    *,
    annotator: str = ANNOTATOR,
    length_controlled: bool = False,
    limit: int | None = None,
    parallel: int = 4,
) -> dict[str, float]:
    """How often a judge prefers these outputs to the reference's, by the package `alpaca_eval`.

    Example:
        >>> alpaca_win_rate("said.json", "reference.json", judge)  # doctest: +SKIP

    Prompts, order of the two answers, parsing and win rate are alpaca_eval's; requests go through
    `judge`, so that a run that was cut off asks nothing twice. A reply that the annotator cannot
    parse is asked for again, as often as `judge.attempts` says, and then left out; so is a request
    that the judge refuses, such as one that is too long, with a warning. A judge that refuses a
    short request after that ends the run.

    Args:
        outputs: what `write_outputs` wrote.
        reference: outputs of the model that is compared with, for the same instructions.
        judge: who is asked; AlpacaEval's default judge no longer exists, so there is none here.
        annotator: a config of alpaca_eval, or the path of one: its prompt and parser.
        length_controlled: the length-controlled win rate. It needs a table of instructions'
            difficulty, which alpaca_eval reads from the hub; it has not been run here.
        limit: the first outputs alone; None takes all.
        parallel: requests at a time.

    Returns:
        alpaca_eval's figures: `win_rate` and `standard_error` in per cent, `n_total` and others.

    Raises:
        EvaluationError: alpaca_eval is not installed or knows no such annotator, the two files
            answer different instructions or hold no texts, no reply can be parsed, or the hub does
            not give the table.
        JudgeError: the judge refused or did not answer.
    """
    check_positive_int("parallel", parallel, EvaluationError)
    if limit is not None:
        check_positive_int("limit", limit, EvaluationError)
    mine, theirs = answered(as_path(outputs))[:limit], answered(as_path(reference))
    _tell_of_empty_answers(mine)
    known = {row["instruction"] for row in theirs}
    if missing := [row["instruction"] for row in mine if row["instruction"] not in known]:
        raise EvaluationError(
            f"{reference} has no answer to {missing[0][:60]!r} and {len(missing) - 1} more; give "
            "reference outputs for the same instructions."
        )
    library = _library()
    asked = {row["instruction"] for row in mine}
    try:
        pool: Any = library.annotators.PairwiseAnnotator(
            annotators_config=annotator, caching_path=None
        )
    except FileNotFoundError as error:
        raise EvaluationError(
            f"annotator {annotator!r} is no config of alpaca_eval and no path of one "
            f"({error.filename} is missing); name one, such as {ANNOTATOR}"
        ) from None
    for single in pool.annotators.values():
        single.fn_completions = _completions(judge, single.fn_completion_parser, parallel)
        single.completions_kwargs = {}

    def given(annotators_config: object) -> Any:
        return pool

    metric = "length_controlled_winrate" if length_controlled else "winrate"
    try:
        leaderboard, _ = library.evaluate(
            model_outputs=mine,
            reference_outputs=[row for row in theirs if row["instruction"] in asked],
            annotators_config=annotator,
            name=str(mine[0].get("generator", "model")),
            output_path=None,
            precomputed_leaderboard=None,
            is_return_instead_of_print=True,
            is_cache_leaderboard=False,
            fn_metric=f"get_{metric}",
            sort_by="length_controlled_winrate" if length_controlled else "win_rate",
            Annotator=given,
        )
    except OSError as error:
        if not length_controlled:
            raise
        raise EvaluationError(
            f"the hub does not give the table of the length-controlled rate ({type(error).__name__}"
            "); give length_controlled=False, or run again where the hub can be reached"
        ) from error
    row: Any = leaderboard.iloc[0]
    return {str(name): float(row[name]) for name in row.index if name != "mode"}


def _completions(
    judge: Judge, parse: Callable[[str], Sequence[Any]], parallel: int
) -> Callable[..., dict[str, Any]]:
    """What alpaca_eval calls to have prompts completed."""

    def understood(text: str) -> bool:
        try:
            return all(value in (0, 1, 1.5, 2) for value in parse(text))
        except (ValueError, SyntaxError, TypeError):
            return False

    def ask(chat: Sequence[Message]) -> Reply | JudgeError:
        try:
            return judge.ask(chat, accept=understood)
        except JudgeError as error:
            if not error.of_request:
                raise
            return error

    def complete(prompts: Sequence[str], **_: Any) -> dict[str, Any]:
        chats: list[Any] = [
            untyped("alpaca_eval.utils").prompt_to_chatml(prompt.strip(), *_ROLES)
            for prompt in prompts
        ]
        with ThreadPoolExecutor(max_workers=parallel) as pool:
            found = list(pool.map(ask, chats))
        refusals = [one for one in found if isinstance(one, JudgeError)]
        # Where it refuses a short request too, as for want of credit, these were not too long.
        if refusals and (len(refusals) == len(found) or not judge.takes_requests()):
            raise refusals[0]
        if refusals:
            warn(
                f"{judge.name} refused {len(refusals)} of {len(found)} requests, which are left "
                f"out ({refusals[0]})"
            )
        replies = [one.text for one in found if isinstance(one, Reply)]
        if not any(understood(text) for text in replies):
            raise EvaluationError(
                f"none of {len(replies)} replies of {judge.name} names the better answer in the "
                f"annotator's form ({replies[0][:60]!r} is the first); name a judge or an "
                "annotator that go together"
            )
        return {
            "completions": [one.text if isinstance(one, Reply) else "" for one in found],
            "price_per_example": [0.0] * len(found),
            "time_per_example": [0.0] * len(found),
        }

    return complete


def _tell_of_empty_answers(rows: Sequence[Mapping[str, Any]]) -> None:
    if empty := [row["instruction"] for row in rows if not row["output"].strip()]:
        warn(
            f"{len(empty)} answers are empty ({empty[0][:60]!r} has the first); they are compared "
            "as they stand, as alpaca_eval does"
        )


def _library() -> Any:
    try:
        late("anyio")
        return untyped("alpaca_eval")
    except ImportError:
        raise EvaluationError(
            "alpaca_eval is not installed; pip install 'dspa-nn[alpaca-eval]'"
        ) from None
