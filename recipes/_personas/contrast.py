"""Effects that labelled pairs suggest, in the place of measured ones."""

from dataclasses import replace
from typing import Any

import numpy as np

from dspa_nn.evaluation import read_style_pairs
from dspa_nn.personas import AxisEffects
from dspa_nn.steering import DSPA
from dspa_nn.triples import PreferenceTriple

ASKED = [{"role": "user", "content": "Please answer."}]


def contrasted(dspa: DSPA, known: AxisEffects) -> AxisEffects:
    """For each axis minus the mean difference of densities between both ends of its pairs.

    A persona of these ablates what fires at the end that was not asked for, as a map of one row
    that was fitted on the pairs would. known: gives the axes and the spread of their scores.
    """
    effect: list[Any] = []
    error: list[Any] = []
    for axis in known.axes:
        pairs: Any = read_style_pairs(axis, "tune")  # pyright: ignore
        triples = [PreferenceTriple(ASKED, pair.high, pair.low) for pair in pairs]
        table: Any = dspa.count(triples, progress=False).differences().toarray()
        effect.append(-table.mean(0))
        error.append(table.std(0, ddof=1) / np.sqrt(len(table)))
    width = dspa.output_sae.width
    return replace(
        known,
        latents=np.arange(width),
        effect=np.stack(effect, 1),
        error=np.stack(error, 1),
        fires=np.zeros(width, dtype=np.int64),
    )
