"""What the pages take from the code: error sentences, tables, and the evidence that they name."""

import importlib
from typing import Any

import pytest

from dspa_nn.graph.encode import SAE_TYPES
from dspa_nn.models import PRESETS
from tests.conftest import REPOSITORY

DOCS = REPOSITORY / "docs"


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(DOCS / "hooks"))
    return {name: importlib.import_module(name) for name in ("sentences", "summaries", "tables")}


@pytest.mark.slow
def test_every_class_of_error_has_its_sentences(hooks: dict[str, Any]) -> None:
    found = hooks["sentences"].sentences()
    assert set(found) == set(hooks["sentences"].error_classes())
    for told in found.values():
        assert all((REPOSITORY / "dspa_nn" / each.file).exists() for each in told)
    steering = [each.text for each in found["SteeringError"]]
    assert any(
        "call it once, with one map, such as the sum map_a + map_b" in text for text in steering
    )
    presets = [each.text for each in found["DSPAError"]]
    assert "there is no preset …; the presets are …" in presets


@pytest.mark.slow
def test_the_reference_links_every_class_to_its_sentences(hooks: dict[str, Any]) -> None:
    page = (DOCS / "api" / "errors.md").read_text()
    listed = hooks["sentences"].errors_page()
    for name in hooks["sentences"].error_classes():
        assert f"(../errors.md#{name.lower()})" in page
        assert f"{{#{name.lower()}}}" in listed


def test_tables_hold_every_preset_and_every_type(hooks: dict[str, Any]) -> None:
    presets, types = hooks["tables"].presets(), hooks["tables"].sae_types()
    assert all(f"`{name}`" in presets for name in PRESETS)
    assert all(f"`{name}`" in types for name in SAE_TYPES)
    assert str(REPOSITORY) not in presets


def test_what_ran_where_names_files_that_are_there(hooks: dict[str, Any]) -> None:
    told = hooks["tables"].what_runs_where()
    assert "**not run**" in told
    for run in hooks["tables"].RUNS:
        assert not run.evidence or (REPOSITORY / run.evidence).exists()


def test_every_page_has_a_title_and_most_a_sentence_for_llms_txt(hooks: dict[str, Any]) -> None:
    summary = hooks["summaries"].summary
    pages = {str(path.relative_to(DOCS)): path.read_text() for path in DOCS.rglob("*.md")}
    found = {name: summary(text) for name, text in pages.items()}
    assert None not in found.values()
    # Only pages of the reference may be a list of names without a sentence.
    assert not [n for n, (_, first) in found.items() if not first and not n.startswith("api/")]
    assert not [n for n, (_, first) in found.items() if first.startswith((":", "`", "["))]
    assert "push_to_hub and read with from_hub" in found["api/hub.md"][1]
    title, first = found["howto/saes.md"]
    assert title == "Use your own SAEs"
    assert first
