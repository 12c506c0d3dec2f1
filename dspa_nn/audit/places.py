"""Where in given texts latents are strongest: the tokens, with their context."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from nnsight import save

from dspa_nn.checks import check_choice, check_latents, check_positive_int, check_type
from dspa_nn.errors import DSPAError, SteeringError
from dspa_nn.graph.adapter import end_run
from dspa_nn.graph.blocks import hidden_states
from dspa_nn.graph.calls import check_outside_blocks
from dspa_nn.models import evaluating, require_weights, torch_module
from dspa_nn.prompts import Rendered, batches_by_length, padded
from dspa_nn.saes import LatentMeaning, Snippet
from dspa_nn.steering import DSPA
from dspa_nn.triples import PreferenceTriple

Side = Literal["input", "output"]
# A string, chat messages, what `render` returned, or a triple, which gives both its responses.
Text: TypeAlias = str | Sequence[Mapping[str, Any]] | Rendered | PreferenceTriple

# Padded tokens to a pass, and entries that are kept before the weaker ones are dropped.
_BUDGET, _POOL = 4096, 2_000_000


def snippets(
    dspa: DSPA,
    texts: Iterable[Text],
    latents: Iterable[int] | None = None,
    *,
    side: Side = "output",
    most: int = 5,
    before: int = 10,
    after: int = 5,
    advance: Callable[[int], object] | None = None,
) -> dict[int, list[Snippet]]:
    """The places in texts on which latents are strongest, with the text around them.

    Example:
        >>> found = snippets(dspa, ["sun and moon", "red or blue"], [3, 7], most=2)
        >>> list(found)
        [3, 7]
        >>> every = snippets(dspa, triples[:2], side="input", most=1)
        >>> str(next(iter(every.values()))[0])
        '...[[...]]...'

    A text gives at most one place to a latent, its strongest. Of a chat the template's markup is
    left out, but for a prompt's last token, which predicts the answer's first.

    Args:
        dspa: the model and its SAEs; the model's weights are needed.
        texts: strings, chat messages, what `render` returned, or triples, which give a text for
            each of their responses.
        latents: of which latents; None means all that are active anywhere.
        side: "output" latents, those that are edited, or "input" latents, those that vote.
        most: places of each latent, strongest first.
        before: tokens of context before a place.
        after: tokens of context after it.
        advance: called with the number of texts that are done.

    Raises:
        DSPAError: a latent that the SAE does not have, or no texts.
        SteeringError: inside a tracing context, or a number out of range.
    """
    check_outside_blocks("snippets", torch_module(dspa.model))
    check_choice("side", side, ("input", "output"), SteeringError)
    for name, value in (("most", most), ("before", before), ("after", after)):
        check_positive_int(name, value, SteeringError)
    require_weights(dspa.model, "snippets")
    at_output = side == "output"
    encoder = dspa.encoders[at_output]
    wanted = None if latents is None else check_latents(side, latents, encoder.width)
    if isinstance(texts, str):
        raise DSPAError("one text came for texts; give a list of them")
    sequences = [one for text in texts for one in _rendered(dspa, text)]
    if not sequences:
        raise DSPAError("snippets was given no texts; give at least one")
    pool = _Pool(wanted, encoder.width, most)
    model: Any = dspa.model
    block = model.get(dspa.paths[at_output])
    for indices in batches_by_length([len(one.ids) for one in sequences], _BUDGET):
        inputs = padded([sequences[index].ids for index in indices], "right")
        with evaluating(model), torch.no_grad(), model.trace(inputs, use_cache=False):
            hidden = save(hidden_states(block.output))
            end_run()
        with torch.no_grad():
            for row, index in enumerate(indices):
                places = _places(sequences[index])
                pool.add(index, places, encoder.encode(hidden[row, places])[0])
        if advance is not None:
            advance(len(indices))
    tokenizer = dspa.facts.tokenizer
    found = {
        latent: [
            _snippet(tokenizer, sequences[text], place, (before, after), value)
            for text, place, value in entries
        ]
        for latent, entries in pool.strongest().items()
    }
    return found if wanted is None else {latent: found.get(latent, []) for latent in wanted}


def meaning_of_snippets(
    found: Sequence[Snippet], *, promotes: Sequence[str] = (), shown: int = 2, words: int = 4
) -> LatentMeaning:
    """A `LatentMeaning` of a latent's strongest places: the words most often among them.

    Example:
        >>> places = [Snippet("the ", "sun", "", 3.0), Snippet("a ", "Sun", "!", 2.0)]
        >>> meaning_of_snippets(places, shown=1).fires_on
        ('sun',)

    shown: places that are kept, no two alike; words: how many, in lower case.
    """
    times = Counter(word for one in found if (word := _word(one)))
    kept: dict[str, Snippet] = {}
    for one in found:
        kept.setdefault(str(one).strip().lower(), one)
    return LatentMeaning(
        promotes=tuple(promotes),
        fires_on=tuple(word for word, _ in times.most_common(words)),
        snippets=tuple(list(kept.values())[:shown]),
    )


class _Pool:
    """The strongest places so far of every latent."""

    def __init__(self, wanted: Sequence[int] | None, width: int, most: int) -> None:
        self.keep = None if wanted is None else np.isin(np.arange(width), wanted)
        self.most = most
        self.parts: list[tuple[np.ndarray, ...]] = []
        self.entries = 0

    def add(self, text: int, places: torch.Tensor, latents: torch.Tensor) -> None:
        """Note a text's latents [places, width]."""
        values, strongest = latents.float().cpu().max(0)
        active = (values > 0).numpy()
        active &= True if self.keep is None else self.keep
        latent = np.flatnonzero(active)
        place = places.numpy()[strongest.numpy()[latent]]
        self.parts.append((latent, np.full_like(latent, text), place, values.numpy()[latent]))
        self.entries += len(latent)
        if self.entries > _POOL:
            self.parts = [self._best()]
            self.entries = len(self.parts[0][0])

    def _best(self) -> tuple[np.ndarray, ...]:
        columns = zip(*self.parts, strict=True)
        latent, text, place, value = (np.concatenate(part) for part in columns)
        order = np.lexsort((text, -value, latent))
        latent = latent[order]
        rank = np.arange(len(latent)) - np.searchsorted(latent, latent)
        order = order[rank < self.most]
        return latent[rank < self.most], text[order], place[order], value[order]

    def strongest(self) -> dict[int, list[tuple[int, int, float]]]:
        """Latent -> (text, token, value) of its places, strongest first."""
        found: dict[int, list[tuple[int, int, float]]] = {}
        for latent, text, place, value in zip(*self._best(), strict=True):
            found.setdefault(int(latent), []).append((int(text), int(place), float(value)))
        return found


def _rendered(dspa: DSPA, text: Any) -> list[Rendered]:
    if isinstance(text, PreferenceTriple):
        both = [dspa.render(text.prompt, side) for side in (text.chosen, text.rejected)]
    else:
        check_type("a text", text, str | list | tuple | Rendered, DSPAError)
        both = [text if isinstance(text, Rendered) else dspa.render(text)]
    return [one for one in both if len(_places(one))]


def _places(one: Rendered) -> torch.Tensor:
    """Tokens that are looked at: content, the prompt's last token, the response."""
    looked = torch.ones(len(one.ids), dtype=torch.bool)
    looked[: max(one.prompt_length - 1, 0)] = one.content[:-1]
    if one.has_bos:
        looked[0] = False
    return torch.nonzero(looked).squeeze(-1)


def _snippet(
    tokenizer: Any, one: Rendered, place: int, context: tuple[int, int], value: float
) -> Snippet:
    """A place with its context, which ends where the message does."""
    kinds = torch.full((len(one.ids),), 2, dtype=torch.int64)  # of a response
    kinds[: one.prompt_length] = one.content.long()
    others = torch.nonzero(kinds != kinds[place]).squeeze(-1)
    first = int(others[others < place].max()) + 1 if bool((others < place).any()) else 0
    last = int(others[others > place].min()) if bool((others > place).any()) else len(one.ids)
    whole: Any = one.ids
    ids: list[int] = whole.tolist()
    start, stop = max(place - context[0], first), min(place + context[1] + 1, last)
    pieces = (ids[start:place], [ids[place]], ids[place + 1 : stop])
    before, token, after = (tokenizer.decode(piece) if piece else "" for piece in pieces)
    return Snippet(before, token, after, value)


def _word(one: Snippet) -> str:
    """The word that a token is a part of, in lower case; punctuation stands for itself."""
    if not one.token.strip() or not one.token.strip()[-1].isalpha():
        return one.token.strip().lower()
    begun = "" if one.token[0].isspace() else re.findall(r"[^\W\d_]*$", one.before)[0]
    return (begun + one.token + re.findall(r"^[^\W\d_]*", one.after)[0]).strip().lower()
