"""Answers to MT-Bench's questions, steered or not: two turns, each planned anew."""

import os
import time
import uuid
from collections.abc import Callable
from typing import Any

import torch

from dspa_nn.checks import check_positive_int
from dspa_nn.errors import EvaluationError
from dspa_nn.evaluation import answer
from dspa_nn.files import as_path
from dspa_nn.models import context_length
from dspa_nn.mt_bench.data import MTBench, load_answers, write_rows
from dspa_nn.prompts import warn_without_template
from dspa_nn.steering import DSPA, SteeringMethod

MAX_NEW_TOKENS = 1024


def answer_questions(
    dspa: DSPA,
    bench: MTBench,
    out: str | os.PathLike[str],
    method: SteeringMethod | None = None,
    *,
    name: str,
    max_new_tokens: int = MAX_NEW_TOKENS,
    limit: int | None = None,
    seed: int = 0,
    stop: str | None = None,
    advance: Callable[[int], object] | None = None,
) -> dict[int, list[str]]:
    """Answer both turns of each question, and write them in FastChat's layout.

    Example:
        >>> answers = answer_questions(dspa, bench, "mt", method, name="dspa")  # doctest: +SKIP

    Each turn is rendered from the whole conversation and steered by its own plan. Category decides
    the temperature, and the seed is set anew for each question, as in FastChat. The file
    `model_answer/NAME.jsonl` grows question by question; a run that was cut off goes on with those
    that are missing. A tokenizer without a chat template is warned of.

    Args:
        dspa: the model that answers, and its tokenizer.
        bench: the questions.
        out: folder of results, in FastChat's layout.
        method: how it is steered; None leaves it unsteered.
        name: the model's name in the results.
        max_new_tokens: length of an answer, at most.
        limit: the first questions alone; None takes all.
        seed: of the sampling.
        stop: as for `evaluation.answer`.
        advance: called with 1 for each question that is done.

    Returns:
        Question id -> the two answers, special tokens left out.

    Raises:
        EvaluationError: answers of another question set in the file, a `limit` below 1, or a
            conversation that leaves no room for an answer in the model's context.

    Source: FastChat 0.2.36, fastchat/llm_judge/gen_model_answer.py; docs/method.md 6.
    """
    if limit is not None:
        check_positive_int("limit", limit, EvaluationError)
    warn_without_template(dspa.facts.tokenizer, dspa.facts.model_id)
    path = as_path(out) / "model_answer" / f"{name}.jsonl"
    done = load_answers(path, bench) if path.exists() else {}
    numbers = list(bench.questions)[:limit]
    generator: Any = torch.random
    stamps = {number: time.time() for number in done}
    for number in numbers:
        if number not in done:
            generator.manual_seed(seed)
            turns = bench.questions[number]["turns"]
            messages: list[dict[str, str]] = []
            said: list[str] = []
            for turn in turns:
                messages.append({"role": "user", "content": turn})
                prompt = dspa.render(messages)
                room = _room(dspa, len(prompt.ids), max_new_tokens, number)
                text = answer(
                    dspa,
                    [prompt],
                    method,
                    max_new_tokens=room,
                    temperature=bench.temperature(number),
                    stop=stop,
                ).texts[0]
                messages.append({"role": "assistant", "content": text})
                said.append(text)
            done[number] = said
            stamps[number] = time.time()
            order = [known for known in bench.questions if known in done]
            write_rows(path, (_row(known, done[known], name, stamps[known]) for known in order))
        if advance is not None:
            advance(1)
    return {number: done[number] for number in numbers}


def _row(number: int, turns: list[str], name: str, stamp: float) -> dict[str, Any]:
    # The same id whenever the file is written, of the same form as FastChat's: any text.
    text = "\n".join([name, str(number), *turns])
    return {
        "question_id": number,
        "answer_id": uuid.uuid5(uuid.NAMESPACE_OID, text.encode("utf-8", "replace").hex()).hex,
        "model_id": name,
        "choices": [{"index": 0, "turns": turns}],
        "tstamp": stamp,
    }


def _room(dspa: DSPA, prompt: int, wanted: int, number: int) -> int:
    context = context_length(dspa.model)
    room = min(wanted, context - prompt)
    if room < 1:
        raise EvaluationError(
            f"the conversation of question {number} is {prompt} tokens long and the model's "
            f"context {context}; give a smaller max_new_tokens."
        )
    return room
