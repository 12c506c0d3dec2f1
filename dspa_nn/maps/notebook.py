"""A map as a notebook shows it: small HTML without scripts, and a picture of its entries."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from dspa_nn.checks import check_positive_int
from dspa_nn.errors import MapError
from dspa_nn.maps.rows import Entry
from dspa_nn.saes import meanings_of
from dspa_nn.shown import as_html, check_axes, pyplot, shown, table_html

_ENTRIES = 10


@runtime_checkable
class ShownMap(Protocol):
    """A map, as far as it is shown here."""

    shape: tuple[int, int]
    rows: Any
    values: Any
    provenance: dict[str, Any]

    def top(self, n: int = 10) -> list[Entry]:
        """The strongest entries."""
        ...

    def row_of_each(self) -> Any:
        """The input latent of every entry."""
        ...

    @property
    def columns(self) -> Any:
        """The output latent of every entry."""
        ...


def _words(provenance: Mapping[str, Any], side: str, latent: int) -> str:
    meaning = meanings_of(provenance.get(f"{side}_sae_sha256")).get(latent)
    return "" if meaning is None else meaning.words()


def map_html(map: ShownMap, title: str, lines: Iterable[str]) -> str:
    """What a map was fitted with, and its strongest entries in words where they are known."""
    known = map.provenance
    return shown(
        title,
        "".join(f"<p>{as_html(line)}</p>" for line in lines),
        table_html(
            ["input latent", "about", "output latent", "promotes", "entry"],
            [
                (
                    entry.row, _words(known, "input", entry.row),
                    entry.column, _words(known, "output", entry.column), f"{entry.value:+.4f}",
                )
                for entry in map.top(_ENTRIES)
            ],
            "strongest entries:",
        ),
    )  # fmt: skip


def plot_map(map: ShownMap, n: int, axes: Any) -> Any:
    """Draw the entries between the n strongest rows and columns: see `ConditionalDifferenceMap`."""
    check_positive_int("n", n, MapError)
    row, column = map.row_of_each().numpy(), map.columns.numpy()
    size = np.abs(map.values.double().numpy())
    rows = np.argsort(-np.bincount(row, size, map.shape[0]), kind="stable")[:n]
    columns = np.argsort(-np.bincount(column, size, map.shape[1]), kind="stable")[:n]
    place = np.full(map.shape[0], -1), np.full(map.shape[1], -1)
    place[0][rows], place[1][columns] = np.arange(len(rows)), np.arange(len(columns))
    shown_here = (place[0][row] >= 0) & (place[1][column] >= 0)
    grid = np.zeros((len(rows), len(columns)))
    at = place[0][row[shown_here]], place[1][column[shown_here]]
    grid[at] = map.values.numpy()[shown_here]
    check_axes(axes, 1)
    if axes is None:
        side = 2 + 0.22 * n
        _, axes = pyplot().subplots(figsize=(side + 1.5, side), layout="constrained")
    most = float(np.abs(grid).max(initial=0)) or 1.0
    picture = axes.imshow(grid, cmap="RdBu", vmin=-most, vmax=most, aspect="auto")
    axes.set_xticks(range(len(columns)), columns.tolist(), rotation=90, fontsize="small")
    axes.set_yticks(range(len(rows)), rows.tolist(), fontsize="small")
    axes.set_xlabel("output latent")
    axes.set_ylabel("input latent")
    axes.figure.colorbar(picture, ax=axes, label="entry: chosen less rejected density")
    return axes
