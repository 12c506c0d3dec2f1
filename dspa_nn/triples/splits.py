"""Which rows may be used for what: nothing is tuned or tested on what it was fitted on."""

from typing import Literal, TypeAlias, get_args

from dspa_nn.errors import DSPAError

Split: TypeAlias = Literal["fit", "dev", "test"]
SPLITS: tuple[str, ...] = get_args(Split)

# UltraFeedback, by row of the source: rows 0-399 fit maps and train SAEs, 400-499 tune, 500-799
# test. Rows that `load_triples` skips keep their number.
_ULTRAFEEDBACK = {"fit": (0, 400), "dev": (400, 500), "test": (500, 800)}

# HH-RLHF harmless-base, the 2,312 rows of its published test file. Some 60 dialogues after row 1200
# open with the same message as one before it: an experiment leaves those out.
_HH_RLHF = {"fit": (0, 1200), "dev": (1200, 1500), "test": (1500, 2312)}


def ultrafeedback_rows(split: str) -> range:
    """The rows of UltraFeedback that a split may use.

    >>> ultrafeedback_rows("dev")
    range(400, 500)

    Raises:
        DSPAError: no such split.
    """
    return _rows(_ULTRAFEEDBACK, split)


def hh_rlhf_rows(split: str) -> range:
    """The rows of HH-RLHF's harmless test file that a split may use, counted from 0.

    >>> hh_rlhf_rows("test")
    range(1500, 2312)

    Dialogues of different rows may open with the same message: leave out of "dev" and "test" those
    whose opening an earlier split holds.

    Raises:
        DSPAError: no such split.
    """
    return _rows(_HH_RLHF, split)


def _rows(splits: dict[str, tuple[int, int]], split: str) -> range:
    if split not in SPLITS:
        raise DSPAError(f"there is no split {split!r}; the splits are {', '.join(SPLITS)}")
    return range(*splits[split])
