"""Which latents are worth measuring: those that tell both ends of an axis apart in other texts."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from dspa_nn.checks import check_latents, check_positive_int
from dspa_nn.errors import DSPAError
from dspa_nn.evaluation import AXES, AxisName, read_style_pairs
from dspa_nn.steering import DSPA
from dspa_nn.triples import PreferenceTriple

# A difference of densities below this is not told from none, however steady it is.
_LEAST = 1e-4
_ASKED = [{"role": "user", "content": "Please answer."}]


def style_candidates(
    dspa: DSPA,
    each: int = 20,
    *,
    axes: Sequence[AxisName] | None = None,
    among: Collection[int] | None = None,
    token_budget: int = 4096,
) -> list[int]:
    """Output latents that fire more at one end of an axis than at the other, axis by axis.

    Example:
        >>> style_candidates(dspa, 2, axes=["direct"])
        [...]

    Read off the package's labelled pairs for tuning (`read_style_pairs`): latents are ranked by
    the mean difference of their densities between both texts of a pair over its standard error.
    So `measure_effects` need not ablate every latent of an SAE. That a latent tells the ends apart
    does not yet say that it moves an answer.

    Args:
        dspa: the model, with a chat template, and its SAEs.
        each: latents of each axis.
        axes: keys of `dspa_nn.evaluation.AXES`; None takes all.
        among: latents to choose from, such as those that fire in answers; None, all.
        token_budget: padded tokens to a pass.

    Returns:
        The first latent of every axis, then the second of every axis, and so on, each once.

    Raises:
        DSPAError: no such axis or latent.
    """
    check_positive_int("each", each, DSPAError)
    ranked: list[list[int]] = []
    for axis in AXES if axes is None else axes:
        pairs = read_style_pairs(axis, "tune")
        triples = [PreferenceTriple(_ASKED, pair.high, pair.low) for pair in pairs]
        table: Any = dspa.count(triples, token_budget=token_budget, progress=False).differences()
        found = np.asarray(table.toarray(), dtype=np.float64)
        error = found.std(0, ddof=1) / np.sqrt(len(found))
        size = np.abs(found.mean(0)) / (error + _LEAST)
        if among is not None:
            barred = np.ones(len(size), dtype=bool)
            barred[check_latents("output", among, len(size))] = False
            size[barred] = 0
        order = np.argsort(-size, kind="stable")[:each]
        ranked.append([int(latent) for latent in order if size[latent] > 0])
    turns = (one[place] for place in range(each) for one in ranked if place < len(one))
    return list(dict.fromkeys(turns))
