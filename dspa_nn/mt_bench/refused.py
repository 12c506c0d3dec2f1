"""Turns that a judge refuses: recorded, unless it refuses whatever comes."""

from collections.abc import Callable, Iterable

from dspa_nn.errors import JudgeError
from dspa_nn.judges import Judge

# After so many refused turns, one after the other, the judge is asked whether it takes any request.
_IN_A_ROW = 3


def record_refusals(
    outcomes: Iterable[tuple[str, JudgeError | None]],
    record: Callable[[str], object],
    judge: Judge,
    *,
    answered: bool,
) -> None:
    """Record refused turns; where the judge takes no short request either, end with its refusal.

    Example:
        >>> from dspa_nn.judges import Endpoint
        >>> judge, lines = Judge(Endpoint("http://127.0.0.1:8000/v1", "my-judge")), []
        >>> outcomes = [("one", None), ("two", JudgeError("too long")), ("three", None)]
        >>> record_refusals(outcomes, lines.append, judge, answered=False)
        >>> lines
        ['two']

    Args:
        outcomes: rows and refusals, in the order of the turns; in that of their arrival, refusals,
            which come fast, would stand in a row where judgments are still being made.
        record: called with rows.
        judge: who is asked whether it takes a short request.
        answered: whether the judge has answered before.

    Raises:
        JudgeError: the last refusal, or what the judge makes of a short request.
    """
    refused: list[str] = []
    last: JudgeError | None = None

    def keep() -> None:
        record("".join(refused))
        refused.clear()

    for line, refusal in outcomes:
        if refusal is not None:
            refused.append(line)
            last = refusal
            if len(refused) == _IN_A_ROW:
                _settle(last, judge, answered)
                keep()
        else:
            # The judge answers, so what it refused before was refused for what it is.
            answered = True
            if refused:
                keep()
    if last is not None and refused:
        _settle(last, judge, answered)
        keep()


def _settle(refusal: JudgeError, judge: Judge, answered: bool) -> None:
    if not (answered and judge.takes_requests()):
        raise refusal
