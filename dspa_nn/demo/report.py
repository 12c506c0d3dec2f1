"""The demo's figures as plain values, for `report.json`; docs/demo.md lists its keys."""

import resource
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dspa_nn.demo.examples import picked
from dspa_nn.demo.measure import kinds_of, of_kind
from dspa_nn.demo.sets import DemoSet
from dspa_nn.evaluation import Match, Outcome, TokenChanges
from dspa_nn.graph.rules import KINDS
from dspa_nn.receipt import Verdict
from dspa_nn.steering import DSPAMethod
from dspa_nn.triples import DemoRow

SCHEMA, VERSION = "dspa_nn.demo", 2


def of_set(
    shown: DemoSet,
    rows: Sequence[DemoRow],
    triples: Mapping[str, int],
    methods: Sequence[DSPAMethod],
    matches: Mapping[str, Match],
    outcomes: Sequence[Outcome],
    verdicts: Sequence[Verdict],
    seed: int,
) -> dict[str, Any]:
    """All that was measured with one set of triples.

    rows: the held-out ones. outcomes: unsteered, then one for each method.
    """
    _, map, *others = outcomes
    score = shown.score
    return {
        "about": shown.about,
        "score": {"name": score.name, "unit": score.unit, "about": score.about},
        "triples": dict(triples),
        "settings": {method.name: settings(method) for method in methods},
        "matched_on_dev": {name: match.to_dict() for name, match in matches.items()},
        "conditions": {outcome.name: figures(outcome, rows, seed) for outcome in outcomes},
        "map_less": {
            other.name: map.less(other, seed).to_dict()
            | {"score": map.gap("score_change", other, seed).to_dict()}
            for other in others
        },
        "verdicts": [vars(verdict) for verdict in verdicts],
        "examples": picked(map.values["change"]),
        "edited_latents": edits_by_kind(map, rows),
        "tokens": token_changes(map, rows),
        "answers": answers(outcomes, rows),
    }


def settings(method: DSPAMethod) -> dict[str, Any]:
    """How a method's map was fitted, and how it steers."""
    map = method.map
    steering = {name: value for name, value in method.options.items() if name not in KINDS}
    fitting = {k: getattr(map, k) for k in ("percentile", "prompt_tokens", "gate", "sparsify")}
    chosen = [kind for kind in KINDS if kind in method.options]
    rest = {"extensions": chosen, "entries": len(map.values)}
    return steering | fitting | rest


def figures(outcome: Outcome, rows: Sequence[DemoRow], seed: int) -> dict[str, Any]:
    """Every figure with its interval, over all triples and for each kind, and its values."""
    kinds = ("", *kinds_of(rows))
    return {
        name: {
            kind or "all": outcome.interval(name, seed, of_kind(rows, kind)).to_dict()
            for kind in kinds
        }
        | {"values": [None if np.isnan(v) else round(float(v), 6) for v in values]}
        for name, values in outcome.values.items()
    }


def token_changes(outcome: Outcome, rows: Sequence[DemoRow]) -> list[dict[str, Any]]:
    """Every held-out triple with the change of log p of each of its tokens under one method."""
    assert outcome.margins is not None
    parts = zip(rows, outcome.margins.chosen.tokens, outcome.margins.rejected.tokens, strict=True)
    return [
        {
            "prompt": row.text,
            "kind": row.kind,
            "chosen": _each_token(chosen),
            "rejected": _each_token(rejected),
        }
        for row, chosen, rejected in parts
    ]


def _each_token(changes: TokenChanges) -> dict[str, list[Any]]:
    return {
        "tokens": changes.tokens,
        "change": [round(float(value), 4) for value in changes.change],
        "edits": [int(value) for value in changes.edits],
    }


def answers(outcomes: Sequence[Outcome], rows: Sequence[DemoRow]) -> list[dict[str, Any]]:
    """Every prompt with what was answered under each method."""
    return [
        {
            "prompt": row.text,
            "kind": row.kind,
            "answers": {
                outcome.name: outcome.answers.texts[index]
                for outcome in outcomes
                if outcome.answers is not None
            },
        }
        for index, row in enumerate(rows)
    ]


def edits_by_kind(outcome: Outcome, rows: Sequence[DemoRow]) -> dict[str, dict[int, int]]:
    """Kind of prompt -> output latent -> how often it was edited in the answers."""
    by_kind: dict[str, dict[int, int]] = {kind: {} for kind in kinds_of(rows)}
    if outcome.answers is None:
        return by_kind
    start = 0
    for log in outcome.answers.logs:
        for edit in log:
            times = by_kind[rows[start + edit.row].kind]
            times[edit.latent] = times.get(edit.latent, 0) + 1
        start += log.rows
    return by_kind


def peak_memory() -> float:
    """The most memory that this process has held, in GB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e9 if sys.platform == "darwin" else most / 1e6
