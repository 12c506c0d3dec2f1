"""How long the triples are whose costs are counted."""

from collections.abc import Iterable, Sequence

from dspa_nn.errors import DSPAError

# (prompt, chosen, rejected) of each triple, in tokens.
Lengths = Iterable[Sequence[int]]


def checked_lengths(lengths: Lengths) -> list[tuple[int, int, int]]:
    """Return (prompt, chosen, rejected) of each triple, or refuse them.

    >>> checked_lengths([[1000, 800, 900]])
    [(1000, 800, 900)]

    Raises:
        DSPAError: no triple, what is not three lengths, or an empty response.
    """
    triples: list[tuple[int, int, int]] = []
    for triple in lengths:
        if len(triple) != 3 or triple[0] < 0 or min(triple[1:]) < 1:
            raise DSPAError(
                f"the lengths {tuple(triple)} came for a triple; expected tokens of the prompt, of "
                "the chosen and of the rejected response, such as (1000, 1000, 1000), no response "
                "empty"
            )
        prompt, chosen, rejected = (int(length) for length in triple)
        triples.append((prompt, chosen, rejected))
    if not triples:
        raise DSPAError("no lengths came, and at least one triple is needed")
    return triples
