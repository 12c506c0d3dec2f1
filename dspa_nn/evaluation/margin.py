"""The preference margin log p(chosen | x) - log p(rejected | x), per token, by method."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64

from dspa_nn.errors import EvaluationError, TripleError
from dspa_nn.evaluation.effects import Effect, effect
from dspa_nn.evaluation.teacher_forcing import TOKEN_BUDGET, Forced, check_methods, force
from dspa_nn.evaluation.tokens import TokenChanges
from dspa_nn.graph.calls import check_outside_blocks
from dspa_nn.prompts import Rendered
from dspa_nn.steering import DSPA, SteeringMethod
from dspa_nn.triples import as_triples


@dataclass(frozen=True)
class MarginPart:
    """One side of held-out triples, chosen or rejected, under one method; one value per triple.

    Attributes:
        log_prob: mean log p of the response's tokens, nats per token.
        change: that less the unsteered model's.
        kl: KL(unsteered || steered) per token, nats.
        edits: edited output latents per steered token; 0 where a method keeps no log.
        share: norm of the residual stream's change at the output layer over its norm, the mean over
            the steered tokens.
        tokens: the responses token by token (`TokenChanges`).
    """

    log_prob: Float64[np.ndarray, " n"]
    change: Float64[np.ndarray, " n"]
    kl: Float64[np.ndarray, " n"]
    edits: Float64[np.ndarray, " n"]
    share: Float64[np.ndarray, " n"]
    tokens: list[TokenChanges] = field(repr=False)


@dataclass(frozen=True)
class Margins:
    """What was measured on held-out triples under one method, chosen and rejected apart.

    Example:
        >>> plain, steered = margins(dspa, triples[:4], [DSPAMethod("tuned", dspa, map)])
        >>> print(steered)
        margin ... [...]; chosen ... [...], rejected ... [...] nats a token
        edits a token: chosen ..., rejected ...; the residual stream moved by ... % and ... %

    Attributes:
        chosen, rejected: the two parts of the margin.
        by_latent: output latent -> how often it was edited.
    """

    chosen: MarginPart
    rejected: MarginPart
    by_latent: Mapping[int, int]

    @property
    def margin(self) -> Float64[np.ndarray, " n"]:
        """Mean log p of the chosen response's tokens less that of the rejected one's, nats."""
        return self.chosen.log_prob - self.rejected.log_prob

    @property
    def change(self) -> Float64[np.ndarray, " n"]:
        """That margin less the unsteered model's: the chosen part less the rejected one."""
        return self.chosen.change - self.rejected.change

    @property
    def kl(self) -> Float64[np.ndarray, " n"]:
        """KL(unsteered || steered) per token, nats, the mean of both responses."""
        return (self.chosen.kl + self.rejected.kl) / 2

    @property
    def edits(self) -> Float64[np.ndarray, " n"]:
        """Edited output latents per steered token, the mean of both responses."""
        return (self.chosen.edits + self.rejected.edits) / 2

    @property
    def share(self) -> Float64[np.ndarray, " n"]:
        """Norm of the residual stream's change over its norm, the mean of both responses."""
        return (self.chosen.share + self.rejected.share) / 2

    def effect(self, only: Sequence[bool] | None = None, *, seed: int = 0) -> Effect:
        """The mean change of the margin and of its parts, with paired bootstrap intervals.

        Example:
            >>> _, steered = margins(dspa, triples[:4], [DSPAMethod("tuned", dspa, map)])
            >>> steered.effect().margin.n, steered.effect([True, False, True, True]).chosen.n
            (4, 3)

        only: which triples count; None, all.

        Raises:
            EvaluationError: marks of another number of triples.
        """
        if only is not None and len(only) != len(self.change):
            raise EvaluationError(
                f"only marks {len(only)} triples, and {len(self.change)} were measured; give one "
                "mark for each"
            )
        kept = slice(None) if only is None else np.asarray(only, dtype=bool)
        return effect(self.chosen.change[kept], self.rejected.change[kept], seed=seed)

    def less(self, other: "Margins", *, seed: int = 0) -> Effect:
        """The effect of this method less that of another on the same triples, paired.

        Example:
            >>> plain, steered = margins(dspa, triples[:4], [DSPAMethod("tuned", dspa, map)])
            >>> steered.less(plain) == steered.effect()
            True

        Raises:
            EvaluationError: margins of another number of triples.
        """
        if len(self.change) != len(other.change):
            raise EvaluationError(
                f"margins of {len(self.change)} and of {len(other.change)} triples came; a paired "
                "difference is of the same triples, so measure both methods on those"
            )
        return effect(
            self.chosen.change - other.chosen.change,
            self.rejected.change - other.rejected.change,
            seed=seed,
        )

    def __str__(self) -> str:
        edits, share = (
            [getattr(part, name).mean() for part in (self.chosen, self.rejected)]
            for name in ("edits", "share")
        )
        return (
            f"margin {self.effect()} nats a token\n"
            f"edits a token: chosen {edits[0]:.2f}, rejected {edits[1]:.2f}; the residual stream "
            f"moved by {100 * share[0]:.1f} % and {100 * share[1]:.1f} %"
        )


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
        EvaluationError: a method that cannot steer, such as a map by itself.
        SteeringError: inside a tracing context.
    """
    check_outside_blocks("margins")
    check_methods(methods)
    measured = force(
        dspa,
        chosen_and_rejected(dspa, triples),
        [None, *methods],
        token_budget=token_budget,
        advance=advance,
    )
    return [
        Margins(
            *(_part(forced, measured[0], which) for which in (0, 1)), by_latent=forced.by_latent
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
    for index, triple in enumerate(as_triples(triples)):
        try:
            prompt = dspa.render(triple.prompt)
            sequences += [dspa.render(prompt, text) for text in (triple.chosen, triple.rejected)]
        except TripleError as error:
            raise TripleError(f"triple {index}: {error}") from None
    return sequences


def _part(forced: Forced, unsteered: Forced, which: int) -> MarginPart:
    """The figures of the chosen (0) or of the rejected (1) responses."""
    mine = slice(which, None, 2)  # sequences are chosen, rejected, chosen, ...
    return MarginPart(
        log_prob=forced.log_prob[mine],
        change=forced.log_prob[mine] - unsteered.log_prob[mine],
        kl=forced.kl[mine],
        edits=forced.edits[mine],
        share=forced.share[mine],
        tokens=forced.tokens[mine],
    )
