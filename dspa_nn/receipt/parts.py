"""Margins, answers and choices measured in parts, each kept on disk as it is finished."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Float64

from dspa_nn.evaluation import (
    Answers,
    ChoiceItem,
    Surprises,
    answer,
    answer_values,
    branching_factor,
    choose,
    loop,
    margin_values,
    margins,
    repetition,
)
from dspa_nn.files import Parts
from dspa_nn.prompts import Rendered
from dspa_nn.receipt.methods import UNSTEERED, Compared, data_hash
from dspa_nn.steering import DSPA
from dspa_nn.triples import PreferenceTriple

# Triples, prompts and questions to a part: few enough that little is lost when a run is cut off.
TRIPLES, PROMPTS, ITEMS = 16, 32, 32

# Of triples, prompts or questions, a part of them or all.
Figures = dict[str, Float64[np.ndarray, " _"]]
Advance = Callable[[int], object]


class Said(NamedTuple):
    """Answers under one method: their texts, and figures of each."""

    texts: list[str]
    values: Figures


def measure_margins(
    dspa: DSPA,
    parts: Parts,
    triples: Sequence[PreferenceTriple],
    compared: Sequence[Compared],
    advance: Advance,
) -> dict[str, Figures]:
    """Figures of the margin by method, one value per triple."""
    found: dict[str, list[Figures]] = {one.name: [] for one in compared}
    for start in range(0, len(triples), TRIPLES):
        chunk = list(triples[start : start + TRIPLES])
        keys = [_key(dspa, one, triples=data_hash(chunk)) for one in compared]
        stored = [parts.get("margins", key) for key in keys]
        missing = [index for index, values in enumerate(stored) if values is None]
        if missing:
            begun = time.perf_counter()
            methods = [_method(compared[index]) for index in missing]
            _, *measured = margins(dspa, chunk, methods)
            seconds = (time.perf_counter() - begun) / len(missing)
            for index, figures in zip(missing, measured, strict=True):
                stored[index] = _plain(margin_values(figures))
                parts.put("margins", keys[index], _of(stored[index]), seconds)
        for one, values in zip(compared, stored, strict=True):
            found[one.name].append(_arrays(_of(values)))
        advance(len(chunk))
    return {name: _joined(figures) for name, figures in found.items()}


def measure_answers(
    dspa: DSPA,
    parts: Parts,
    prompts: Sequence[Rendered],
    compared: Sequence[Compared],
    max_new_tokens: int,
    advance: Advance,
    *,
    temperature: float = 0.0,
    seed: int = 0,
) -> dict[str, Said]:
    """Answers and their figures by method, the unsteered model's first.

    Above temperature 0 each part is sampled from a seed of its own, the same for every method.
    """
    said = {one.name: Said([], {}) for one in (UNSTEERED, *compared)}
    joined: dict[str, list[Figures]] = {name: [] for name in said}
    for start in range(0, len(prompts), PROMPTS):
        chunk = list(prompts[start : start + PROMPTS])
        surprises = Surprises(dspa, chunk)
        how = {"tokens": max_new_tokens, "temperature": temperature}
        if temperature:
            how["seed"] = seed + start
        for one in (UNSTEERED, *compared):
            key = _key(dspa, one, prompts=_ids_of(chunk), **how)
            values = parts.get("answers", key)
            if values is None:
                begun = time.perf_counter()
                answers = _answered(dspa, chunk, one, max_new_tokens, temperature, seed + start)
                figures = _plain({**answer_values(answers, surprises), **_repeats(answers)})
                values = {"texts": answers.texts, **figures}
                parts.put("answers", key, values, time.perf_counter() - begun)
            said[one.name].texts.extend(values["texts"])
            joined[one.name].append(
                _arrays({name: of for name, of in values.items() if name != "texts"})
            )
            advance(len(chunk))
    return {name: Said(one.texts, _joined(joined[name])) for name, one in said.items()}


def measure_branching(
    dspa: DSPA,
    parts: Parts,
    prompts: Sequence[Rendered],
    map: Compared,
    max_new_tokens: int,
    seed: int,
    advance: Advance,
) -> Figures:
    """Entropies of next tokens along answers, the unsteered model's and the map's, one per prompt.

    Answers are sampled at temperature 1, each part from a seed of its own, the same for both.
    """
    found: dict[str, list[Figures]] = {one.name: [] for one in (UNSTEERED, map)}
    for start in range(0, len(prompts), PROMPTS):
        chunk = list(prompts[start : start + PROMPTS])
        how = {"tokens": max_new_tokens, "seed": seed + start}
        for one in (UNSTEERED, map):
            key = _key(dspa, one, prompts=_ids_of(chunk), **how)
            values = parts.get("branching", key)
            if values is None:
                begun = time.perf_counter()
                branching = branching_factor(
                    dspa, chunk, one.method, max_new_tokens=max_new_tokens, batch_size=PROMPTS,
                    seed=seed + start,
                )  # fmt: skip
                values = _plain({"entropy": branching.entropy})
                parts.put("branching", key, values, time.perf_counter() - begun)
            found[one.name].append(_arrays(values))
            advance(len(chunk))
    return {name: _joined(figures)["entropy"] for name, figures in found.items()}


def measure_choices(
    dspa: DSPA,
    parts: Parts,
    items: Sequence[ChoiceItem],
    compared: Sequence[Compared],
    advance: Advance,
) -> dict[str, Figures]:
    """Which questions are answered rightly, by method, the unsteered model's first."""
    everyone = [UNSTEERED, *compared]
    found: dict[str, list[Figures]] = {one.name: [] for one in everyone}
    for start in range(0, len(items), ITEMS):
        chunk = list(items[start : start + ITEMS])
        asked = [[one.question, list(one.choices), one.answer] for one in chunk]
        # Parts of before counted the space before a choice as one of its characters.
        keys = [_key(dspa, one, items=asked, length="characters") for one in everyone]
        stored = [parts.get("choices", key) for key in keys]
        missing = [index for index, values in enumerate(stored) if values is None]
        if missing:
            begun = time.perf_counter()
            scores = choose(dspa, chunk, [everyone[index].method for index in missing])
            seconds = (time.perf_counter() - begun) / len(missing)
            for index, one in zip(missing, scores, strict=True):
                stored[index] = _plain({"right": one.right, "right_by_length": one.right_by_length})
                parts.put("choices", keys[index], _of(stored[index]), seconds)
        for one, values in zip(everyone, stored, strict=True):
            found[one.name].append(_arrays(_of(values)))
        advance(len(chunk))
    return {name: _joined(figures) for name, figures in found.items()}


def _repeats(answers: Answers) -> Figures:
    """Share of runs of four tokens that an answer said before, and whether it ends in a loop."""
    return {
        "repetition": np.array([repetition(ids) for ids in answers.ids], dtype=np.float64),
        "loops": np.array([float(loop(ids) > 0) for ids in answers.ids]),
    }


def _answered(
    dspa: DSPA,
    prompts: list[Rendered],
    one: Compared,
    max_new_tokens: int,
    temperature: float,
    seed: int,
) -> Answers:
    # The user's own random numbers stay what they were.
    random = cast(Any, torch)
    with random.random.fork_rng():
        random.manual_seed(seed)
        return answer(
            dspa, prompts, one.method, max_new_tokens=max_new_tokens, batch_size=PROMPTS,
            temperature=temperature,
        )  # fmt: skip


def _key(dspa: DSPA, one: Compared, **data: Any) -> dict[str, Any]:
    """All that the values of a part depend on."""
    return {"model": dspa.provenance(), "method": dict(one.identity), **data}


def _ids_of(prompts: Sequence[Rendered]) -> list[list[int]]:
    return [[int(token) for token in prompt.ids] for prompt in prompts]


def _method(one: Compared) -> Any:
    assert one.method is not None
    return one.method


def _of(values: dict[str, Any] | None) -> dict[str, Any]:
    assert values is not None
    return values


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays as lists; what is not a number becomes None."""
    return {
        name: [None if np.isnan(value) else float(value) for value in array]
        for name, array in values.items()
    }


def _arrays(values: Mapping[str, Any]) -> Figures:
    return {
        name: np.array([np.nan if value is None else value for value in listed], dtype=np.float64)
        for name, listed in values.items()
    }


def _joined(figures: Sequence[Figures]) -> Figures:
    return {name: np.concatenate([one[name] for one in figures]) for name in figures[0]}
