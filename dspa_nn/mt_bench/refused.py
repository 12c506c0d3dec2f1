"""Turns that a judge refuses: recorded, unless it refuses whatever comes."""

from collections.abc import Callable, Iterable

from dspa_nn.errors import JudgeError
from dspa_nn.judges import Judge

# After so many refused turns the judge is asked whether it takes any request.
_AT_ONCE = 3


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
        >>> judge = Judge(Endpoint("http://127.0.0.1:8000/v1", "my-judge"))
        >>> record_refusals([("a row", JudgeError("too long"))], print, judge, answered=False)
        Traceback (most recent call last):
        dspa_nn.errors.JudgeError: too long

    That other turns are judged proves nothing: they may have been asked before the judge began to
    refuse whatever comes, as one without credit does. A short request is put to it instead.

    Args:
        outcomes: rows and refusals, in the order of the turns.
        record: called with rows.
        judge: who is asked whether it takes a short request.
        answered: whether the judge has answered before.

    Raises:
        JudgeError: the last refusal, or what the judge makes of a short request.
    """
    refused: list[tuple[str, JudgeError]] = []

    def settle() -> None:
        if not (answered and judge.takes_requests()):
            raise refused[-1][1]
        record("".join(line for line, _ in refused))
        refused.clear()

    for line, refusal in outcomes:
        if refusal is None:
            answered = True
            continue
        refused.append((line, refusal))
        if len(refused) == _AT_ONCE:
            settle()
    if refused:
        settle()
