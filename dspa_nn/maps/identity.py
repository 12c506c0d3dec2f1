"""What tells one map from another: by it finished parts of a measurement are found again."""

import hashlib
from typing import Any

from dspa_nn.maps.map import ConditionalDifferenceMap
from dspa_nn.maps.map_sum import MapSum


def identity_of(map: ConditionalDifferenceMap) -> Any:
    """A hash of a map's arrays; of a sum, the coefficient and the hash of each of its maps.

    >>> len(identity_of(map)), identity_of(map) == identity_of(map + map)
    (64, False)

    Plain values for JSON. The settings of a run in `defaults` are no part of it.
    """
    if isinstance(map, MapSum):
        return [[coefficient, identity_of(one)] for coefficient, one in map.terms]
    digest = hashlib.sha256()
    for array in (map.rows, map.indptr, map.columns, map.values, map.tau, map.gate_mean):
        digest.update(b"-" if array is None else array.numpy().tobytes())
    return digest.hexdigest()
