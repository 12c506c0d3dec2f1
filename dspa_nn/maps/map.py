"""The conditional-difference map A as the toolkit carries it: rows that know their origin."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from dspa_nn.checks import check_choice
from dspa_nn.errors import MapError
from dspa_nn.files import on_disk, read_pair, write_pair
from dspa_nn.graph.origin import check_origin
from dspa_nn.graph.select import prompt_weights, scores
from dspa_nn.graph.stand_ins import PortableMap
from dspa_nn.maps import gates as fitting
from dspa_nn.maps.algebra import OPTIONS, difference, restricted
from dspa_nn.maps.queries import check_counts, check_lengths, check_rule
from dspa_nn.maps.rows import MapRows, compressed
from dspa_nn.shapes import PromptWeights, Scores
from dspa_nn.shipping import reduce_map

SCHEMA_VERSION = 1
DEFAULT_K_PROMPT = 32

_TENSORS = ("rows", "indptr", "columns", "values", "tau", "gate_mean")


class ConditionalDifferenceMap(MapRows):
    """A [d_in, d_out]: what chosen responses fire more than rejected ones, given the prompt.

    >>> map = ConditionalDifferenceMap.from_dense(torch.tensor([[0.0, 0.5], [0.0, -0.25]]))
    >>> map.score(torch.tensor([0, 3]))
    tensor([ 0.0000, -0.2500], dtype=torch.float64)

    docs/method.md 2 to 4 (paper: arXiv 2603.21461). The arrays `rows`, `indptr`, `columns` and
    `values` are those of `MapRows`. `tau` and `gate_mean` (float64 [d_in], or None) serve the
    prompt rules "gated" and "centred"; `defaults` holds tuned values of alpha, k_prompt, k_diff,
    mode and prompt_rule that steering falls back to. Treat a map as immutable: `restrict` and `-`
    make new ones. Raises `MapError` where the arrays contradict each other.
    """

    def __init__(
        self,
        rows: Any,
        indptr: Any,
        columns: Any,
        values: Any,
        shape: Sequence[int],
        *,
        tau: Any = None,
        gate_mean: Any = None,
        gate: str = "active",
        percentile: float | int | None = None,
        k_diff: int | None = None,
        sparsify: str = "none",
        max_entries: int | None = None,
        threshold: float | int = 0.0,
        prompt_tokens: str = "content",
        n_triples: int | None = None,
        provenance: Mapping[str, Any] | None = None,
        defaults: Mapping[str, Any] | None = None,
        check_entries: bool = True,
    ) -> None:
        super().__init__(rows, indptr, columns, values, shape, check_entries=check_entries)
        # Any: None where a map was made without, which only the gated rules mind.
        self.tau: Any = None if tau is None else torch.as_tensor(tau, dtype=torch.float64)
        self.gate_mean: Any = (
            None if gate_mean is None else torch.as_tensor(gate_mean, dtype=torch.float64)
        )
        self.gate = gate
        self.percentile = percentile
        self.k_diff = k_diff
        self.sparsify = sparsify
        self.max_entries = max_entries
        self.threshold = float(threshold)
        self.prompt_tokens = prompt_tokens
        self.n_triples = n_triples
        self.provenance = dict(provenance or {})
        self.defaults = dict(defaults or {})
        self._check_options()

    def _check_options(self) -> None:
        check_choice("gate", self.gate, fitting.GATES, MapError)
        check_choice("prompt_tokens", self.prompt_tokens, fitting.PROMPT_TOKENS, MapError)
        for name in ("tau", "gate_mean"):
            vector = getattr(self, name)
            if vector is not None and tuple(vector.shape) != (self.shape[0],):
                raise MapError(
                    f"{name} has shape {tuple(vector.shape)}; expected ({self.shape[0]},), one for "
                    "each input latent."
                )

    # Other maps

    @classmethod
    def from_dense(
        cls, A: Any, *, tau: Any = None, gate_mean: Any = None, **options: Any
    ) -> "ConditionalDifferenceMap":
        """A map from a dense [d_in, d_out] array; `options` are those of the constructor.

        >>> ConditionalDifferenceMap.from_dense([[0.0, 0.5]]).columns
        tensor([1], dtype=torch.int32)

        Zeros are not stored. Raises `MapError` for an array that is not two-dimensional or finite.
        """
        dense = np.asarray(torch.as_tensor(A, dtype=torch.float32).detach().cpu())
        if dense.ndim != 2:
            raise MapError(f"a dense map has shape {tuple(dense.shape)}; expected [d_in, d_out].")
        row, column = np.nonzero(dense)
        arrays = compressed(row, column, dense[row, column])
        return cls(*arrays, dense.shape, tau=tau, gate_mean=gate_mean, **options)

    def restrict(self, rows: Any = None, columns: Any = None) -> "ConditionalDifferenceMap":
        """The map with the entries of these input and output latents only; None means all.

        >>> map = ConditionalDifferenceMap.from_dense([[0.25, 0.5], [-0.75, 0.0]])
        >>> map.restrict(columns=[0]).to_dense()
        tensor([[ 0.2500,  0.0000],
                [-0.7500,  0.0000]])

        Raises `MapError` for a latent that the SAEs do not have.
        """
        return restricted(self, rows, columns)

    def __sub__(self, other: "ConditionalDifferenceMap") -> "ConditionalDifferenceMap":
        """Entry by entry, this map less another one of the same model, layers and SAEs."""
        if not isinstance(other, ConditionalDifferenceMap):
            return NotImplemented
        return difference(self, other)

    # Scores

    def weights(
        self,
        prompt_counts: Any,
        prompt_lengths: Any = None,
        *,
        prompt_rule: str | None = None,
        k_prompt: int | None = None,
    ) -> PromptWeights:
        """The weight w of each input latent of a prompt in s = A^T w (docs/method.md 4).

        >>> map = ConditionalDifferenceMap.from_dense(torch.ones(4, 2))
        >>> map.weights(torch.tensor([2, 5, 2, 0]), k_prompt=2)
        tensor([1., 1., 0., 0.], dtype=torch.float64)

        `prompt_counts` [.., d_in] are the counted tokens on which each latent fired,
        `prompt_lengths` [..] the counted tokens, both counted as the map was fitted
        (`prompt_tokens`). "density": 1 for the k_prompt latents of most counts, active ones only,
        ties to the lower index. "gated": 1 where rho >= tau (and rho > 0 if the map's gate is
        "active"). "centred": that less `gate_mean`. A prompt in which no token counts gets zeros.
        """
        rule = self._setting("prompt_rule", prompt_rule, "density")
        k = self._setting("k_prompt", k_prompt, DEFAULT_K_PROMPT)
        check_rule(rule, k)
        counts = check_counts(prompt_counts, self.shape[0])
        if rule == "density":
            return prompt_weights(counts, None, rule, k, None, None, self.gate)
        lengths = check_lengths(prompt_lengths, counts, rule)
        if self.tau is None or (rule == "centred" and self.gate_mean is None):
            missing = "tau" if self.tau is None else "mean of the gates"
            raise MapError(
                f"prompt_rule={rule!r} needs the map's {missing}, which this map does not hold; "
                "fit the map from counts, or use prompt_rule='density'."
            )
        return prompt_weights(counts, lengths, rule, k, self.tau, self.gate_mean, self.gate)

    def score(
        self,
        prompt_counts: Any,
        prompt_lengths: Any = None,
        *,
        prompt_rule: str | None = None,
        k_prompt: int | None = None,
    ) -> Scores:
        """s(x) = A^T w before any selection, float64 [.., d_out] (docs/method.md 4.2).

        >>> map = ConditionalDifferenceMap.from_dense(torch.tensor([[0.0, 0.5], [0.25, -0.25]]))
        >>> map.score(torch.tensor([[1, 3], [0, 3]]))
        tensor([[ 0.2500,  0.2500],
                [ 0.2500, -0.2500]], dtype=torch.float64)

        Arguments as in `weights`. Summed in float64 from the stored float32 entries, rows in
        ascending order. Raises `MapError` for a wrong width, or a rule without what it needs.
        """
        weights = self.weights(
            prompt_counts, prompt_lengths, prompt_rule=prompt_rule, k_prompt=k_prompt
        )
        arrays = (self.rows, self.indptr, self.columns, self.values)
        found = scores(weights.reshape(-1, self.shape[0]), *arrays, self.shape[1])
        return found.reshape(*weights.shape[:-1], self.shape[1])

    def _setting(self, name: str, given: Any, otherwise: Any) -> Any:
        if given is not None:
            return given
        tuned = self.defaults.get(name)
        return otherwise if tuned is None else tuned

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

    def portable(self) -> PortableMap:
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

    def __reduce__(self) -> tuple[Any, ...]:
        return reduce_map(self)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `map.json` and `map-<hash>.safetensors`; an older map there is replaced whole.

        >>> map.save("map")                                              # doctest: +SKIP

        Raises `FileError` on a full disk or a read-only folder; what was there stays.
        """
        arrays = {
            name: getattr(self, name).numpy()
            for name in _TENSORS
            if getattr(self, name) is not None
        }
        about = {
            "shape": list(self.shape),
            "options": {name: getattr(self, name) for name in OPTIONS},
            "provenance": self.provenance,
            "defaults": self.defaults,
        }
        write_pair(folder, "map", arrays, about, version=SCHEMA_VERSION)

    @classmethod
    def load(
        cls, folder: str | os.PathLike[str], *, verify: bool = True
    ) -> "ConditionalDifferenceMap":
        """Read a map from a folder that `save` wrote, or from a hub repository ("owner/name").

        >>> map = ConditionalDifferenceMap.load("map")                   # doctest: +SKIP

        The entries stay on disk, memory-mapped. With `verify` they are read through once, for
        their checksum; without it, only the rows that a prompt asks for are ever read, and changed
        bytes go unnoticed. Raises `FileError` for files that are missing, cut short, changed or of
        a newer schema.
        """
        arrays, about = read_pair(on_disk(folder), "map", version=SCHEMA_VERSION, verify=verify)
        return cls(
            arrays["rows"], arrays["indptr"], arrays["columns"], arrays["values"], about["shape"],
            tau=arrays.get("tau"), gate_mean=arrays.get("gate_mean"),
            provenance=about["provenance"], defaults=about["defaults"], check_entries=verify,
            **about["options"],
        )  # fmt: skip

    def __repr__(self) -> str:
        d_in, d_out = self.shape
        nnz, known = len(self.values), self.provenance
        of = f"{self.n_triples} triples" if self.n_triples is not None else "no known triples"
        layers = (known.get("input_layer"), known.get("output_layer"))
        model = f" of {known['model_id']}" if known.get("model_id") else ""
        where = f", layers {layers[0]} -> {layers[1]}" if None not in layers else ""
        budget = "" if self.max_entries is None else f", at most {self.max_entries:,} entries"
        origin = "the difference of two maps" if "difference" in known else f"fitted from {of}"
        return (
            f"ConditionalDifferenceMap: {d_in:,} x {d_out:,}, {len(self.rows):,} rows, "
            f"{nnz:,} entries ({100 * nnz / max(1, d_in * d_out):.3g} %) in "
            f"{len(self.columns_used()):,} columns\n"
            f"  {origin}{model}{where}\n"
            f"  percentile {self.percentile}, gate {self.gate!r}, prompt tokens "
            f"{self.prompt_tokens!r}, k_diff {self.k_diff}, sparsify {self.sparsify!r} "
            f"(|value| >= {self.threshold:.3g}{budget})"
        )
