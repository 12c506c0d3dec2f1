"""Held-out preference accuracy from tables of counts alone: does s(x) . drho rank chosen first?"""

from collections.abc import Sequence
from typing import TypedDict, Unpack

import numpy as np
import torch
from jaxtyping import Bool, Float64

from dspa_nn.counts import ActivationCounts
from dspa_nn.evaluation.length import alike
from dspa_nn.graph.origin import check_origin
from dspa_nn.graph.select import select
from dspa_nn.maps import ConditionalDifferenceMap
from dspa_nn.steering import PromptRule


class VotingRule(TypedDict, total=False):
    """Which prompt latents vote, as in `ConditionalDifferenceMap.score`; None takes the map's.

    >>> rule: VotingRule = {"prompt_rule": "density", "k_prompt": 8}
    """

    prompt_rule: PromptRule | None
    k_prompt: int | None


def right(values: np.ndarray | Sequence[float]) -> Float64[np.ndarray, " n"]:
    """1 where a signed difference ranks chosen first, 0 where rejected, 0.5 where it is a tie.

    Example:
        >>> right([2.0, -1.0, 0.0])
        array([1. , 0. , 0.5])
    """
    return (np.sign(np.asarray(values, dtype=np.float64)) + 1) / 2


def scores(
    map: ConditionalDifferenceMap, counts: ActivationCounts, **rule: Unpack[VotingRule]
) -> Float64[np.ndarray, "n d_out"]:
    """s(x) of every prompt in the table, before any selection, counted as the map was fitted.

    rule: prompt_rule and k_prompt, as in `ConditionalDifferenceMap.score`.
    """
    check_origin(map.provenance, counts.provenance, "it is used with counts of")
    table, lengths = counts.prompt(map.prompt_tokens)
    return map.score(
        torch.as_tensor(table.toarray()), torch.as_tensor(np.asarray(lengths)), **rule
    ).numpy()


def selected(
    score: Float64[np.ndarray, "n d_out"], k_diff: int, mode: str
) -> Float64[np.ndarray, "n d_out"]:
    """The scores of what would be steered (docs/method.md 4.2), all others 0."""
    kept = np.zeros_like(score)
    for chosen in select(torch.as_tensor(score), k_diff, mode, None):
        row, rank = torch.nonzero(chosen >= 0, as_tuple=True)
        column = chosen[row, rank].numpy()
        kept[row.numpy(), column] = score[row.numpy(), column]
    return kept


def ranked(
    score: Float64[np.ndarray, "n d_out"], counts: ActivationCounts
) -> Float64[np.ndarray, " n"]:
    """Which held-out triples s(x) . drho ranks rightly, one value per triple (see `right`)."""
    return right(np.asarray(counts.differences().multiply(score).sum(1)).ravel())


def accuracy(
    map: ConditionalDifferenceMap,
    counts: ActivationCounts,
    *,
    steered: tuple[int, str] | None = None,
    **rule: Unpack[VotingRule],
) -> Float64[np.ndarray, " n"]:
    """Which held-out triples a map ranks rightly, one value per triple: 1, 0, or 0.5 for a tie.

    Example:
        >>> accuracy(map, counts.subset([0, 1, 2]), prompt_rule="gated").shape
        (3,)

    Args:
        map: fitted on other triples. counts: the held-out triples.
        steered: `(k_diff, mode)` to use only the scores of what would be steered; None, all.
        rule: prompt_rule and k_prompt; None takes the map's own.

    Source: docs/method.md 4 and 12.
    """
    score = scores(map, counts, **rule)
    return ranked(score if steered is None else selected(score, *steered), counts)


def mean_difference(counts: ActivationCounts) -> Float64[np.ndarray, " d_out"]:
    """The mean of drho: one global difference, the same scores whatever the prompt."""
    return np.asarray(counts.differences().sum(0)).ravel() / len(counts)


def global_accuracy(
    fitting: ActivationCounts, counts: ActivationCounts, steered: tuple[int, str] | None = None
) -> Float64[np.ndarray, " n"]:
    """As `accuracy`, with one global difference for all prompts in place of a map."""
    score = np.broadcast_to(mean_difference(fitting), (len(counts), counts.d_out)).copy()
    return ranked(score if steered is None else selected(score, *steered), counts)


def longer_wins(counts: ActivationCounts) -> Float64[np.ndarray, " n"]:
    """As `accuracy`, for the rule that the response of more tokens is preferred."""
    return right(counts.chosen_length - counts.rejected_length)


def alike_in_length(counts: ActivationCounts, tolerance: float = 0.1) -> Bool[np.ndarray, " n"]:
    """Which pairs differ in length by at most `tolerance` of the longer response."""
    return alike(counts.chosen_length, counts.rejected_length, tolerance)
