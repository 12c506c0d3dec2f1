"""Tuned on the embedded model, and given a receipt: few triples, from counts to the page."""

from pathlib import Path
from typing import Any

import pytest

import dspa_nn as dn
from dspa_nn.receipt import evaluate
from dspa_nn.triples import read_demo_rows, take_demo_rows
from dspa_nn.tuning import Space, tune

pytestmark = pytest.mark.slow


@pytest.mark.filterwarnings("ignore::dspa_nn.DSPAWarning")  # a map of few triples
def test_what_is_tuned_gets_a_receipt(embedded: str, tmp_path: Path) -> None:
    dspa = dn.DSPA.from_preset("smollm2-135m-instruct")
    rows = read_demo_rows("news")
    fit, dev, test = (
        [row.triple for row in take_demo_rows(rows, split, most)]
        for split, most in (("fit", 12), ("dev", 4), ("test", 6))
    )
    space = Space(percentile=(50,), prompt_tokens=("content",), prompt_rule=("centred",))
    found = tune(
        dspa, fit, dev, tmp_path / "tuning", space=space, trials=3, kl=1.0, perplexity=None,
        progress=False,
    )  # fmt: skip
    assert found.region is not None
    assert all(0 < trial.damage < 1 for trial in found.trials)
    choice = found.region.best.choice
    options: Any = choice.steer
    receipt = evaluate(
        dspa, dspa.fit(fit, **choice.fit), test, tmp_path / "receipt", dev=dev, fitted_on=fit,
        options=options, max_new_tokens=6, progress=False,
    )  # fmt: skip
    methods = receipt.report["methods"]
    assert methods["the map"]["kl"]["mean"] > 0
    assert methods["instruction"]["answer_changed"]["mean"] > 0
    for match in receipt.report["matched_on_dev"].values():
        assert match["share"] == pytest.approx(match["wanted_share"], rel=0.5)
    assert receipt.page.stat().st_size > 10_000
