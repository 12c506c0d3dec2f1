"""Held-out ranking of every selection, for many draws of fitting triples.

Unsparsified, s(x) . drho = (1/N) sum_k a_k(x) (drho_k . drho): a selection is a way to weigh the
fitting triples for a prompt (a) or a way to compare two differences, and no map is ever made.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dspa_nn.counts import ActivationCounts
from dspa_nn.graph.select import prompt_weights
from dspa_nn.maps import densities
from dspa_nn.theory import (
    Demixer,
    Sample,
    Studentised,
    confident_map,
    diagonal_whitening,
    sample_of,
    shrunk_whitening,
    studentised,
)

PAPER = "the paper's rule"
K_PROMPT = 32
PERCENTILE = 90
RIDGES = (0.03, 0.3, 3.0)
SHRINKAGES: tuple[Any, ...] = ("ledoit-wolf", "oas", 0.5, 0.9, 0.97)
RATES = (0.05, 0.2)
SIZES = (16_000, 160_000)  # 0.1 % and 1 % of the map
Accuracies = dict[str, np.ndarray]

# Which question each selection answers; the paper's rule is compared with all of them.
QUESTIONS = {
    "de-mixed": "De-mixing?",
    "whitened": "Whitening?",
    "confident": "Entries by confidence?",
    "gate": "Which gate rule?",
    "prompt rule": "Which prompt rule?",
    "percentile": "Which percentile?",
    "densities": "Densities in place of gates?",
    "token-weighted": "Differences weighted by tokens?",
    "length-controlled": "Differences at equal length?",
    "global": "A map at all?",
}


@dataclass
class Held:
    """Rows that are judged: prompts as dense counts, differences as rows of one table."""

    counts: torch.Tensor
    lengths: torch.Tensor
    table: Any  # differences [rows, d_out]

    @classmethod
    def of(cls, counts: ActivationCounts) -> "Held":
        table, lengths = counts.prompt("content")
        return cls(torch.as_tensor(table.toarray()), torch.as_tensor(lengths), counts.differences())


def judged(weights: np.ndarray, fitted: Any, held: Any, whitened: Any = None) -> np.ndarray:
    """Which held-out rows are ranked rightly: 1, 0, or 0.5 for a tie.

    weights: a [rows, n]; fitted: differences [n, d_out], weighed as the selection does; held: those
    of the rows. whitened: what makes whitened scores of the fitted differences.
    """
    if whitened is not None:
        fitted = whitened(torch.as_tensor(fitted.toarray())).numpy()
        alike = held @ fitted.T
    else:
        alike = (held @ fitted.T).toarray()
    return right((weights * alike).sum(1))


def right(values: np.ndarray) -> np.ndarray:
    """1 above 0, 0 below it, 0.5 at 0."""
    return (np.sign(np.where(np.abs(values) < 1e-12, 0, values)) + 1) / 2


def votes(sample: Sample, held: Held, rule: str) -> np.ndarray:
    """The weights a [rows, n]: of a prompt's latents times the gates of each fitting triple."""
    tau, mean = torch.as_tensor(sample.tau), torch.as_tensor(sample.opened / sample.n)
    chosen = prompt_weights(
        held.counts, held.lengths, rule, K_PROMPT, tau, mean, sample.gate
    ).numpy()
    return (sample.gates @ chosen.T).T


def by_density(fitting: ActivationCounts, held: Held) -> np.ndarray:
    """The weights with densities in the gates' place, on both sides, over S_prompt."""
    table, lengths = fitting.prompt("content")
    rho = densities(table, np.maximum(lengths, 1))
    chosen = prompt_weights(held.counts, held.lengths, "density", K_PROMPT, None, None, "active")
    own = held.counts.double() / held.lengths.clamp(min=1).unsqueeze(-1)
    return (rho @ (chosen * own).numpy().T).T


def token_weighted(fitting: ActivationCounts) -> Any:
    """Differences in which every response token counts alike, not every response."""
    up, down = (
        table.multiply(1.0 / length.mean()).tocsr()
        for table, length in (
            (fitting.chosen, fitting.chosen_length),
            (fitting.rejected, fitting.rejected_length),
        )
    )
    return (up - down).tocsr()


def length_controlled(fitting: ActivationCounts) -> np.ndarray:
    """Differences less what goes with log(tokens of chosen / of rejected), latent by latent."""
    drho = fitting.differences().toarray()
    ratio = np.log(fitting.chosen_length / fitting.rejected_length)
    across = ratio - ratio.mean()
    slope = across @ drho / max(float(across @ across), 1e-12)
    return drho - np.outer(ratio, slope)


def selections(
    fitting: ActivationCounts,
    held: Held,
    confidence: bool = True,
    over: Sequence[Any] = ("density", "gated"),
) -> Iterator[tuple[str, np.ndarray]]:
    """Name of each selection, and which held-out rows it ranks rightly.

    confidence: whether entries are tested too, which takes most of the time. over: the sets that
    are de-mixed on; "gated" sets are large, and so slow.
    """
    sample = sample_of(fitting, percentile=PERCENTILE, prompt_tokens="content")
    drho, table = sample.drho, held.table
    alike = (table @ drho.T).toarray()
    paper = votes(sample, held, "density")
    ones = np.ones_like(paper)

    def plain(weights: np.ndarray) -> np.ndarray:
        return right((weights * alike).sum(1))

    yield PAPER, plain(paper)
    yield "global: one difference", plain(ones)
    for rule in ("gated", "centred"):
        yield f"prompt rule: {rule}", plain(votes(sample, held, rule))
    for percentile in (50, 75, 95, 99):
        other = sample_of(fitting, percentile=percentile, prompt_tokens="content")
        yield f"percentile: {percentile}", plain(votes(other, held, "density"))
    for rule in ("density", "gated"):
        literal = sample_of(fitting, percentile=PERCENTILE, gate="literal", prompt_tokens="content")
        yield f"gate: literal, {rule}", plain(votes(literal, held, rule))
    yield "densities in place of gates", plain(by_density(fitting, held))
    yield "token-weighted", judged(paper, token_weighted(fitting), table)
    controlled = length_controlled(fitting)
    across = np.asarray(table @ controlled.T)
    yield "length-controlled", right((paper * across).sum(1))
    yield "length-controlled: one difference", right(across.sum(1))
    whitenings = {"diagonal": diagonal_whitening(drho)}
    for shrinkage in SHRINKAGES:
        whitenings[str(shrinkage)] = shrunk_whitening(drho, shrinkage)
    dense = torch.as_tensor(drho.toarray())
    for name, whitening in whitenings.items():
        white = np.asarray(table @ whitening(dense).numpy().T)
        yield f"whitened: {name}", right((paper * white).sum(1))
        yield f"global, whitened: {name}", right(white.sum(1))
    for kind in over:
        for ridge in RIDGES:
            demixer = Demixer(sample, over=kind, ridge=ridge)
            weights = demixer.weights(held.counts, held.lengths).numpy()
            yield f"de-mixed: {kind}, ridge {ridge}", plain(weights)
    if confidence:
        yield from by_confidence(fitting, sample, held)


def by_confidence(
    fitting: ActivationCounts, sample: Sample, held: Held
) -> Iterator[tuple[str, np.ndarray]]:
    """Maps of the entries that can be told from 0, and thresholded ones of the same size."""
    whole = fitting.fit(percentile=PERCENTILE, sparsify="none", prompt_tokens="content")
    chosen = prompt_weights(held.counts, held.lengths, "density", K_PROMPT, None, None, "active")

    def ranked(map: Any) -> np.ndarray:
        scores = map.to_scipy().T @ chosen.numpy().T
        return right(np.asarray(held.table.multiply(scores.T).sum(1)).ravel())

    tested = studentised(sample)
    for rate in RATES:
        kept = confident_map(tested, whole, "discoveries", rate)
        size = len(kept.values)
        yield f"confident: discoveries at {rate:g}", ranked(kept)
        cut = threshold(whole, size)
        yield f"thresholded at the size of discoveries at {rate:g}", ranked(cut)
        yield f"entries: discoveries at {rate:g}", np.full(1, float(size))
    # Where few pass, t can still order entries: the same number of them by |t| and by size.
    for size in SIZES:
        yield f"confident: {size:,} entries by t", ranked(strongest(tested, whole, size))
        yield f"thresholded to {size:,} entries", ranked(threshold(whole, size))
    clear = confident_map(tested, whole, "bound")
    yield "entries: bound", np.full(1, float(len(clear.values)))
    yield "entries: whole", np.full(1, float(len(whole.values)))


def strongest(tested: Studentised, whole: Any, size: int) -> Any:
    """The map of the entries of largest |t|."""
    kept = np.argsort(-np.abs(tested.t), kind="stable")[:size]
    kept = kept[np.lexsort((tested.column[kept], tested.row[kept]))]
    rows, counts = np.unique(tested.row[kept], return_counts=True)
    values = tested.mean[kept] * tested.opened[tested.row[kept]] / tested.n
    indptr = np.concatenate([[0], np.cumsum(counts)])
    return whole.with_entries(rows, indptr, tested.column[kept], values.astype(np.float32))


def threshold(whole: Any, size: int) -> Any:
    """The map of a given number of entries, the largest."""
    kept = np.zeros(len(whole.values), dtype=bool)
    if size:
        kept[np.argsort(-np.abs(whole.values.numpy()), kind="stable")[:size]] = True
    row = whole.row_of_each().numpy()[kept]
    rows, counts = np.unique(row, return_counts=True)
    indptr = np.concatenate([[0], np.cumsum(counts)])
    return whole.with_entries(rows, indptr, whole.columns[kept], whole.values[kept])
