"""Gates and differences as a fit takes them, and the Gram matrix on a prompt's gates."""

from typing import Any

import numpy as np
import pytest

from dspa_nn.errors import CountsError, MapError
from dspa_nn.extensions import soft_gate
from dspa_nn.theory import conditioning, gram, gram_on, prompt_conditioning, sample_of
from tests import eval_zoo


@pytest.mark.parametrize("gate", ["active", "literal"])
@pytest.mark.parametrize("percentile", [50, 90])
def test_a_sample_holds_the_map_of_a_fit(gate: Any, percentile: int) -> None:
    counts = eval_zoo.counts(20)
    sample = sample_of(counts, percentile=percentile, gate=gate)
    map: Any = counts.fit(percentile=percentile, gate=gate, sparsify="none")
    assert np.allclose(sample.map.toarray(), map.to_dense().numpy(), atol=1e-7)
    assert np.allclose(sample.opened / sample.n, map.gate_mean)
    assert (sample.tau == map.tau.numpy()).all()


def test_the_gram_matrix_is_the_mean_of_products() -> None:
    sample = sample_of(eval_zoo.counts(20), percentile=50)
    dense = sample.gates.toarray()
    assert np.allclose(gram(sample.gates).toarray(), dense.T @ dense / len(dense))
    some = np.flatnonzero(sample.opened)[:5]
    assert np.allclose(gram_on(sample.gates, some), dense[:, some].T @ dense[:, some] / len(dense))


def test_more_gates_than_triples_are_singular() -> None:
    sample = sample_of(eval_zoo.counts(20).subset([0, 1, 2]), percentile=0)
    for found in prompt_conditioning(sample):
        assert found.rank <= 3
        assert found.singular == (found.size > found.rank)
    assert conditioning(np.zeros((0, 0))).number == np.inf
    assert conditioning(np.diag([2.0, 0.5])).number == 4


@pytest.mark.usefixtures("unchecked")
def test_what_a_sample_refuses() -> None:
    counts = eval_zoo.counts(20)
    with pytest.raises(MapError, match="percentile"):
        sample_of(counts, percentile=101)
    weighed: Any = soft_gate
    with pytest.raises(MapError, match=r"gate is <gate soft_gate.*; expected one of 'active'"):
        sample_of(counts, gate=weighed)
    with pytest.raises(CountsError, match=r"no triple to fit from \(0 counted, "):
        sample_of(counts.from_rows([], d_in=3, d_out=4))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "matrix", [np.zeros((2, 3)), np.array([[1.0, np.nan], [np.nan, 1.0]])], ids=["2x3", "NaN"]
)
def test_conditioning_is_of_a_square_and_finite_matrix(matrix: np.ndarray) -> None:
    with pytest.raises(MapError, match=r"a matrix of shape \(2, .\) came, where M_S of one set"):
        conditioning(matrix)


@pytest.mark.parametrize("gate", [-1, 10_000])
def test_gates_that_there_are_none_of(gate: int) -> None:
    sample = sample_of(eval_zoo.counts(20), percentile=50)
    with pytest.raises(MapError, match=f"gate {gate} is in the set, and there are gates 0 to "):
        gram_on(sample.gates, np.array([0, gate]))


@pytest.mark.parametrize("take", [gram, lambda gates: gram_on(gates, np.array([0]))])
def test_a_gram_matrix_is_of_some_prompts(take: Any) -> None:
    gates = sample_of(eval_zoo.counts(20), percentile=50).gates
    with pytest.raises(MapError, match=r"gates of shape \(0, 48\) came, which are of no prompt"):
        take(gates[:0])
