"""A map against its controls at the same strength, and what is said of them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

import dspa_nn as dn
from dspa_nn.counts import ActivationCounts
from dspa_nn.evaluation import (
    Codes,
    answer,
    bootstrap,
    calibrate,
    densities,
    density_matched,
    distinct,
    global_difference,
    mean_difference,
    permuted,
    surprise,
    swapped,
    warmth,
)
from dspa_nn.prompts import Rendered
from dspa_nn.steering import DSPAMethod, SteeringMethod

MAP = "map"
CONTROLS = ("rows permuted", "same density", "swapped", "global difference")


def controls(tuned: DSPAMethod, counts: ActivationCounts) -> dict[str, DSPAMethod]:
    """The same machinery with what should matter taken away, not yet of the same strength."""
    same_density = density_matched(densities(counts))
    one_score = global_difference(mean_difference(counts))
    return {
        "rows permuted": replace(tuned, map=permuted(tuned.map)),
        "same density": replace(tuned, options={**tuned.options, "select": same_density}),
        "swapped": replace(tuned, map=swapped(tuned.map)),
        "global difference": replace(tuned, options={**tuned.options, "select": one_score}),
    }


def strengths(codes: Codes, tuned: DSPAMethod, counts: ActivationCounts) -> dict[str, Any]:
    """The k_diff and alpha that bring each control to the map's strength, as plain values."""
    return {
        name: calibrate(codes, control, tuned)[1].to_dict()
        for name, control in controls(tuned, counts).items()
    }


def at_strength(
    tuned: DSPAMethod, counts: ActivationCounts, reached: dict[str, Any], suffix: str
) -> list[DSPAMethod]:
    """The controls with the k_diff and alpha that `strengths` found."""
    return [
        replace(
            control,
            name=f"{name}{suffix}",
            options={
                **control.options,
                "k_diff": reached[name]["k_diff"],
                "alpha": reached[name]["alpha"],
            },
        )
        for name, control in controls(tuned, counts).items()
    ]


def answered(
    dspa: dn.DSPA, prompts: Sequence[Rendered], method: SteeringMethod | None, longest: int
) -> dict[str, list[Any]]:
    """Greedy answers and what can be read off them without a judge."""
    said = answer(dspa, prompts, method, max_new_tokens=longest, batch_size=24)
    return {
        "texts": said.texts,
        "tokens": [float(len(ids)) for ids in said.ids],
        "distinct_1": [distinct(ids, 1) for ids in said.ids],
        "distinct_2": [distinct(ids, 2) for ids in said.ids],
        "log_perplexity": surprise(dspa, prompts, said).tolist(),
        "warmth": [warmth(text) for text in said.texts],
    }


def cell(values: Any, digits: int = 3) -> str:
    """A mean with its 95 % interval."""
    found = bootstrap(np.asarray(values, dtype=np.float64))
    form = f"+.{digits}f"
    return f"{found.mean:{form}} [{found.low:{form}}, {found.high:{form}}]"
