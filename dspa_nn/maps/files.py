"""What the files of a map hold: its arrays by name, and all else as JSON."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from dspa_nn.maps.options import FittedWith

_TENSORS = ("rows", "indptr", "columns", "values", "tau", "gate_mean")


@runtime_checkable
class StoredMap(Protocol):
    """What is stored of a map besides its arrays."""

    shape: tuple[int, int]
    provenance: dict[str, Any]
    defaults: dict[str, Any]

    @property
    def fitted(self) -> FittedWith:
        """How it was fitted."""
        ...


def contents(map: StoredMap) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of a map, and its description.

    >>> arrays, about = contents(map)
    >>> sorted(about)
    ['defaults', 'options', 'provenance', 'shape']
    """
    arrays = {
        name: getattr(map, name).numpy() for name in _TENSORS if getattr(map, name) is not None
    }
    about = {
        "shape": list(map.shape),
        "options": map.fitted,
        "provenance": map.provenance,
        "defaults": map.defaults,
    }
    return arrays, about


def contents_of_sum(
    terms: Sequence[tuple[float, StoredMap]],
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The same of a sum: the arrays of map 0 are named `0.rows` and so on.

    >>> arrays, about = contents_of_sum([(0.5, map)])
    >>> about["sum"][0]["coefficient"], "0.rows" in arrays
    (0.5, True)
    """
    arrays: dict[str, np.ndarray] = {}
    listed: list[dict[str, Any]] = []
    for number, (coefficient, map) in enumerate(terms):
        own, about = contents(map)
        arrays |= {f"{number}.{name}": array for name, array in own.items()}
        listed.append({"coefficient": coefficient, **about})
    return arrays, {"shape": list(terms[0][1].shape), "sum": listed}


def keywords(
    arrays: Mapping[str, Tensor], about: Mapping[str, Any], prefix: str = ""
) -> dict[str, Any]:
    """The arguments of the constructor that make the stored map again.

    >>> import numpy
    >>> arrays, about = contents(map)
    >>> arrays = {name: torch.from_numpy(array) for name, array in arrays.items()}
    >>> ConditionalDifferenceMap(**keywords(arrays, about)).shape == map.shape
    True

    prefix: of the names of its arrays, where it is stored as one of a sum.
    """
    given: dict[str, Any] = {name: arrays.get(prefix + name) for name in _TENSORS}
    described = {name: about[name] for name in ("shape", "provenance", "defaults")}
    return given | described | about["options"]
