"""From preference triples to token ids: what a counting pass shows the model, each text once."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast, get_args

from dspa_nn.checks import check_choice
from dspa_nn.errors import CountsError, TripleError
from dspa_nn.progress import warn
from dspa_nn.prompts import (
    Overlong,
    Rendered,
    TooLongError,
    markup_in,
    markup_of,
    named,
    render_to_fit,
)
from dspa_nn.triples import PreferenceTriple

# What becomes of a triple that the chat template or the tokenizer refuses.
Refused: TypeAlias = Literal["error", "skip"]
REFUSED = "refused by the chat template or tokenizer"


@dataclass(frozen=True)
class TokenisedTriple:
    """One triple as token ids: the prompt once, and with each of its two responses.

    `index` is the triple's number in its source.
    """

    index: int
    prompt: Rendered
    chosen: Rendered
    rejected: Rendered

    @property
    def ends(self) -> tuple[Rendered, Rendered]:
        """Prompt and chosen, prompt and rejected."""
        return self.chosen, self.rejected

    @property
    def tokens(self) -> int:
        """Tokens that the model runs: the prompt once, and both responses."""
        return self.prompt.prompt_length + sum(len(end.response_ids) for end in self.ends)


def prepare(
    triples: Sequence[PreferenceTriple],
    tokenizer: Any,
    context: int,
    overlong: Overlong,
    refused: Refused = "error",
) -> tuple[list[TokenisedTriple], dict[str, int]]:
    """Render and tokenise every triple; also how many were left out or cut, by reason.

    >>> tokenised, skipped = prepare(triples, tokenizer, 8192, "truncate")
    >>> len(tokenised) == len(triples), skipped
    (True, {})

    context: the model's context in tokens; overlong: "truncate" (from the left, at a message
    boundary), "skip" or "error"; refused: "error" or "skip", for a triple that the chat template or
    the tokenizer refuses.

    Raises:
        CountsError: no triple came, or none was left; a choice that there is none of.
        TripleError: what came is no list of triples, one is too long with overlong="error", or one
            is refused with refused="error"; it names the triple.
    """
    check_choice("overlong", overlong, get_args(Overlong), CountsError)
    check_choice("refused", refused, get_args(Refused), CountsError)
    if isinstance(triples, str) or not hasattr(triples, "__len__"):
        raise TripleError(
            f"triples came as a {type(triples).__name__}, where a list of them was expected: read "
            "a source with load_triples(...), or put them in a list"
        )
    if not len(triples):
        raise CountsError("no triples came, and at least one is needed; check the source")
    tokenised: list[TokenisedTriple] = []
    skipped: dict[str, int] = {}
    marked: dict[int, set[str]] = {}
    # What users pass is not always of the types asked for.
    for index, triple in enumerate(cast(Sequence[object], triples)):
        if not isinstance(triple, PreferenceTriple):
            raise TripleError(
                f"triple {index} is a {type(triple).__name__}, where a PreferenceTriple was "
                "expected: read rows with load_triples(rows)"
            )
        try:
            fitted = render_to_fit(tokenizer, triple, context, overlong)
        except TooLongError as error:
            raise TripleError(f"triple {index}: {error}") from None
        except TripleError as error:
            if refused == "error":
                raise TripleError(
                    f"triple {index}: {error}; or leave such triples out and count them with "
                    "refused='skip'"
                ) from None
            skipped[REFUSED] = skipped.get(REFUSED, 0) + 1
            continue
        if fitted.reason is not None:
            skipped[fitted.reason] = skipped.get(fitted.reason, 0) + 1
        if fitted.prompt is not None:
            tokenised.append(TokenisedTriple(index, fitted.prompt, *fitted.ends))
            responses = markup_in(tokenizer, triple.chosen, triple.rejected)
            names = {*markup_of(tokenizer, triple.prompt), *responses}
            if names:
                marked[index] = names
    if not tokenised:
        refusals = f" ({skipped[REFUSED]} {REFUSED})" if REFUSED in skipped else ""
        raise CountsError(
            f"none of the {len(triples)} triples fits a context of {context} tokens{refusals}; "
            "pass shorter prompts or overlong='truncate'"
        )
    if marked:
        _warn_of_markup(marked, len(tokenised))
    return tokenised, skipped


def _warn_of_markup(marked: dict[int, set[str]], of: int) -> None:
    """Say once how many triples hold markup in their texts, which markup, and what to do."""
    times = Counter(name for names in marked.values() for name in names)
    tokens = named([name for name, _ in times.most_common()])
    triples = ", ".join(map(str, list(marked)[:5])) + (", ..." if len(marked) > 5 else "")
    warn(
        f"{len(marked)} of {of} triples hold special tokens or a chat template's markup in "
        f"their texts ({tokens}; triples {triples}), and it is counted like any text: give the "
        "turns of a prompt as chat messages (text that was rendered before, as strings and with "
        "chat=False) and responses without what ends a turn, or leave these triples out",
    )
