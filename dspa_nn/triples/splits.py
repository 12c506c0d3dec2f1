"""Which rows may be used for what: nothing is tuned or tested on what it was fitted on."""

from typing import Literal, TypeAlias, get_args

from dspa_nn.errors import DSPAError

Split: TypeAlias = Literal["fit", "dev", "test"]
SPLITS: tuple[str, ...] = get_args(Split)

# UltraFeedback, by row of the source: rows 0-399 fit maps and train SAEs, 400-499 tune, 500-799
# test. Rows that `load_triples` skips keep their number.
_ULTRAFEEDBACK = {"fit": (0, 400), "dev": (400, 500), "test": (500, 800)}


def ultrafeedback_rows(split: str) -> range:
    """The rows of UltraFeedback that a split may use.

    >>> ultrafeedback_rows("dev")
    range(400, 500)

    Raises:
        DSPAError: no such split.
    """
    if split not in SPLITS:
        raise DSPAError(f"there is no split {split!r}; the splits are {', '.join(SPLITS)}")
    return range(*_ULTRAFEEDBACK[split])
