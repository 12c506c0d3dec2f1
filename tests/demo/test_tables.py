"""Tables and the plot: whole in 80 columns, with figures made up to be wide."""

import io
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from dspa_nn.demo import SETS, forest, show, tables
from dspa_nn.demo.examples import compared, picked
from dspa_nn.evaluation import Interval, Match, Outcome
from dspa_nn.triples import take_demo_rows
from tests import eval_zoo
from tests.demo.test_demo import CONTROLS, NAMES

FIGURES = (
    "change", "chosen", "rejected", "chosen_edits", "rejected_edits", "chosen_share",
    "rejected_share", "kl", "score", "score_change", "tokens", "distinct_1", "distinct_2",
    "log_perplexity_change",
)  # fmt: skip


@pytest.fixture
def rows():
    return take_demo_rows(eval_zoo.rows(), "test", 10)


def printed(width, rows):
    """Every table of figures, with wide ones in every column."""
    console = Console(width=width, record=True, file=io.StringIO())
    values: dict[str, Any] = dict.fromkeys(FIGURES, np.linspace(-9.5, -1.25, len(rows)))
    values |= dict.fromkeys(("chosen_share", "rejected_share"), np.linspace(0.1, 0.3, len(rows)))
    values |= dict.fromkeys(("chosen_edits", "rejected_edits"), np.linspace(9, 16, len(rows)))
    values |= dict.fromkeys(("kl", "log_perplexity_change"), np.linspace(0.1, 4, len(rows)))
    values |= {"tokens": np.linspace(90, 128, len(rows))}
    outcomes = [Outcome(name, values) for name in NAMES]
    score = SETS["register"].score
    tables.margins(console, outcomes, rows, 0)
    tables.strength(console, outcomes, 0)
    tables.answers(console, outcomes, rows, score, 0)
    match = Match(128, 64.0, 12.34, 0.1234, 12.34, 0.1234)
    tables.matches(console, dict.fromkeys(CONTROLS, match))
    tables.paired(console, outcomes[1], outcomes[2:], score, 0)
    return console.export_text()


def test_no_table_loses_a_column_in_80_columns(rows):
    narrow, wide = printed(80, rows), printed(200, rows)
    assert max(len(line) for line in narrow.splitlines()) <= 80
    assert "…" not in narrow
    assert sorted(narrow.replace("─", "").split()) == sorted(wide.replace("─", "").split())


def test_a_pipe_gets_80_columns_and_a_narrow_terminal_no_fewer(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    assert show.terminal().width == 80
    monkeypatch.setenv("COLUMNS", "200")
    assert show.terminal().width == 100


def test_the_plot_has_a_line_for_either_text_of_every_method():
    lines = [
        forest.Line("map, tuned", "chosen", Interval(0.0, -0.01, 0.01, 9)),
        forest.Line("map, tuned", "rejected", Interval(-0.2, -0.3, -0.1, 9)),
        forest.Line("(c) swapped", "chosen", Interval(-0.4, -0.4, -0.4, 9)),
        forest.Line("(c) swapped", "rejected", Interval(0.1, 0.05, 0.2, 9)),
    ]
    drawn = [text.plain for text in forest.drawn(lines, 80, plain=True)]
    assert all(len(line) <= 80 for line in drawn)
    assert drawn[0].startswith("map, tuned            chosen ")
    assert drawn[1].startswith("                      rejected ")
    plots = [line[31:] for line in drawn]
    assert plots[1].index("x") < plots[1].index("|") == plots[3].index("|") < plots[3].index("x")
    assert plots[2].index("o") == 0
    assert plots[3].rstrip().endswith("-")
    assert plots[4].split() == ["-0.40", "0", "+0.20"]
    assert plots[4].index(" 0 ") + 1 == plots[1].index("|")
    marked = [text.plain[31:] for text in forest.drawn(lines, 80)]
    for line, (mark, other) in zip(marked, [("●", "o"), ("◆", "x")] * 2, strict=False):
        assert line.index(mark) == plots[marked.index(line)].index(other)


def test_without_matplotlib_there_is_a_note_for_a_picture(monkeypatch, tmp_path):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(forest, "untyped", missing)
    console = Console(width=80, record=True, file=io.StringIO())
    assert not forest.pictured(console, [], tmp_path / "x.png")
    assert "pip install 'dspa-nn[demo]' brings matplotlib" in console.export_text()
    assert not list(tmp_path.iterdir())


def test_latents_stand_with_their_words(rows):
    from dspa_nn.evaluation import Answers

    console = Console(width=80, record=True, file=io.StringIO())

    class Told(Answers):
        def by_latent(self):
            return {3132: 12, 7: 4}

    steered = Outcome("map", {}, None, Told(["a", "b"], [], []))
    by_kind = {"factual": {3132: 12}, "personal": {7: 4}}
    words = {3132: "affection, endearments, and a good deal more that runs over the line's end"}
    tables.latents(console, steered, by_kind, words)
    text = console.export_text()
    assert max(len(line) for line in text.splitlines()) <= 80
    assert " ".join(words[3132].split()[:3]) in text
    assert "end" in text
    assert "16 edits of 2 output latents in 2 answers" in text
    assert "…" not in text


def test_best_median_and_worst_are_by_the_change_of_the_margin():
    assert picked(np.array([3.0, 1.0, 2.0])) == {"best": 0, "median": 2, "worst": 1}
    assert picked(np.array([3.0])) == {"best": 0, "median": 0, "worst": 0}


def test_words_that_differ_are_highlighted():
    before, after = compared("the cold grey sea", "the warm sea today")
    assert before.plain == "the cold grey sea"
    assert [before.plain[s.start : s.end] for s in before.spans] == ["cold", "grey"]
    assert [after.plain[s.start : s.end] for s in after.spans] == ["warm", "today"]
