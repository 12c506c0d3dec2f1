"""Maps that score every prompt alike."""

from typing import Any

import pytest
import torch

from dspa_nn import ConditionalDifferenceMap
from dspa_nn.errors import MapError
from dspa_nn.maps import MapSum, unconditional

RULES = ("density", "gated", "centred")


@pytest.mark.parametrize("rule", RULES)
def test_scores_are_the_same_for_every_prompt_and_rule(rule: Any) -> None:
    map = unconditional({1: -0.5, 3: 0.25}, (3, 4))
    counts = torch.tensor([[0, 2, 0], [5, 0, 1], [0, 0, 0]])
    found = map.score(counts, torch.tensor([2, 6, 0]), prompt_rule=rule)
    assert found.tolist() == [[0, -0.5, 0, 0.25]] * 2 + [[0] * 4]


def test_it_is_saved_and_loaded_and_added_like_any_map(tmp_path: Any) -> None:
    map = unconditional({1: -0.5}, (3, 4), defaults={"alpha": 1.0})
    map.save(tmp_path / "map")
    again = ConditionalDifferenceMap.load(tmp_path / "map")
    assert again.gate == "always"
    assert torch.equal(again.to_dense(), map.to_dense())
    fitted = ConditionalDifferenceMap.from_dense([[0.0, 0.5, 0.0, 0.0], [0.0] * 4, [0.0] * 4])
    both = fitted + 0.5 * map
    assert isinstance(both, MapSum)
    # A rule that is given holds for the fitted map; the other has no rule to choose.
    for counts, wanted in (([2, 0, 0], 0.25), ([0, 2, 0], -0.25)):
        assert both.score(torch.tensor(counts), prompt_rule="density")[1] == wanted
    both.save(tmp_path / "both")
    assert torch.equal(
        ConditionalDifferenceMap.load(tmp_path / "both").score(torch.tensor([0, 2, 0])),
        both.score(torch.tensor([0, 2, 0])),
    )


def test_a_map_of_several_rows_has_gates() -> None:
    with pytest.raises(MapError, match="a map of gate 'always' has one row, of latent 0"):
        ConditionalDifferenceMap.from_dense([[0.5], [0.25]], gate="always")
    with pytest.raises(MapError, match="contradict each other"):
        unconditional({7: 1.0}, (3, 4))
    assert unconditional({}, (3, 4)).score([1, 0, 0]).tolist() == [0.0] * 4


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("latent", [1.5, "1", True])
def test_scores_are_of_latents_by_number(latent: Any) -> None:
    with pytest.raises(MapError, match=f"a score came for {latent!r}; expected latents by number"):
        unconditional({latent: -0.5}, (3, 4))
