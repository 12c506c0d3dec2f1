"""Sampling by rows: each row's temperature, top_p and seed, whatever its batch mates are."""

import pytest
import torch

from dspa_nn.serving import Sampling
from dspa_nn.serving.sampling import choose_by_rows


def drawn(sampling: Sampling, logits: torch.Tensor, times: int) -> list[int]:
    return [int(sampling.scores(logits).argmax()) for _ in range(times)]


def test_a_temperature_of_0_takes_the_likeliest() -> None:
    logits = torch.tensor([0.0, 2.0, 1.0])
    assert Sampling().scores(logits) is logits


@pytest.mark.slow
def test_the_distribution_is_the_softmax() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0])
    counts = torch.bincount(torch.tensor(drawn(Sampling(0.7, seed=0), logits, 20_000)), minlength=4)
    wanted = (logits / 0.7).softmax(-1)
    assert torch.allclose(counts / 20_000, wanted, atol=0.012)


def test_top_p_keeps_the_fewest_that_reach_it() -> None:
    probabilities = torch.tensor([0.1, 0.5, 0.3, 0.1])
    logits = probabilities.log()
    assert set(drawn(Sampling(1.0, 0.79, 0), logits, 500)) == {1, 2}
    assert set(drawn(Sampling(1.0, 0.4, 0), logits, 50)) == {1}
    assert set(drawn(Sampling(1.0, 0.85, 0), logits, 500)) >= {1, 2}


def test_a_seed_gives_the_same_tokens_in_any_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    steps = torch.randn(30, 3, 50, generator=generator)
    alone = Sampling(0.9, 0.95, seed=7)
    wanted = [int(alone.scores(step[1]).argmax()) for step in steps]
    rows = [Sampling(1.3, seed=1), Sampling(0.9, 0.95, seed=7), Sampling()]
    # Off by the rounding of another batch.
    noisy = [step + 1e-6 * torch.randn(step.shape, generator=generator) for step in steps]
    found = [choose_by_rows(rows, step).argmax(-1) for step in noisy]
    assert [int(row[1]) for row in found] == wanted
    assert [int(row[2]) for row in found] == [int(step[2].argmax()) for step in noisy]


def test_without_a_seed_each_draws_its_own() -> None:
    logits = torch.zeros(1000)
    assert drawn(Sampling(1.0), logits, 5) != drawn(Sampling(1.0), logits, 5)
