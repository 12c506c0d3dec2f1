"""An effect on the margin: its parts are paired, and the sentence says which of them moved."""

import numpy as np
import pytest

from dspa_nn.errors import EvaluationError
from dspa_nn.evaluation import bootstrap, effect, margins
from dspa_nn.steering import DSPAMethod
from tests import eval_zoo

NOISE = np.random.default_rng(0).normal(0, 0.05, 40)


def test_the_parts_are_those_of_the_triples_and_drawn_together():
    chosen, rejected = NOISE + 0.01, NOISE - 0.2
    found = effect(chosen, rejected, seed=3)
    assert found.chosen == bootstrap(chosen, seed=3)
    assert found.rejected == bootstrap(rejected, seed=3)
    # What both have in common is gone from every draw: the margin's interval has no width.
    assert (found.margin.low, found.margin.high) == pytest.approx((0.21, 0.21))
    assert found.to_dict()["rejected"]["mean"] == pytest.approx(float(rejected.mean()))


@pytest.mark.parametrize(
    ("chosen", "rejected", "told"),
    [
        (0.0, -0.3, "rose because the rejected text became less likely; the chosen one did not "
                    "change"),
        (0.3, 0.0, "rose because the chosen text became more likely; the rejected one did not "
                   "change"),
        (0.3, -0.1, "rose because the chosen text became more likely (75 % of it) and the rejected "
                    "one less"),
        (0.1, -0.3, "rose because the rejected text became less likely (75 % of it) and the chosen "
                    "one more"),
        (-0.1, -0.3, "rose because the rejected text became less likely; the chosen one became "
                     "less likely too, by less"),
        (0.3, 0.1, "rose because the chosen text became more likely; the rejected one became "
                   "more likely too, by less"),
        (-0.3, 0.0, "fell because the chosen text became less likely; the rejected one did not "
                    "change"),
        (0.0, 0.3, "fell because the rejected text became more likely; the chosen one did not "
                   "change"),
        (-0.3, 0.1, "fell because the chosen text became less likely (75 % of it) and the rejected "
                    "one more"),
        (-0.1, 0.3, "fell because the rejected text became more likely (75 % of it) and the chosen "
                    "one less"),
        (0.1, 0.3, "fell because the rejected text became more likely; the chosen one became "
                   "more likely too, by less"),
        (-0.3, -0.1, "fell because the chosen text became less likely; the rejected one became "
                     "less likely too, by less"),
        (0.0, 0.0, "did not change (neither text did)"),
        (-0.3, -0.3, "did not change (both texts became less likely)"),
        (0.3, 0.3, "did not change (both texts became more likely)"),
    ],
)  # fmt: skip
def test_the_sentence_says_which_part_moved(chosen, rejected, told):
    noise = NOISE - NOISE.mean()
    found = effect(noise + chosen, np.roll(noise, 7) + rejected)
    assert found.moved() == f"the margin {told}"


def test_a_part_may_move_without_the_margin_and_the_margin_without_a_part():
    noise = NOISE - NOISE.mean()
    small, wide = effect(20 * noise + 0.001, -0.02 + noise), effect(9 * noise + 0.02, 9 * noise)
    assert small.moved() == (
        "the margin did not change (the chosen text did not change, the rejected one became less "
        "likely)"
    )
    assert wide.margin.above_zero
    assert wide.moved() == "the margin rose, though neither text's part can be told from none"


def test_margins_tell_their_effect_their_difference_and_their_strength():
    dspa, triples = eval_zoo.dspa(), eval_zoo.triples(6)
    method = DSPAMethod("", dspa, eval_zoo.counts().fit(percentile=50), eval_zoo.STEER)
    plain, steered = margins(dspa, triples, [method])
    assert steered.change == pytest.approx(steered.chosen.change - steered.rejected.change)
    assert steered.change == pytest.approx(steered.margin - plain.margin)
    only = [True, False] * 3
    some = steered.effect(only, seed=2)
    assert some == effect(steered.chosen.change[::2], steered.rejected.change[::2], seed=2)
    assert plain.less(steered).margin.mean == pytest.approx(-steered.effect().margin.mean)
    for part in (steered.chosen, steered.rejected):
        assert (part.share > 0).all()
        assert part.share.max() < 1
        assert part.edits.min() > 0
    first, second = str(steered).splitlines()
    assert first == f"margin {steered.effect()} nats a token"
    assert f"chosen {steered.chosen.edits.mean():.2f}, rejected" in second


def test_parts_of_different_triples_are_refused():
    with pytest.raises(EvaluationError, match=r"^1 changes of chosen and 3 of rejected responses"):
        effect([0.1], [0.1, 0.2, 0.3])
