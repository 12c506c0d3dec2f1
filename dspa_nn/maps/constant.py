"""Maps that score every prompt alike, so that what knows no condition is used as maps are."""

from collections.abc import Mapping
from numbers import Integral
from typing import Any

import numpy as np

from dspa_nn.errors import MapError
from dspa_nn.graph.settings import ALWAYS
from dspa_nn.maps.map import ConditionalDifferenceMap
from dspa_nn.maps.options import PromptTokens


def unconditional(
    scores: Mapping[int, float],
    shape: tuple[int, int],
    *,
    provenance: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
    prompt_tokens: PromptTokens = "content",
) -> ConditionalDifferenceMap:
    """A map whose scores are these, whatever the prompt and the prompt rule.

    >>> same = unconditional({3: -0.5}, (2, 4))
    >>> same.score([[1, 0], [0, 7]])[:, 3].tolist()
    [-0.5, -0.5]

    It is used, saved and added as any map. Its scores are the one row of input latent 0, whose gate
    is "always" open; a prompt in which no token counts is left alone, as under any map.

    Args:
        scores: output latent -> its score: below 0 it is ablated, above 0 augmented.
        shape: latents of the input SAE and of the output SAE.
        provenance: what it is a map of, as `DSPA.provenance` says it.
        defaults: settings of a run.
        prompt_tokens: as of the maps that it is added to; it counts none.

    Raises:
        MapError: a latent that the SAE does not have, or a score that is not finite.
    """
    latents, values = one_row(scores)
    return ConditionalDifferenceMap(
        np.arange(min(len(latents), 1)), np.unique([0, len(latents)]), latents, values, shape,
        gate=ALWAYS, provenance=provenance, defaults=defaults, prompt_tokens=prompt_tokens,
    )  # fmt: skip


def one_row(scores: Mapping[int, float]) -> tuple[np.ndarray, np.ndarray]:
    """Output latents in ascending order, and their scores; `MapError` where they are no numbers.

    >>> one_row({5: 0.5, 2: -1.0})
    (array([2, 5]), array([-1. ,  0.5]))
    """
    for latent in scores:
        if isinstance(latent, bool) or not isinstance(latent, Integral):
            raise MapError(
                f"a score came for {latent!r}; expected latents by number, as {{3: -0.5}}."
            )
    latents = np.array(sorted(scores), dtype=np.int64)
    return latents, np.array([scores[latent] for latent in latents.tolist()], dtype=np.float64)
