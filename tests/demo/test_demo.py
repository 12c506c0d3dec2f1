"""The demo end to end on a tiny model, and its parts on figures made up for the purpose."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from dspa_nn.demo import run_demo, show
from dspa_nn.demo.measure import Outcome
from dspa_nn.demo.show import compared
from dspa_nn.demo.verdict import differences, verdicts
from dspa_nn.errors import DSPAError
from dspa_nn.evaluation import Interval, Match, answer, margins, warmth
from dspa_nn.triples import read_demo_rows, take_demo_rows
from tests import eval_zoo

CONTROLS = ("(a) rows permuted", "(b) same density", "(c) swapped", "(d) global difference")
NAMES = ("unsteered", "map, tuned", "map, paper's settings", *CONTROLS)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    console = Console(width=100, record=True, file=io.StringIO())
    report = run_demo(
        folder,
        n_fit=20,
        n_test=10,
        max_new_tokens=6,
        console=console,
        dspa=eval_zoo.dspa(),
        rows=eval_zoo.rows(),
    )
    return folder, report, console.export_text()


def test_every_figure_is_in_the_report(demo):
    folder, report, _ = demo
    assert json.loads((folder / "report.json").read_text()) == json.loads(json.dumps(report))
    assert tuple(report["conditions"]) == NAMES
    assert report["triples"] == {"fit": 20, "dev": 20, "test": 10}
    for name, figures in report["conditions"].items():
        for figure, own in figures.items():
            assert {"all", "personal", "factual", "values"} == set(own), (name, figure)
            assert own["all"]["n"] == 10
            assert own["personal"]["n"] == own["factual"]["n"] == 5
    assert set(report["matched_on_dev"]) == set(CONTROLS)
    assert set(report["seconds"]) == {"load", "fit", "match controls", "measure"}
    assert report["settings"]["map, paper's settings"] == {
        "alpha": 0.2, "k_prompt": 32, "k_diff": 16, "mode": "ablate", "prompt_rule": "density",
        "percentile": 90, "prompt_tokens": "all", "gate": "active", "sparsify": "paper",
        "planner": False, "entries": report["settings"]["map, paper's settings"]["entries"],
    }  # fmt: skip


def test_figures_are_those_of_the_parts(demo):
    _, report, _ = demo
    rows = take_demo_rows(eval_zoo.rows(), "test", 10)
    plain = margins(eval_zoo.dspa(), [row.triple for row in rows], [])[0]
    own = report["conditions"]["unsteered"]
    assert own["margin"]["values"] == pytest.approx(plain.margin, abs=1e-5)
    said = answer(
        eval_zoo.dspa(),
        [eval_zoo.dspa().render(row.triple.prompt) for row in rows],
        max_new_tokens=6,
    )
    assert [entry["answers"]["unsteered"] for entry in report["answers"]] == said.texts
    style = [row.sign * warmth(text) for row, text in zip(rows, said.texts, strict=True)]
    assert own["style"]["values"] == pytest.approx(style, abs=1e-6)
    tuned, control = (report["conditions"][name]["change"] for name in ("map, tuned", CONTROLS[0]))
    gap = np.array(tuned["values"]) - np.array(control["values"])
    assert report["map_less_control"]["a"]["mean"] == pytest.approx(gap.mean(), abs=1e-5)
    edited = sum(sum(own.values()) for own in report["edited_latents"].values())
    assert edited > 0


def test_what_is_printed_fits_100_columns_and_names_every_condition(demo):
    _, _, text = demo
    assert max(len(line) for line in text.splitlines()) <= 100
    for name in NAMES:
        assert name in text
    assert "…" not in text
    for heading in ("Effect on the margin", "Effect on the answers", "What this says"):
        assert heading in text


def outcome(name, change, style=0.1, log_ratio=0.0):
    change = np.asarray(change, dtype=float)
    same = np.full(len(change), 1.0)
    return Outcome(
        name,
        {
            "change": change,
            "style_change": style * same,
            "log_perplexity_change": log_ratio * same,
        },
    )


@pytest.fixture
def rows():
    return take_demo_rows(eval_zoo.rows(), "test", 10)


def judged(rows, map, **controls):
    others = {key: outcome(f"({key})", own) for key, own in controls.items()}
    return [(own.holds, own.text) for own in verdicts(map, others, rows, 0)]


def test_verdicts_say_what_holds(rows):
    found = judged(rows, outcome("map", np.full(10, 0.05)), a=np.zeros(10), c=np.full(10, -0.02))
    assert all(holds for holds, _ in found)
    texts = " ".join(text for _, text in found)
    assert "does raise" in texts
    assert "does beat control (a)" in texts
    assert "does go the other way" in texts
    assert "stays within 1.3" in texts


def test_verdicts_say_what_does_not_hold(rows):
    uneven = [0.05 if row.kind == "personal" else -0.01 for row in rows]
    map = outcome("map", uneven, style=-0.1, log_ratio=0.5)
    found = judged(rows, map, a=np.full(10, 0.1), c=np.full(10, 0.02))
    by_text = {text: holds for holds, text in found}
    for part in (
        "does not beat control (a)",
        "does not go the other way",
        "effect on factual prompts is not positive",
        "do not move towards",
        "does not stay within 1.3",
    ):
        assert [holds for text, holds in by_text.items() if part in text] == [False], part
    assert [holds for text, holds in by_text.items() if "personal" in text] == [True]


def test_differences_are_paired(rows):
    noise = np.random.default_rng(0).normal(0, 5, 10)
    gap = differences(outcome("map", noise + 0.01), {"a": outcome("a", noise)}, 0)["a"]
    assert gap.low == pytest.approx(0.01)
    assert gap.high == pytest.approx(0.01)


def test_words_that_differ_are_highlighted():
    before, after = compared("the cold grey sea", "the warm sea today")
    assert before.plain == "the cold grey sea"
    assert [before.plain[s.start : s.end] for s in before.spans] == ["cold", "grey"]
    assert [after.plain[s.start : s.end] for s in after.spans] == ["warm", "today"]


def test_an_empty_split_is_refused_in_one_sentence():
    rows = [replace(row, split="fit") for row in eval_zoo.rows(6)]
    with pytest.raises(DSPAError) as caught:
        take_demo_rows(rows, "dev")
    assert str(caught.value) == ("the demo's triples hold none for 'dev'; write the file again")


def test_embedded_triples_are_read_and_signed():
    rows = read_demo_rows()
    assert {row.sign for row in rows if row.kind == "personal"} == {1}
    assert {row.sign for row in rows if row.kind == "factual"} == {-1}
    assert all(row.triple.is_chat and row.text for row in rows)


def tables(width, rows):
    """Every table of figures, with wide ones in every column."""
    console = Console(width=width, record=True, file=io.StringIO())
    names = ("change", "kl", "edits", "share", "style_change", "tokens")
    names += ("distinct_1", "distinct_2", "log_perplexity_change", "style")
    spread = np.linspace(-29.5, -10.25, len(rows))
    outcomes = [Outcome(name, dict.fromkeys(names, spread)) for name in NAMES]
    show.margins(console, outcomes, rows, 0)
    show.strength(console, outcomes, rows, 0)
    show.answers(console, outcomes, rows, 0)
    match = Match(128, 64.0, 12.34, 0.1234, 12.34, 0.1234)
    show.matches(console, dict.fromkeys(CONTROLS, match))
    gap = Interval(-10.1234, -11.1234, -9.1234, 50)
    show.paired(console, dict.fromkeys("abcd", gap), dict(zip("abcd", CONTROLS, strict=True)))
    return console.export_text()


def test_no_table_loses_a_column_in_80_columns(rows):
    narrow, wide = tables(80, rows), tables(200, rows)
    assert max(len(line) for line in narrow.splitlines()) <= 80
    assert "…" not in narrow
    assert sorted(narrow.replace("─", "").split()) == sorted(wide.replace("─", "").split())


def test_a_pipe_gets_80_columns_and_a_narrow_terminal_no_fewer(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    assert show.terminal().width == 80
    monkeypatch.setenv("COLUMNS", "200")
    assert show.terminal().width == 100
