"""Would other triples give the same top latents? Top sets of maps fitted on halves of a table."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
from jaxtyping import Float64

from dspa_nn.audit.steered import MOST, SteeredLatents, steered_latents
from dspa_nn.checks import check_positive_int, check_seed, check_type
from dspa_nn.counts import ActivationCounts
from dspa_nn.errors import CountsError, DSPAWarning, MapError
from dspa_nn.maps import FitOptions
from dspa_nn.shown import as_html, check_axes, pyplot, shown, table_html

RESAMPLINGS = 20
_FEWEST = 8
_COLOURS = (
    ("augment", "#3b8ad8"), ("ablate", "#c8534a"), ("either", "#3f9a5a"), ("prompt", "#828282"),
)  # fmt: skip


@dataclass(frozen=True)
class TopSet:
    """One top set of the map of all triples, and how often halves of them agree with it.

    Attributes:
        latents: the set, strongest first.
        kept: for each of them, the share of the halves in whose top set it is too.
        overlap: for each split, the share of the top set that its two halves have in common.
        chance: that share for two sets drawn at random among the latents that the map has on this
            side.
    """

    latents: tuple[int, ...]
    kept: Float64[np.ndarray, " n"]
    overlap: Float64[np.ndarray, " splits"]
    chance: float

    @property
    def always(self) -> list[int]:
        """The latents that are in the top set of every half."""
        return [one for one, share in zip(self.latents, self.kept, strict=True) if share == 1]


@dataclass(frozen=True)
class Stability:
    """How stable the top sets of a map are over resamplings of its triples.

    Example:
        >>> print(stability(counts, resamplings=4, n=5, percentile=50))
        top 5 of maps fitted on halves of 20 triples, 2 splits
        ...

    Attributes:
        n: latents of a top set.
        triples: of the table. splits: into two halves.
        sets: "augment", "ablate", "either" and "prompt", as in `SteeredLatents`.
    """

    n: int
    triples: int
    splits: int
    sets: dict[str, TopSet]

    def plot(self, axes: Any = None) -> Any:
        """Draw in which share of the halves each latent of the top sets is kept, with matplotlib.

        `axes`: one of matplotlib's to draw on; returned, as is a new one where None is given.
        """
        check_axes(axes, 1)
        if axes is None:
            _, axes = pyplot().subplots(figsize=(7, 3), layout="constrained")
        for name, colour in _COLOURS:
            kept = self.sets[name].kept
            axes.plot(
                np.arange(1, len(kept) + 1), kept, marker=".", linewidth=0.8, color=colour,
                label=name,
            )  # fmt: skip
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("place in the map of all triples")
        axes.set_ylabel("share of halves")
        axes.legend(frameon=False, fontsize="small")
        return axes

    def _title(self) -> str:
        return (
            f"top {self.n} of maps fitted on halves of {self.triples} triples, "
            f"{self.splits} split{'s' * (self.splits > 1)}"
        )

    def _cells(self) -> list[list[str]]:
        return [
            [
                name,
                f"{one.overlap.mean():.2f} ({one.overlap.min():.2f} to {one.overlap.max():.2f})",
                f"{one.chance:.2f}",
                f"{one.kept.mean():.2f}" if len(one.kept) else "",
                f"{len(one.always)} of {len(one.latents)}",
            ]
            for name, one in self.sets.items()
        ]

    def _repr_html_(self) -> str:
        return shown(self._title(), table_html(_HEADS, self._cells()), f"<p>{as_html(_NOTE)}</p>")

    def __str__(self) -> str:
        lines = [
            f"  {line[0]:<8}  {line[1]:<22}  {line[2]:>6}  {line[3]:>16}  {line[4]:>15}"
            for line in (_HEADS, *self._cells())
        ]
        return "\n".join([self._title(), *lines, _NOTE])

    __repr__ = __str__


_HEADS = ["set", "halves in common", "chance", "kept by a half", "kept by all"]
_NOTE = (
    "a half has half of the triples: sets of the whole map are steadier than these, by how much "
    "is not known"
)


def stability(
    counts: ActivationCounts,
    *,
    resamplings: int = RESAMPLINGS,
    n: int = MOST,
    seed: int = 0,
    **options: Unpack[FitOptions],
) -> Stability:
    """Fit maps on halves of the triples, and compare what they steer most.

    Example:
        >>> found = stability(counts, resamplings=2, n=3, percentile=50)
        >>> found.splits, len(found.sets["prompt"].latents)
        (1, 3)

    Each split deals the triples into two halves that share none, so that their maps agree only
    where the preference does. No model is run.

    Args:
        counts: of the triples that the map is fitted on.
        resamplings: maps that are fitted, an even number: two for each split.
        n: latents of a top set.
        seed: of the splits.
        options: those of `ActivationCounts.fit`.

    Raises:
        CountsError: fewer than 8 triples.
        MapError: an odd number of resamplings, options out of range, or a half whose map is empty.
    """
    check_type("counts", counts, ActivationCounts, CountsError)
    check_positive_int("n", n, MapError)
    check_positive_int("resamplings", resamplings, MapError)
    check_seed(seed, MapError)
    if resamplings % 2:
        raise MapError(
            f"resamplings is {resamplings}; expected an even number, two halves for each split."
        )
    if len(counts) < _FEWEST:
        raise CountsError(
            f"stability was given {len(counts)} triples, and halves of fewer than {_FEWEST} say "
            "nothing; count more"
        )
    whole = steered_latents(counts.fit(**options), n)
    generator = np.random.default_rng(seed)
    halves: list[SteeredLatents] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DSPAWarning)  # the fit of all triples has said it
        for _ in range(resamplings // 2):
            order = generator.permutation(counts.index)
            middle = len(order) // 2
            halves += [
                steered_latents(counts.subset(part).fit(**options), n)
                for part in (order[:middle], order[middle:])
            ]
    pools = {
        "augment": whole.columns[0], "ablate": whole.columns[1], "either": sum(whole.columns),
        "prompt": whole.rows,
    }  # fmt: skip
    return Stability(
        n=n,
        triples=len(counts),
        splits=resamplings // 2,
        sets={
            name: _compared(
                _latents(whole, name), [_latents(half, name) for half in halves], pools[name]
            )
            for name in pools
        },
    )


def _latents(found: SteeredLatents, name: str) -> tuple[int, ...]:
    return tuple(one.latent for one in getattr(found, name))


def _compared(whole: tuple[int, ...], halves: Sequence[tuple[int, ...]], pool: int) -> TopSet:
    kept = [sum(latent in half for half in halves) / len(halves) for latent in whole]
    overlap = [
        len(set(one) & set(other)) / max(len(one), len(other), 1)
        for one, other in zip(halves[::2], halves[1::2], strict=True)
    ]
    return TopSet(whole, np.array(kept), np.array(overlap), min(1.0, len(whole) / max(pool, 1)))
