"""The conditional-difference map A as the toolkit carries it: rows that know their origin."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from dspa_nn.checks import check_choice, check_names
from dspa_nn.errors import MapError
from dspa_nn.files import on_disk, read_pair, write_pair
from dspa_nn.graph.origin import check_origin
from dspa_nn.graph.portable import PortableMap, PortableSum
from dspa_nn.graph.settings import ALWAYS, GATES, PROMPT_TOKENS
from dspa_nn.maps.dependence import dependence_line
from dspa_nn.maps.files import contents, keywords
from dspa_nn.maps.notebook import map_html, plot_map
from dspa_nn.maps.operators import Summable
from dspa_nn.maps.options import (
    FITTED_WITH,
    FittedWith,
    MapGate,
    PromptTokens,
    Sparsification,
    gate_name,
)
from dspa_nn.maps.published import PublishedMap
from dspa_nn.maps.queries import ScoringRows, as_tensor
from dspa_nn.maps.restriction import Latents, restricted
from dspa_nn.maps.rows import Array, compressed
from dspa_nn.provenance import origin_in_words
from dspa_nn.shipping import Reduced, Shipped, reduce_map

SCHEMA_VERSION = 1
SCHEMA_VERSION_OF_SUMS = 2


class MapOptions(FittedWith, total=False):
    """Keywords that make a map: how it was fitted, and what it carries besides its entries."""

    tau: Array | None
    gate_mean: Array | None
    provenance: Mapping[str, Any] | None
    defaults: Mapping[str, Any] | None
    check_entries: bool


class ConditionalDifferenceMap(ScoringRows, Summable, Shipped, PublishedMap):
    """A [d_in, d_out]: what chosen responses fire more than rejected ones, given the prompt.

    >>> map = ConditionalDifferenceMap.from_dense(torch.tensor([[0.0, 0.5], [0.0, -0.25]]))
    >>> map.score(torch.tensor([0, 3]))
    tensor([ 0.0000, -0.2500], dtype=torch.float64)

    docs/method.md 2 to 4 (paper: arXiv 2603.21461). The arrays `rows`, `indptr`, `columns` and
    `values` are those of `MapRows`. `tau` and `gate_mean` (float64 [d_in], or None where a map was
    made without) serve the prompt rules "gated" and "centred"; `defaults` holds tuned values of
    alpha, k_prompt, k_diff, mode and prompt_rule that steering falls back to; `fitted` are the
    keywords of `FittedWith`. Treat a map as immutable: `restrict` makes a new one, and
    `map_a + 0.5 * map_b` a `MapSum`. Raises `MapError` where the arrays contradict each other.
    """

    def __init__(
        self,
        rows: Array,
        indptr: Array,
        columns: Array,
        values: Array,
        shape: Sequence[int],
        *,
        tau: Array | None = None,
        gate_mean: Array | None = None,
        provenance: Mapping[str, Any] | None = None,
        defaults: Mapping[str, Any] | None = None,
        check_entries: bool = True,
        **fitted: Unpack[FittedWith],
    ) -> None:
        super().__init__(rows, indptr, columns, values, shape, check_entries=check_entries)
        check_names("ConditionalDifferenceMap", fitted, FITTED_WITH, MapError)
        self.tau = self._per_input_latent("tau", tau)
        self.gate_mean = self._per_input_latent("gate_mean", gate_mean)
        self.gate: MapGate = fitted.get("gate", "active")
        self.percentile = fitted.get("percentile")
        self.k_diff = fitted.get("k_diff")
        self.sparsify: Sparsification = fitted.get("sparsify", "none")
        self.max_entries = fitted.get("max_entries")
        self.threshold = float(fitted.get("threshold", 0.0))
        self.prompt_tokens: PromptTokens = fitted.get("prompt_tokens", "content")
        self.n_triples = fitted.get("n_triples")
        self.provenance = dict(provenance or {})
        self.defaults = dict(defaults or {})
        check_choice("gate", self.gate, (*GATES, ALWAYS), MapError)
        if self.gate == ALWAYS and (len(self.rows) > 1 or bool(self.rows.any())):
            raise MapError("a map of gate 'always' has one row, of latent 0: see `unconditional`.")
        check_choice("prompt_tokens", self.prompt_tokens, PROMPT_TOKENS, MapError)

    def _per_input_latent(self, name: str, vector: Array | None) -> Float64[Tensor, " d_in"] | None:
        if vector is None:
            return None
        tensor = as_tensor(name, vector, torch.float64)
        if tuple(tensor.shape) != (self.shape[0],):
            raise MapError(
                f"{name} has shape {tuple(tensor.shape)}; expected ({self.shape[0]},), one for "
                "each input latent."
            )
        return tensor

    @property
    def fitted(self) -> FittedWith:
        """How the map was fitted, as keywords: what maps made from this one carry on."""
        return {
            "gate": self.gate,
            "percentile": self.percentile,
            "k_diff": self.k_diff,
            "sparsify": self.sparsify,
            "max_entries": self.max_entries,
            "threshold": self.threshold,
            "prompt_tokens": self.prompt_tokens,
            "n_triples": self.n_triples,
        }

    # Other maps

    @classmethod
    def from_dense(cls, A: Array, **options: Unpack[MapOptions]) -> "ConditionalDifferenceMap":
        """A map from a dense [d_in, d_out] array; `options` are those of the constructor.

        >>> ConditionalDifferenceMap.from_dense([[0.0, 0.5]]).columns
        tensor([1], dtype=torch.int32)

        Zeros are not stored. Raises `MapError` for an array that is not two-dimensional or finite.
        """
        dense = np.asarray(as_tensor("a dense map", A, torch.float32))
        if dense.ndim != 2:
            raise MapError(f"a dense map has shape {tuple(dense.shape)}; expected [d_in, d_out].")
        row, column = np.nonzero(dense)
        return cls(*compressed(row, column, dense[row, column]), dense.shape, **options)

    def with_entries(
        self, rows: Array, indptr: Array, columns: Array, values: Array, **noted: Any
    ) -> "ConditionalDifferenceMap":
        """The same map with other entries; thresholds, options and defaults stay what they are.

        >>> map = ConditionalDifferenceMap.from_dense([[0.5, -0.25]], tau=[0.5])
        >>> map.with_entries(map.rows, map.indptr, map.columns, -map.values, sign=-1).to_dense()
        tensor([[-0.5000,  0.2500]])

        The arrays are those of `MapRows`; `noted` is added to the provenance, in JSON's types.
        """
        return ConditionalDifferenceMap(
            rows, indptr, columns, values, self.shape,
            tau=self.tau, gate_mean=self.gate_mean, defaults=self.defaults,
            provenance=self.provenance | noted, **self.fitted,
        )  # fmt: skip

    def restrict(
        self, rows: Latents | None = None, columns: Latents | None = None
    ) -> "ConditionalDifferenceMap":
        """The map with the entries of these input and output latents only; None means all.

        >>> map = ConditionalDifferenceMap.from_dense([[0.25, 0.5], [-0.75, 0.0]])
        >>> map.restrict(columns=[0]).to_dense()
        tensor([[ 0.2500,  0.0000],
                [-0.7500,  0.0000]])

        Raises `MapError` for a latent that the SAEs do not have.
        """
        entries, named = restricted(self, rows, columns)
        return self.with_entries(
            *entries, restricted={**self.provenance.get("restricted", {}), **named}
        )

    # Identity, files

    def check(
        self,
        *,
        model_id: str | None = None,
        revision: str | None = None,
        input_sae_sha256: str | None = None,
        output_sae_sha256: str | None = None,
        input_layer: int | None = None,
        output_layer: int | None = None,
    ) -> None:
        """Refuse another model, layer or SAE than the map was fitted with (`MapError`).

        >>> map = ConditionalDifferenceMap.from_dense([[0.5]], provenance={"input_layer": 9})
        >>> map.check(input_layer=9)

        What either side does not know is accepted; only a contradiction is refused (docs/method.md
        5).
        """
        here = {
            "model_id": model_id,
            "model_revision": revision,
            "input_layer": input_layer,
            "output_layer": output_layer,
            "input_sae_sha256": input_sae_sha256,
            "output_sae_sha256": output_sae_sha256,
        }
        check_origin(self.provenance, here, "it is used with")

    def portable(self) -> PortableMap | PortableSum:
        """What travels to NDIF in the map's place: its sparse arrays and what they are of."""
        arrays = {
            "rows": self.rows,
            "indptr": self.indptr,
            "columns": self.columns,
            "values": self.values,
            "d_in": self.shape[0],
            "d_out": self.shape[1],
            "tau": self.tau,
            "gate_mean": self.gate_mean,
            "gate": self.gate,
        }
        return PortableMap(arrays, self.prompt_tokens, self.provenance, self.defaults)

    def as_shipped(self) -> Reduced:
        """Return what is pickled in its place for NDIF."""
        return reduce_map(self)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `map.json` and `map-<hash>.safetensors`; an older map there is replaced whole.

        >>> map.save("map")

        Raises `FileError` on a full disk or a read-only folder; what was there stays.
        """
        arrays, about = contents(self)
        write_pair(folder, "map", arrays, about, version=SCHEMA_VERSION)

    @classmethod
    def load(
        cls, folder: str | os.PathLike[str], *, verify: bool = True
    ) -> "ConditionalDifferenceMap":
        """Read what `save` wrote, a map or a sum, from a folder or a hub repository ("owner/name").

        >>> map.save("map")
        >>> ConditionalDifferenceMap.load("map").shape == map.shape
        True

        The entries stay on disk, memory-mapped. With `verify` they are read through once, for
        their checksum; without it, only the rows that a prompt asks for are ever read, and changed
        bytes go unnoticed. Raises `FileError` for files that are missing, cut short, changed or of
        a newer schema.
        """
        path = on_disk(folder)
        arrays, about = read_pair(path, "map", version=SCHEMA_VERSION_OF_SUMS, verify=verify)
        if "sum" in about:
            from dspa_nn.maps.map_sum import sum_from_files

            return sum_from_files(arrays, about, verify)
        return ConditionalDifferenceMap(check_entries=verify, **keywords(arrays, about))

    def origin_in_words(self) -> str:
        """Model and layers, as its `repr` says them.

        >>> known = {"model_id": "gpt2", "input_layer": 3, "output_layer": 9}
        >>> ConditionalDifferenceMap.from_dense([[0.5]], provenance=known).origin_in_words()
        ' of gpt2, layers 3 -> 9'
        """
        return origin_in_words(self.provenance)

    def plot(self, n: int = 20, axes: Any = None) -> Any:
        """Draw the entries between the n strongest input and output latents, with matplotlib.

        >>> map.plot(n=5).get_xlabel()
        'output latent'

        Latents are ranked by the sum of their entries' sizes. Blue is what chosen responses fire
        more (augment), red what rejected ones do (ablate). `axes`: one of matplotlib's to draw on;
        returned, as is a new one where None is given.
        """
        return plot_map(self, n, axes)

    def _repr_html_(self) -> str:
        title, *lines = repr(self).split("\n")
        return map_html(self, title, [line.strip() for line in lines])

    def __repr__(self) -> str:
        d_in, d_out = self.shape
        nnz = len(self.values)
        of = f"{self.n_triples} triples" if self.n_triples is not None else "no known triples"
        gate = gate_name(self.provenance, self.gate)
        budget = "" if self.max_entries is None else f", at most {self.max_entries:,} entries"
        return (
            f"ConditionalDifferenceMap: {d_in:,} x {d_out:,}, {len(self.rows):,} rows, "
            f"{nnz:,} entries ({100 * nnz / max(1, d_in * d_out):.3g} %) in "
            f"{len(self.columns_used()):,} columns\n"
            f"  fitted from {of}{self.origin_in_words()}\n"
            f"  percentile {self.percentile}, gate {gate!r}, prompt tokens "
            f"{self.prompt_tokens!r}, k_diff {self.k_diff}, sparsify {self.sparsify!r} "
            f"(|value| >= {self.threshold:.3g}{budget})"
            + dependence_line(self.provenance.get("prompt_dependence"))
        )
