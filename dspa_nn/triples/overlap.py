"""Whether two sets of triples hold the same ones, so that nothing is tested on what it has seen."""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from dspa_nn.triples.triple import PreferenceTriple, Prompt

Key: TypeAlias = tuple[object, str, str]


def shared(
    one: Sequence[PreferenceTriple], other: Iterable[PreferenceTriple]
) -> tuple[list[int], list[int]]:
    """Which triples of `one` are in `other` too, and which share a prompt alone.

    >>> a = PreferenceTriple("Hail?", "Yes.", "no")
    >>> b = PreferenceTriple("Hail?", "No.", "eh")
    >>> shared([a, b], [a])
    ([0], [1])

    A prompt as a string and as one message of the user's are the same; spaces at the ends of texts
    do not count. Chosen and rejected exchanged make another triple.
    """
    known = list(other)
    whole, prompts = {_key(triple) for triple in known}, {_asked(each.prompt) for each in known}
    same: list[int] = []
    alike: list[int] = []
    for index, triple in enumerate(one):
        if _key(triple) in whole:
            same.append(index)
        elif _asked(triple.prompt) in prompts:
            alike.append(index)
    return same, alike


def repeated(triples: Sequence[PreferenceTriple]) -> list[int]:
    """Which triples stand there a second time, as `shared` compares them.

    >>> a, b = PreferenceTriple("Hail?", "Yes.", "no"), PreferenceTriple("Hail?", "No.", "eh")
    >>> repeated([a, b, a])
    [2]
    """
    known: set[Key] = set()
    found: list[int] = []
    for index, triple in enumerate(triples):
        key = _key(triple)
        if key in known:
            found.append(index)
        known.add(key)
    return found


def _key(triple: PreferenceTriple) -> Key:
    return _asked(triple.prompt), triple.chosen.strip(), triple.rejected.strip()


def _asked(prompt: Prompt) -> object:
    if isinstance(prompt, str):
        return (("user", prompt.strip()),)
    return tuple((message["role"], message["content"].strip()) for message in prompt)
