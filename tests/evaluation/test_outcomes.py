"""Figures by name: each is the one that its name says, and answers are scored once a prompt."""

import numpy as np
import pytest
import torch

from dspa_nn.evaluation import (
    Answers,
    Outcome,
    Surprises,
    answer_values,
    margin_values,
    margins,
    surprise,
)
from dspa_nn.steering import DSPAMethod
from tests import eval_zoo


def test_every_figure_of_a_margin_is_the_one_of_its_name() -> None:
    dspa, map = eval_zoo.dspa(), eval_zoo.counts().fit(percentile=50)
    _, found = margins(dspa, eval_zoo.triples(3), [DSPAMethod("", dspa, map, eval_zoo.STEER)])
    values = margin_values(found)
    for side in ("chosen", "rejected"):
        part = getattr(found, side)
        assert values[side].tolist() == part.change.tolist()
        assert values[f"{side}_edits"].tolist() == part.edits.tolist()
        assert values[f"{side}_share"].tolist() == part.share.tolist()
    assert values["change"].tolist() == (found.chosen.change - found.rejected.change).tolist()
    assert values["margin"].tolist() == (found.chosen.log_prob - found.rejected.log_prob).tolist()
    assert values["kl"].tolist() == ((found.chosen.kl + found.rejected.kl) / 2).tolist()
    assert len({tuple(one.tolist()) for one in values.values()}) == len(values)


def test_the_same_answer_to_two_prompts_is_two_surprises() -> None:
    dspa = eval_zoo.dspa()
    prompts = [dspa.render(one.prompt) for one in eval_zoo.triples(2)]
    ids = [torch.tensor([30, 31, 30, 31])] * 2
    said = Answers(["", ""], ids, [])
    surprises = Surprises(dspa, prompts)
    wanted = surprise(dspa, prompts, said)
    assert abs(wanted[0] - wanted[1]) > 1e-3
    assert surprises.of(said) == pytest.approx(wanted, abs=1e-5)
    # One of them is known by now, and the other is new.
    other = Answers(["", ""], [ids[0], torch.tensor([32])], [])
    values = answer_values(other, surprises)
    assert values["log_perplexity"] == pytest.approx(surprise(dspa, prompts, other), abs=1e-5)
    assert values["tokens"].tolist() == [4.0, 1.0]
    assert values["distinct_1"].tolist() == [0.5, 1.0]
    assert values["distinct_2"][0] == pytest.approx(2 / 3)
    assert np.isnan(values["distinct_2"][1])


def test_a_difference_of_outcomes_is_this_one_less_the_other() -> None:
    one = Outcome("a", {"chosen": np.array([0.3, 0.5]), "rejected": np.array([0.1, 0.1])})
    other = Outcome("b", {"chosen": np.array([0.1, 0.1]), "rejected": np.array([0.2, 0.4])})
    gap = one.less(other, 0)
    assert (gap.chosen.mean, gap.rejected.mean) == pytest.approx((0.3, -0.2))
    assert gap.margin.mean == pytest.approx(0.5)
    assert one.gap("chosen", other, 0).mean == pytest.approx(0.3)
