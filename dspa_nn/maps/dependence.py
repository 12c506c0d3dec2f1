"""How much of a preference is the same for every prompt, and how much depends on the prompt."""

from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
from jaxtyping import Bool, Float64, Int64

from dspa_nn.shapes import SparseTable

# Triples that are looked at, spread evenly over the table: every pair of them is compared.
MOST = 512
# Random halves, each used in both directions; and reorderings that say what chance would give.
HALVES, REORDERINGS = 10, 99
# Fewer triples say nothing either way.
FEWEST = 40
_CHANCE = 0.05


@dataclass(frozen=True)
class PromptDependence:
    """How much of held-out differences one difference for all prompts explains, and how much gates.

    >>> dependence = counts.prompt_dependence(percentile=50)
    >>> dependence.triples == len(counts)
    True

    Attributes:
        shared: share of the squared norm of a held-out triple's difference (drho) that one
            difference, fitted on the other half, explains.
        conditional: share of it that the prompt's gates explain beyond that. Both are below 0
            where what was fitted points the wrong way: there is nothing to explain.
        chance: how often gates of prompts that were dealt out at random explain as much (a
            permutation test's p-value; at least 0.01).
        longer: share of triples whose chosen response is the longer one, ties counting half.
        triples: how many were compared.

    Source: docs/method.md 3.5; the measure is ours, not the paper's.
    """

    shared: float
    conditional: float
    chance: float
    longer: float
    triples: int

    @property
    def found(self) -> bool:
        """Whether the gates explain more than chance would."""
        return self.conditional > 0 and self.chance <= _CHANCE

    @property
    def depends(self) -> bool:
        """Whether the gates explain more than chance would, and more than one difference does."""
        return self.found and self.conditional >= self.shared

    @property
    def enough(self) -> bool:
        """Whether there are triples enough to tell."""
        return self.triples >= FEWEST

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file, rounded."""
        return {k: v if isinstance(v, int) else round(v, 5) for k, v in asdict(self).items()}

    def __str__(self) -> str:
        return (
            f"of a held-out difference {self.shared:.2%} is the same for every prompt, "
            f"{self.conditional:.2%} depends on the prompt (p = {self.chance:.2f}); the longer "
            f"response is preferred in {self.longer:.0%}"
        )


def dependence_line(found: Any) -> str:
    """A further line for the `repr` of a map whose provenance holds a dependence; "" otherwise.

    >>> dependence_line(None)
    ''
    >>> found = {"shared": 0.05, "conditional": 0.01, "chance": 0.01, "longer": 0.5, "triples": 99}
    >>> print(dependence_line(found))
    <BLANKLINE>
      of a held-out difference 5.00% is the same for every prompt, 1.00% depends on the prompt ...
    """
    try:
        remembered = PromptDependence(**found)
    except TypeError:  # of no fit, or of one that measured something else
        return ""
    return f"\n  {remembered}" if remembered.enough else ""


def prompt_dependence(
    gates: SparseTable,
    always: Bool[np.ndarray, " d_in"],
    drho: SparseTable,
    longer: float,
) -> PromptDependence:
    """Compare differences and gates of every pair of triples; see `PromptDependence`.

    >>> from scipy.sparse import csr_array
    >>> kind = np.arange(80) % 2
    >>> gates, drho = csr_array(np.eye(2)[kind]), csr_array([[1.0], [-1.0]])[kind]
    >>> found = prompt_dependence(gates, np.zeros(2, dtype=bool), drho, longer=0.5)
    >>> found.shared < 0.05, round(found.conditional, 2), found.chance
    (True, 1.0, 0.01)

    Args:
        gates: 0 or 1 [n, d_in]. always: gates that are open for every prompt, which tell none
            apart. drho: [n, d_out]. longer: how often the longer response is preferred.
    """
    n = drho.shape[0]
    alike = _products(gates[:, np.flatnonzero(~always)])
    pull = _products(drho)
    generator = np.random.default_rng(0)
    found = np.zeros((0, 2))
    if n >= 4:
        halves = [generator.permutation(n) for _ in range(HALVES)]
        pairs = [
            pair for order in halves for pair in ((order[: n // 2], order[n // 2 :]),
                                                  (order[n // 2 :], order[: n // 2]))
        ]  # fmt: skip
        found = np.array([explained(alike, pull, *pair) for pair in pairs])
    shared, conditional = found.mean(0) if len(found) else (0.0, 0.0)
    return PromptDependence(
        float(shared), float(conditional), chance(alike, pull, generator), longer, n
    )


def _products(table: SparseTable) -> Float64[np.ndarray, "n n"]:
    # scipy brings no types, and sums in one order whatever the number of threads.
    rows = cast(Any, table)
    return np.asarray((rows @ rows.T).toarray(), dtype=np.float64)


def explained(
    alike: Float64[np.ndarray, "n n"],
    pull: Float64[np.ndarray, "n n"],
    fitted: Int64[np.ndarray, " a"],
    held_out: Int64[np.ndarray, " b"],
) -> tuple[float, float]:
    """What a fit on some triples explains of the differences of others: shared, conditional.

    >>> gates, drho = np.eye(2)[[0, 1, 0, 1]], np.array([[1.0], [-1.0], [1.0], [-1.0]])
    >>> explained(gates @ gates.T, drho @ drho.T, np.array([0, 1]), np.array([2, 3]))
    (0.0, 1.0)

    Args:
        alike: products of the prompts' gates, pull: of the triples' differences, each with each.
    """
    among = pull[np.ix_(fitted, fitted)]
    across = pull[np.ix_(held_out, fitted)]
    whole = float(np.diag(pull)[held_out].mean())
    level = float(among.mean())
    along = across.mean(1)
    shared = _share(float(along.mean()), level, whole)
    # Differences and gates less their means over the fitted half: what is left to the condition.
    row = among.mean(0)
    rest = among - row - row[:, None] + level
    toward = across - along[:, None] - row + level
    weights = alike[np.ix_(held_out, fitted)] - alike[np.ix_(fitted, fitted)].mean(0)
    weights = (weights - weights.mean(1, keepdims=True)) / len(fitted)
    hit = float((weights * toward).sum(1).mean())
    size = float(((weights @ rest) * weights).sum(1).mean())
    left = whole - 2 * float(along.mean()) + level  # above `whole` where the mean is noise
    return shared, _share(hit, size, max(whole, left))


def _share(hit: float, size: float, whole: float) -> float:
    """The part of a squared norm that the best multiple of a prediction explains, with its sign."""
    return hit * abs(hit) / (size * whole) if size > 0 and whole > 0 else 0.0


def chance(
    alike: Float64[np.ndarray, "n n"],
    pull: Float64[np.ndarray, "n n"],
    generator: np.random.Generator,
) -> float:
    """How often prompts dealt out at random agree with the differences as well as their own do."""
    n = len(alike)
    centred = [_centred(table) for table in (alike, pull)]
    for table in centred:
        np.fill_diagonal(table, 0)
    agree = float((centred[0] * centred[1]).sum())
    at_least = 0
    for _ in range(REORDERINGS):
        order = generator.permutation(n)
        at_least += float((centred[0][np.ix_(order, order)] * centred[1]).sum()) >= agree
    return (1 + at_least) / (1 + REORDERINGS)


def _centred(table: Float64[np.ndarray, "n n"]) -> Float64[np.ndarray, "n n"]:
    return table - table.mean(0) - table.mean(1)[:, None] + table.mean()


def spread(n: int, most: int = MOST) -> Int64[np.ndarray, " kept"]:
    """Numbers of at most `most` of n rows, spread evenly.

    >>> spread(10, 5)
    array([0, 2, 4, 6, 8])
    """
    return np.arange(n) if n <= most else np.arange(most) * n // most
