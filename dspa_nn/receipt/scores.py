"""What can be read off an answer's text without a judge, and which way is preferred of a prompt."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from jaxtyping import Float64

from dspa_nn.evaluation import gladness, warmth
from dspa_nn.triples import PreferenceTriple

# Name -> a score of one text. More of it is better for a prompt where the chosen response has more.
SCORES: Mapping[str, Callable[[str], float]] = MappingProxyType(
    {"mood": gladness, "warmth": warmth}
)
ABOUT: Mapping[str, str] = MappingProxyType(
    {
        "mood": "1 where a text is glad, -1 where it is sorry, 0 where it is neither, by its words",
        "warmth": "warm less formal marks, a word",
    }
)
# Prompts on which a score must tell the two responses apart for its change to be judged.
LEAST = 10


def directions(
    triples: Sequence[PreferenceTriple], score: Callable[[str], float]
) -> Float64[np.ndarray, " n"]:
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
    scores: Mapping[str, Callable[[str], float]] = SCORES,
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
