from typing import Any, get_args

import pytest

from dspa_nn.errors import MapError
from dspa_nn.graph import settings
from dspa_nn.maps import FIT_OPTIONS, Gate, PromptTokens, Sparsification
from dspa_nn.maps.options import check_options
from tests.count_zoo import random_counts


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"percentile": 101}, r"percentile is 101; expected a number from 0 to 100\."),
        ({"percentile": float("nan")}, r"percentile is nan; expected a number from 0 to 100\."),
        ({"percentile": -0.5}, r"percentile is -0\.5; expected a number from 0 to 100\."),
        ({"k_diff": 0}, r"k_diff is 0; expected a whole number of at least 1\."),
        ({"max_entries": -3}, r"max_entries is -3; expected a whole number of at least 1\."),
        ({"gate": "open"}, r"gate is 'open'; expected one of 'active', 'literal'\."),
        ({"sparsify": "top"}, r"sparsify is 'top'; expected one of 'paper', 'rows', 'none'\."),
        ({"tokens": "none"}, r"prompt_tokens is 'none'; expected one of 'content', 'all'\."),
    ],
)
def test_options_out_of_range(options: dict, sentence: str) -> None:
    sound = {
        "percentile": 90, "k_diff": 16, "gate": "active", "sparsify": "paper",
        "max_entries": None, "tokens": "content",
    }  # fmt: skip
    check_options(**sound)
    with pytest.raises(MapError, match=f"^{sentence}$"):
        check_options(**(sound | options))


def test_a_misspelt_option_is_blamed_on_fit_with_the_nearest_name() -> None:
    sentence = (
        r"^fit takes no percentil \(did you mean 'percentile'\?\); it takes percentile, k_diff, "
        r"gate, sparsify, max_entries, prompt_tokens, strict$"
    )
    misspelt: dict[str, Any] = {"percentil": 90}
    with pytest.raises(MapError, match=sentence):
        random_counts(0, 4).fit(**misspelt)


def test_the_types_name_what_the_table_of_settings_names() -> None:
    assert get_args(Gate) == settings.GATES
    assert get_args(Sparsification) == settings.SPARSIFICATIONS
    assert get_args(PromptTokens) == settings.PROMPT_TOKENS
    assert set(FIT_OPTIONS) == {*settings.FIT_SETTINGS, "strict"}
    fitted = random_counts(0, 4).fit()
    for name in settings.FIT_SETTINGS:
        assert getattr(fitted, name) == settings.DEFAULTS[name]
