"""De-mixed scores: what a prompt's own gates say, less what gates that open with them say."""

from numbers import Real
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from einops import einsum
from jaxtyping import Bool, Float64, Int, Int32, Int64, Integer
from torch import Tensor

from dspa_nn.checks import check_choice, check_positive_int
from dspa_nn.errors import MapError
from dspa_nn.extensions import Demixed, declared
from dspa_nn.graph.select import prompt_weights
from dspa_nn.graph.settings import DEFAULTS
from dspa_nn.theory.sample import Sample

# torch declares no types here.
_linalg: Any = torch.linalg

Over: TypeAlias = Literal["gated", "density"]
# As a part of the mean of M_S's diagonal. Chosen on the fitting rows (docs/theory.md).
RIDGE = 0.1
K_PROMPT: int = DEFAULTS["k_prompt"]


def demix(
    entries: Float64[Tensor, "s d_out"],
    gram: Float64[Tensor, "s s"],
    gates: Float64[Tensor, " s"],
    ridge: float = RIDGE,
) -> Float64[Tensor, " d_out"]:
    """Scores of one set S of gates: s = A_S^T (M_S + r I)^-1 g_S.

    >>> A = torch.tensor([[0.5, 0.25], [0.25, 0.0]], dtype=torch.float64)
    >>> M = torch.tensor([[0.5, 0.0], [0.0, 0.25]], dtype=torch.float64)
    >>> demix(A, M, torch.ones(2, dtype=torch.float64), ridge=0.0)
    tensor([2.0000, 0.5000], dtype=torch.float64)

    Args:
        entries: A_S, the map's rows of the set. gram: M_S. gates: g_S, 1 where open.
        ridge: r over the mean of M_S's diagonal. Without one (0) the pseudo-inverse is taken, which
            where M_S is badly conditioned is mostly noise.

    Raises:
        MapError: a ridge below 0, or arrays of sets of different sizes.

    Source: docs/method.md 9 (paper: proposed, not tested).
    """
    _check_ridge(ridge)
    size = len(gates)
    if len(entries) != size or gram.shape != (size, size):
        raise MapError(
            f"entries of shape {tuple(entries.shape)}, a Gram matrix of shape {tuple(gram.shape)} "
            f"and {size} gates came; expected [s, d_out], [s, s] and [s] of one set of gates."
        )
    return einsum(entries, _solved(gram, gates, ridge), "s d_out, s -> d_out")


def _check_ridge(ridge: float) -> None:
    if not (isinstance(ridge, Real) and 0 <= ridge < float("inf")):
        raise MapError(
            f"the ridge of de-mixing is {ridge!r}; expected a number of at least 0, such as "
            f"{RIDGE}."
        )


def _solved(
    gram: Float64[Tensor, "s s"], gates: Float64[Tensor, " s"], ridge: float
) -> Float64[Tensor, " s"]:
    """(M_S + r I)^-1 g_S."""
    if not len(gates):
        return gates
    level = ridge * gram.diagonal().mean()
    if not float(level) > 0:
        return _linalg.lstsq(gram, gates.unsqueeze(-1), driver="gelsd").solution[:, 0]
    shifted = gram + level * torch.eye(len(gram), dtype=gram.dtype)
    return _linalg.solve(shifted, gates)


@declared("score", name="de-mixed by the fitting triples")
class Demixer:
    """De-mixed scores of new prompts, from the gates and differences of the fitting triples.

    >>> from dspa_nn.theory import sample_of
    >>> demixer = Demixer(sample_of(counts, percentile=50))
    >>> table, lengths = counts.prompt("content")
    >>> demixer.scores(table.toarray(), lengths).shape == (len(counts), counts.d_out)
    True

    A itself is not needed: with a = G_S (M_S + r I)^-1 g_S, one weight for each fitting triple,
    s = (1/N) sum_k a_k drho_k.

    Args:
        sample: of the fitting triples.
        over: which set S: "gated", the gates that are open for the new prompt (g_S = 1), or
            "density", the `k_prompt` densest latents with their gates' values.
        ridge: as in `demix`.
        k_prompt: of "density".

    Raises:
        MapError: an unknown set, or a ridge or k_prompt out of range.
    """

    def __init__(
        self,
        sample: Sample,
        *,
        over: Over = "gated",
        ridge: float = RIDGE,
        k_prompt: int = K_PROMPT,
    ) -> None:
        check_choice("over", over, ("gated", "density"), MapError)
        check_positive_int("k_prompt", k_prompt, MapError)
        _check_ridge(ridge)
        self.over, self.ridge, self.k_prompt, self.gate = over, ridge, k_prompt, sample.gate
        self.tau = torch.as_tensor(sample.tau)
        self.gates = torch.as_tensor(sample.gates.toarray(), dtype=torch.float64)
        self.drho = sample.drho

    def sets(
        self, counts: Integer[Tensor, "b d_in"], lengths: Integer[Tensor, " b"]
    ) -> tuple[Bool[Tensor, "b d_in"], Float64[Tensor, "b d_in"]]:
        """S of each prompt, and the value of every gate."""
        if counts.shape != (len(lengths), len(self.tau)):
            raise MapError(
                f"counts of shape {tuple(counts.shape)} and {len(lengths)} lengths came, and the "
                f"fitting triples have {len(self.tau)} input latents; give [prompts, "
                f"{len(self.tau)}] and [prompts] of the same SAE."
            )
        opened = prompt_weights(counts, lengths, "gated", self.k_prompt, self.tau, None, self.gate)
        if self.over == "gated":
            return opened > 0, opened
        densest = prompt_weights(counts, lengths, "density", self.k_prompt, None, None, self.gate)
        return densest > 0, opened

    def weights(
        self, counts: Integer[Tensor, "b d_in"], lengths: Integer[Tensor, " b"]
    ) -> Float64[Tensor, "b n"]:
        """The weight of each fitting triple's difference in each prompt's scores, times N."""
        sets, values = self.sets(counts, lengths)
        found = torch.zeros(len(counts), len(self.gates), dtype=torch.float64)
        for row in range(len(counts)):
            some = self.gates[:, sets[row]]
            gram = einsum(some, some, "n s, n t -> s t") / len(some)
            found[row] = some @ _solved(gram, values[row, sets[row]], self.ridge)
        return found

    def scores(
        self, counts: np.ndarray | Int[Tensor, "b d_in"], lengths: np.ndarray | Int[Tensor, " b"]
    ) -> Float64[Tensor, "b d_out"]:
        """De-mixed scores of prompts, from their counts and lengths, as the sample's were taken."""
        known = torch.as_tensor(np.asarray(counts)), torch.as_tensor(np.asarray(lengths))
        weights = self.weights(*known)
        # scipy's product of sparse rows and a dense array.
        return torch.as_tensor((self.drho.T @ weights.numpy().T).T / len(self.gates))

    def __call__(
        self, counts: Int32[Tensor, "batch d_in"], lengths: Int64[Tensor, " batch"]
    ) -> Float64[Tensor, "batch d_out"]:
        """Score by these: `apply(map, score=demixer)`. The map's own scores are left aside."""
        return self.scores(counts.cpu(), lengths.cpu()).to(counts.device)

    def from_map(self) -> Demixed:
        """The same from a map's own entries, sparsified or not, which travels to NDIF.

        >>> from dspa_nn.theory import sample_of
        >>> demixed = Demixer(sample_of(counts, percentile=50)).from_map()
        >>> plan = dspa.plan(map, prompt, score=demixed, prompt_rule="gated")

        S are the latents that vote by the run's prompt rule, which "gated" makes those of "gated".
        """
        opened = torch.nonzero(self.gates)
        bounds = torch.zeros(len(self.gates) + 1, dtype=torch.int64)
        bounds[1:] = (self.gates > 0).sum(1).cumsum(0)
        return Demixed(bounds, opened[:, 1].contiguous(), self.ridge)
