"""The rules of the house that are about running, by number, each in its smallest form.

Rules 7 (errors), 8 (imports), 9 (files) and 10 (shapes) are about the repository: test_house; rule
11 (splits): test_splits. The wider tests are in test_parity, test_counting and test_bad_input.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from dspa_nn import DSPAError, DSPAWarning, MapError
from tests import steer_zoo, tiny
from tests.conftest import REPOSITORY
from tests.steer_zoo import SETTINGS, Lab, by_hooks, by_nnsight, by_oracle, deviation
from tests.steering.test_log import changed

FAMILIES = (("gemma2", "add"), ("qwen3", "none"), ("llama", "markup"))


@pytest.fixture(scope="module", params=FAMILIES, ids=[family for family, _ in FAMILIES])
def lab(request: pytest.FixtureRequest) -> Lab:
    return steer_zoo.lab(*request.param)


@pytest.fixture(scope="module")
def rows(lab: Lab) -> list[list[int]]:
    return [lab.ids(prompt) for prompt in lab.prompts(3)]


def plain(lab: Lab, rows: Any, **how: Any) -> Any:
    _, call = steer_zoo.asked(how)
    return lab.hf.generate(
        **steer_zoo.padded(lab, rows), **call, output_logits=True, return_dict_in_generate=True
    )


@pytest.mark.filterwarnings("ignore:nothing was steered:dspa_nn.DSPAWarning")
@pytest.mark.parametrize("way", [by_nnsight, by_hooks])
@pytest.mark.parametrize("use_cache", [True, False])
def test_rule_01_nothing_to_edit_is_bit_identical(
    lab: Lab, rows: Any, way: Any, use_cache: bool
) -> None:
    unsteered = plain(lab, rows, use_cache=use_cache)
    width = {"b_enc": torch.full((tiny.WIDTH_OUT,), -1e6)}
    cases: tuple[tuple[Lab, dict[str, Any]], ...] = (
        (lab, {"alpha": 0}),
        (lab, {"alpha": 0, "positions": "all"}),
        (lab, {"only": []}),
        (changed(lab, output_sae=width), {}),
    )
    for own, changes in cases:
        run = way(own, rows, use_cache=use_cache, **changes)
        assert run.edits == []
        assert torch.equal(run.ids, unsteered.sequences)
        assert torch.equal(run.logits, torch.stack(unsteered.logits))


@pytest.mark.filterwarnings("ignore:rows:dspa_nn.DSPAWarning")
@pytest.mark.filterwarnings("ignore:nothing was steered:dspa_nn.DSPAWarning")
def test_rule_01_a_row_without_countable_tokens_is_left_alone_in_a_steered_batch() -> None:
    lab = steer_zoo.lab("gemma2", "add")
    rows = [lab.ids(lab.prompts(1)[0]), lab.ids("")]
    assert len(rows[1]) == 1
    run, unsteered = by_nnsight(lab, rows), plain(lab, rows)
    assert torch.equal(run.logits[:, 1], torch.stack(unsteered.logits)[:, 1])
    assert {edit[0] for edit in run.edits} == {0}


def test_rule_02_batch_single_cache_and_oracle_agree(lab: Lab, rows: Any) -> None:
    together = by_nnsight(lab, rows)
    for other in (
        by_hooks(lab, rows),
        by_oracle(lab, rows),
        by_nnsight(lab, rows, use_cache=False),
    ):
        steer_zoo.assert_equal(together, other)
    alone = by_nnsight(lab, rows[:1])
    assert deviation(together.logits[:, 0], alone.logits[:, 0]) <= 1e-5


def test_rule_03_merged_equals_whole_byte_for_byte(lab: Lab, tmp_path: Path) -> None:
    parts = [lab.counts.subset(range(start, 12, 3)) for start in range(3)]
    lab.counts.save(tmp_path / "whole")
    parts[2].merge(parts[0], parts[1]).save(tmp_path / "merged")
    read = [
        {path.name: path.read_bytes() for path in sorted((tmp_path / name).iterdir())}
        for name in ("whole", "merged")
    ]
    assert read[0] == read[1]


def test_rule_04_the_first_token_is_steered_too(lab: Lab, rows: Any) -> None:
    steered, unsteered = by_nnsight(lab, rows, max_new_tokens=1), plain(lab, rows, max_new_tokens=1)
    assert deviation(steered.logits[0], unsteered.logits[0]) > 1e-3
    assert {place for _, place, _ in steered.edits} == {max(map(len, rows)) - 1}


def test_rule_05_nothing_is_silently_unsteered(lab: Lab, rows: Any) -> None:
    for way in (by_nnsight, by_hooks):
        with pytest.warns(DSPAWarning, match="nothing was steered: alpha is 0, so every edit"):
            way(lab, rows, alpha=0)


def test_rule_06_a_map_refuses_another_model_and_names_both(lab: Lab) -> None:
    name = lab.hf.config._name_or_path
    other = steer_zoo.lab("llama" if name != "tiny-llama" else "qwen3", "markup" if name !=
                          "tiny-llama" else "none")  # fmt: skip
    theirs = other.hf.config._name_or_path
    with pytest.raises(
        MapError, match=f"fitted with model {theirs}, but it is used with model {name}"
    ):
        lab.dspa.plan(other.map, "sun")
    for key in ("model_id", "input_layer", "output_layer", "input_sae_sha256", "output_sae_sha256",
                "data_sha256", "template_sha256", "package_version"):  # fmt: skip
        assert lab.map.provenance[key] is not None, key
    assert {"model_revision", "input_sae", "output_sae"} <= set(lab.map.provenance)


def test_rule_07_an_error_inside_a_trace_arrives_as_ours(lab: Lab) -> None:
    wrong: dict[str, Any] = SETTINGS | {"alpha": -1}

    def call() -> None:
        with lab.nn.generate("sun moon", max_new_tokens=2):
            lab.dspa.apply(lab.map, **wrong)

    with pytest.raises(DSPAError) as caught:
        call()
    assert str(caught.value) == "alpha is -1, and must be a finite number of at least 0"


def test_every_rule_has_a_test_of_its_name() -> None:
    text = "".join(path.read_text() for path in (REPOSITORY / "tests").rglob("test_*.py"))
    named = {int(number) for number in re.findall(r"def test_rule_0?(\d+)_", text)}
    assert named == set(range(1, 12))
