"""Why the k lowest scores are ablated: for a linear utility and edits of equal size, the best."""

from collections.abc import Iterable

from jaxtyping import Float64, Int64
from torch import Tensor

from dspa_nn.errors import MapError
from dspa_nn.graph.select import select


def ablation_gain(beta: Float64[Tensor, " d_out"], latents: Iterable[int]) -> float:
    """What turning these latents down by one unit each adds to u = beta . rho~.

    >>> ablation_gain(torch.tensor([0.5, -0.25, -1.0], dtype=torch.float64), [1, 2])
    1.25

    Raises:
        MapError: a latent that beta does not have.
    """
    chosen = list(latents)
    outside = [latent for latent in chosen if not 0 <= latent < len(beta)]
    if outside:
        raise MapError(
            f"latent {outside[0]} came, and beta is of the latents 0 to {len(beta) - 1}; give "
            "numbers of output latents."
        )
    return -float(sum(float(beta[latent]) for latent in chosen))


def best_ablation(beta: Float64[Tensor, " d_out"], k: int) -> Int64[Tensor, " k"]:
    """The at most k latents whose ablation gains most: the smallest coordinates below 0.

    >>> best_ablation(torch.tensor([0.5, -0.25, -1.0], dtype=torch.float64), 2)
    tensor([2, 1])

    It is the selection of docs/method.md 4.2 with beta in the place of the scores; a test compares
    it with every set of at most k latents.

    Raises:
        MapError: a k below 0.
    """
    if k < 0:
        raise MapError(f"k is {k}; expected a number of latents, at least 0.")
    _, ablate = select(beta.unsqueeze(0), k, "ablate", None)
    return ablate[0][ablate[0] >= 0]
