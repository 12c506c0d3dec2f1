import numpy as np
import pytest

from dspa_nn.errors import EvaluationError
from dspa_nn.evaluation import Interval, bootstrap, proportion


def test_interval_of_a_mean_is_near_the_normal_one():
    values = np.random.default_rng(1).normal(0.3, 2.0, 400)
    found = bootstrap(values)
    half = 1.96 * values.std() / 20
    assert found.n == 400
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_level_narrows_and_seed_repeats():
    values = np.arange(30.0)
    wide, narrow = bootstrap(values), bootstrap(values, level=0.5)
    assert wide.low < narrow.low < narrow.high < wide.high
    assert bootstrap(values) == wide
    assert bootstrap(values, seed=1) != wide


def test_values_of_two_kinds_give_the_exact_quantiles():
    # Of two values 0 and 1 a resample's mean is 0, 0.5 or 1, with chances 1/4, 1/2, 1/4.
    found = bootstrap([0.0, 1.0], level=0.4)
    assert (found.low, found.mean, found.high) == (0.5, 0.5, 0.5)
    assert bootstrap([0.0, 1.0]).low == 0
    assert bootstrap([0.0, 1.0]).high == 1


def test_nan_is_left_out_and_nothing_is_nan():
    found = bootstrap([1.0, float("nan"), 3.0])
    assert (found.mean, found.n) == (2.0, 2)
    nothing = bootstrap([float("nan")])
    assert nothing.n == 0
    assert np.isnan(nothing.mean)
    assert nothing.to_dict() == {"mean": None, "low": None, "high": None, "n": 0}
    assert not nothing.above_zero


def test_signs_and_exponential():
    assert Interval(1.0, 0.1, 2.0, 5).above_zero
    assert not Interval(1.0, 0.0, 2.0, 5).above_zero
    assert Interval(-1.0, -2.0, -0.1, 5).below_zero
    assert Interval(0.0, 0.0, np.log(2.0), 5).exp().high == pytest.approx(2.0)


def test_a_share_of_none_is_not_known_exactly():
    found = proportion([False] * 50)
    assert (found.mean, found.n) == (0, 50)
    assert found.low == pytest.approx(0)
    assert 0.05 < found.high < 0.09
    assert np.isnan(proportion([np.nan]).mean)


@pytest.mark.parametrize("marks", [[0.5, 1.0], [2, 3], [1, -1]])
def test_a_share_is_of_marks(marks):
    with pytest.raises(EvaluationError, match=r"^\S+ came as the mark of a triple, where 1 or 0"):
        proportion(marks)
