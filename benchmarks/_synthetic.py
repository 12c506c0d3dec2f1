"""Counts that look like those of preference triples, of any size, on disk.

A latent's rate (the share of tokens on which it fires) is log-normal over latents, at most 0.5, and
the rates add up to the number of latents active per token. In a text a latent fires in bursts: a
text of L tokens has L * active / BURST draws of a latent, each of BURST tokens on average. Lengths
follow the quantiles of UltraFeedback's prompts, chosen and rejected responses, with their
correlation.

SPREAD and BURST are such that a table of the embedded model's width (4,096, 32 active) agrees with
that model's counts on UltraFeedback; `python -m benchmarks.map_scale` prints both.
"""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.special import ndtr, ndtri

from dspa_nn.counts import ActivationCounts, CountRows, sparse_rows

SPREAD, BURST, HIGHEST = 1.4, 3, 0.5

# Tokens of UltraFeedback's first 800 triples, by the embedded model's tokenizer: prompt, chosen and
# rejected at these percentiles, and the correlation of their logarithms.
PERCENTILES = (0, 5, 25, 50, 75, 95, 100)
LENGTHS = (
    (4, 11, 40, 80, 133, 341, 2050),
    (2, 52, 240, 438, 602, 864, 1221),
    (1, 23, 129, 303, 476, 832, 1108),
)
CORRELATION = ((1, 0.34, 0.29), (0.34, 1, 0.63), (0.29, 0.63, 1))
TABLES = ("content", "chosen", "rejected")
# Triples drawn together.
STEP = 250


def rates(width: int, active: int) -> np.ndarray:
    """The share of tokens on which each latent fires [width], adding up to `active`."""
    wanted = np.exp(SPREAD * ndtri((np.arange(width) + 0.5) / width))[::-1]
    scale = active / wanted.sum()
    for _ in range(100):  # spreads what the cap takes off over the other latents
        scale *= active / np.minimum(HIGHEST, scale * wanted).sum()
    return np.minimum(HIGHEST, scale * wanted)


def lengths(rng: np.random.Generator, n: int) -> np.ndarray:
    """Tokens of prompt, chosen and rejected response: int64 [n, 3]."""
    percentiles = 100 * ndtr(rng.multivariate_normal(np.zeros(3), CORRELATION, n))
    columns = [np.interp(percentiles[:, i], PERCENTILES, LENGTHS[i]) for i in range(3)]
    return np.maximum(1, np.stack(columns, axis=1)).astype(np.int64)


def draw(
    rng: np.random.Generator, tokens: np.ndarray, latents: np.ndarray, width: int, active: int
) -> Any:
    """Counts of texts of so many tokens [n]: sparse int32 [n, width]; `latents` is drawn from."""
    draws = np.maximum(1, rng.poisson(tokens * active / BURST))
    text = np.repeat(np.arange(len(tokens)), draws)
    key = text * width + latents[rng.integers(0, len(latents), len(text))]
    key.sort()
    first = np.flatnonzero(np.diff(key, prepend=-1))
    bursts = np.diff(np.append(first, len(key)))
    text, latent = np.divmod(key[first], width)
    fired = np.clip(rng.poisson(bursts * BURST), 1, tokens[text])
    bounds = np.searchsorted(text, np.arange(len(tokens) + 1))
    return csr_array(
        (fired.astype(np.int32), latent.astype(np.int32), bounds), shape=(len(tokens), width)
    )


def write(folder: Path, n: int, width: int, active: int, seed: int = 0) -> None:
    """Draw a table of n triples into a folder, `STEP` triples at a time."""
    rng = np.random.default_rng(seed)
    cumulative = np.cumsum(rates(width, active))
    quantiles = (np.arange(1 << 22) + 0.5) / (1 << 22) * cumulative[-1]
    latents = rng.permutation(width)[np.minimum(np.searchsorted(cumulative, quantiles), width - 1)]
    folder.mkdir(parents=True, exist_ok=True)
    tokens = lengths(rng, n)
    files = {
        (name, part): (folder / f"{name}.{part}").open("wb")
        for name in TABLES
        for part in ("data", "indices")
    }
    bounds = {name: [np.zeros(1, np.int64)] for name in TABLES}
    for start in range(0, n, STEP):
        for at, name in enumerate(TABLES):
            table = draw(rng, tokens[start : start + STEP, at], latents, width, active)
            files[name, "data"].write(table.data.tobytes())
            files[name, "indices"].write(table.indices.astype(np.int32).tobytes())
            bounds[name].append(bounds[name][-1][-1] + table.indptr[1:].astype(np.int64))
    for file in files.values():
        file.close()
    for name, parts in bounds.items():
        np.save(folder / f"{name}.indptr.npy", np.concatenate(parts))
    np.save(folder / "tokens.npy", tokens)
    np.save(folder / "width.npy", width)


def opened(folder: Path, n: int) -> ActivationCounts:
    """The first n triples of a table that `write` wrote, memory-mapped."""
    width, tokens = int(np.load(folder / "width.npy")), np.load(folder / "tokens.npy")[:n]
    tables = {}
    for name in TABLES:
        indptr = np.load(folder / f"{name}.indptr.npy")[: n + 1]
        data, indices = (
            np.memmap(folder / f"{name}.{part}", np.int32, "r", shape=(int(indptr[-1]),))
            for part in ("data", "indices")
        )
        tables[name] = sparse_rows(data, indices, indptr, width)
    markup = csr_array((n, width), dtype=np.int32)
    none = np.zeros(n, np.int64)
    rows = CountRows(
        np.arange(n), tables["content"], markup, tables["chosen"], tables["rejected"],
        tokens[:, 0], none, tokens[:, 1], tokens[:, 2],
    )  # fmt: skip
    return ActivationCounts(rows)
