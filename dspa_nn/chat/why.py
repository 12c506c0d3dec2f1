"""Why the last answer is what it is: which latents were edited, in words, and who voted for it."""

from typing import NamedTuple

from dspa_nn.audit import known_meanings, votes_for
from dspa_nn.chat.talk import Steered
from dspa_nn.models import for_ndif
from dspa_nn.steering import DSPA

MOST, VOTES = 6, 3
UNKNOWN = "no words known"


class Reason(NamedTuple):
    """One output latent that was edited.

    Attributes:
        latent: the output latent. edits: how often it was edited in the answer.
        direction: "raised" or "turned down".
        words: what is known of it.
        because: prompt latents that voted for it, each with words.
    """

    latent: int
    edits: int
    direction: str
    words: str
    because: list[tuple[int, str]]


def reasons(dspa: DSPA, last: Steered, most: int = MOST) -> list[Reason]:
    """The output latents that were edited most in an answer, with words for each.

    >>> from dspa_nn.chat import Talk
    >>> talk = Talk(dspa, map, "warm", settings={"alpha": 0.5}, generation={"max_new_tokens": 4})
    >>> pieces = list(talk.ask("tell me of the sea"))
    >>> len(reasons(dspa, talk.last, most=2)) <= 2
    True

    What is known is the package's table of the SAEs, and otherwise the tokens that a latent
    promotes. None of it is proof of what a latent does.
    """
    edits = last.edits
    if edits is None or not edits:
        return []
    times = dict(list(edits.by_latent().items())[:most])
    plan = edits.plans[0]
    raised = {latent for latent, _ in plan.augment}
    votes = {latent: votes_for(plan, last.map, latent)[:VOTES] for latent in times}
    origin = dspa.provenance()
    here = None if for_ndif(dspa.model) else dspa
    written = known_meanings(origin, "output", times, dspa=here)
    read = known_meanings(origin, "input", {vote.latent for of in votes.values() for vote in of})
    return [
        Reason(
            latent,
            count,
            "raised" if latent in raised else "turned down",
            written[latent].words() or UNKNOWN,
            [(vote.latent, read[vote.latent].words() or UNKNOWN) for vote in votes[latent]],
        )
        for latent, count in times.items()
    ]
