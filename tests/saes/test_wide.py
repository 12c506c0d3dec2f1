"""However wide an SAE is, and however many the tokens: latents are encoded in blocks."""

from typing import Any

import pytest
import torch

from dspa_nn.graph import active

WIDTH = 131_072
D_MODEL = 4


class Wide:
    """An encoder 131,072 wide that activates two latents a token, and keeps account."""

    width, device, dtype = WIDTH, torch.device("cpu"), torch.float32

    def __init__(self, scaled: bool) -> None:
        self.scaled, self.largest, self.tokens = scaled, 0, 0

    def encode(self, hidden: torch.Tensor) -> tuple[torch.Tensor, Any]:
        latents = torch.zeros(*hidden.shape[:-1], WIDTH)
        self.largest = max(self.largest, latents.numel())
        self.tokens += latents.numel() // WIDTH
        latents.scatter_(-1, hidden[..., :1].long(), hidden[..., 1:2])
        latents.scatter_(-1, hidden[..., 2:3].long(), hidden[..., 3:])
        return latents, 2 * hidden[..., 1:2] if self.scaled else None


def hidden(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    places = torch.randint(1000, (*shape, 2), generator=generator)
    values = torch.rand((*shape, 2), generator=generator) + 0.5
    return torch.stack([places[..., 0], values[..., 0], 2000 + places[..., 1], values[..., 1]], -1)


def test_counting_holds_one_block_at_a_time() -> None:
    encoder, states = Wide(scaled=False), hidden(3, 100)
    target = torch.arange(3).unsqueeze(1).repeat(1, 100)
    target[:, :7] = -1
    counts = active.count_active(encoder, states, target, 3)
    assert encoder.largest <= active.BLOCK < 300 * WIDTH
    assert encoder.tokens == 3 * 93
    wanted = torch.zeros(3, WIDTH, dtype=torch.int64)
    for row in range(3):
        for column in (0, 2):
            wanted[row] += torch.bincount(states[row, 7:, column].long(), minlength=WIDTH)
    assert torch.equal(counts.long(), wanted)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("shape", [(200, 1), (2, 100), (5, 2)])
def test_steering_holds_one_block_at_a_time(shape: tuple[int, int], scaled: bool) -> None:
    encoder, states = Wide(scaled), hidden(*shape)
    planned = states[:, 0, [0, 2]].long()
    found: Any = active.planned_latents(encoder, states, planned)
    latents, strongest, scale = found
    assert encoder.largest <= active.BLOCK
    assert encoder.tokens == shape[0] * shape[1]
    assert torch.equal(strongest[..., 0], torch.maximum(states[..., 1], states[..., 3]))
    # At the first position of each row its own two latents, whichever rows share a block.
    assert torch.equal(latents[:, 0], states[:, 0, [1, 3]])
    assert latents.shape == (*shape, 2)
    if scaled:
        assert torch.equal(scale, 2 * states[..., 1:2])
    else:
        assert scale is None
