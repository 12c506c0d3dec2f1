"""What the paper says of its tables, held against the figures of a run."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dspa_nn.evaluation import Interval, bootstrap
from dspa_nn.reproduce.tables import FIGURES, Row

# How far multiple choice may fall, in points. In the paper's table it falls by 0.7 at most, and
# Qwen3-8B gains up to 1.8: a gain is no loss of ability, so it does not count against the claim.
POINTS = 0.8


@dataclass(frozen=True)
class Claim:
    """A claim of the paper's, and whether this run bears it out.

    Attributes:
        text: the claim. holds: True or False where the interval is on one side; None where it
            holds both, or where something was not measured. figures: what it rests on.
    """

    text: str
    holds: bool | None
    figures: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def claims(results: Mapping[str, Mapping[str, Any]]) -> list[Claim]:
    """Every claim of the paper on these tables: results are by the slug of a row.

    Example:
        >>> claims({})[0].holds is None
        True
    """
    dspa, base = Row("main", "DSPA").slug, Row("main", "Base").slug
    return [
        _rates_above("DSPA is rated above its base on MT-Bench", results, dspa, base),
        _rates_above(
            "Static-SAE is rated below its base on MT-Bench",
            results, base, Row("main", "Static-SAE").slug,
        ),
        _rates_above(
            "with 250 triples DSPA is rated above RAHF-SCIT on MT-Bench",
            results, Row("n250", "DSPA").slug, Row("n250", "RAHF-SCIT").slug,
        ),
        _kept(results, dspa, base),
    ]  # fmt: skip


def _rates_above(
    text: str, results: Mapping[str, Mapping[str, Any]], one: str, other: str
) -> Claim:
    """Paired by question: the mean rating of one less that of the other."""
    rated = [results.get(slug, {}).get("by_question", {}) for slug in (one, other)]
    both = [number for number in rated[0] if number in rated[1]]
    if not both:
        return Claim(text, None, "not measured")
    found = bootstrap([rated[0][number] - rated[1][number] for number in both])
    holds = True if found.above_zero else False if found.below_zero else None
    return Claim(text, holds, f"difference {found}, {found.n} questions")


def _kept(results: Mapping[str, Mapping[str, Any]], one: str, other: str) -> Claim:
    text = f"DSPA's multiple choice falls by at most {POINTS} points below its base"
    gaps: dict[str, Interval] = {}
    for figure in list(FIGURES)[2:]:
        pair = [results.get(slug, {}).get(figure) for slug in (one, other)]
        if None not in pair:
            gaps[figure] = _less(*(Interval(**values) for values in pair if values is not None))
    if not gaps:
        return Claim(text, None, "not measured")
    holds = None
    if all(gap.low >= -POINTS for gap in gaps.values()):
        holds = True
    elif any(gap.high < -POINTS for gap in gaps.values()):
        holds = False
    told = (f"{name} {gap.mean:+.1f} [{gap.low:+.1f}, {gap.high:+.1f}]"
            for name, gap in gaps.items())  # fmt: skip
    return Claim(text, holds, ", ".join(told))


def _less(one: Interval, other: Interval) -> Interval:
    """A difference of two figures as of different questions, which is the wider interval."""
    half = math.hypot(*((each.high - each.low) / 2 for each in (one, other)))
    gap = one.mean - other.mean
    return Interval(gap, gap - half, gap + half, min(one.n, other.n))
