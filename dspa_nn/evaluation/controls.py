"""Controls that could win: the same machinery with what should matter taken away."""

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from dspa_nn.counts import ActivationCounts
from dspa_nn.extensions import declared
from dspa_nn.graph.select import select
from dspa_nn.maps import ConditionalDifferenceMap, MapSum


def permuted(map: ConditionalDifferenceMap, seed: int = 0) -> ConditionalDifferenceMap:
    """Control (a): the non-empty rows of a map, dealt out to its input latents at random.

    Example:
        >>> map = ConditionalDifferenceMap.from_dense([[0.5, 0.0], [0.0, 0.0], [0.0, 0.25]])
        >>> permuted(map, seed=1).to_dense().sum(0)
        tensor([0.5000, 0.2500])

    Kept are which output latents go together, and how often each is voted for over all prompts;
    lost is which prompt they answer to. Of a sum, the rows of each of its maps.
    """
    if isinstance(map, MapSum):
        return MapSum((coefficient, permuted(one, seed)) for coefficient, one in map.terms)
    order = torch.as_tensor(np.random.default_rng(seed).permutation(len(map.rows)))
    starts, lengths = map.indptr[:-1][order], map.indptr.diff()[order]
    indptr = torch.cat([torch.zeros(1, dtype=lengths.dtype), lengths.cumsum(0)])
    entry = torch.arange(len(map.values)) + torch.repeat_interleave(starts - indptr[:-1], lengths)
    return map.with_entries(
        map.rows, indptr, map.columns[entry], map.values[entry], control="rows permuted"
    )


def swapped(map: ConditionalDifferenceMap) -> ConditionalDifferenceMap:
    """Control (c): the map of the same triples with chosen and rejected exchanged, which is -A.

    Example:
        >>> swapped(ConditionalDifferenceMap.from_dense([[0.5, -0.25]])).to_dense()
        tensor([[-0.5000,  0.2500]])
    """
    if isinstance(map, MapSum):
        return MapSum((coefficient, swapped(one)) for coefficient, one in map.terms)
    return map.with_entries(
        map.rows, map.indptr, map.columns, -map.values, control="chosen and rejected swapped"
    )


def densities(counts: ActivationCounts) -> Float64[np.ndarray, " d_out"]:
    """On what fraction of all response tokens, chosen and rejected, each output latent fires."""
    fired = np.asarray(counts.chosen.sum(0)).ravel() + np.asarray(counts.rejected.sum(0)).ravel()
    return fired / (counts.chosen_length.sum() + counts.rejected_length.sum())


def replacements(
    planned: Int64[np.ndarray, " k"], density: Float64[np.ndarray, " d_out"]
) -> Int64[np.ndarray, " k"]:
    """For each planned latent the unplanned one of nearest density, none twice; -1 stays -1.

    Example:
        >>> replacements(np.array([0, -1]), np.array([0.5, 0.1, 0.45]))
        array([ 2, -1])
    """
    free = density.copy()
    free[planned[planned >= 0]] = np.inf
    nearest = np.full_like(planned, -1)
    for index, latent in enumerate(planned):
        if latent < 0:
            continue
        best = int(np.argmin(np.abs(free - density[latent])))
        if np.isfinite(free[best]):
            nearest[index], free[best] = best, np.inf
    return nearest


@declared("select", name="same density")
class DensityMatched:
    """Control (b): edits unplanned latents which fire as often as the planned.

    Example:
        >>> chosen = DensityMatched(torch.tensor([0.5, 0.1, 0.45]).double())
        >>> chosen(torch.tensor([[-1.0, 0.0, 0.0]]).double(), 1, "ablate", None)[1]
        tensor([[2]])
    """

    def __init__(self, density: Float64[Tensor, " d_out"]) -> None:
        self.density = density

    def __call__(
        self,
        scores: Float64[Tensor, "batch d_out"],
        k_diff: int,
        mode: str,
        allowed: Bool[Tensor, " d_out"] | None,
    ) -> tuple[Int64[Tensor, "batch raised"], Int64[Tensor, "batch lowered"]]:
        """For each planned latent the unplanned one of nearest density."""
        chosen = select(scores, k_diff, mode, allowed)
        width = chosen[0].shape[-1]
        both = torch.cat(chosen, -1)
        density = self.density.cpu().numpy()
        other = [replacements(row.cpu().numpy(), density) for row in both]
        swap = torch.as_tensor(np.stack(other)).to(both.device)
        return swap[:, :width], swap[:, width:]


def density_matched(density: Float64[np.ndarray, " d_out"]) -> DensityMatched:
    """Control (b) for these densities."""
    return DensityMatched(torch.as_tensor(density))


@declared("select", name="global difference")
class SameForAll:
    """Control (d): plans for every prompt by one and the same score.

    Example:
        >>> same = SameForAll(torch.tensor([-0.5, 0.1]).double())
        >>> same(torch.zeros(2, 2).double(), 1, "ablate", None)[1]
        tensor([[0],
                [0]])
    """

    def __init__(self, score: Float64[Tensor, " d_out"]) -> None:
        self.score = score

    def __call__(
        self,
        scores: Float64[Tensor, "batch d_out"],
        k_diff: int,
        mode: str,
        allowed: Bool[Tensor, " d_out"] | None,
    ) -> tuple[Int64[Tensor, "batch raised"], Int64[Tensor, "batch lowered"]]:
        """The latents of the highest and the lowest of these scores."""
        return select(self.score.expand_as(scores), k_diff, mode, allowed)


def global_difference(score: Float64[np.ndarray, " d_out"]) -> SameForAll:
    """Control (d) for this score."""
    return SameForAll(torch.as_tensor(score))
