"""A random map: as many entries as DSPA's, of the same values, in random places."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.random import Generator

from dspa_nn.checks import check_seed
from dspa_nn.counts import ActivationCounts
from dspa_nn.errors import SteeringError
from dspa_nn.maps import ConditionalDifferenceMap
from dspa_nn.steering import DSPA


def fit_random_map(
    dspa: DSPA,
    source: ConditionalDifferenceMap | ActivationCounts | Iterable[Any],
    *,
    seed: int = 0,
    **options: Any,
) -> ConditionalDifferenceMap:
    """Draw a map of the density of DSPA's.

    Example:
        >>> drawn = fit_random_map(dspa, map, seed=1)
        >>> len(drawn.values) == len(map.values)
        True

    Args:
        dspa: the model and its SAEs.
        source: DSPA's map, or the counts or triples that one is fitted on first.
        seed: of the draw.
        options: keywords of `ActivationCounts.fit` and of `DSPA.count`, where no map came.

    Raises:
        SteeringError: a seed below 0, or options of a fit for a map.

    Source: docs/method.md 8.7.
    """
    check_seed(seed, SteeringError)
    if isinstance(source, ConditionalDifferenceMap):
        if options:
            raise SteeringError(
                f"{' and '.join(options)} came with a map, which is fitted already; give triples "
                "or counts, or leave that out"
            )
        fitted = source
    elif isinstance(source, ActivationCounts):
        fitted = source.fit(**options)
    else:
        fitted = dspa.fit(source, **options)
    return shuffled(fitted, np.random.default_rng(seed), seed)


def shuffled(
    map: ConditionalDifferenceMap, random: Generator, seed: int
) -> ConditionalDifferenceMap:
    """The same map with its entries in random places.

    Example:
        >>> map = ConditionalDifferenceMap.from_dense([[0.5, 0.0], [0.0, 0.25]])
        >>> sorted(shuffled(map, np.random.default_rng(0), 0).values.tolist())
        [0.25, 0.5]

    Input latents are drawn for its rows, output latents for each row, and the values are dealt out
    anew: the number of rows, of entries in each, and the values stay.
    """
    d_in, d_out = map.shape
    lengths: Any = map.indptr.diff().numpy()[random.permutation(len(map.rows))]
    rows = np.sort(random.choice(d_in, len(lengths), replace=False))
    drawn: list[Any] = [random.choice(d_out, length, replace=False) for length in lengths]
    columns = [np.sort(places) for places in drawn]
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    values = map.values.numpy()[random.permutation(len(map.values))]
    placed = np.concatenate([np.zeros(0, np.int64), *columns])
    return map.with_entries(
        rows, indptr, placed, torch.as_tensor(values), baseline="random map", seed=seed
    )
