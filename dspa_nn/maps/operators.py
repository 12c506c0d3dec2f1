"""Maps add: `map_a + 0.5 * map_b - map_c` (docs/method.md 4.5)."""

import math
from numbers import Real
from typing import TYPE_CHECKING, Any, cast

from dspa_nn.errors import MapError

if TYPE_CHECKING:
    from dspa_nn.maps.map_sum import MapSum


class Summable:
    """The operators of a map: what they return is a `MapSum`, whose scores add exactly.

    >>> one = ConditionalDifferenceMap.from_dense([[0.5, 0.25]])
    >>> other = ConditionalDifferenceMap.from_dense([[0.0, 0.25]])
    >>> (one - other / 2).score([3])
    tensor([0.5000, 0.1250], dtype=torch.float64)

    Raises:
        MapError: maps of other SAEs, weights or layers, or a number that is not finite.
    """

    # So that numpy's numbers leave the multiplication to the map.
    __array_ufunc__ = None

    # 0 adds nothing: `sum([map_a, map_b])` begins with it.

    def __add__(self, other: object) -> "MapSum":
        return _sum((1.0, self)) if _is_zero(other) else _sum((1.0, self), (1.0, other))

    def __radd__(self, other: object) -> "MapSum":
        return _sum((1.0, self)) if _is_zero(other) else NotImplemented

    def __sub__(self, other: object) -> "MapSum":
        return _sum((1.0, self)) if _is_zero(other) else _sum((1.0, self), (-1.0, other))

    def __rsub__(self, other: object) -> "MapSum":
        return -self if _is_zero(other) else NotImplemented

    def __neg__(self) -> "MapSum":
        return _sum((-1.0, self))

    def __mul__(self, number: object) -> "MapSum":
        coefficient = as_number(number)
        return NotImplemented if coefficient is None else _sum((coefficient, self))

    __rmul__ = __mul__

    def __truediv__(self, number: object) -> "MapSum":
        divisor = as_number(number)
        if divisor is None:
            return NotImplemented
        if divisor == 0:
            raise MapError("a map came to be divided by 0; divide by another number.")
        return _sum((1 / divisor, self))


def _sum(*terms: tuple[float, object]) -> "MapSum":
    """The sum of these maps, or what tells Python that one of them is none."""
    from dspa_nn.maps.map_sum import MapSum

    if not all(isinstance(map, Summable) for _, map in terms):
        return cast(Any, NotImplemented)
    return MapSum(cast(Any, terms))


def as_number(value: Any) -> float | None:
    """A number to multiply a map by, or None where it is none.

    >>> as_number(2), as_number("2")
    (2.0, None)

    Raises:
        MapError: a number that is not finite, or beyond those that a float holds.
    """
    if getattr(value, "ndim", None) == 0:  # numpy's and torch's scalars are numbers too
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        number = float(value)
    except OverflowError:
        raise MapError(
            "a map came to be multiplied by a number too large for a float; multiply by a smaller "
            "one."
        ) from None
    if not math.isfinite(number):
        raise MapError(f"a map came to be multiplied by {number}; multiply by a finite number.")
    return number


def _is_zero(value: object) -> bool:
    return isinstance(value, Real) and value is not False and value == 0
