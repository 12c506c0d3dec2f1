"""`counts.fit()` and `dspa.fit()` are the same call; a fraction for a percentile is noticed."""

from pathlib import Path

import pytest

from dspa_nn import DSPA, DSPAWarning
from tests import steer_zoo


def test_counts_remember_the_preset_they_were_taken_with(tmp_path: Path) -> None:
    lab = steer_zoo.lab("llama", "add")
    dspa = DSPA(
        lab.nn, input_sae=lab.sae_in, output_sae=lab.sae_out, input_layer=1, output_layer=2,
        defaults={"percentile": 50, "k_diff": 4, "alpha": 1.0},
    )  # fmt: skip
    dspa.fit(lab.triples, progress=False).save(tmp_path / "one")
    counts = dspa.count(lab.triples, progress=False)
    counts.fit().save(tmp_path / "two")
    one, two = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("one", "two")
    )
    assert one == two
    assert counts.fit(percentile=75).percentile == 75
    assert lab.counts.fit().percentile == 90


def test_a_fraction_for_a_percentile_is_noticed() -> None:
    counts = steer_zoo.lab("llama", "add").counts
    with pytest.warns(DSPAWarning, match=r"percentile is 0\.9, on a scale .*: pass 90 if a fract"):
        counts.fit(percentile=0.9)


def test_a_fit_from_one_triple_is_told_of_at_the_line_of_the_users() -> None:
    lab = steer_zoo.lab("llama", "add")
    with pytest.warns(DSPAWarning, match="the map is fitted on 1 triple, and with few") as caught:
        lab.dspa.fit(lab.triples[:1], progress=False)
    assert caught[0].filename == __file__
