"""The preference margin log p(chosen | x) - log p(rejected | x), per token, by method."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from einops import rearrange
from jaxtyping import Float64

from dspa_nn.evaluation.teacher_forcing import TOKEN_BUDGET, force
from dspa_nn.graph.calls import check_outside_blocks
from dspa_nn.prompts import Rendered
from dspa_nn.steering import DSPA, SteeringMethod
from dspa_nn.triples import as_triples


@dataclass(frozen=True)
class Margins:
    """What was measured on held-out triples under one method, one value per triple.

    Attributes:
        margin: mean log p of the chosen response's tokens less that of the rejected one's, nats
            per token.
        change: that margin less the unsteered model's.
        kl: KL(unsteered || steered) per token, nats, over both responses.
        edits: edited output latents per steered token.
        norm: norm of the residual stream's change per steered token.
        by_latent: output latent -> how often it was edited.
    """

    margin: Float64[np.ndarray, " n"]
    change: Float64[np.ndarray, " n"]
    kl: Float64[np.ndarray, " n"]
    edits: Float64[np.ndarray, " n"]
    norm: Float64[np.ndarray, " n"]
    by_latent: Mapping[int, int]


def margins(
    dspa: DSPA,
    triples: Iterable[Any],
    methods: Sequence[SteeringMethod],
    *,
    token_budget: int = TOKEN_BUDGET,
    advance: Callable[[int], object] | None = None,
) -> list[Margins]:
    """Margins of the unsteered model, then of every method, on the same triples.

    Example:
        >>> plain, steered = margins(dspa, triples[:4], [DSPAMethod("tuned", dspa, map)])
        >>> steered.change.shape
        (4,)

    Args:
        dspa: the model that is measured, and its tokenizer.
        triples: what `DSPA.count` takes: triples, or rows such as a list of dicts. Both responses
            are teacher-forced after the prompt, which is steered from its last token on.
        methods: what is compared.
        token_budget: padded tokens to a pass.
        advance: called with the responses that are done: two per triple, under each method.

    Raises:
        DSPAError: what reading, rendering, a method or an empty response raises.
        SteeringError: inside a tracing context.
    """
    check_outside_blocks("margins")
    measured = force(
        dspa,
        chosen_and_rejected(dspa, triples),
        [None, *methods],
        token_budget=token_budget,
        advance=advance,
    )
    unsteered = _chosen_less_rejected(measured[0].log_prob)
    return [
        Margins(
            margin=_chosen_less_rejected(forced.log_prob),
            change=_chosen_less_rejected(forced.log_prob) - unsteered,
            kl=_mean(forced.kl),
            edits=_mean(forced.edits),
            norm=_mean(forced.norm),
            by_latent=forced.by_latent,
        )
        for forced in measured
    ]


def chosen_and_rejected(dspa: DSPA, triples: Iterable[Any]) -> list[Rendered]:
    """Every triple's prompt with its chosen, then with its rejected response.

    Example:
        >>> len(chosen_and_rejected(dspa, triples[:3]))
        6
    """
    sequences: list[Rendered] = []
    for triple in as_triples(triples):
        prompt = dspa.render(triple.prompt)
        sequences += [dspa.render(prompt, text) for text in (triple.chosen, triple.rejected)]
    return sequences


def _chosen_less_rejected(values: Float64[np.ndarray, " sequences"]) -> Float64[np.ndarray, " n"]:
    chosen, rejected = rearrange(values, "(triple response) -> response triple", response=2)
    return chosen - rejected


def _mean(values: Float64[np.ndarray, " sequences"]) -> Float64[np.ndarray, " n"]:
    return rearrange(values, "(triple response) -> response triple", response=2).mean(0)
