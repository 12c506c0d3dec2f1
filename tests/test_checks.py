"""Checks of single values: what passes, and the one sentence about what does not."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pytest

from dspa_nn.checks import as_text, check_choice, check_names, check_positive_int, check_type
from dspa_nn.errors import DSPAError, MapError
from tests.conftest import REPOSITORY

MESSAGES = str | Sequence[Mapping[str, Any]]


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("a", str),
        (None, int | None),
        ([{"role": "user"}], MESSAGES),
        ("both", Literal["ablate", "both"]),
        ([1, 2], list[int]),
    ],
)
def test_what_fits_an_annotation_passes(value: object, hint: Any) -> None:
    check_type("it", value, hint, DSPAError)


@pytest.mark.parametrize(
    ("value", "hint", "sentence"),
    [
        (7, str, "it is 7, of type int; expected str."),
        ("7", int | None, "it is '7', of type str; expected int or None."),
        ([7], MESSAGES, "it is [7], of type list; expected str or Sequence[Mapping[str, Any]]."),
        (
            "x",
            Literal["ablate", "both"],
            "it is 'x', of type str; expected 'ablate' or 'both'.",
        ),
    ],
)
def test_what_does_not_is_refused_in_one_sentence(value: object, hint: Any, sentence: str) -> None:
    with pytest.raises(MapError) as refused:
        check_type("it", value, hint, MapError)
    assert str(refused.value) == sentence


def test_a_long_value_is_shortened() -> None:
    with pytest.raises(DSPAError) as refused:
        check_type("prompts", ["a prompt"] * 10_000, str, DSPAError)
    assert len(str(refused.value)) < 200


@pytest.mark.slow
def test_plain_classes_do_not_load_beartype() -> None:
    code = (
        "import sys, dspa_nn.checks as c; c.check_type('a', 1, int | None, c.DSPAError)\n"
        "print('beartype' in sys.modules)\n"
        "c.check_type('a', [1], list[int], c.DSPAError); print('beartype' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "True"]


def test_annotations_read_as_they_are_written() -> None:
    assert as_text(dict[str, int]) == "dict[str, int]"


def test_a_near_miss_names_the_right_word() -> None:
    with pytest.raises(DSPAError, match=r"did you mean 'active'\?"):
        check_choice("gate", "actve", ("active", "literal"), DSPAError)
    with pytest.raises(DSPAError, match=r"did you mean 'percentile'\?"):
        check_names("fit", ["percentil"], ["percentile"], DSPAError)
    with pytest.raises(DSPAError, match="whole number"):
        check_positive_int("k_diff", True, DSPAError)
