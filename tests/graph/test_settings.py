"""One table of settings: names, defaults and refusals are read from it."""

import ast
from pathlib import Path
from typing import Any

import pytest

from dspa_nn.errors import SteeringError
from dspa_nn.graph import settings
from dspa_nn.graph.settings import SETTINGS, Setting, check_names, check_options, fill
from dspa_nn.graph.spelling import did_you_mean

PACKAGE = Path(settings.__file__).parent.parent
SOUND: dict[str, Any] = {
    "alpha": 0.5, "k_prompt": 8, "k_diff": 6, "mode": "both", "prompt_rule": "gated",
    "positions": "all",
}  # fmt: skip


def test_the_lists_of_names_are_those_of_the_table() -> None:
    assert settings.APPLY_SETTINGS == (
        "alpha", "k_prompt", "k_diff", "mode", "prompt_rule", "positions",
    )  # fmt: skip
    assert settings.PLAN_SETTINGS == ("alpha", "k_prompt", "k_diff", "mode", "prompt_rule")
    assert settings.APPLY_PLAN_SETTINGS == ("alpha", "positions")
    assert set(settings.FIT_SETTINGS) == {
        "percentile", "k_diff", "gate", "sparsify", "max_entries", "prompt_tokens",
    }  # fmt: skip
    assert settings.LOGGED_SETTINGS == (
        "alpha", "k_prompt", "k_diff", "mode", "prompt_rule", "prompt_tokens", "positions",
    )  # fmt: skip


def test_what_the_paper_published_is_apart_from_what_is_ours() -> None:
    assert settings.PAPER == {"alpha": 0.2, "k_prompt": 32, "k_diff": 16, "mode": "ablate"}
    ours = {
        "prompt_rule": "density", "prompt_tokens": "content", "positions": "response",
        "percentile": 90, "gate": "active", "sparsify": "paper", "max_entries": None,
    }  # fmt: skip
    assert settings.PAPER | ours == settings.DEFAULTS


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_is_described_and_its_default_is_in_range(setting: Setting) -> None:
    assert setting.text.endswith(".")
    assert setting.text.count(". ") == 0
    assert setting.kind in ("number", "count", "choice")
    assert bool(setting.choices) == (setting.kind == "choice")
    if setting.default is not None:
        setting.check(setting.default)


def test_values_are_filled_in_from_map_preset_and_defaults_in_this_order() -> None:
    given = {"alpha": 1.0, "k_prompt": None, "k_diff": None, "mode": None}
    assert fill(given, {"alpha": 2.0, "k_prompt": 5}, {"k_prompt": 6, "k_diff": 7}) == {
        "alpha": 1.0, "k_prompt": 5, "k_diff": 7, "mode": "ablate",
    }  # fmt: skip


def test_a_wrong_choice_names_the_nearest_right_one() -> None:
    check_options(SOUND)
    with pytest.raises(SteeringError) as caught:
        check_options(SOUND | {"mode": "abblate"})
    assert str(caught.value) == (
        "mode is 'abblate', and must be one of ablate, augment, both (did you mean 'ablate'?)"
    )


def test_a_wrong_keyword_names_the_nearest_right_one() -> None:
    check_names("apply", ["alpha"], settings.APPLY_SETTINGS)
    with pytest.raises(SteeringError) as caught:
        check_names("plan", ["alpa"], settings.PLAN_SETTINGS)
    assert str(caught.value) == (
        "plan takes no alpa (did you mean 'alpha'?); it takes alpha, k_prompt, k_diff, mode, "
        "prompt_rule"
    )


@pytest.mark.parametrize(
    ("word", "nearest"),
    [("kdiff", "k_diff"), ("alpha", "alpha"), ("temperature", None), ("x", None), (3, None)],
)
def test_what_counts_as_near(word: object, nearest: str | None) -> None:
    words = did_you_mean(word, settings.APPLY_SETTINGS)
    assert words == (f" (did you mean {nearest!r}?)" if nearest else "")


def lists_of_settings(path: Path) -> list[int]:
    """Lines where three settings or more are named one after another."""
    names = {setting.name for setting in SETTINGS}
    kinds = (ast.Tuple, ast.List, ast.Set)
    return [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, kinds)
        and len(node.elts) > 2
        and all(isinstance(item, ast.Constant) and item.value in names for item in node.elts)
    ]


@pytest.mark.slow
def test_names_of_settings_are_listed_in_the_table_alone() -> None:
    # The demo's report is a file with a format of its own.
    reports = PACKAGE / "demo" / "report.py"
    folders = (PACKAGE, PACKAGE.parent / "recipes", PACKAGE.parent / "benchmarks")
    for path in sorted(path for folder in folders for path in folder.rglob("*.py")):
        assert path == reports or not lists_of_settings(path), f"{path}: take them from SETTINGS"
