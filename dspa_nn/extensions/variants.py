"""Extensions that come with the package, at the same four points as anybody's own."""

import reprlib
from collections.abc import Callable
from numbers import Real
from typing import Any

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from dspa_nn.errors import ExtensionError
from dspa_nn.extensions.points import Axes
from dspa_nn.extensions.register import declared

_PLANNED = Float[Tensor, "batch position k"]


@declared("gate")
def soft_gate(
    densities: Float64[Tensor, "batch d_in"], tau: Float64[Tensor, " d_in"]
) -> Float64[Tensor, "batch d_in"]:
    """A gate that opens by degrees: 1 from the threshold tau on, below it the density over tau.

    Example:
        >>> tau = torch.tensor([0.0, 0.2, 0.2]).double()
        >>> soft_gate(torch.tensor([[0.0, 0.1, 0.4]]).double(), tau)
        tensor([[0.0000, 0.5000, 1.0000]], dtype=torch.float64)

    A latent that no prompt token activates has weight 0. Compare `prompt_rule="gated"`, whose
    weights are 0 or 1 (docs/method.md 4.1).
    """
    share = densities / torch.where(tau > 0, tau, 1)
    return torch.where(densities >= tau, (densities > 0).to(densities.dtype), share)


@declared("edit")
def clamped_augment(
    latents: _PLANNED,
    strongest: Float[Tensor, "batch position 1"],
    signs: Float[Tensor, "batch 1 k"],
    alpha: float,
) -> _PLANNED:
    """The paper's edit, but no latent is raised above M_t, the strongest one of its token.

    Example:
        >>> one = torch.tensor([[[0.5]]])
        >>> clamped_augment(one, torch.tensor([[[2.0]]]), torch.ones(1, 1, 1), 3.0)
        tensor([[[2.]]])

    Turning down is the paper's, whose edit caps nothing upwards (docs/method.md 4.3).
    """
    changed = latents + signs * (alpha * strongest).to(latents.dtype)
    return torch.where(latents > 0, torch.minimum(changed.clamp(min=0), strongest), latents)


@declared("edit")
def norm_preserving(
    latents: _PLANNED,
    strongest: Float[Tensor, "batch position 1"],
    signs: Float[Tensor, "batch 1 k"],
    alpha: float,
    hidden: Float[Tensor, "batch position d_model"],
    decode: Callable[[Tensor], Tensor],
) -> tuple[_PLANNED, Float[Tensor, "batch position d_model"]]:
    """The paper's edit, after which the residual stream is scaled back to the norm that it had.

    Example:
        >>> ones = torch.ones(1, 1, 1)
        >>> def decode(change):
        ...     return change * torch.tensor([0.0, 1.0])
        >>> hidden = torch.tensor([[[3.0, 4.0]]])
        >>> _, change = norm_preserving(ones, ones, -ones, 0.5, hidden, decode)
        >>> (hidden + change).norm()
        tensor(5.)
    """
    changed = latents + signs * (alpha * strongest).to(latents.dtype)
    after = torch.where(latents > 0, changed.clamp(min=0), latents)
    before = hidden.to(torch.float32)
    moved = before + decode(after - latents).to(torch.float32)
    norm = before.square().sum(-1, keepdim=True).sqrt()
    length = moved.square().sum(-1, keepdim=True).sqrt()
    return after, moved * (norm / torch.where(length > 0, length, 1)) - before


@declared("score", name="demixed")
class Demixed:
    """Scores with what co-active gates share divided out: A_S^T M_S^-1 w_S (docs/method.md 9).

    Example:
        >>> opened = Demixed(torch.tensor([0, 2, 3]), torch.tensor([0, 1, 1]), ridge=0.0)
        >>> opened.solved(torch.tensor([[1.0, 1.0, 0.0]]).double()).round(decimals=3) + 0
        tensor([[2., 0., 0.]], dtype=torch.float64)

    S are the prompt latents that vote, and M_S the mean of g_S g_S^T over the fitting prompts.

    Args:
        indptr: int64 [n + 1], where each fitting prompt's gates begin among `latents`.
        latents: int64 [opened], the gates that the fitting prompts opened, as compressed rows:
            prompt k opened latents[indptr[k]:indptr[k + 1]].
        ridge: added to the diagonal of M_S, as a share of its mean; M_S is badly conditioned.
            Without one (0) the pseudo-inverse is taken.

    Raises:
        ExtensionError: bounds or gates that are no compressed rows, or a ridge below 0.
    """

    def __init__(
        self,
        indptr: Int64[Tensor, " bounds"],
        latents: Int64[Tensor, " opened"],
        ridge: float = 0.1,
    ) -> None:
        self.indptr, self.latents, self.ridge = _rows(indptr, latents), latents, _ridge(ridge)

    @classmethod
    def sample(cls, axes: Axes) -> "Demixed":
        """Gates of eight prompts, each of which opened four."""
        latents = torch.arange(32) * 7 % axes["d_in"]
        return cls(torch.arange(0, 33, 4), latents.reshape(8, 4).sort(-1).values.flatten())

    def __call__(
        self, weights: Float64[Tensor, "batch d_in"], vote: Callable[[Tensor], Tensor]
    ) -> Float64[Tensor, "batch d_out"]:
        """The map's scores of the weights that explain the votes."""
        return vote(self.solved(weights))

    def solved(self, weights: Float64[Tensor, "batch d_in"]) -> Float64[Tensor, "batch d_in"]:
        """M_S^-1 w_S in the place of w_S, for each prompt."""
        solved = torch.zeros_like(weights)
        width = weights.shape[-1]
        last = int(self.latents.max()) if len(self.latents) else 0
        # A server has none of the package's errors; the run says it in one sentence.
        assert last < width, (
            f"gate {last} is among those of the fitting prompts, and the input SAE has {width}; "
            "give the gates of the map's own SAE"
        )
        size = len(self.indptr) - 1
        prompt = torch.repeat_interleave(self.indptr.diff())
        for row in range(len(weights)):
            voting = torch.nonzero(weights[row]).squeeze(-1)
            if not len(voting):
                continue
            at = torch.searchsorted(voting, self.latents).clamp(max=len(voting) - 1)
            own = voting[at] == self.latents
            opened = weights.new_zeros((size, len(voting)))
            opened[prompt[own], at[own]] = 1
            gram = opened.T @ opened / size
            level = self.ridge * gram.diagonal().mean()
            linalg: Any = torch.linalg  # torch declares no types here
            if level > 0:
                gram.diagonal().add_(level)
                solved[row, voting] = linalg.solve(gram, weights[row, voting])
            else:
                inverse = linalg.pinv(gram, hermitian=True, rtol=1e-10)
                solved[row, voting] = inverse @ weights[row, voting]
        return solved


def _rows(indptr: Any, latents: Any) -> Int64[Tensor, " bounds"]:
    """Refuse what are no gates of fitting prompts, as compressed rows."""
    for name, value in (("indptr", indptr), ("latents", latents)):
        if not isinstance(value, Tensor) or value.dtype != torch.int64 or value.ndim != 1:
            raise ExtensionError(
                f"{name} is {reprlib.repr(value)}; expected an int64 tensor of one axis"
            )
    ascend = len(indptr) > 1 and int(indptr[0]) == 0 and not bool((indptr.diff() < 0).any())
    if not ascend or int(indptr[-1]) != len(latents):
        raise ExtensionError(
            f"indptr is {reprlib.repr(indptr.tolist())}, with {len(latents)} gates in latents; "
            f"expected bounds that ascend from 0 to {len(latents)}, one more than there are prompts"
        )
    if bool((latents < 0).any()):
        raise ExtensionError(
            f"gate {int(latents.min())} came; expected numbers of input latents, from 0 on"
        )
    return indptr


def _ridge(value: Any) -> float:
    if type(value) is bool or not isinstance(value, Real) or not 0 <= float(value) < float("inf"):
        raise ExtensionError(f"ridge is {value!r}; expected a finite number of at least 0")
    return float(value)
