"""`report`: an edit log as one HTML file that a person can look through."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from dspa_nn.audit.gathering import Row, logs_of, rows_of
from dspa_nn.audit.meanings import known_meanings
from dspa_nn.audit.page import Page, html_of
from dspa_nn.audit.paths import Vote, votes_for
from dspa_nn.audit.replay import MOST_TOKENS, answer_unsteered, can_replay, replay
from dspa_nn.checks import check_type
from dspa_nn.errors import SteeringError
from dspa_nn.files import as_path, write_atomically
from dspa_nn.maps import ConditionalDifferenceMap, MapSum, same_for_every_prompt
from dspa_nn.saes import LatentMeaning
from dspa_nn.steering import DSPA, EditLog

OneOrMany: TypeAlias = ConditionalDifferenceMap | Sequence[ConditionalDifferenceMap]


def report(
    edits: EditLog | Sequence[EditLog],
    path: str | os.PathLike[str],
    *,
    dspa: DSPA | None = None,
    map: OneOrMany | None = None,
    unsteered: str | Sequence[str] | None = None,
    meanings: Mapping[int, LatentMeaning] | None = None,
    input_meanings: Mapping[int, LatentMeaning] | None = None,
    tokenizer: Any = None,
    edit: Any = None,
    title: str = "What was edited",
) -> Path:
    """Write one HTML file in which every edit of a run can be looked up.

    Example:
        >>> with dspa.attach(hf_model, map) as edits:
        ...     ids = hf_model.generate(prompt.ids[None], max_new_tokens=4)
        >>> report(edits, "report.html", dspa=dspa, map=map).name
        'report.html'

    The file needs nothing beside it and fetches nothing. Of the log alone it shows the text, each
    token shaded by how far it was moved, and at each token the latents that were edited, before
    and after. With `map` it shows why each latent was planned; with `dspa`, whose weights must be
    here, also the logits that moved most, the prompt tokens that each voting latent is active on,
    and an unsteered answer.

    Args:
        edits: what `apply` or `attach` returned, also of a batch or of a run on NDIF; or several.
        path: of the file; its folder is made.
        dspa: the model, to work out again what a log does not hold: two passes over each row, and
            one greedy answer.
        map: what was applied; a list of maps, one for each row, where rows have their own.
        unsteered: what the unsteered model said, one text for each row, in place of that answer.
        meanings: what output latents mean, to go before the package's own table: `snippets`,
            `read_neuronpedia` and `explained` make such.
        input_meanings: the same of input latents.
        tokenizer: of a log that comes from NDIF, where no `dspa` is given.
        edit: the extension that the run was given as `edit=`, if any: a log holds its name alone,
            and without it the logits that moved are left out.
        title: the page's heading.

    Raises:
        SteeringError: a log that holds no edits to show, or whose tokens nothing can read.
        MapError: another map than was applied.
        FileError: the file cannot be written.
    """
    logs = logs_of(edits)
    check_type("title", title, str, SteeringError)
    check_type("unsteered", unsteered, str | Sequence[str] | None, SteeringError)
    check_type("map", map, OneOrMany | None, SteeringError)
    for of_latents in (meanings, input_meanings):
        check_type("meanings", of_latents, Mapping[int, LatentMeaning] | None, SteeringError)
    if dspa is not None:
        tokenizer = dspa.facts.tokenizer if tokenizer is None else tokenizer
    if tokenizer is None:
        tokenizer = logs[0].tokenizer
    if tokenizer is None:
        raise SteeringError(
            "the edit log comes without a tokenizer, as logs from NDIF do; give report dspa= or "
            "tokenizer="
        )
    if not callable(getattr(tokenizer, "decode", None)):
        raise SteeringError(
            f"tokenizer is {tokenizer!r}, of type {type(tokenizer).__name__}; expected a tokenizer "
            "of transformers, as AutoTokenizer.from_pretrained loads one"
        )
    rows = rows_of(logs, tokenizer, set(getattr(tokenizer, "all_special_ids", ())))
    notes: list[str] = []
    _answer(rows, dspa, unsteered, notes)
    if dspa is not None and can_replay(dspa):
        missing = replay(dspa, rows, edit)
        if missing:
            notes.append(
                f"Logits are left out: the run was edited by {', '.join(missing)}, which a log "
                "names and does not hold; give report edit= as well."
            )
        if any(sum(token.steered for token in row.tokens) > MOST_TOKENS for row in rows):
            notes.append(f"Logits are those of the first {MOST_TOKENS:,} steered tokens of a row.")
    else:
        notes.append(
            "Logits, and the prompt tokens of each voting latent, are left out: "
            + ("the model is not loaded here." if dspa else "the report was made without dspa=.")
        )
    if map is None:
        notes.append("Why a latent was chosen is left out: the report was made without map=.")
    maps = _one_a_row(map, len(rows))
    paths = [_votes(row, own) for row, own in zip(rows, maps, strict=True)]
    origin = logs[0].origin
    for row, own in zip(rows, maps, strict=True):
        for token in row.tokens if _alike(own) else ():
            token.voters = []
    sums = [own for own in maps if isinstance(own, MapSum) and not _alike(own)]
    if any(same_for_every_prompt(term) for own in sums for _, term in own.terms):
        notes.append(
            "Votes of prompt latent 0 include what a persona, whose scores are the same for every "
            "prompt, adds."
        )
    page = Page(
        title=title,
        notes=notes,
        rows=rows,
        paths=paths,
        same_for_all=[_alike(own) for own in maps],
        meanings={
            "output": known_meanings(
                origin, "output", _edited(rows), meanings, dspa if can_replay(dspa) else None
            ),
            "input": known_meanings(origin, "input", _voting(rows, paths), input_meanings),
        },
        settings=logs[0].options,
        provenance=_provenance(origin, maps),
    )
    target = as_path(path)
    write_atomically(target, html_of(page))
    return target


def _answer(
    rows: Sequence[Row], dspa: DSPA | None, given: str | Sequence[str] | None, notes: list[str]
) -> None:
    """Give each row its unsteered answer, where there is one."""
    if given is not None:
        texts = [given] if isinstance(given, str) else list(given)
        if len(texts) != len(rows):
            raise SteeringError(
                f"unsteered= holds {len(texts)} texts, and the log has {len(rows)} rows; give one "
                "for each"
            )
        for row, text in zip(rows, texts, strict=True):
            row.unsteered = text
        return
    if dspa is None or not can_replay(dspa):
        return
    for row in rows:
        row.unsteered = answer_unsteered(dspa, row)
    if any(row.unsteered is not None for row in rows):
        notes.append("Unsteered answers are greedy, and as long as the steered ones at most.")


def _one_a_row(map: OneOrMany | None, rows: int) -> list[ConditionalDifferenceMap | None]:
    if map is None or isinstance(map, ConditionalDifferenceMap):
        return [map] * rows
    if len(map) != rows:
        raise SteeringError(
            f"map= holds {len(map)} maps, and the log has {rows} rows; give one for each"
        )
    return list(map)


def _votes(row: Row, map: ConditionalDifferenceMap | None) -> dict[int, list[Vote]]:
    if map is None:
        return {}
    return {latent: votes_for(row.plan, map, latent) for latent in row.plan.latents}


def _edited(rows: Sequence[Row]) -> list[int]:
    return sorted({latent for row in rows for latent in row.plan.latents})


def _voting(rows: Sequence[Row], paths: Sequence[Mapping[int, Sequence[Vote]]]) -> list[int]:
    seen = {vote.latent for votes in paths for each in votes.values() for vote in each}
    return sorted(seen | {i for row in rows for token in row.tokens for i in token.voters})


def _provenance(
    origin: Mapping[str, Any], maps: Sequence[ConditionalDifferenceMap | None]
) -> dict[str, object]:
    """What the run's maps, model and SAEs are."""
    told: dict[str, object] = {name: value for name, value in origin.items() if value is not None}
    each = list({id(map): map for map in maps if map is not None}.values())
    for number, map in enumerate(each, 1):
        told["map" if len(each) == 1 else f"map {number}"] = " ".join(repr(map).split())
    return told


def _alike(map: ConditionalDifferenceMap | None) -> bool:
    return map is not None and same_for_every_prompt(map)
