"""A report on a run that took place on a real server: what its log holds, and what it cannot."""

import json
import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

from dspa_nn import SteeringError
from dspa_nn.audit import report
from dspa_nn.shown import pyplot
from tests.ndif.test_remote import QUESTIONS, generated, prompts

mpl.use("agg")
pytestmark = pytest.mark.ndif


def data_of(path: Path) -> Any:
    found = re.search(r'id="data">(.*?)</script>', path.read_text(), re.S)
    assert found
    return json.loads(found[1])


def test_a_log_from_the_server_is_reported_as_one_of_here(
    remote: Any, local: Any, map: Any, tmp_path: Path
) -> None:
    rendered = prompts(local, *QUESTIONS)
    _, edits = generated(remote, map, "both", rendered, True)
    _, own = generated(local, map, "both", rendered, False)
    assert edits.tokenizer is None
    with pytest.raises(SteeringError, match="comes without a tokenizer, as logs from NDIF do"):
        report(edits, tmp_path / "none.html")

    # Nothing of the model is here: the log alone, with the map's votes.
    there = report(edits, tmp_path / "there.html", dspa=remote, map=map)
    assert "the model is not loaded here" in there.read_text()
    tokenizer = local.model.tokenizer
    here = report(own, tmp_path / "here.html", tokenizer=tokenizer, map=map)
    assert data_of(there) == data_of(here)
    rows = data_of(there)["rows"]
    assert sum(len(token[3]) for row in rows for token in row["tokens"] if len(token) > 3) == (
        edits.total
    )
    assert all(latent["votes"] for row in rows for latent in row["latents"].values())

    # With the same model loaded here as well, the rest is worked out from the server's log.
    whole = report(edits, tmp_path / "whole.html", dspa=local, map=map)
    wanted = report(own, tmp_path / "wanted.html", dspa=local, map=map)
    assert data_of(whole) == data_of(wanted)
    assert any(
        token[7] for row in data_of(whole)["rows"] for token in row["tokens"] if len(token) > 3
    )
    assert "Unsteered" in whole.read_text()

    above, _ = edits.plot()
    assert sum(bar.get_height() for bar in above.patches) == edits.by_row()[0]
    pyplot().close("all")
    assert "EditLog: " in edits._repr_html_()
