"""Files that commit 154a36e wrote: they load, and give the same maps, scores and bytes today."""

import json
from pathlib import Path

import torch

from dspa_nn import ActivationCounts, ConditionalDifferenceMap
from tests.conftest import REPOSITORY

BEFORE = REPOSITORY / "tests" / "fixtures" / "154a36e"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_counts_of_before_are_saved_again_byte_for_byte(tmp_path: Path) -> None:
    counts = ActivationCounts.load(BEFORE / "counts")
    assert (len(counts), counts.d_in, counts.d_out) == (12, 48, 40)
    counts.save(tmp_path)
    assert contents(tmp_path) == contents(BEFORE / "counts")


def test_counts_of_before_are_fitted_to_the_map_of_before_byte_for_byte(tmp_path: Path) -> None:
    before = ConditionalDifferenceMap.load(BEFORE / "map")
    before.save(tmp_path / "loaded")
    assert contents(tmp_path / "loaded") == contents(BEFORE / "map")
    map = ActivationCounts.load(BEFORE / "counts").fit(
        percentile=75, k_diff=4, gate="literal", sparsify="rows", max_entries=400,
        prompt_tokens="all",
    )  # fmt: skip
    map.defaults = before.defaults
    # What a fit tells of the preference came later. Nothing else differs.
    assert map.provenance.pop("prompt_dependence")["triples"] == 12
    map.save(tmp_path / "fitted")
    assert contents(tmp_path / "fitted") == contents(BEFORE / "map")


def test_a_map_of_before_scores_prompts_as_before() -> None:
    counts, lengths = ActivationCounts.load(BEFORE / "counts").prompt("all")
    scores = ConditionalDifferenceMap.load(BEFORE / "map").score(counts.toarray(), lengths)
    wanted = json.loads((BEFORE / "scores.json").read_text())
    assert torch.equal(scores, torch.tensor(wanted, dtype=torch.float64))
