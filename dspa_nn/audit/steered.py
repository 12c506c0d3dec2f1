"""What a map steers: its output latents ranked by column sums, its prompt latents by row sums."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from dspa_nn.checks import check_positive_int, check_type
from dspa_nn.errors import MapError
from dspa_nn.maps import ConditionalDifferenceMap, same_for_every_prompt
from dspa_nn.saes import LatentMeaning, meanings_of
from dspa_nn.shown import check_axes, pyplot, shown, table_html

if TYPE_CHECKING:
    import pandas

# The paper's top and bottom 50.
MOST = 50
_SHOWN, _DRAWN = 10, 12
# Of middle lightness, so that they can be told on white and on black.
_BLUE, _RED, _GREY = "#3b8ad8", "#c8534a", "#828282"


class RankedLatent(NamedTuple):
    """One latent with what a map holds of it.

    Attributes:
        latent: its number.
        sum: of its entries, with their signs.
        size: of its entries, without their signs.
        entries: how many there are.
        opened: share of the fitting prompts that opened its gate; None of an output latent, or
            where the map does not know.
        words: what it is about, where a table says so.
    """

    latent: int
    sum: float
    size: float
    entries: int
    opened: float | None
    words: str


@dataclass(frozen=True)
class SteeredLatents:
    """What a map steers most, and which prompt latents decide it.

    Example:
        >>> print(steered_latents(map, n=2))
        the map edits ... output latents: ... augmented and ... ablated on the whole; ...
        ...

    Attributes:
        augment: output latents of the largest column sums, largest first; only sums above 0.
        ablate: output latents of the smallest column sums, smallest first; only sums below 0.
        either: output latents of the largest columns, by the sum of their entries' sizes.
        prompt: input latents of the largest rows, by the sum of their entries' sizes.
        columns: output latents with a sum above 0, and with one below 0.
        rows: input latents that have entries.
    """

    augment: list[RankedLatent]
    ablate: list[RankedLatent]
    either: list[RankedLatent]
    prompt: list[RankedLatent]
    columns: tuple[int, int]
    rows: int

    def to_pandas(self) -> "pandas.DataFrame":
        """One line for each ranked latent; `set` is one of the four lists.

        Example:
            >>> steered_latents(map, n=2).to_pandas().columns[:3].tolist()
            ['set', 'place', 'latent']
        """
        import pandas

        lines = [
            {"set": name, "place": place, **one._asdict()}
            for name, ranked in self._sets().items()
            for place, one in enumerate(ranked, 1)
        ]
        return pandas.DataFrame(lines, columns=["set", "place", *RankedLatent._fields])

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, each latent's by their names.

        Example:
            >>> list(steered_latents(map, n=2).to_dict()["prompt"][0])
            ['latent', 'sum', 'size', 'entries', 'opened', 'words']
        """
        ranked = {name: [one._asdict() for one in each] for name, each in self._sets().items()}
        return {**ranked, "columns": list(self.columns), "rows": self.rows}

    def plot(self, axes: Any = None) -> Any:
        """Draw the latents of the largest sums, with matplotlib.

        Left: output latents, blue where they are augmented, red where they are ablated. Right:
        prompt latents by the size of their rows. `axes`: two of matplotlib's to draw on; returned,
        as are new ones where None is given.
        """
        check_axes(axes, 2)
        if axes is None:
            height = 1.2 + 0.22 * 2 * _DRAWN
            _, axes = pyplot().subplots(1, 2, figsize=(11, height), layout="constrained")
        output = self.augment[:_DRAWN] + self.ablate[:_DRAWN][::-1]
        colours = [_BLUE if one.sum > 0 else _RED for one in output]
        _bars(axes[0], output, [one.sum for one in output], colours)
        axes[0].axvline(0, color=_GREY, linewidth=0.8)
        axes[0].set_xlabel("column sum: augmented (blue), ablated (red)")
        prompt = self.prompt[: 2 * _DRAWN]
        _bars(axes[1], prompt, [one.size for one in prompt], [_GREY] * len(prompt))
        axes[1].set_xlabel("sum of a row's sizes: prompt latents")
        return axes

    def _sets(self) -> dict[str, list[RankedLatent]]:
        return {name: getattr(self, name) for name in ("augment", "ablate", "either", "prompt")}

    def _title(self) -> str:
        up, down = self.columns
        decide = f"{self.rows:,} prompt latents decide" if self.rows else "for every prompt alike"
        return (
            f"the map edits {up + down:,} output latents: {up:,} augmented and {down:,} ablated "
            f"on the whole; {decide}"
        )

    def _repr_html_(self) -> str:
        output = ["output latent", "column sum", "entries", "promotes"]
        prompt = ["prompt latent", "row's size", "row's sum", "gate opens", "about"]
        return shown(
            self._title(),
            *(
                table_html(output, [_cells(one) for one in ranked[:_SHOWN]], caption)
                for ranked, caption in (
                    (self.augment, "augmented most:"), (self.ablate, "ablated most:")
                )
            ),
            table_html(
                ["output latent", "column's size", "column sum", "entries", "promotes"],
                [_either_cells(one) for one in self.either[:_SHOWN]],
                "largest columns, of either sign:",
            ),
            table_html(
                prompt, [_prompt_cells(one) for one in self.prompt[:_SHOWN]], "decide most:"
            ),
        )  # fmt: skip

    def __str__(self) -> str:
        lines = [self._title()]
        for name, ranked in (("augmented", self.augment), ("ablated", self.ablate)):
            lines.append(f"{name} most: output latent, column sum, entries, promotes")
            lines += [_line(_cells(one)) for one in ranked] or ["  none"]
        lines.append("largest columns, of either sign: output latent, size, sum, entries, promotes")
        lines += [_line(_either_cells(one)) for one in self.either]
        lines.append("decide most: prompt latent, row's size, its sum, gate opens for, about")
        lines += [_line(_prompt_cells(one)) for one in self.prompt]
        return "\n".join(lines)

    __repr__ = __str__


def steered_latents(
    map: ConditionalDifferenceMap,
    n: int = MOST,
    *,
    meanings: Mapping[int, LatentMeaning] | None = None,
    input_meanings: Mapping[int, LatentMeaning] | None = None,
) -> SteeredLatents:
    """Rank the latents of a map: which are steered most, and which prompt latents decide it.

    Example:
        >>> found = steered_latents(map, n=3)
        >>> len(found.prompt), found.ablate[0].sum <= found.ablate[1].sum < 0
        (3, True)

    Columns of A are summed over its rows, with their signs (docs/method.md 10). A latent that some
    prompts raise and others lower has a sum near 0, however often it is edited: where the
    preference depends on the prompt, look at `either`, the columns by their sizes. Rows rank by
    their sizes too, since both signs in them are wanted. Of a sum of maps the entries are the
    members' added up.

    Args:
        map: of any size; its entries are read once.
        n: latents of each set.
        meanings: what output latents mean, in place of the package's table.
        input_meanings: the same of input latents.

    Raises:
        MapError: what is no map, a map without entries, or an `n` below 1.
    """
    check_type("map", map, ConditionalDifferenceMap, MapError)
    check_positive_int("n", n, MapError)
    for given in (meanings, input_meanings):
        check_type("meanings", given, Mapping[int, LatentMeaning] | None, MapError)
    if not len(map.values):
        raise MapError("the map has no entries, so it steers nothing; fit it on more triples")
    values = map.values.double().numpy()
    d_in, d_out = map.shape
    columns = _Sums(map.columns.numpy(), values, d_out)
    rows = _Sums(map.row_of_each().numpy(), values, d_in)
    deciding = np.flatnonzero(rows.entries) if not same_for_every_prompt(map) else np.array([], int)
    words = _words(map, "output", meanings), _words(map, "input", input_meanings)
    opened = None if map.gate_mean is None else map.gate_mean.numpy()
    up, down = np.flatnonzero(columns.sum > 0), np.flatnonzero(columns.sum < 0)
    return SteeredLatents(
        augment=columns.ranked(up, -columns.sum, n, words[0]),
        ablate=columns.ranked(down, columns.sum, n, words[0]),
        either=columns.ranked(np.flatnonzero(columns.entries), -columns.size, n, words[0]),
        prompt=rows.ranked(deciding, -rows.size, n, words[1], opened),
        columns=(len(up), len(down)),
        rows=len(deciding),
    )


class _Sums:
    """Sums of entries by their row or column, in float64."""

    def __init__(
        self,
        of: Int64[np.ndarray, " nnz"] | np.ndarray,
        values: Float64[np.ndarray, " nnz"],
        width: int,
    ) -> None:
        self.sum = np.bincount(of, values, width)
        self.size = np.bincount(of, np.abs(values), width)
        self.entries = np.bincount(of, minlength=width)

    def ranked(
        self,
        among: Int64[np.ndarray, " some"],
        by: Float64[np.ndarray, " width"],
        n: int,
        words: Mapping[int, str],
        opened: Float64[np.ndarray, " width"] | None = None,
    ) -> list[RankedLatent]:
        """The first n of some latents, least first, ties to the lower number."""
        order = among[np.argsort(by[among], kind="stable")][:n]
        return [
            RankedLatent(
                int(latent), float(self.sum[latent]), float(self.size[latent]),
                int(self.entries[latent]), None if opened is None else float(opened[latent]),
                words.get(int(latent), ""),
            )
            for latent in order
        ]  # fmt: skip


def _words(
    map: ConditionalDifferenceMap, side: str, given: Mapping[int, LatentMeaning] | None
) -> dict[int, str]:
    table = meanings_of(map.provenance.get(f"{side}_sae_sha256")) if given is None else given
    return {latent: meaning.words() for latent, meaning in table.items()}


def _cells(one: RankedLatent) -> list[str]:
    return [str(one.latent), f"{one.sum:+.3f}", f"{one.entries:,}", one.words]


def _either_cells(one: RankedLatent) -> list[str]:
    return [str(one.latent), f"{one.size:.3f}", f"{one.sum:+.3f}", f"{one.entries:,}", one.words]


def _prompt_cells(one: RankedLatent) -> list[str]:
    opened = "" if one.opened is None else f"{one.opened:.0%}"
    return [str(one.latent), f"{one.size:.3f}", f"{one.sum:+.3f}", opened, one.words]


def _line(cells: Sequence[str]) -> str:
    return "  " + "  ".join(f"{cell:>8}" for cell in cells[:-1]) + f"  {cells[-1]}".rstrip()


def _bars(
    axis: Any, ranked: Sequence[RankedLatent], values: Sequence[float], colours: Sequence[str]
) -> None:
    """Bars from top to bottom, each named by its latent's number and words."""
    places = range(len(ranked))
    axis.barh(places, values, color=colours)
    names = [f"{one.words[:28]}  {one.latent}".strip() for one in ranked]
    axis.set_yticks(places, names, fontsize="small")
    axis.invert_yaxis()
