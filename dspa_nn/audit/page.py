"""The report as one HTML file: values for the template, all of them text."""

import base64
import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from math import ceil
from pathlib import Path
from typing import Any

from dspa_nn.audit.gathering import Row, Token
from dspa_nn.audit.paths import Vote
from dspa_nn.imports import untyped
from dspa_nn.saes import LatentMeaning
from dspa_nn.shown import visible

_FOLDER = Path(__file__).parent / "template"
LEVELS = 6
_NOTHING = "(nothing)"  # in place of an empty answer
# Votes for a latent that are listed.
_VOTES = 12


@dataclass(frozen=True)
class Page:
    """What a report shows.

    Attributes:
        title, notes: a heading, and sentences on what is missing.
        rows: one after another. paths: for each row output latent -> votes for it; empty without
            a map.
        same_for_all: for each row, whether what was applied scores every prompt alike.
        meanings: "input" and "output" -> latent -> what is known of it.
        settings, provenance: tables at the foot.
    """

    title: str
    notes: Sequence[str]
    rows: Sequence[Row]
    paths: Sequence[Mapping[int, Sequence[Vote]]]
    same_for_all: Sequence[bool]
    meanings: Mapping[str, Mapping[int, LatentMeaning]]
    settings: Mapping[str, object]
    provenance: Mapping[str, object]


def html_of(page: Page) -> str:
    """The whole file, encodable as UTF-8 whatever the texts hold."""
    jinja2 = untyped("jinja2")
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER), autoescape=True, trim_blocks=True,
        lstrip_blocks=True, undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    script, style = (
        (_FOLDER / name).read_text(encoding="utf-8") for name in ("report.js", "report.css")
    )
    most = max((token.share for row in page.rows for token in row.tokens), default=0.0)
    return templates.get_template("report.html").render(
        title=visible(page.title),
        notes=[visible(note) for note in page.notes],
        rows=[
            _row(row, most) | {"name": name}
            for row, name in zip(page.rows, _names(page.rows), strict=True)
        ],
        levels=[
            {"level": level, "share": f"{most * level / LEVELS:.1%}"}
            for level in range(1, LEVELS + 1)
        ],
        moved=most > 0,
        settings=_told(page.settings),
        provenance=_told(page.provenance),
        data=_data(page),
        script=untyped("markupsafe").Markup(script),
        style=untyped("markupsafe").Markup(style),
        script_hash=_hash(script),
        style_hash=_hash(style),
    )


def _hash(text: str) -> str:
    """What the page's policy knows its own script and style by: others do not run."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _told(facts: Mapping[str, object]) -> list[tuple[str, str]]:
    return [
        (visible(str(name)), visible(value if isinstance(value, str) else _as_text(value)))
        for name, value in facts.items()
    ]


def _as_text(value: object) -> str:
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, default=str)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _row(row: Row, most: float) -> dict[str, Any]:
    tokens = row.tokens
    shares = [token.share for token in tokens if token.steered]
    edits = sum(len(token.edits) for token in tokens)
    before, after = _compared(row.unsteered, row.answer)
    return {
        "tokens": [_shown(token, most) for token in tokens],
        "edits": edits,
        "steered": len(shares),
        "mean": f"{sum(shares) / len(shares):.1%}" if shares else "0 %",
        "most": f"{max(shares, default=0.0):.1%}",
        "augment": len(row.plan.augment),
        "ablate": len(row.plan.ablate),
        "reason": None if edits else visible(row.log.reason() or "no planned latent was active"),
        "answer": after,
        "unsteered": before,
        "same": row.unsteered == row.answer,
        "strip": _strip(tokens),
        "answer_from": sum(token.prompt for token in tokens),
    }


def _names(rows: Sequence[Row]) -> list[str]:
    """What rows are told apart by: their prompts, less what all of them begin and end with."""
    prompts = [row.prompt for row in rows]
    if len(prompts) > 1:
        first = _common(prompts)
        start = max(first.rfind("\n"), first.rfind(" ")) + 1
        prompts = [prompt[start:] for prompt in prompts]
        end = len(_common([prompt[::-1] for prompt in prompts]))
        prompts = [prompt[: len(prompt) - end] for prompt in prompts]
    return [visible(" ".join(prompt.split()))[:80] or "…" for prompt in prompts]


def _common(texts: Sequence[str]) -> str:
    """What all texts begin with."""
    first, last = min(texts), max(texts)
    alike = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return first[: len(list(alike))]


def _shown(token: Token, most: float) -> dict[str, Any]:
    text = visible(token.text)
    name = ""
    if not text.strip():
        name = "line end" if "\n" in text else "space" if text else "part of a character"
    level = 0
    if token.edits and most > 0:
        level = min(LEVELS, max(1, ceil(token.share / most * LEVELS)))
    return {
        "text": text.replace("\n", "↵\n") if text else "·",
        "name": name,
        "level": level,
        "opens": token.steered or bool(token.voters),
        "kind": ("p" if token.prompt else "a") + (" x" if token.special else ""),
    }


def _strip(tokens: Sequence[Token]) -> dict[str, Any]:
    """The share moved over the tokens as one SVG path, 0 to 100 high."""
    most = max((token.share for token in tokens), default=0.0)
    bars = "".join(
        f"M{index + 0.5:g} 100V{100 - 100 * token.share / most:.1f}"
        for index, token in enumerate(tokens)
        if token.share > 0 and most > 0
    )
    return {"path": bars, "width": max(len(tokens), 1), "most": f"{most:.1%}"}


def _compared(before: str | None, after: str) -> tuple[Any, Any]:
    """Both answers in runs of words: (text, whether the other has it too)."""
    if before is None:
        return None, [(visible(after or _NOTHING), True)]
    one, other = ((text or _NOTHING).split(" ") for text in (before, after))
    runs: tuple[list[tuple[str, bool]], list[tuple[str, bool]]] = ([], [])
    matcher = difflib.SequenceMatcher(None, one, other, autojunk=False)
    for tag, a, b, c, d in matcher.get_opcodes():
        for side, words in ((0, one[a:b]), (1, other[c:d])):
            if words:
                runs[side].append((visible(" ".join(words)), tag == "equal"))
    return runs


def _data(page: Page) -> Any:
    """What the script reads, as JSON that can stand in HTML: see jinja2's `tojson`."""
    values = {
        "rows": [
            _row_data(row, votes) | {"same": same}
            for row, votes, same in zip(page.rows, page.paths, page.same_for_all, strict=True)
        ],
        "meanings": {
            side: {str(latent): _meaning(meaning) for latent, meaning in known.items()}
            for side, known in page.meanings.items()
        },
        "mapped": any(page.paths),
    }
    dump = untyped("jinja2.utils").htmlsafe_json_dumps
    return dump(values, dumps=_compact)


def _compact(value: Any, **options: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False, **options)


def _number(value: float) -> float | None:
    return float(f"{value:.5g}") if abs(value) < float("inf") else None


def _row_data(row: Row, votes: Mapping[int, Sequence[Vote]]) -> dict[str, Any]:
    planned = {latent: (1, score) for latent, score in row.plan.augment}
    planned |= {latent: (-1, score) for latent, score in row.plan.ablate}
    return {
        "tokens": [_token_data(token) for token in row.tokens],
        "latents": {
            str(latent): {
                "sign": sign,
                "score": _number(score),
                "votes": [
                    [vote.latent, _number(vote.entry), _number(vote.adds)]
                    for vote in votes.get(latent, ())[:_VOTES]
                ],
                "more": max(len(votes.get(latent, ())) - _VOTES, 0),
                "rest": _number(sum((vote.adds for vote in votes.get(latent, ())[_VOTES:]), 0.0)),
            }
            for latent, (sign, score) in planned.items()
        },
        "counts": {str(latent): count for latent, count, _ in row.plan.prompt_latents},
        "counted": row.plan.counted_tokens,
    }


def _token_data(token: Token) -> list[Any]:
    text = visible(token.text)
    if not token.steered:
        return [text, 0, token.voters] if token.voters else [text]
    return [
        text,
        1,
        token.voters,
        [[latent, _number(before), _number(after)] for latent, before, after in token.edits],
        *map(_number, (token.strongest, token.norm, token.stream)),
        [[visible(one.token), *map(_number, one[1:])] for one in token.logits],
    ]


def _meaning(meaning: LatentMeaning) -> dict[str, Any]:
    told: dict[str, Any] = {"words": visible(meaning.words())}
    for name in ("promotes", "fires_on"):
        if words := getattr(meaning, name):
            told[name] = [visible(word) for word in words]
    for name in ("explanation", "category", "evidence", "source", "note"):
        if text := getattr(meaning, name):
            told[name] = visible(text)
    if meaning.reliable is False:
        told["unreliable"] = True
    if meaning.snippets:
        told["snippets"] = [
            [*map(visible, one[:3]), _number(one.strength)] for one in meaning.snippets
        ]
    if meaning.link and meaning.link.startswith("https://"):
        told["link"] = visible(meaning.link)
    return told
