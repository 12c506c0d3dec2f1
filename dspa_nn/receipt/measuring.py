"""Everything that is measured for a receipt, under one bar of progress."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from dspa_nn.evaluation import Match
from dspa_nn.files import Parts
from dspa_nn.progress import say, show_progress
from dspa_nn.receipt.figures import Measured, outcome_of, under
from dspa_nn.receipt.inputs import Inputs
from dspa_nn.receipt.methods import Compared
from dspa_nn.receipt.parts import (
    measure_answers,
    measure_branching,
    measure_choices,
    measure_margins,
)
from dspa_nn.receipt.scores import telling
from dspa_nn.steering import DSPA

# For the estimate of time alone, in tokens that are read once by the unsteered model: a token that
# is written, and one that is read again under a method.
_WRITTEN, _AGAIN = 4, 0.3


def measure_all(
    dspa: DSPA,
    inputs: Inputs,
    methods: Sequence[Compared],
    matches: Mapping[str, Match],
    parts: Parts,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    progress: bool | None = None,
) -> Measured:
    """Margins and answers of every method; of the map also rewritten prompts and sampled answers.

    methods: the map first.
    """
    map, *_ = methods
    prompts = [dspa.render(triple.prompt) for triple in inputs.test]
    say(
        f"{len(inputs.test)} held-out triples, {len(methods)} ways to steer, {len(inputs.items)} "
        f"questions; finished parts are kept in {parts.folder}",
        progress,
    )
    read = _tokens_of_triples(dspa, inputs)
    asked = _tokens_of_questions(inputs)
    write = max_new_tokens * _WRITTEN
    size = {
        "margins": _again(read, len(methods)),
        "rewritten": _again(2 * read, 1),
        "choices": _again(asked, len(methods)),
    }
    total = (
        size["margins"] * len(inputs.test)
        + size["rewritten"] * sum(len(one.triples) for one in inputs.rewrites)
        + size["choices"] * len(inputs.items)
        + write * len(prompts) * (len(methods) + 1 + 2 + 2)
    )
    with show_progress("measuring", total, "tokens' worth", progress) as advance:

        def each(cost: int) -> Callable[[int], object]:
            return lambda done: advance(done * cost)

        margins = measure_margins(dspa, parts, inputs.test, methods, each(size["margins"]))
        said = measure_answers(dspa, parts, prompts, methods, max_new_tokens, each(write))
        sampled = measure_answers(
            dspa, parts, prompts, [map], max_new_tokens, each(write),
            temperature=temperature, seed=seed,
        )  # fmt: skip
        entropies = measure_branching(dspa, parts, prompts, map, max_new_tokens, seed, each(write))
        rewritten = [
            measure_margins(dspa, parts, one.triples, [map], each(size["rewritten"]))[map.name]
            for one in inputs.rewrites
        ]
        choices = (
            measure_choices(dspa, parts, inputs.items, methods, each(size["choices"]))
            if inputs.items
            else {}
        )
    plain = said["unsteered"]
    outcomes = [
        outcome_of(one.name, inputs, margins[one.name], said[one.name], plain) for one in methods
    ]
    return Measured(
        inputs=inputs,
        outcomes=outcomes,
        texts={name: one.texts for name, one in said.items()},
        plain=plain.values,
        sampled=outcome_of(map.name, inputs, {}, sampled[map.name], sampled["unsteered"]),
        entropies=entropies,
        choices=choices,
        under=[
            under(one, figures, outcomes[0], seed)
            for one, figures in zip(inputs.rewrites, rewritten, strict=True)
        ],
        matches=matches,
        lengths=_lengths(dspa, inputs),
        scores=telling(inputs.test),
        temperature=temperature,
        seed=seed,
    )


def _lengths(dspa: DSPA, inputs: Inputs) -> Float64[np.ndarray, "n 2"]:
    """Tokens of both responses of every held-out triple."""
    tokenizer: Any = dspa.facts.tokenizer

    def tokens(text: str) -> float:
        return float(len(tokenizer(text, add_special_tokens=False).input_ids))

    return np.array([[tokens(one.chosen), tokens(one.rejected)] for one in inputs.test])


def _again(tokens: int, methods: int) -> int:
    return max(1, round(tokens * (1 + _AGAIN * methods)))


def _tokens_of_triples(dspa: DSPA, inputs: Inputs) -> int:
    """Tokens of a triple's two sequences, the mean of the first few."""
    few = inputs.test[:8]
    lengths = [
        len(dspa.render(one.prompt, text).ids) for one in few for text in (one.chosen, one.rejected)
    ]
    return 2 * sum(lengths) // len(lengths)


def _tokens_of_questions(inputs: Inputs) -> int:
    """Tokens of a question with each of its choices: roughly, four letters each."""
    few = inputs.items[:8]
    letters = [len(one.prompt) + len(text) for one in few for text in one.choices]
    return sum(letters) // (4 * len(few)) if few else 0
