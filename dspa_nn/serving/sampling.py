"""The next token of each row of a batch, by the row's own temperature, top_p and seed."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass
class Sampling:
    """How one answer's tokens are chosen.

    Example:
        >>> sampling = Sampling(temperature=0.7, seed=1)
        >>> sampling.scores(torch.zeros(5)).shape
        torch.Size([5])

    Attributes:
        temperature: 0 takes the likeliest token.
        top_p: share of the probability that is drawn from, likeliest tokens first.
        seed: None draws one.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    _generator: torch.Generator = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Begin the row's own stream of random numbers, on the CPU wherever the model is."""
        self._generator = torch.Generator()
        if self.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(self.seed)

    def scores(self, logits: Float[Tensor, " vocab"]) -> Float[Tensor, " vocab"]:
        """Scores whose maximum is the token that is drawn.

        Noise of the Gumbel distribution is added to the logits over the temperature: the maximum
        is then distributed as the softmax, and stays the same token where a logit is off by the
        rounding of another batch, unless two tokens are as good as tied.
        """
        if self.temperature == 0:
            return logits
        scaled = logits / self.temperature
        uniform = torch.rand(len(logits), generator=self._generator, dtype=torch.float64)
        noise = -torch.log(-torch.log(uniform.clamp(min=1e-300)))
        if self.top_p < 1:
            order = torch.sort(scaled, descending=True, stable=True)
            before = order.values.softmax(-1).cumsum(-1).roll(1)
            before[0] = 0
            scaled = scaled.index_fill(0, order.indices[before >= self.top_p], -torch.inf)
        return scaled + noise.to(scaled)


def choose_by_rows(
    rows: Sequence[Sampling], logits: Float[Tensor, "rows vocab"]
) -> Float[Tensor, "rows vocab"]:
    """Scores of a batch, of which greedy decoding takes the maximum.

    Example:
        >>> choose_by_rows([Sampling(), Sampling(1.0, seed=3)], torch.zeros(2, 5)).shape
        torch.Size([2, 5])
    """
    if all(row.temperature == 0 for row in rows):
        return logits
    pairs = zip(rows, logits, strict=True)
    return torch.stack([row.scores(own) for row, own in pairs])
