"""De-mixed and whitened scores against plain formulas, top-k, and as extensions."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from dspa_nn.errors import CountsError, MapError
from dspa_nn.extensions import Demixed
from dspa_nn.theory import (
    Demixer,
    ablation_gain,
    best_ablation,
    demix,
    diagonal_whitening,
    gram_on,
    sample_of,
    shrunk_whitening,
)
from tests import eval_zoo

csr_array: Any = sparse.csr_array  # scipy declares no types


@pytest.mark.parametrize("over", ["gated", "density"])
@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_scores_are_the_formula(over: Any, ridge: float) -> None:
    counts = eval_zoo.counts(20)
    sample = sample_of(counts, percentile=50)
    map = counts.fit(percentile=50, sparsify="none")
    table, lengths = counts.prompt("content")
    demixer = Demixer(sample, over=over, ridge=ridge, k_prompt=5)
    scores = demixer.scores(table.toarray(), lengths)
    known = torch.as_tensor(table.toarray()), torch.as_tensor(lengths)
    for row in range(4):
        one = known[0][row], known[1][row]
        opened = map.weights(*one, prompt_rule="gated").numpy()
        if over == "gated":
            S = np.flatnonzero(opened)
        else:
            S = np.flatnonzero(map.weights(*one, prompt_rule="density", k_prompt=5).numpy())
        A = torch.as_tensor(sample.map.toarray()[S])
        M, g = torch.as_tensor(gram_on(sample.gates, S)), torch.as_tensor(opened[S])
        assert torch.allclose(scores[row], demix(A, M, g, ridge), atol=1e-8)


def test_a_prompt_without_gates_scores_nothing() -> None:
    counts = eval_zoo.counts(20)
    demixer = Demixer(sample_of(counts, percentile=50))
    nothing = demixer.scores(np.zeros((1, counts.d_in), dtype=np.int64), np.array([3]))
    assert not nothing.any()


def test_what_demixing_refuses() -> None:
    sample = sample_of(eval_zoo.counts(20), percentile=50)
    with pytest.raises(MapError, match=r"ridge of de-mixing is -1.0; expected a number"):
        Demixer(sample, ridge=-1.0)
    with pytest.raises(MapError, match="k_prompt is 0"):
        Demixer(sample, k_prompt=0)


def test_without_a_ridge_both_forms_of_demixing_take_the_pseudo_inverse() -> None:
    counts = eval_zoo.counts(20)
    demixer = Demixer(sample_of(counts, percentile=50), ridge=0.0)
    map = counts.fit(percentile=50, sparsify="none")
    table, lengths = (torch.as_tensor(each) for each in _dense(counts.prompt("content")))
    weights = torch.stack(
        [
            map.weights(row, length, prompt_rule="gated")
            for row, length in zip(table, lengths, strict=True)
        ]
    )
    entries = map.to_dense().double()
    found = demixer.from_map()(weights, lambda w: w @ entries)
    assert (weights.sum(1) > 20).any()  # more gates than triples: M_S is singular
    assert torch.allclose(found, demixer.scores(table, lengths), atol=1e-5)
    nobody = Demixed(torch.zeros(21, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    assert not nobody.solved(weights).any()


def _dense(prompt: Any) -> tuple[Any, Any]:
    table, lengths = prompt
    return table.toarray(), np.array(lengths)


@pytest.mark.usefixtures("unchecked")
def test_demixing_is_of_one_set_of_gates() -> None:
    ones = torch.ones(2, 2, dtype=torch.float64)
    for arrays in ((ones, ones, ones[0, :1]), (ones[:1], ones, ones[0]), (ones, ones[:1], ones[0])):
        with pytest.raises(MapError, match=r"gates came; expected \[s, d_out\], \[s, s\] and"):
            demix(*arrays)


def test_a_singular_gram_matrix_is_taken_with_the_pseudo_inverse() -> None:
    ones = torch.ones(2, 2, dtype=torch.float64)
    found = demix(ones, ones, torch.ones(2, dtype=torch.float64), ridge=0.0)
    assert torch.allclose(found, torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("n", [30, 80])
@pytest.mark.parametrize("name", ["ledoit-wolf", "oas"])
def test_shrinkage_is_that_of_scikit_learn(name: Any, n: int) -> None:
    from sklearn import covariance

    drho = np.random.default_rng(0).standard_normal((n, 50)) * np.linspace(0.1, 2, 50)
    whitening = shrunk_whitening(csr_array(drho), name)
    estimator: Any = covariance.LedoitWolf() if name == "ledoit-wolf" else covariance.OAS()
    estimator.fit(drho / np.sqrt(2))
    assert whitening.shrinkage == pytest.approx(estimator.shrinkage_)
    scores = np.random.default_rng(1).standard_normal((3, 50))
    expected = scores @ estimator.get_precision()
    assert np.allclose(whitening(torch.as_tensor(scores)).numpy(), expected)


def test_a_shrinkage_of_ones_own() -> None:
    from sklearn.covariance import ShrunkCovariance

    drho = np.random.default_rng(0).standard_normal((30, 20))
    estimator: Any = ShrunkCovariance(shrinkage=0.3).fit(drho / np.sqrt(2))
    whitening = shrunk_whitening(csr_array(drho), 0.3)
    assert np.allclose(whitening(torch.eye(20, dtype=torch.float64)), estimator.get_precision())


def test_what_whitening_refuses() -> None:
    one, same = csr_array(np.ones((1, 3))), csr_array(np.ones((4, 3)))
    with pytest.raises(CountsError, match="covariance of one triple is 0"):
        shrunk_whitening(one)
    with pytest.raises(CountsError, match="do not differ in any output latent"):
        shrunk_whitening(same)
    with pytest.raises(MapError, match=r"shrinkage is 0.0; expected a number above 0"):
        shrunk_whitening(same, 0.0)
    with pytest.raises(MapError, match=r"floor of whitening is -1.0"):
        diagonal_whitening(same, -1.0)
    with pytest.raises(CountsError, match="no triples to take a covariance of"):
        diagonal_whitening(csr_array((0, 3)))


def test_scores_plan_in_the_maps_place() -> None:
    dspa, counts = eval_zoo.dspa(), eval_zoo.counts(20)
    map = counts.fit(percentile=50, sparsify="none")
    prompt = dspa.render(eval_zoo.triples(20)[0].prompt)
    plain = dspa.plan(map, prompt)
    demixer = Demixer(sample_of(counts, percentile=50))
    found = dspa.plan(map, prompt, score=demixer)
    one = plain.made.counts.unsqueeze(0), plain.made.lengths.reshape(1)
    assert torch.allclose(found.scores, demixer.scores(*one)[0])
    whitening = diagonal_whitening(counts.differences())
    white = dspa.plan(map, prompt, score=whitening)
    assert torch.allclose(white.scores, whitening(plain.scores))


@pytest.mark.parametrize("latent", [-1, 3])
def test_a_gain_is_of_latents_that_there_are(latent: int) -> None:
    with pytest.raises(MapError, match=f"latent {latent} came, and beta is of the latents 0 to 2"):
        ablation_gain(torch.zeros(3, dtype=torch.float64), [0, latent])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-2, 2), min_size=1, max_size=7), st.integers(1, 7))
def test_no_set_of_k_gains_more_than_the_k_lowest(values: list[float], k: int) -> None:
    beta = torch.tensor(values, dtype=torch.float64)
    best = ablation_gain(beta, best_ablation(beta, k).tolist())
    others = (
        ablation_gain(beta, latents)
        for size in range(k + 1)
        for latents in combinations(range(len(values)), size)
    )
    assert best >= max(others) - 1e-12
