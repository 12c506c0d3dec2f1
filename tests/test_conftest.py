"""The shape checks of rule 10 are really on, and never where code travels.

That every module is in one of the two lists is tested in `test_house.py`.
"""

import importlib
import sys

import pytest
from jaxtyping import TypeCheckError

from tests.conftest import CHECKED_ROOMS, NNSIGHT_CAME_FIRST


def test_a_wrong_type_is_caught_in_a_checked_room() -> None:
    embedded = importlib.import_module("dspa_nn.models.embedded")
    with pytest.raises(TypeCheckError, match=r"type-?check"):
        embedded._convert("not a path")


def test_no_checked_room_covers_graph() -> None:
    assert not [room for room in CHECKED_ROOMS if "dspa_nn.graph.".startswith(room + ".")]


def test_beartype_was_imported_before_nnsight() -> None:
    assert not NNSIGHT_CAME_FIRST
    assert {"beartype", "nnsight"} <= set(sys.modules)
