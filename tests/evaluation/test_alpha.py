"""A map over alpha: the same figures as one alpha at a time, drawn and shown."""

import matplotlib as mpl
import pytest

from dspa_nn import EvaluationError, SteeringError
from dspa_nn.evaluation import alpha_curve, margins
from dspa_nn.shown import pyplot
from dspa_nn.steering import DSPAMethod
from tests import eval_zoo

mpl.use("agg")


def test_a_point_is_what_margins_measures_at_that_alpha() -> None:
    dspa, triples = eval_zoo.dspa(), eval_zoo.triples(6)
    map = eval_zoo.counts().fit(percentile=50)
    curve = alpha_curve(dspa, map, triples, [0.8, 0.0, 0.4], k_diff=6)
    assert [point.alpha for point in curve] == [0.0, 0.4, 0.8]
    assert curve[0].effect.margin.mean == curve[0].share.mean == 0
    assert curve[0].kl.mean == pytest.approx(0, abs=1e-6)
    alone = margins(dspa, triples, [DSPAMethod("one", dspa, map, {"alpha": 0.8, "k_diff": 6})])[1]
    assert curve[2].effect == alone.effect()
    assert curve[2].kl.mean == pytest.approx(float(alone.kl.mean()))
    assert curve[2].share.mean > curve[1].share.mean > 0

    above, below = curve.plot()
    lines = {line.get_label(): line for line in above.containers}
    assert set(lines) == {"margin", "chosen", "rejected"}
    drawn = lines["margin"].lines[0]
    assert drawn.get_ydata().tolist() == [point.effect.margin.mean for point in curve]
    assert below.get_xlabel() == "alpha"
    pyplot().close("all")
    frame = curve.to_pandas()
    assert frame["chosen"].tolist() == [point.effect.chosen.mean for point in curve]
    assert "<script" not in curve._repr_html_()
    assert "Alpha curve over 6 triples" in curve._repr_html_()
    assert len(str(curve).splitlines()) == 4


def test_what_is_refused() -> None:
    dspa, map = eval_zoo.dspa(), eval_zoo.counts().fit(percentile=50)
    with pytest.raises(EvaluationError, match="given no alphas; give at least one"):
        alpha_curve(dspa, map, eval_zoo.triples(2), [])
    with pytest.raises(EvaluationError, match=r"given alpha=0.2; give alphas="):
        alpha_curve(dspa, map, eval_zoo.triples(2), alpha=0.2)
    with pytest.raises(SteeringError, match="alpha"):
        alpha_curve(dspa, map, eval_zoo.triples(2), [-1.0])
