"""What can be read off an answer's text without a judge, and which way is preferred of a prompt."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from jaxtyping import Float64

from dspa_nn.evaluation import AXES, gladness
from dspa_nn.triples import PreferenceTriple

Score = Callable[[str], float]
# Name -> a score of one text. More of it is better for a prompt where the chosen response has more.
SCORES: Mapping[str, Score] = MappingProxyType(
    {"mood": gladness, **{axis.name: axis.score for axis in AXES.values() if axis.measurable}}
)
ABOUT: Mapping[str, str] = MappingProxyType(
    {
        "mood": "1 where a text is glad, -1 where it is sorry, 0 where it is neither, by its words",
        **{axis.name: axis.about.replace("`", "") for axis in AXES.values()},
    }
)
# Prompts on which a score must tell the two responses apart for its change to be judged, how far
# apart they must be on it, and how many scores are judged at most.
LEAST, APART, JUDGED = 10, 1.25, 2


def separation(triples: Sequence[PreferenceTriple], score: Score) -> float:
    """How far chosen and rejected responses are apart on a score, in its standard deviations.

    Example:
        >>> triple = PreferenceTriple("I won!", "Congratulations!", "I am so sorry.")
        >>> separation([triple, triple], gladness)
        2.0

    2 where either text is at one of two ends, 1.13 where the two are drawn from one normal
    distribution, 0 where the score is the same for all texts.
    """
    pairs = np.array([[score(one.chosen), score(one.rejected)] for one in triples])
    spread = pairs.std()
    return float(np.abs(pairs[:, 0] - pairs[:, 1]).mean() / spread) if spread else 0.0


def telling(triples: Sequence[PreferenceTriple]) -> list[str]:
    """The scores that these preferences are about: along which chosen and rejected are apart.

    Example:
        >>> triple = PreferenceTriple("I won!", "Congratulations!", "I am so sorry.")
        >>> telling([triple] * 10)[0]
        'mood'

    Two at most, those of the largest separation. Of nine scores, some change by chance.
    """
    known: dict[str, float] = {}
    for name, score in SCORES.items():
        if int((~np.isnan(directions(triples, score))).sum()) >= LEAST:
            known[name] = separation(triples, score)
    ranked = sorted(known, key=lambda name: -round(known[name], 6))
    return [name for name in ranked if known[name] >= APART][:JUDGED]


def directions(triples: Sequence[PreferenceTriple], score: Score) -> Float64[np.ndarray, " n"]:
    """Which way is preferred of each prompt: 1 or -1, and NaN where both responses score alike.

    Example:
        >>> rows = [("I won!", "Congratulations!", "I am so sorry."), ("Hail?", "Yes.", "No.")]
        >>> directions([PreferenceTriple(*row) for row in rows], gladness)
        array([ 1., nan])
    """
    gaps = np.array([score(one.chosen) - score(one.rejected) for one in triples])
    return np.where(gaps == 0, np.nan, np.sign(gaps))


def score_changes(
    triples: Sequence[PreferenceTriple],
    unsteered: Sequence[str],
    steered: Sequence[str],
    scores: Mapping[str, Score] = SCORES,
) -> dict[str, Float64[np.ndarray, " n"]]:
    """By how much answers moved towards what is preferred, by score; NaN where it cannot tell.

    Example:
        >>> triple = PreferenceTriple("I won!", "Congratulations!", "I am so sorry.")
        >>> score_changes([triple], ["Oh no, terrible."], ["Oh, wonderful!"])["mood"]
        array([2.])
    """
    found: dict[str, Float64[np.ndarray, " n"]] = {}
    for name, score in scores.items():
        moved = [score(b) - score(a) for a, b in zip(unsteered, steered, strict=True)]
        found[name] = directions(triples, score) * np.array(moved, dtype=np.float64)
    return found
