"""The demo end to end on a tiny model: its report, what it prints, and its picture."""

import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from dspa_nn.demo import SETS, SHOWN, run_demo
from dspa_nn.demo.sets import find_set
from dspa_nn.errors import DSPAError, FileError
from dspa_nn.evaluation import answer, margins, surprise, warmth
from dspa_nn.triples import read_demo_rows, take_demo_rows
from tests import eval_zoo
from tests.conftest import REPOSITORY

CONTROLS = ("(a) rows permuted", "(b) same density", "(c) swapped", "(d) global difference")
OTHERS = ("map, paper's settings", *CONTROLS)
NAMES = ("unsteered", "map, tuned", *OTHERS)
TINY = replace(SETS["register"], read=eval_zoo.rows)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    console = Console(width=80, record=True, file=io.StringIO())
    report = run_demo(
        folder,
        sets=[TINY],
        n_fit=20,
        n_test=10,
        max_new_tokens=6,
        console=console,
        dspa=eval_zoo.dspa(),
        words={3: "what it means"},
    )
    return folder, report, console.export_text()


@pytest.fixture(scope="module")
def own(demo):
    return demo[1]["sets"]["register"]


@pytest.mark.slow
def test_every_figure_is_in_the_report(demo, own):
    folder, report, _ = demo
    assert json.loads((folder / "report.json").read_text()) == json.loads(json.dumps(report))
    assert (report["schema"], report["version"]) == ("dspa_nn.demo", 2)
    assert tuple(own["conditions"]) == NAMES
    assert own["triples"] == {"fit": 20, "dev": 20, "test": 10}
    for name, figures in own["conditions"].items():
        for figure, values in figures.items():
            assert {"all", "personal", "factual", "values"} == set(values), (name, figure)
            # Controls are measured on as many answers as the map.
            assert values["all"]["n"] == 10
            assert values["personal"]["n"] == values["factual"]["n"] == 5
    assert set(own["matched_on_dev"]) == set(CONTROLS)
    assert set(own["map_less"]) == set(OTHERS)
    assert set(report["seconds"]) == {"load", "fit", "match controls", "measure"}
    assert own["settings"]["map, paper's settings"] == {
        "alpha": 0.2, "k_prompt": 32, "k_diff": 16, "mode": "ablate", "prompt_rule": "density",
        "percentile": 90, "prompt_tokens": "all", "gate": "active", "sparsify": "paper",
        "extensions": [], "entries": own["settings"]["map, paper's settings"]["entries"],
    }  # fmt: skip


def test_the_page_lists_the_reports_keys(demo, own):
    page = (REPOSITORY / "docs" / "demo.md").read_text()
    listed = re.findall(r"^\| `(\w+)` \|", page, re.M)
    figures = list(own["conditions"]["map, tuned"])
    assert listed == [*demo[1], *own, *figures]


def test_figures_are_those_of_the_parts(own):
    rows = take_demo_rows(eval_zoo.rows(), "test", 10)
    plain = margins(eval_zoo.dspa(), [row.triple for row in rows], [])[0]
    unsteered = own["conditions"]["unsteered"]
    assert unsteered["margin"]["values"] == pytest.approx(plain.margin, abs=1e-5)
    said = answer(
        eval_zoo.dspa(),
        [eval_zoo.dspa().render(row.triple.prompt) for row in rows],
        max_new_tokens=6,
    )
    assert [entry["answers"]["unsteered"] for entry in own["answers"]] == said.texts
    own_loss = surprise(
        eval_zoo.dspa(), [eval_zoo.dspa().render(row.triple.prompt) for row in rows], said
    )
    assert unsteered["log_perplexity"]["values"] == pytest.approx(own_loss, abs=1e-5)
    style = [
        (1 if row.style == "warm" else -1) * warmth(text)
        for row, text in zip(rows, said.texts, strict=True)
    ]
    assert unsteered["score"]["values"] == pytest.approx(style, abs=1e-6)
    tuned, control = (own["conditions"][name] for name in ("map, tuned", CONTROLS[0]))
    for part, name in (("margin", "change"), ("chosen", "chosen"), ("rejected", "rejected")):
        gap = np.array(tuned[name]["values"]) - np.array(control[name]["values"])
        assert own["map_less"][CONTROLS[0]][part]["mean"] == pytest.approx(gap.mean(), abs=1e-5)
    edited = sum(sum(times.values()) for times in own["edited_latents"].values())
    assert edited > 0


def test_every_token_has_its_change(own):
    changes = own["conditions"]["map, tuned"]
    for index, entry in enumerate(own["tokens"]):
        for part in ("chosen", "rejected"):
            mean = np.mean(entry[part]["change"])
            assert mean == pytest.approx(changes[part]["values"][index], abs=1e-4)
            assert len(entry[part]["tokens"]) == len(entry[part]["edits"])
    best, median, worst = (own["examples"][name] for name in ("best", "median", "worst"))
    values = changes["change"]["values"]
    assert values[best] == max(values)
    assert values[worst] == min(values)
    assert sum(value < values[median] for value in values) == 4


def test_what_is_printed_fits_80_columns_and_names_every_condition(demo, own):
    _, _, text = demo
    assert max(len(line) for line in text.splitlines()) <= 80
    for name in NAMES:
        assert name in text
    assert "…" not in text
    for heading in (
        "Three pairs of texts", "Three answers", "Effect on the margin", "Effect on the answers",
        "The map less the others",
        "Map and controls at a glance", "What this says",
    ):  # fmt: skip
        assert heading in text
    assert re.search(r"\w\[[+-]\d\.\d\]", text)  # a word with its change
    flat = " ".join(text.split())
    for verdict in own["verdicts"]:
        assert (verdict["figures"] if verdict["against"] else verdict["text"]) in flat
    assert own["words"] == {"3": "what it means"}


def test_the_picture_is_drawn(demo):
    folder, *_ = demo
    assert (folder / "register.png").read_bytes().startswith(b"\x89PNG")


def test_an_empty_split_is_refused_in_one_sentence():
    rows = [replace(row, split="fit") for row in eval_zoo.rows(6)]
    with pytest.raises(DSPAError) as caught:
        take_demo_rows(rows, "dev")
    assert str(caught.value) == (
        "none of 6 demo rows was taken for the split 'dev'; give one of the splits that they are "
        "of (fit), and take at least one row"
    )


def test_a_set_is_found_by_its_name():
    assert [find_set(name).name for name in SHOWN] == list(SHOWN)
    with pytest.raises(DSPAError, match="did you mean 'register'"):
        find_set("registre")


@pytest.mark.parametrize("name", SETS)
def test_every_set_knows_the_styles_of_its_rows(name):
    shown = SETS[name]
    rows = shown.read()
    assert {row.split for row in rows} == {"fit", "dev", "test"}
    assert {row.style for row in rows} == set(shown.signs)
    assert all(row.triple.is_chat and row.text for row in rows)


def test_embedded_triples_are_read_and_signed():
    rows = read_demo_rows("register")
    assert {row.sign for row in rows if row.kind == "personal"} == {1}
    assert {row.sign for row in rows if row.kind == "factual"} == {-1}
    assert all(row.triple.is_chat and row.text for row in rows)


def test_a_file_in_place_of_the_folder_is_refused_before_anything_runs(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match=r"out is .*file, which is a file; give a folder"):
        run_demo(tmp_path / "file")
