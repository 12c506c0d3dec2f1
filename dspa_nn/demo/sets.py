"""What a demo can show: which triples, what they prefer, and how that is read off an answer.

A new set is one `DemoSet` in `SETS`; `dspa demo --set NAME` then shows it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from dspa_nn.checks import check_choice
from dspa_nn.errors import DSPAError
from dspa_nn.evaluation import encouragement, gladness, warmth
from dspa_nn.maps import FitOptions
from dspa_nn.steering import SteeringOptions
from dspa_nn.triples import DemoRow, read_demo_rows


@dataclass(frozen=True)
class TextScore:
    """A number that is read off a generated text, without a judge.

    Attributes:
        name: in a heading. about: a sentence on what it counts, and what more of it means.
        unit: in sentences. digits: shown after the point.
        measure: the score of one text.
    """

    name: str
    about: str
    unit: str
    digits: int
    measure: Callable[[str], float]


@dataclass(frozen=True)
class DemoSet:
    """One set of triples and what the demo needs to know of it.

    Attributes:
        name: what `--set` takes.
        about: what is preferred when, in a sentence or two.
        score: how much of a style an answer has.
        signs: preferred style of a row -> +1 where more of the score is preferred, -1 where less.
        read: the rows of all splits.
        fit, steering: settings that were tuned on the development triples; those left out are the
            preset's.
    """

    name: str
    about: str
    score: TextScore
    signs: Mapping[str, Literal[1, -1]]
    read: Callable[[], Sequence[DemoRow]]
    fit: FitOptions = field(default_factory=FitOptions)
    steering: SteeringOptions = field(default_factory=SteeringOptions)

    def signed(self, row: DemoRow, text: str) -> float:
        """The score of an answer to a row's prompt; higher is what is preferred there.

        Example:
            >>> row = read_demo_rows("register")[1]
            >>> row.style, SETS["register"].signed(row, "Oh, how lovely!") < 0
            ('formal', True)
        """
        return self.signs[row.style] * self.score.measure(text)


SETS: dict[str, DemoSet] = {
    made.name: made
    for made in (
        DemoSet(
            name="plans",
            about="Who asks for encouragement should be encouraged, and who asks what could go "
            "wrong should be warned.",
            score=TextScore(
                name="tone",
                about="Tone: +1 where an answer encourages, -1 where it warns, 0 where it does "
                "neither, with the sign turned where a warning is preferred.",
                unit="on a scale from -1 to 1",
                digits=2,
                measure=encouragement,
            ),
            signs={"encouraging": 1, "warning": -1},
            read=partial(read_demo_rows, "plans"),
            steering={"mode": "both", "alpha": 0.6, "k_diff": 32},
        ),
        DemoSet(
            name="news",
            about="Good news should be met with joy, bad news with sympathy.",
            score=TextScore(
                name="mood",
                about="Mood: +1 where an answer is glad, -1 where it is sorry, 0 where it is "
                "neither, with the sign turned where sympathy is preferred.",
                unit="on a scale from -1 to 1",
                digits=2,
                measure=gladness,
            ),
            signs={"glad": 1, "sorry": -1},
            read=partial(read_demo_rows, "news"),
            steering={"mode": "both", "alpha": 0.4},
        ),
        DemoSet(
            name="register",
            about="Personal messages should be answered warmly, factual questions formally.",
            score=TextScore(
                name="style",
                about="Style: warm minus formal marks per word, with the sign turned where formal "
                "is preferred.",
                unit="marks a word",
                digits=2,
                measure=warmth,
            ),
            signs={"warm": 1, "formal": -1},
            read=partial(read_demo_rows, "register"),
        ),
    )
}
# What `dspa demo` shows where it is not told.
SHOWN: tuple[str, ...] = ("plans",)


def find_set(name: str) -> DemoSet:
    """A set by its name.

    Example:
        >>> find_set("register").signs
        {'warm': 1, 'formal': -1}

    Raises:
        DSPAError: no such set.
    """
    check_choice("set", name, tuple(SETS), DSPAError)
    return SETS[name]
