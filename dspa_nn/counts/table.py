"""Integer counts of fired latents, one row a triple: all that fitting ever needs of a model."""

import json
import os
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any, Unpack

import numpy as np

from dspa_nn.checks import check_choice, check_type
from dspa_nn.counts.published import PublishedCounts
from dspa_nn.counts.rows import (
    LENGTHS,
    TABLES,
    CountRows,
    canonical,
    check_rows,
    sparse_rows,
    stack,
)
from dspa_nn.errors import CountsError, FileError, MapError
from dspa_nn.files import read_pair, write_pair
from dspa_nn.graph.settings import PROMPT_TOKENS
from dspa_nn.imports import late
from dspa_nn.maps import (
    ConditionalDifferenceMap,
    FitGate,
    FitOptions,
    PromptDependence,
    PromptTokens,
    dependence_of,
    differences,
    fit_map,
)
from dspa_nn.provenance import OF_COUNTS, contradiction, origin_in_words, together
from dspa_nn.shapes import SparseTable
from dspa_nn.shown import as_html, shown, table_html

SCHEMA_VERSION = 1


class ActivationCounts(PublishedCounts):
    """On how many tokens each latent fired, for each triple: exact, mergeable, small.

    >>> content, markup, chosen, rejected = [[2, 0]] * 3, [[1, 1]] * 3, [[3, 0]] * 3, [[0, 1]] * 3
    >>> lengths = [2] * 3, [1] * 3, [4] * 3, [2] * 3
    >>> rows = CountRows([0, 1, 2], content, markup, chosen, rejected, *lengths)
    >>> counts = ActivationCounts.from_rows([rows], d_in=2, d_out=2)
    >>> counts.fit(percentile=50, sparsify="none").to_dense()
    tensor([[ 0.7500, -0.5000],
            [ 0.0000,  0.0000]])

    `content`, `markup` [n, d_in] and `chosen`, `rejected` [n, d_out] are scipy's sparse rows of
    int32; `content_length`, `markup_length`, `chosen_length`, `rejected_length` int64 [n] the
    tokens counted, a leading BOS in none of them (docs/method.md 5). Rows are kept sorted by
    `index`, the triple's place in its source, so the table does not depend on who counted which
    row when. `provenance` says what was counted with what; `skipped` why triples are not here, and
    how many.
    Raises `CountsError` where the arrays contradict each other.
    """

    content: SparseTable
    markup: SparseTable
    chosen: SparseTable
    rejected: SparseTable
    content_length: np.ndarray
    markup_length: np.ndarray
    chosen_length: np.ndarray
    rejected_length: np.ndarray
    index: np.ndarray

    def __init__(
        self,
        rows: CountRows,
        *,
        provenance: Mapping[str, Any] | None = None,
        skipped: Mapping[str, int] | None = None,
    ) -> None:
        index = np.asarray(rows.index, dtype=np.int64)
        order = np.argsort(index, kind="stable")
        in_order = bool((np.diff(order) == 1).all())
        self.index = index[order]
        for name in TABLES:
            table = canonical(getattr(rows, name))
            lengths = np.asarray(getattr(rows, f"{name}_length"), dtype=np.int64)
            if table.shape[0] != len(index) or lengths.shape != index.shape:
                raise CountsError(
                    f"{name} has {table.shape[0]} rows and {len(lengths)} lengths for "
                    f"{len(index)} triples; expected one of each for every triple."
                )
            setattr(self, name, table if in_order else table[order])
            setattr(self, f"{name}_length", lengths[order])
        self.provenance = dict(provenance or {})
        self.skipped = {key: int(value) for key, value in (skipped or {}).items()}
        try:
            json.dumps([self.provenance, self.skipped], allow_nan=False)
        except (TypeError, ValueError) as error:
            raise CountsError(
                f"the provenance of counts cannot be written as JSON ({error}); pass strings, "
                "numbers, lists and dictionaries."
            ) from error
        check_rows(self)

    @classmethod
    def from_rows(
        cls,
        pieces: Iterable[CountRows],
        *,
        d_in: int,
        d_out: int,
        provenance: Mapping[str, Any] | None = None,
        skipped: Mapping[str, int] | None = None,
    ) -> "ActivationCounts":
        """One table from the pieces that batches yield, in any order; no piece at all is fine.

        >>> len(ActivationCounts.from_rows([], d_in=8, d_out=8, skipped={"empty response": 1}))
        0
        """
        csr_array = late("scipy.sparse").csr_array

        empty, none = np.zeros(0, dtype=np.int64), [csr_array((0, d)) for d in (d_in, d_out)]
        nothing = CountRows(empty, none[0], none[0], none[1], none[1], empty, empty, empty, empty)
        return cls(stack([nothing, *pieces]), provenance=provenance, skipped=skipped)

    @property
    def d_in(self) -> int:
        """The width of the input SAE."""
        return self.content.shape[1]

    @property
    def d_out(self) -> int:
        """The width of the output SAE."""
        return self.chosen.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays in memory."""
        tables = [getattr(self, name) for name in TABLES]
        arrays = [a for t in tables for a in (t.data, t.indices, t.indptr)]
        return sum(a.nbytes for a in [*arrays, *(getattr(self, n) for n in LENGTHS), self.index])

    @property
    def rows(self) -> CountRows:
        """All tables and lengths as the rows that a table is made from."""
        return CountRows(self.index, *(getattr(self, name) for name in (*TABLES, *LENGTHS)))

    def __len__(self) -> int:
        return len(self.index)

    def __repr__(self) -> str:
        origin = origin_in_words(self.provenance)
        skipped = ", ".join(f"{n} {why}" for why, n in sorted(self.skipped.items()))
        tokens = [int(getattr(self, name).sum()) for name in LENGTHS]
        return (
            f"ActivationCounts: {len(self):,} triples{origin}, latents {self.d_in:,} -> "
            f"{self.d_out:,}, {self.nbytes / 1e6:.1f} MB\n"
            f"  tokens: prompts {tokens[0]:,} content and {tokens[1]:,} markup, "
            f"chosen {tokens[2]:,}, rejected {tokens[3]:,}; skipped: {skipped or 'none'}"
        )

    def _repr_html_(self) -> str:
        title, *lines = repr(self).split("\n")
        tokens = zip(LENGTHS, (getattr(self, name) for name in LENGTHS), strict=True)
        return shown(
            title,
            *(f"<p>{as_html(line.strip())}</p>" for line in lines),
            table_html(
                ["tokens of", "in all", "a triple, median", "most"],
                [
                    (name.removesuffix("_length"), f"{int(of.sum()):,}", f"{np.median(of):g}",
                     int(of.max()))
                    for name, of in tokens
                    if len(of)
                ],
            ),
        )  # fmt: skip

    # Reading

    def prompt(self, tokens: str = "content") -> tuple[SparseTable, np.ndarray]:
        """Prompt counts [n, d_in] and lengths [n], of "content" tokens or of "all" of them."""
        check_choice("prompt_tokens", tokens, PROMPT_TOKENS, MapError)
        if tokens == "content":
            return self.content, self.content_length
        return canonical(self.content + self.markup), self.content_length + self.markup_length

    def differences(self, rows: Any = slice(None)) -> SparseTable:
        """Chosen less rejected densities (drho): float64 [n, d_out], sparse.

        rows: those of these rows of the table alone, as a slice or their numbers.
        """
        return differences(
            self.chosen[rows], self.chosen_length[rows],
            self.rejected[rows], self.rejected_length[rows],
        )  # fmt: skip

    def subset(self, indices: Any) -> "ActivationCounts":
        """The rows of these triples, by their index in the source; `skipped` stays behind.

        Raises `CountsError` for a triple that is not in the table.
        """
        try:
            wanted = np.unique(np.asarray(indices, dtype=np.int64))
        except (TypeError, ValueError, OverflowError, RuntimeError):
            raise CountsError(
                f"subset was given {reprlib.repr(indices)}; expected the numbers of triples, as "
                "[0, 3], which `counts.index` holds."
            ) from None
        missing = np.setdiff1d(wanted, self.index)
        if len(missing):
            raise CountsError(
                f"triple {missing[0]} is not among these {len(self)} counts "
                f"({len(missing)} such); pass indices that `counts.index` holds."
            )
        at = np.searchsorted(self.index, wanted)
        rows = CountRows(self.index[at], *(getattr(self, name)[at] for name in (*TABLES, *LENGTHS)))
        return type(self)(rows, provenance=self.provenance)

    # Merging

    def merge(self, *others: "ActivationCounts") -> "ActivationCounts":
        """The union with tables of other triples: exact, and the order does not matter.

        >>> counts.subset([0, 1]).merge(counts.subset([2])).index
        array([0, 1, 2])

        Raises `CountsError` for triples that both hold, and for another model, layer, SAE,
        template or data set, naming both sides. Other provenance that differs is kept of all.
        """
        for other in others:
            check_type("what is merged", other, ActivationCounts, CountsError)
        return self.concatenate([self, *others])

    @classmethod
    def concatenate(cls, parts: Iterable["ActivationCounts"]) -> "ActivationCounts":
        """`merge` of a whole list at once; raises `CountsError` for an empty one too."""
        tables = list(parts)
        if not tables:
            raise CountsError("there are no counts to merge; pass at least one table.")
        first = tables[0]
        for other in tables[1:]:
            _refuse_contradiction(first, other)
        every = np.sort(np.concatenate([part.index for part in tables]))
        twice = every[1:][np.diff(every) == 0]
        if len(twice):
            raise CountsError(
                f"triple {twice[0]} is in two of the tables ({len(twice)} such); merge tables of "
                "different triples."
            )
        skipped: dict[str, int] = {}
        for part in tables:
            for why, number in part.skipped.items():
                skipped[why] = skipped.get(why, 0) + number
        rows = stack([part.rows for part in tables])
        provenance = together([part.provenance for part in tables])
        return cls(rows, provenance=provenance, skipped=skipped)

    # Files

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `counts.json` and `counts-<hash>.safetensors`; equal tables give equal bytes.

        >>> counts.save("counts")

        Raises `FileError` on a full disk or a read-only folder; what was there stays.
        """
        arrays = {"index": self.index} | {name: getattr(self, name) for name in LENGTHS}
        for name in TABLES:
            table = getattr(self, name)
            arrays[f"{name}.data"] = table.data.astype(np.int32)
            arrays[f"{name}.indices"] = table.indices.astype(np.int32)
            arrays[f"{name}.indptr"] = table.indptr.astype(np.int64)
        about = {
            "d_in": self.d_in,
            "d_out": self.d_out,
            "provenance": self.provenance,
            "skipped": self.skipped,
        }
        write_pair(folder, "counts", arrays, about, version=SCHEMA_VERSION)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "ActivationCounts":
        """Read counts from a folder that `save` wrote, memory-mapped.

        >>> counts.save("counts")
        >>> len(ActivationCounts.load("counts")) == len(counts)
        True

        Raises `FileError` for files that are missing, cut short, changed or of a newer schema.
        """
        tensors, about = read_pair(folder, "counts", version=SCHEMA_VERSION)
        arrays = {key: tensor.numpy() for key, tensor in tensors.items()}
        tables: list[SparseTable] = []
        try:
            for name in TABLES:
                width = about["d_in"] if name in ("content", "markup") else about["d_out"]
                data, indices, indptr = (
                    arrays[f"{name}.{part}"] for part in ("data", "indices", "indptr")
                )
                table = sparse_rows(data, indices, indptr, width)
                table.check_format(full_check=True)
                tables.append(table)
            rows = CountRows(arrays["index"], *tables, *(arrays[name] for name in LENGTHS))
            return cls(rows, provenance=about["provenance"], skipped=about["skipped"])
        except (KeyError, ValueError) as error:
            raise FileError(
                f"{folder} does not hold a sound table of counts ({error}); save it again."
            ) from error

    # Fitting

    def fit(self, **options: Unpack[FitOptions]) -> ConditionalDifferenceMap:
        """The conditional-difference map of these triples (docs/method.md 3).

        >>> map = counts.fit(percentile=95, sparsify="rows")
        >>> map.shape == (counts.d_in, counts.d_out)
        True

        Args:
            options: those of `FitOptions`. None means the value of the preset that was counted
                with, else the paper's: percentile 90, k_diff 16, prompt_tokens "content".
                `gate`: "active" (by default), "literal", or an extension that weighs the prompts'
                latents (docs/howto/extend.md); `sparsify`: "paper" (by default), "rows" or "none";
                `max_entries`: a budget of entries. Triples in whose prompt no token counts are
                skipped and counted, or refused if `strict`.

        Raises:
            MapError: an option that there is none of, or one out of range.
            ExtensionError: a gate that is no extension, or whose weights cannot be used.
            CountsError: no triple is left, or the table is that of a `LayerSweep`.
        """
        if isinstance(self.provenance.get("input_layer"), list):
            raise CountsError(
                "these are the counts of several SAEs side by side, and a map is of one pair; "
                "take it with SweepCounts(counts).counts(input_layer, output_layer)"
            )
        return fit_map(self, **options)

    def prompt_dependence(
        self,
        *,
        percentile: float | int | None = None,
        gate: FitGate = "active",
        prompt_tokens: PromptTokens | None = None,
    ) -> PromptDependence:
        """How much of the preference is the same for every prompt (docs/method.md 3.5).

        >>> found = counts.prompt_dependence(percentile=50)
        >>> print(found)
        of a held-out difference ... is the same for every prompt, ... depends on the prompt ...

        No model is run. The keywords are those of `fit`, since what gates can explain depends on
        them; `fit` reports the same for its own. Raises what `fit` raises.
        """
        return dependence_of(self, percentile, gate, prompt_tokens)


def _refuse_contradiction(one: ActivationCounts, other: ActivationCounts) -> None:
    found = contradiction(one.provenance, other.provenance, OF_COUNTS)
    if found is not None:
        raise CountsError(
            f"one table was counted with {found.name} {found.one} and another with {found.name} "
            f"{found.other}; merge only counts of the same model, layers, SAEs, template and data."
        )
    for width, name in (("d_in", "input"), ("d_out", "output")):
        if getattr(one, width) != getattr(other, width):
            raise CountsError(
                f"one table has {getattr(one, width)} {name} latents and another "
                f"{getattr(other, width)}; merge only counts of the same SAEs."
            )
