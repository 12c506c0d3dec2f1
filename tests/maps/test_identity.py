"""What tells one map from another."""

import json
from typing import Any

from dspa_nn import ConditionalDifferenceMap
from dspa_nn.maps import identity_of

DENSE = [[0.5, 0.25], [0.0, 1.0]]


def test_equal_maps_have_one_identity_and_others_do_not(tmp_path: Any) -> None:
    map = ConditionalDifferenceMap.from_dense(DENSE)
    map.save(tmp_path)
    again = ConditionalDifferenceMap.load(tmp_path)
    again.defaults = {"alpha": 1.0}  # how a map is used is no part of what it is
    other = ConditionalDifferenceMap.from_dense([[0.5, 0.25], [0.0, 1.25]])
    assert identity_of(map) == identity_of(again) != identity_of(other)


def test_a_sum_is_known_by_its_members_and_their_coefficients() -> None:
    map = ConditionalDifferenceMap.from_dense(DENSE)
    other = ConditionalDifferenceMap.from_dense([[1.0, 0.0], [0.0, 1.0]])
    told = identity_of(map - 0.5 * other)
    assert told == [[1.0, identity_of(map)], [-0.5, identity_of(other)]]
    assert json.loads(json.dumps(told)) == told
