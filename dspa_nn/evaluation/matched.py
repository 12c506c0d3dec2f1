"""The four controls that a map is compared with, each brought to the map's strength."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from dspa_nn.counts import ActivationCounts
from dspa_nn.evaluation.controls import (
    densities,
    density_matched,
    global_difference,
    permuted,
    swapped,
)
from dspa_nn.evaluation.latents import Codes
from dspa_nn.evaluation.ranking import mean_difference
from dspa_nn.evaluation.strength import Match, calibrate
from dspa_nn.steering import DSPAMethod


class Control(NamedTuple):
    """A control at the strength of the map, and how near it came."""

    method: DSPAMethod
    match: Match


def matched_controls(
    codes: Codes, counts: ActivationCounts, tuned: DSPAMethod, seed: int = 0
) -> dict[str, Control]:
    """Controls (a) to (d), brought to a map's strength on development triples.

    Example:
        >>> controls = matched_controls(encode(dspa, triples[:4]), counts, tuned)
        >>> [control.method.name for control in controls.values()][:2]
        ['(a) rows permuted', '(b) same density']

    (a) deals the map's rows out to its input latents at random; (b) edits latents that are not
    planned and fire as often; (c) is the map with chosen and rejected exchanged; (d) steers every
    prompt by one difference.

    Args:
        codes: of the development triples (`encode`).
        counts: of the fitting triples: densities for (b), the difference for (d).
        tuned: the map with its settings.
        seed: of the permutation.
    """
    return calibrated(codes, tuned, raw_controls(tuned, *from_counts(counts), seed))


def from_counts(
    counts: ActivationCounts,
) -> tuple[Float64[np.ndarray, " d_out"], Float64[np.ndarray, " d_out"]]:
    """What controls (b) and (d) take of counts: densities, and one difference for all prompts.

    Example:
        >>> density, difference = from_counts(counts)
        >>> density.shape == difference.shape
        True
    """
    return densities(counts), mean_difference(counts)


def raw_controls(
    tuned: DSPAMethod,
    density: Float64[np.ndarray, " d_out"],
    difference: Float64[np.ndarray, " d_out"],
    seed: int,
) -> dict[str, DSPAMethod]:
    """The controls at the map's own settings, by their letters.

    Example:
        >>> list(raw_controls(tuned, *from_counts(counts), seed=0))
        ['a', 'b', 'c', 'd']
    """
    same_density, one_score = density_matched(density), global_difference(difference)
    return {
        "a": replace(tuned, name="(a) rows permuted", map=permuted(tuned.map, seed)),
        "b": replace(
            tuned, name="(b) same density", options={**tuned.options, "select": same_density}
        ),
        "c": replace(tuned, name="(c) swapped", map=swapped(tuned.map)),
        "d": replace(
            tuned, name="(d) global difference", options={**tuned.options, "select": one_score}
        ),
    }


def calibrated(codes: Codes, tuned: DSPAMethod, raw: dict[str, DSPAMethod]) -> dict[str, Control]:
    """Each of these at the strength of the map on the codes' triples.

    Example:
        >>> raw = raw_controls(tuned, *from_counts(counts), seed=0)
        >>> found = calibrated(encode(dspa, triples[:4]), tuned, {"c": raw["c"]})
        >>> found["c"].match.k_diff >= 1
        True
    """
    return {key: Control(*calibrate(codes, control, tuned)) for key, control in raw.items()}
