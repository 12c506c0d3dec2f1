"""How well do the style axes rank labelled pairs that their scorers were not tuned on?

    python recipes/validate_style_axes.py             # prints the tables of docs/measures.md
    python recipes/validate_style_axes.py --write     # and writes what `AXES` says of itself

The pairs are of our own writing (`dspa_nn/assets/style_pairs.jsonl`): 52 an axis to tune on, and 40
kept apart, which were written after the scorers were frozen. Nothing is tuned here. The second
table ranks the pairs of every axis with every scorer: where one also ranks another axis' pairs, the
two cannot be told apart in those texts.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any, get_args

import numpy as np

from dspa_nn.evaluation import (
    AXES,
    AxisName,
    Interval,
    alike,
    proportion,
    read_style_pairs,
    validate_axis,
)

ASSET = Path(__file__).parents[1] / "dspa_nn" / "assets" / "style_axes.json"
ENDS = ("high", "low")


def words(text: str) -> int:
    """How many words a text has: the concise axis is minus the logarithm of that."""
    return round(math.exp(-AXES["concise"].score(text)))


def right(gaps: Any) -> Any:
    """1 where a difference has the right sign, 0 where it has the wrong one, 0.5 for a tie."""
    return (np.sign(np.array(gaps)) + 1) / 2


def length_alone(axis: Any, split: str = "apart") -> float:
    """What the better of "shorter" and "longer" ranks rightly, in words."""
    pairs = read_style_pairs(axis, split)
    count = [words(pair.low) - words(pair.high) for pair in pairs]
    shorter = float(right(count).mean())
    return max(shorter, 1 - shorter)


def of_like_length(axis: Any, score: Any) -> Interval:
    """The scorer on those pairs whose numbers of words differ by a quarter of the larger at most.

    It is empty for concise/verbose, where length is what is scored.
    """
    pairs = read_style_pairs(axis, "apart")
    first, second = ([float(words(getattr(pair, end))) for pair in pairs] for end in ENDS)
    gaps = np.array([score(pair.high) - score(pair.low) for pair in pairs])
    return proportion(gaps[alike(first, second, 0.25)] > 0)


def measured() -> dict[AxisName, Any]:
    """Axis -> what is kept of its validation."""
    found: dict[AxisName, Any] = {}
    for axis in get_args(AxisName):
        score = AXES[axis].score
        found[axis] = {
            "accuracy": validate_axis(score, axis).to_dict(),
            "tune": validate_axis(score, axis, "tune").to_dict(),
            "length_alone": length_alone(axis),
            "alike": of_like_length(axis, score).to_dict(),
        }
    return found


def cell(found: Interval | dict[str, Any]) -> str:
    """A share with its interval."""
    one = found if isinstance(found, Interval) else Interval(**found)
    return f"{one.mean:.3f} [{one.low:.3f}, {one.high:.3f}]"


def like(found: dict[str, Any]) -> str:
    """A share with the number of pairs behind it."""
    return f"{found['mean']:.3f} (n = {found['n']})" if found["n"] else "none"


def tables(found: dict[AxisName, Any]) -> list[str]:
    """All tables, as Markdown."""
    lines = [
        "| axis | kept apart (40) | tuned on (52) | length alone | of like length | measurable |",
        "|---|---|---|---|---|---|",
    ]
    for axis, one in found.items():
        measurable = "yes" if one["accuracy"]["mean"] >= 0.75 else "no"
        lines.append(
            f"| {AXES[axis].name} | {cell(one['accuracy'])} | {one['tune']['mean']:.3f} | "
            f"{one['length_alone']:.3f} | {like(one['alike'])} | {measurable} |"
        )
    names: list[Any] = list(found)
    lines += ["", "| scorer | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for name in names:
        score = AXES[name].score
        pairs = [read_style_pairs(axis, "apart") for axis in names]
        across = [right([score(p.high) - score(p.low) for p in one]).mean() for one in pairs]
        lines.append(f"| {name} | " + " | ".join(f"{value:.2f}" for value in across) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--write", action="store_true", help="write what `AXES` reads")
    options = parser.parse_args()
    found = measured()
    if options.write:
        ASSET.write_text(json.dumps(found, indent=1) + "\n")
    print("\n".join(tables(found)))


if __name__ == "__main__":
    main()
