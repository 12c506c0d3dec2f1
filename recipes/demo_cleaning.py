"""From two raw answers to a clean, length-matched preference triple, or the reason why not."""

import itertools
import random
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from dspa_nn.evaluation import warmth

SHORTEST = 12  # tokens
RATIO = (0.7, 1.4)  # tokens of the warm answer over those of the formal one
WARM_FLOOR, FORMAL_CEILING, GAP = 0.12, 0.05, 0.25  # in units of `warmth`
DISTINCT = 0.5  # least share of different words
REFUSAL = re.compile(r"\bas an ai\b|language model|i can(?:no|')t (?:help|assist)|i'm sorry, but i")
HELD_OUT = {"test": 30, "dev": 35}  # triples of each kind; all others are for fitting

Row = dict[str, Any]


def clean(rows: list[Row], tokens: Callable[[str], int]) -> tuple[list[Row], Counter[str]]:
    """Return the triples that pass every check, and how many were dropped for what."""
    kept: list[Row] = []
    dropped: Counter[str] = Counter()
    seen: set[str] = set()
    for row in rows:
        pair = match(sentences(row["warm"]), sentences(row["formal"]), tokens)
        reason = "no pair of whole sentences of like length" if pair is None else fault(*pair)
        if pair is None or reason:
            dropped[reason] += 1
            continue
        if seen & set(pair):
            dropped["a text that another triple has"] += 1
            continue
        seen |= set(pair)
        warm, formal = pair
        personal = row["kind"] == "personal"
        kept.append(
            {
                "id": row["id"],
                "kind": row["kind"],
                "split": "fit",
                "prompt": [{"role": "user", "content": row["text"]}],
                "chosen": warm if personal else formal,
                "rejected": formal if personal else warm,
                "chosen_style": "warm" if personal else "formal",
            }
        )
    return split(kept), dropped


def sentences(answer: str) -> list[str]:
    """Return the answer's first paragraph, cut into sentences, less an unfinished last one."""
    paragraph = " ".join(answer.strip().split("\n\n")[0].split())
    return re.findall(r"[^.!?]+(?:[.!?](?=\S)[^.!?]*)*[.!?]+(?=\s|$)[\"')]*", paragraph)


def match(
    warm: list[str], formal: list[str], tokens: Callable[[str], int]
) -> tuple[str, str] | None:
    """Return the longest openings of both answers, in whole sentences, that are of like length."""
    best, best_pair = 0.0, None
    for i in range(1, len(warm) + 1):
        for j in range(1, len(formal) + 1):
            pair = "".join(warm[:i]).strip(), "".join(formal[:j]).strip()
            a, b = tokens(pair[0]), tokens(pair[1])
            value = min(a, b) - 0.5 * abs(a - b)
            if min(a, b) >= SHORTEST and RATIO[0] <= a / b <= RATIO[1] and value > best:
                best, best_pair = value, pair
    return best_pair


def fault(warm: str, formal: str) -> str:
    """Return why a pair is not good enough, or an empty string."""
    if warm == formal:
        return "both answers the same"
    for text in (warm, formal):
        if reason := text_fault(text):
            return reason
    high, low = warmth(warm), warmth(formal)
    if high < WARM_FLOOR or low > FORMAL_CEILING or high - low < GAP:
        return "off style"
    return ""


def text_fault(text: str) -> str:
    """Return why one answer is not good enough, whatever its style, or an empty string."""
    if REFUSAL.search(text.lower()):
        return "refusal"
    words = re.findall(r"[a-z']+", text.lower())
    runs = Counter(zip(words, words[1:], words[2:], strict=False))
    stuck = any(len(list(run)) > 2 for _, run in itertools.groupby(words))
    if stuck or max(runs.values(), default=0) > 3 or len(set(words)) < DISTINCT * len(words):
        return "looping"
    return ""


def split(triples: list[Row]) -> list[Row]:
    """Assign splits, by prompt and equal for both kinds, in an order that alternates the kinds."""
    kinds = {
        kind: [row for row in triples if row["kind"] == kind] for kind in ("personal", "factual")
    }
    for rows in kinds.values():
        random.Random(0).shuffle(rows)
        start = 0
        for name, count in HELD_OUT.items():
            for row in rows[start : start + count]:
                row["split"] = name
            start += count
    # Any first n of a split are half of each kind; the larger kind's surplus comes last.
    out: list[Row] = []
    for name in ("fit", "dev", "test"):
        first, second = ([r for r in rows if r["split"] == name] for rows in kinds.values())
        shared = min(len(first), len(second))
        for pair in zip(first, second, strict=False):
            out += pair
        out += first[shared:] + second[shared:]
    return out
