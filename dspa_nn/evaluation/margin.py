"""The preference margin log p(chosen | x) - log p(rejected | x), per token, by condition."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from dspa_nn.evaluation.methods import Condition
from dspa_nn.evaluation.teacher_forcing import TOKEN_BUDGET, Forced, force
from dspa_nn.steering.dspa import DSPA
from dspa_nn.triples import PreferenceTriple


@dataclass(frozen=True)
class Margins:
    """What was measured on held-out triples under one condition, one value a triple.

    Attributes:
        margin: mean log p of the chosen response's tokens less that of the rejected one's, nats a
            token. change: that margin less the unsteered model's.
        kl: KL(unsteered || steered) a token, nats, over both responses.
        edits, norm: edited latents, and norm of the residual stream's change, a steered token.
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
    triples: Sequence[PreferenceTriple],
    conditions: Sequence[Condition],
    *,
    token_budget: int = TOKEN_BUDGET,
    advance: Callable[[int], Any] = lambda _: None,
) -> list[Margins]:
    """Margins of the unsteered model, then of every condition, on the same triples.

        plain, steered = margins(dspa, triples, [Condition("tuned", map)])
        print(bootstrap(steered.change))

    Both responses are teacher-forced after the prompt, which is steered from its last token on.
    `advance` is called with the responses that are done: two a triple, under each condition.

    Raises:
        DSPAError: what rendering, `apply` or an empty response raises.
    """
    sequences = []
    for triple in triples:
        prompt = dspa.render(triple.prompt)
        sequences += [dspa.render(prompt, text) for text in (triple.chosen, triple.rejected)]
    found = force(
        dspa,
        sequences,
        [None, *conditions],
        token_budget=token_budget,
        advance=advance,
    )
    plain = _difference(found[0])
    return [
        Margins(
            margin=_difference(own),
            change=_difference(own) - plain,
            kl=_mean(own.kl),
            edits=_mean(own.edits),
            norm=_mean(own.norm),
            by_latent=own.by_latent,
        )
        for own in found
    ]


def _difference(own: Forced) -> Float64[np.ndarray, " n"]:
    return own.log_prob[0::2] - own.log_prob[1::2]


def _mean(values: Float64[np.ndarray, " sequences"]) -> Float64[np.ndarray, " n"]:
    return (values[0::2] + values[1::2]) / 2
