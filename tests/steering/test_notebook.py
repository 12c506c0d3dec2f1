"""Plans and logs in a notebook: their HTML and their picture."""

import re
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest

from dspa_nn import DSPAError, SteeringError
from dspa_nn.baselines import Subject, VectorMethod, fit_caa
from dspa_nn.graph.record import Record
from dspa_nn.saes import LatentMeaning, meanings
from dspa_nn.steering import EditLog
from tests import eval_zoo, steer_zoo
from tests.steer_zoo import STEPS, Lab, by_nnsight

mpl.use("agg")


@pytest.fixture(scope="module")
def lab() -> Lab:
    return steer_zoo.lab("llama", "add")


@pytest.fixture(scope="module")
def log(lab: Lab) -> Any:
    return by_nnsight(lab, [lab.ids(prompt) for prompt in lab.prompts(3)]).log


def test_a_log_shows_every_text_and_how_far_each_token_was_moved(lab: Lab, log: Any) -> None:
    html = log._repr_html_()
    assert f"EditLog: {log.total} edits on {log.tokens} tokens of 3 row(s)" in html
    assert len(re.findall(r'title="\d+ edits, moved', html)) == int((log.norms() > 0).sum())
    assert "<script" not in html
    assert len(html) < 30_000
    assert "the model has not run yet" in EditLog(Record(log._record.options))._repr_html_()
    assert "<span" not in EditLog(log._record)._repr_html_()  # no tokenizer, no text


def test_a_plan_shows_votes_and_directions(lab: Lab) -> None:
    plan = lab.dspa.plan(lab.map, "sun moon", mode="both")
    html = plan._repr_html_()
    assert html.count("▲ augment") == len(plan.augment)
    assert html.count("▼ ablate") == len(plan.ablate)
    assert "nothing would be steered" in lab.dspa.plan(lab.map, "sun", only=[])._repr_html_()


@pytest.mark.usefixtures("unchecked")
def test_a_picture_has_a_bar_for_every_token(log: Any) -> None:
    above, below = log.plot(1)
    assert len(above.patches) == len(log.sequence(1).ids)
    heights = sum(bar.get_height() for bar in above.patches)
    assert heights == log.by_row()[1]
    moved = np.array([bar.get_height() for bar in below.patches])
    assert moved.sum() / 100 / STEPS == pytest.approx(log.shares_by_row()[1], rel=1e-5)
    with pytest.raises(SteeringError, match="row 3 came, and the log has 3; count them from 0"):
        log.plot(3)
    for wrong in ("0", True, 1.0):
        with pytest.raises(SteeringError, match=f"row {wrong!r} came, and the log has 3"):
            log.sequence(wrong)
    with pytest.raises(DSPAError, match="expected 2 of matplotlib's Axes"):
        log.plot(0, above)
    with pytest.raises(SteeringError, match="an edit log whose run has not taken place"):
        EditLog(Record(log._record.options)).plot()
    with pytest.raises(SteeringError, match="row 3 came, and the log has 3; count them from 0"):
        log.sequence(3)
    with pytest.raises(SteeringError, match="an edit log whose run has not taken place"):
        EditLog(Record(log._record.options)).sequence(0)


def test_words_are_printed_where_a_table_knows_the_sae(
    lab: Lab, log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = str(log), str(log.plans[0])
    often = next(iter(log.by_latent()))
    first = log.plans[0].latents[0]
    known = {often: LatentMeaning(promotes=("glad",)), first: LatentMeaning(promotes=("proud",))}
    sha256 = lab.dspa.output_sae.sha256
    monkeypatch.setattr(meanings, "meanings_of", lambda sae: known if sae == sha256 else {})
    assert f"in words: {often} " in str(log)
    assert f"in words: {first} " in str(log.plans[0])
    kept = [line for line in str(log).splitlines() if "in words" not in line]
    assert kept == before[0].splitlines()
    assert "in words" not in "".join(before)


def test_a_log_of_another_kind_shows_what_it_prints() -> None:
    dspa = eval_zoo.dspa()
    method = VectorMethod("mean", Subject(dspa), fit_caa(dspa, eval_zoo.triples(4)))
    prompt = dspa.render("sun")
    with method.steering([prompt]) as log:
        eval_zoo.model().generate(prompt.ids[None], max_new_tokens=3)
    html: Any = log
    assert "<b>VectorLog: 3 of 3 tokens of 1 row(s) moved" in html._repr_html_()
