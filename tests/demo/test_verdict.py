"""Verdicts turn out either way, say which part moved, and are there for every row of the tables."""

import io

import numpy as np
import pytest
from rich.console import Console

from dspa_nn.demo import SETS, verdict
from dspa_nn.demo.verdict import verdicts
from dspa_nn.evaluation import Outcome
from dspa_nn.triples import take_demo_rows
from tests import eval_zoo

SHOWN = SETS["register"]


@pytest.fixture
def rows():
    return take_demo_rows(eval_zoo.rows(), "test", 10)


def outcome(name, chosen, rejected, style=0.1, log_ratio=0.0):
    chosen, rejected, same = (
        np.broadcast_to(np.asarray(values, dtype=float), 10).copy()
        for values in (chosen, rejected, 1.0)
    )
    values = {
        "change": chosen - rejected,
        "chosen": chosen,
        "rejected": rejected,
        "score_change": style * same,
        "log_perplexity_change": log_ratio * same,
    }
    return Outcome(name, values)


def judged(rows, map, *others):
    return verdicts([outcome("unsteered", 0, 0), map, *others], rows, SHOWN, 0)


def test_verdicts_say_what_holds_and_which_part_moved(rows):
    found = judged(rows, outcome("map", 0, -0.05), outcome("(a)", 0, 0, style=0.0))
    about_map = [one for one in found if one.about == "map"]
    assert all(one.holds for one in about_map)
    texts = [one.text for one in about_map]
    assert texts[0] == (
        "The margin rose because the rejected text became less likely; the chosen one did not "
        "change: +0.050 [+0.050, +0.050]; chosen +0.000, rejected -0.050."
    )
    assert texts[1].startswith("On factual prompts the margin rose because")
    assert "move towards what is preferred: style +0.100 [+0.100, +0.100] marks a word" in texts[3]
    assert "stay fluent" in texts[4]
    assert "1.00 [1.00, 1.00] times" in texts[4]
    assert texts[5] == (
        "The map's change of the margin is above that of (a): "
        "+0.050 [+0.050, +0.050] chosen +0.000, rejected -0.050."
    )
    assert texts[6] == (
        "Its answers move further than those of (a): +0.100 [+0.100, +0.100] marks a word."
    )
    assert about_map[6].figures == "+0.100 [+0.100, +0.100] marks a word"


def test_every_row_is_judged_the_unfavourable_ones_too(rows):
    uneven = [0.05 if row.kind == "personal" else -0.01 for row in rows]
    map = outcome("map", uneven, 0, style=-0.1, log_ratio=0.5)
    found = judged(rows, map, outcome("(a)", 0.1, 0), outcome("(c)", -0.02, 0, log_ratio=0.1))
    by_text = {(one.about, one.text): one for one in found}
    for about, part in (
        ("map", "On factual prompts the margin fell because the chosen text became less likely"),
        ("map", "do not move towards"),
        ("map", "do not stay fluent"),
        ("map", "not above that of (a): -0.080"),
        ("map", "do not move further than those of (a): -0.200"),
        ("(c)", "The margin fell because"),
    ):
        holds = [one.holds for key, one in by_text.items() if key[0] == about and part in key[1]]
        assert holds == [False], part
    personal = [one for one in found if one.about == "map" and one.kind == "personal"]
    assert [one.holds for one in personal] == [True]
    for name in ("map", "(a)", "(c)"):
        own = [(one.claim, one.kind) for one in found if one.about == name and not one.against]
        assert own == [
            ("margin", ""), ("margin", "factual"), ("margin", "personal"), ("score", ""),
            ("fluent", ""),
        ]  # fmt: skip
    assert [(one.against, one.claim) for one in found if one.against] == [
        ("(a)", "beats"), ("(a)", "better score"), ("(c)", "beats"), ("(c)", "better score")
    ]  # fmt: skip


def test_what_is_printed_says_which_methods_are_beaten_and_which_are_not(rows):
    console = Console(width=80, record=True, file=io.StringIO())
    map, worse, better = (outcome(n, 0, -x) for n, x in (("map", 0.1), ("(a)", 0), ("(b)", 0.2)))
    verdict.judged(console, judged(rows, map, worse, better))
    text = " ".join(console.export_text().split())
    assert "yes The margin rose because the rejected text became less likely" in text
    assert "yes The map's change of the margin is above that of (a) +0.100" in text
    assert "no The map's change of the margin is not above that of (b) -0.100" in text
    assert "(b). The margin rose because" in text


def test_differences_are_paired(rows):
    noise = np.random.default_rng(0).normal(0, 5, 10)
    gap = outcome("map", noise + 0.01, 0).less(outcome("a", noise, 0), 0)
    assert gap.margin.low == pytest.approx(0.01)
    assert gap.margin.high == pytest.approx(0.01)
