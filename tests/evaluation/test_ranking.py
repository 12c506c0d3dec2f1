import numpy as np
import pytest
import torch

from dspa_nn import ConditionalDifferenceMap, MapError
from dspa_nn.counts import ActivationCounts, CountRows
from dspa_nn.evaluation.ranking import (
    accuracy,
    alike_in_length,
    global_accuracy,
    longer_wins,
    mean_difference,
    right,
    scores,
    selected,
)
from tests import eval_zoo

# Three triples over 2 input and 3 output latents. Densities are halves, so sums are exact.
PROMPT = [[2, 0], [0, 2], [1, 1]]
CHOSEN = [[2, 0, 0], [0, 2, 0], [0, 0, 0]]
REJECTED = [[0, 2, 0], [2, 0, 0], [0, 0, 2]]
DRHO = np.array([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, -1.0]])


@pytest.fixture
def counts() -> ActivationCounts:
    block = CountRows(
        [0, 1, 2], PROMPT, np.zeros((3, 2), int), CHOSEN, REJECTED,
        [2, 2, 2], [0, 0, 0], [2, 2, 2], [2, 2, 2],
    )  # fmt: skip
    return ActivationCounts.from_rows([block], d_in=2, d_out=3)


@pytest.fixture
def map() -> ConditionalDifferenceMap:
    # Input latent 0 wants output 0 and not 1; input latent 1 the other way, and output 2 a little.
    return ConditionalDifferenceMap.from_dense([[0.5, -0.5, 0.0], [-0.5, 0.5, 0.25]])


def test_ties_count_half():
    assert right([3.0, -2.0, 0.0]).tolist() == [1.0, 0.0, 0.5]


def test_full_scores_rank_as_computed_by_hand(map, counts):
    # Both latents vote for the third prompt: s = [0, 0, 0.25], and drho there is -1 at output 2.
    assert scores(map, counts).tolist() == [[0.5, -0.5, 0.0], [-0.5, 0.5, 0.25], [0.0, 0.0, 0.25]]
    assert accuracy(map, counts).tolist() == [1.0, 1.0, 0.0]
    # With one vote a prompt, the lower index wins the tie: s = [0.5, -0.5, 0], a tie.
    assert accuracy(map, counts, k_prompt=1).tolist() == [1.0, 1.0, 0.5]


def test_restricted_scores_are_those_of_what_would_be_steered(map, counts):
    score = np.array([[0.5, -0.5, 0.25], [0.1, 0.2, -0.3]])
    assert selected(score, 1, "ablate").tolist() == [[0.0, -0.5, 0.0], [0.0, 0.0, -0.3]]
    assert selected(score, 1, "both").tolist() == [[0.5, -0.5, 0.0], [0.0, 0.2, -0.3]]
    # Nothing is below 0 for the third prompt, so ablation leaves it a tie.
    assert accuracy(map, counts, steered=(2, "ablate")).tolist() == [1.0, 1.0, 0.5]


def test_one_global_difference_ignores_the_prompt(counts):
    assert mean_difference(counts) == pytest.approx(DRHO.mean(0))
    # s = [0, 0, -1/3] for every prompt: two ties and one right.
    assert global_accuracy(counts, counts).tolist() == [0.5, 0.5, 1.0]


def test_longer_wins_and_pairs_of_like_length():
    counts = eval_zoo.counts()
    longer = np.sign(counts.chosen_length - counts.rejected_length)
    assert longer_wins(counts).tolist() == ((longer + 1) / 2).tolist()
    alike = alike_in_length(counts)
    assert 0 < alike.sum() < len(counts)
    for own, one, other in zip(alike, counts.chosen_length, counts.rejected_length, strict=True):
        assert own == (abs(one - other) <= 0.1 * max(one, other))


def test_scores_are_those_that_steering_uses():
    counts = eval_zoo.counts()
    map = counts.fit(percentile=50)
    own = scores(map, counts, prompt_rule="gated")
    for place, triple in enumerate(eval_zoo.triples(3)):
        plan = eval_zoo.dspa().plan(map, triple.prompt, prompt_rule="gated")
        assert torch.allclose(torch.from_numpy(own[place]), plan.scores, atol=1e-9, rtol=0)


def test_counts_of_other_weights_are_refused(map, counts):
    counts.provenance["weights"] = "float32:aa"
    map.provenance["weights"] = "float32:bb"
    with pytest.raises(MapError, match="float32:bb, but it is used with counts of weights"):
        scores(map, counts)
