"""What a receipt is made from: held-out and development triples, checked against each other."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np

from dspa_nn.counts import CountRun
from dspa_nn.errors import EvaluationError
from dspa_nn.evaluation import ChoiceItem, load_choices
from dspa_nn.maps import ConditionalDifferenceMap
from dspa_nn.models import context_length
from dspa_nn.prompts import render_to_fit
from dspa_nn.receipt.claims import LEAST
from dspa_nn.receipt.rewrites import CONTEXT, Rewrite, read_paraphrases, simple_rewrites
from dspa_nn.steering import DSPA
from dspa_nn.triples import PreferenceTriple, Triples, load_triples, repeated, shared

Source: TypeAlias = str | os.PathLike[str] | Iterable[Any]
# Fewer held-out triples than this are measured, and the page says how little they tell.
FEW = 30


@dataclass(frozen=True)
class Inputs:
    """Checked inputs of a receipt.

    Attributes:
        test: held-out triples, which alone are reported on.
        dev: development triples, on which controls are matched.
        fitted: the triples that the map was fitted on, where they were given.
        rewrites: the held-out triples with their prompts put otherwise.
        items: questions of multiple choice.
        notes: sentences for the reader, on what was left out or could not be told.
        about: sources and sizes, as plain values for JSON.
    """

    test: list[PreferenceTriple]
    dev: list[PreferenceTriple]
    fitted: list[PreferenceTriple]
    rewrites: list[Rewrite]
    items: list[ChoiceItem]
    notes: list[str] = field(default_factory=list[str])
    about: dict[str, Any] = field(default_factory=dict[str, Any])


def read_inputs(
    dspa: DSPA,
    map: ConditionalDifferenceMap,
    triples: Source,
    *,
    dev: Source | None = None,
    dev_share: float = 0.3,
    fitted_on: Source | None = None,
    paraphrases: str | os.PathLike[str] | None = None,
    multiple_choice: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    items_limit: int | None = None,
    chat: bool = False,
    spare: str = "",
    seed: int = 0,
) -> Inputs:
    """Read and check everything that a receipt is made from.

    Example:
        >>> inputs = read_inputs(dspa, map, triples[:12], dev=triples[12:])
        >>> len(inputs.test), len(inputs.dev), len(inputs.rewrites)
        (12, 8, 3)

    Args:
        dspa: the model and its SAEs.
        map: of these.
        triples: held-out ones.
        dev: of development; None takes a share of the held-out ones.
        dev_share: that share, drawn by the seed.
        fitted_on: what the map was fitted on, where it is at hand.
        paraphrases: a file, as in `evaluate`.
        multiple_choice: a file, as in `evaluate`.
        limit: held-out triples at most.
        items_limit: questions at most.
        chat: lift string prompts to messages.
        spare: the longest text that is put before a prompt, for which there must be room.
        seed: of the draw.

    Raises:
        EvaluationError: triples in two of the sets, fewer held-out ones than a verdict can be
            given of, none that fit the context, or a bad file.
        TripleError: what `load_triples` refuses.
    """
    notes: list[str] = []
    room = _Room(dspa, (spare, CONTEXT))
    given = {"held-out": load_triples(triples, chat=chat)}
    test = room.fitting("held-out", given["held-out"], notes)[:limit]
    _not_read(given["held-out"], notes)
    if dev is None:
        test, development = _drawn(test, dev_share, seed)
        notes.append(
            f"No development triples were given: {len(development)} of the held-out ones, drawn at "
            "random, matched the controls and are not reported on."
        )
    else:
        given["development"] = load_triples(dev, chat=chat)
        development = room.fitting("development", given["development"], notes)
    fitted = [] if fitted_on is None else list(load_triples(fitted_on, chat=chat))
    _apart("held-out", test, "development", development, notes)
    if fitted:
        _apart("held-out", test, "fitting", fitted, notes)
        _apart("development", development, "fitting", fitted, notes)
        _same_as_fitted(dspa, map, fitted, notes)
    else:
        _not_fitted_on(dspa, map, {what: list(whole) for what, whole in given.items()}, notes)
    if len(test) < LEAST:
        raise EvaluationError(
            f"{len(test)} held-out triples came, where at least {LEAST} were expected: of fewer, "
            "all may be on one side by chance; give more"
        )
    again = repeated(test)
    if again:
        notes.append(
            f"{len(again)} of {len(test)} held-out triples stand there before, and count as often "
            "as they stand there: intervals are narrower than they should be."
        )
    if len(test) < FEW:
        notes.append(
            f"{len(test)} held-out triples are few: intervals are wide, and small effects and "
            "small damage cannot be told from none."
        )
    rewrites = simple_rewrites(test)
    if paraphrases is not None:
        rewrites = [read_paraphrases(paraphrases, test), *rewrites]
    items = [] if multiple_choice is None else load_choices(multiple_choice, items_limit)
    if not items:
        notes.append("No questions were given: multiple choice was not measured.")
    about = {
        "triples": {"source": _name(triples), "n": len(test)},
        "dev": {"source": _name(triples if dev is None else dev), "n": len(development)},
        "fitted_on": {"source": _name(fitted_on), "n": len(fitted)} if fitted else None,
        "multiple_choice": {"source": _name(multiple_choice), "n": len(items)} if items else None,
    }
    return Inputs(test, development, fitted, rewrites, items, notes, about)


class _Room:
    """The model's context, and what must stay free of it for what is put before a prompt."""

    def __init__(self, dspa: DSPA, texts: Sequence[str]) -> None:
        self.tokenizer: Any = dspa.facts.tokenizer
        self.context = context_length(dspa.model)
        lengths = [
            len(self.tokenizer(text, add_special_tokens=False).input_ids) for text in texts if text
        ]
        self.limit = self.context - max(lengths, default=0) - 8

    def fitting(
        self, what: str, triples: Sequence[PreferenceTriple], notes: list[str]
    ) -> list[PreferenceTriple]:
        """The triples that fit; how many do not is noted."""
        kept = [
            triple
            for triple in triples
            if render_to_fit(self.tokenizer, triple, self.limit, "skip").item is not None
        ]
        gone = len(triples) - len(kept)
        if not kept:
            raise EvaluationError(
                f"all {gone} {what} triples are longer than the {self.limit} tokens that the "
                f"model's context of {self.context} leaves them; give shorter ones"
            )
        if gone:
            notes.append(f"{gone} {what} triples are longer than the context and were left out.")
        return kept


def _not_read(triples: Triples, notes: list[str]) -> None:
    for why, count in triples.skipped.items():
        notes.append(f"{count} row(s) of the held-out triples were left out: {why}.")


def _drawn(
    triples: list[PreferenceTriple], share: float, seed: int
) -> tuple[list[PreferenceTriple], list[PreferenceTriple]]:
    """The triples without a share of them, and that share."""
    size = round(share * len(triples))
    if not 0 < size < len(triples):
        raise EvaluationError(
            f"a share of {share} of {len(triples)} triples leaves {len(triples) - size} to report "
            f"on and {size} to match controls on; give more triples, another share, or --dev"
        )
    chosen = set(np.random.default_rng(seed).permutation(len(triples))[:size].tolist())
    parts: tuple[list[PreferenceTriple], list[PreferenceTriple]] = ([], [])
    for index, triple in enumerate(triples):
        parts[index in chosen].append(triple)
    return parts


def _apart(
    what: str,
    one: Sequence[PreferenceTriple],
    other_what: str,
    other: Sequence[PreferenceTriple],
    notes: list[str],
) -> None:
    """Refuse triples that are in both; note prompts that are."""
    same, alike = shared(one, other)
    if same:
        raise EvaluationError(
            f"{len(same)} of {len(one)} {what} triples are {other_what} triples too, the first of "
            f"them number {same[0]}; leave them out of one of the two"
        )
    if alike:
        notes.append(
            f"{len(alike)} of {len(one)} {what} prompts are prompts of {other_what} triples too, "
            "with other responses."
        )


def _same_as_fitted(
    dspa: DSPA, map: ConditionalDifferenceMap, fitted: list[PreferenceTriple], notes: list[str]
) -> None:
    known = _hashes_of(map)
    if known and not _hashes(dspa, fitted) & known:
        notes.append(
            f"The {len(fitted)} triples that were given as the map's are not, as they stand, those "
            "that its provenance names: some that it was fitted on may be held out unnoticed."
        )


def _not_fitted_on(
    dspa: DSPA,
    map: ConditionalDifferenceMap,
    sets: dict[str, list[PreferenceTriple]],
    notes: list[str],
) -> None:
    """Refuse a file that is the map's own, or begins with it: all that its provenance can tell."""
    known = _hashes_of(map)
    for what, triples in sets.items():
        begun = [len(triples)]
        if map.n_triples is not None and map.n_triples < len(triples):
            begun.append(map.n_triples)
        for size in begun if known else []:
            if _hashes(dspa, triples[:size]) & known:
                raise EvaluationError(
                    f"the map was fitted on {'all' if size == len(triples) else 'the first'} "
                    f"{size} of the {what} triples; give triples that it has not seen"
                )
    notes.append(
        "The map's provenance holds one hash of all that it was fitted on. These files are not "
        "that, whole or from their start; whether single triples are in it cannot be told without "
        "--fitted-on."
    )


def _hashes_of(map: ConditionalDifferenceMap) -> set[str]:
    """Hashes of the data of a map, or of the maps of a sum."""
    known: Any = map.provenance.get("data_sha256")
    if isinstance(known, dict):
        return {str(one) for one in cast(dict[str, list[Any]], known).get("merged", []) if one}
    return {str(known)} if known else set()


def _hashes(dspa: DSPA, triples: list[PreferenceTriple]) -> set[str]:
    """What a map's provenance would hold of these: of their content, or of the batch plan."""
    planned = CountRun(dspa, triples, refused="skip").provenance["data_sha256"]
    return {Triples(triples).sha256, str(planned)}


def _name(source: Any) -> str | None:
    """A file by its name alone: a page may travel further than the folder it was read from."""
    if isinstance(source, os.PathLike):
        return Path(cast("os.PathLike[str]", source)).name
    if isinstance(source, str):
        return Path(source).name if Path(source).exists() else source
    return getattr(source, "source", None) or None
