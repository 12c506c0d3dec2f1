"""Where the truth is known: what A converges to, what de-mixing and whitening recover, and when."""

from typing import Any

import numpy as np
import pytest
import torch

from dspa_nn.errors import MapError
from dspa_nn.theory import (
    Demixer,
    World,
    conditioning,
    demix,
    gram,
    make_world,
    shrunk_whitening,
)

N = 20_000


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(d_in=12, d_out=16, group=3, seed=1)


@pytest.mark.parametrize(("name", "count"), [("d_in", 0), ("d_out", 1), ("group", 0)])
def test_a_world_has_gates_and_latents(name: str, count: int) -> None:
    with pytest.raises(MapError, match=f"{name} is {count}; expected "):
        make_world(**{name: count})


def cosines(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Of each row of the one with its row of the other."""
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(true, axis=1)
    return (found * true).sum(1) / norms


def test_the_map_is_c_sigma_b_m_to_sampling_error(world: World) -> None:
    sample = world.draw(N, seed=2)
    assert np.allclose(gram(sample.gates).toarray(), world.gram(), atol=4 / np.sqrt(N))
    error = np.abs(sample.map.toarray() - world.map())
    # The standard error of a mean of g drho is at most the root of its second moment over N.
    gates: Any = sample.gates
    squares = (gates.T @ sample.drho.multiply(sample.drho)).toarray() / N
    assert (error <= 5 * np.sqrt(squares / N)).all()
    # And it shrinks as the root of N.
    small = np.abs(world.draw(N // 100, seed=2).map.toarray() - world.map())
    assert error.mean() < 0.2 * small.mean()


def test_demixing_recovers_templates_where_the_map_alone_does_not(world: World) -> None:
    sample = world.draw(N, seed=2)
    truth = world.c * (world.Sigma @ world.B).T  # [d_in, d_out]
    A, M = (torch.as_tensor(table.toarray()) for table in (sample.map, gram(sample.gates)))
    alone, single = [], []
    for gate in range(world.d_in):
        asked = torch.zeros(world.d_in, dtype=torch.float64)
        asked[gate] = 1
        alone.append(A[gate].numpy())
        single.append(demix(A, M, asked, ridge=0.0).numpy())
    mixed, unmixed = cosines(np.stack(alone), truth), cosines(np.stack(single), truth)
    assert unmixed.mean() > 0.97
    assert mixed.mean() < 0.75


def test_the_score_of_open_gates_is_the_expected_difference(world: World) -> None:
    sample = world.draw(N, seed=2)
    new = world.gates(40, np.random.default_rng(3))
    new = new[new.any(1)]
    demixer = Demixer(sample, over="density", k_prompt=world.d_in, ridge=0.0)
    # With every gate in the set it is least squares: exact, whatever opens together.
    demixer.sets = lambda counts, lengths: (
        torch.ones(counts.shape, dtype=torch.bool),
        counts.double(),
    )
    counts = torch.as_tensor(new.astype(np.int64))
    scores = demixer.scores(counts, torch.ones(len(new), dtype=torch.int64)).numpy()
    assert cosines(scores, world.expected(new)).min() > 0.9


def test_on_the_open_gates_alone_it_is_exact_only_without_others() -> None:
    """Gates outside S that open with those inside are mistaken for them."""
    errors = []
    for alone in (0.0, 0.3):
        world = make_world(d_in=12, d_out=16, group=3, together=1.0, alone=alone, seed=1)
        # Whole groups open; where `alone` is 0 and groups never meet, nothing outside S matters.
        sample = world.draw(N, seed=2, noise=0.0)
        gates = sample.gates.toarray()
        groups = gates.reshape(N, 4, 3).any(-1).sum(1)
        kept = groups == 1 if alone == 0 else groups >= 1
        part = type(sample)(sample.gates[kept], sample.drho[kept], sample.tau)
        demixer = Demixer(part, over="gated", ridge=0.0)
        new = part.gates[:30].toarray()
        scores = demixer.scores(new.astype(np.int64), np.ones(30, dtype=np.int64)).numpy()
        errors.append(np.abs(scores - world.expected(new)).max())
    assert errors[0] < 1e-8
    assert errors[1] > 1e-3


def test_conditioning_says_from_where_demixing_fails() -> None:
    """The better two gates agree, the worse the templates: a ridge bounds what noise does."""
    worst = []
    for together in (0.5, 0.9, 0.99):
        world = make_world(
            d_in=8, d_out=16, group=2, together=together, alone=0.01, groups=0.3, seed=1
        )
        sample = world.draw(300, seed=2)
        M = gram(sample.gates).toarray()
        truth = world.c * (world.Sigma @ world.B).T
        A = torch.as_tensor(sample.map.toarray())
        found = {
            ridge: np.stack(
                [
                    demix(A, torch.as_tensor(M), torch.eye(8, dtype=torch.float64)[gate], ridge)
                    for gate in range(8)
                ]
            )
            for ridge in (0.0, 0.1)
        }
        error = {ridge: float(np.abs(one - truth).mean()) for ridge, one in found.items()}
        worst.append((conditioning(M).number, error[0.0], error[0.1]))
    numbers, plain, ridged = zip(*worst, strict=True)
    assert numbers[0] < numbers[1] < numbers[2]
    assert plain[2] > 2 * plain[0]
    assert ridged[2] < plain[2]


def test_whitening_turns_the_difference_into_the_utility() -> None:
    world = make_world(d_in=1, d_out=16, group=1, together=1.0, alone=1.0, groups=1.0, seed=4)
    sample = world.draw(N, seed=2)
    mean = torch.as_tensor(np.asarray(sample.drho.sum(0)).ravel() / N)
    white = shrunk_whitening(sample.drho)(mean).numpy()
    utility = world.B[:, 0]
    assert cosines(white[None], utility[None])[0] > 0.97
    assert cosines(mean.numpy()[None], utility[None])[0] < 0.95
