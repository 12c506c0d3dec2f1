"""The counts of a layer sweep: one table for all SAEs, and a pair's table when it is asked for."""

import os
from typing import Any, Protocol, Unpack, runtime_checkable

from dspa_nn.checks import check_type
from dspa_nn.counts import ActivationCounts, layers_of, pair_of, pairs_of
from dspa_nn.errors import CountsError
from dspa_nn.maps import ConditionalDifferenceMap, FitOptions
from dspa_nn.steering.dspa import DSPA


@runtime_checkable
class BuildsPairs(Protocol):
    """What builds the `DSPA` of a pair of layers: a `LayerSweep`."""

    def dspa(self, input_layer: int, output_layer: int) -> DSPA:
        """The `DSPA` of a pair."""
        ...


class SweepCounts:
    """What one run of a `LayerSweep` counted: each SAE once, and any pair of them on demand.

    Example:
        >>> swept = sweep.count(triples)
        >>> swept.pairs
        [(0, 2), (1, 2)]
        >>> map = swept.counts(1, 2).fit(percentile=50)

    Args:
        table: the counts of all SAEs side by side.
        sweep: what they were counted with, for `dspa`.

    Raises:
        CountsError: the table is not that of a sweep.
    """

    def __init__(self, table: ActivationCounts, sweep: BuildsPairs | None = None) -> None:
        self.table = table
        self.sweep = sweep
        self.input_layers, self.output_layers = layers_of(table.provenance)

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Every input layer with every output layer that does not come before it."""
        return pairs_of(self.input_layers, self.output_layers)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays in memory."""
        return self.table.nbytes

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        first, *rest = repr(self.table).split("\n")
        pairs = f"{len(self.pairs)} pair{'s' * (len(self.pairs) > 1)}"
        what = first.replace("ActivationCounts", "SweepCounts", 1)
        return "\n".join([f"{what}, {pairs}", *rest])

    def counts(self, input_layer: int, output_layer: int) -> ActivationCounts:
        """The counts of one pair of layers: what a run of that pair alone gives, byte for byte.

        Example:
            >>> len(swept.counts(1, 2)) == len(swept)
            True

        Raises:
            CountsError: no such pair was counted.
        """
        return pair_of(self.table, input_layer, output_layer)

    def fit(
        self, input_layer: int, output_layer: int, **options: Unpack[FitOptions]
    ) -> ConditionalDifferenceMap:
        """The map of one pair of layers; keywords and errors are those of `ActivationCounts.fit`.

        Example:
            >>> map = swept.fit(1, 2, percentile=50)

        Raises:
            CountsError: no such pair was counted.
            MapError: options out of range.
        """
        return self.counts(input_layer, output_layer).fit(**options)

    def dspa(self, input_layer: int, output_layer: int) -> DSPA:
        """The `DSPA` of one pair of layers.

        Example:
            >>> swept.dspa(1, 2).output_layer
            2

        Raises:
            SteeringError: there is no such pair.
            CountsError: these counts were read from files, which hold no model.
        """
        if self.sweep is None:
            raise CountsError(
                "these counts were read from files, which hold no model; take the DSPA from the "
                "LayerSweep, with sweep.dspa(input_layer, output_layer)"
            )
        return self.sweep.dspa(input_layer, output_layer)

    def subset(self, indices: Any) -> "SweepCounts":
        """The rows of these triples, as `ActivationCounts.subset` takes them.

        Example:
            >>> len(swept.subset([0, 1]))
            2
        """
        return SweepCounts(self.table.subset(indices), self.sweep)

    def merge(self, *others: "SweepCounts") -> "SweepCounts":
        """The union with the counts of other triples: exact, and the order does not matter.

        Example:
            >>> parts = [sweep.count(triples, shards=2, shard=shard) for shard in (0, 1)]
            >>> len(parts[0].merge(parts[1])) == len(triples)
            True

        Raises:
            CountsError: what `ActivationCounts.merge` refuses, or counts of no sweep.
        """
        for other in others:
            check_type("what is merged", other, SweepCounts, CountsError)
        merged = self.table.merge(*(other.table for other in others))
        return SweepCounts(merged, self.sweep)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write all counts into one folder; equal counts give equal bytes.

        Example:
            >>> swept.save("sweep")

        Raises:
            FileError: a full disk or a read-only folder; what was there stays.
        """
        self.table.save(folder)

    @classmethod
    def load(
        cls, folder: str | os.PathLike[str], sweep: BuildsPairs | None = None
    ) -> "SweepCounts":
        """Read counts from a folder that `save` wrote, memory-mapped.

        Example:
            >>> swept.save("sweep")
            >>> SweepCounts.load("sweep").pairs
            [(0, 2), (1, 2)]

        sweep: what they were counted with, for `dspa`.

        Raises:
            FileError: files that are missing, cut short, changed or of a newer schema.
            CountsError: the counts of a single pair.
        """
        return cls(ActivationCounts.load(folder), sweep)
