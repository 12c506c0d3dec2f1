"""A receipt on a tiny model: its figures are those of the measures, and what is done stays done."""

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from dspa_nn import PreferenceTriple
from dspa_nn.errors import DSPAWarning, EvaluationError, FileError, MapError, SteeringError
from dspa_nn.evaluation import bootstrap, branching_factor, margins
from dspa_nn.receipt import SCHEMA, VERSION, evaluate, parts
from dspa_nn.receipt.inputs import read_inputs
from dspa_nn.receipt.methods import target
from dspa_nn.receipt.rewrites import read_paraphrases
from tests import eval_zoo
from tests.conftest import REPOSITORY

NAMES = [
    "the map", "(a) rows permuted", "(b) same density", "(c) swapped", "(d) global difference",
    "instruction",
]  # fmt: skip


def triples() -> list[PreferenceTriple]:
    return eval_zoo.triples(40)


@pytest.fixture(scope="module")
def fitted():
    return eval_zoo.counts(12).fit(percentile=50)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    question = {"question": "sun", "choices": ["moon hail", "rain"], "answer": "B"}
    (folder / "questions.jsonl").write_text(json.dumps(question) + "\n")
    asked = triples()[13].prompt[-1]["content"]  # pyright: ignore
    other = {"prompt": asked, "paraphrase": "what of <b>hail</b>?"}
    (folder / "other_words.jsonl").write_text(json.dumps(other) + "\n")
    return folder


def made(folder, fitted, files=None, **changes: Any):
    given: dict[str, Any] = {
        "dev": triples()[32:], "fitted_on": triples()[:12], "max_new_tokens": 3, "progress": False,
        "instruction": "sun moon",
    }  # fmt: skip
    if files is not None:
        given["multiple_choice"] = files / "questions.jsonl"
        given["paraphrases"] = files / "other_words.jsonl"
    held_out = changes.pop("triples", triples()[12:32])
    return evaluate(eval_zoo.dspa(), fitted, held_out, folder, **{**given, **changes})


@pytest.fixture(scope="module")
def receipt(tmp_path_factory, fitted, files):
    return made(tmp_path_factory.mktemp("receipt"), fitted, files)


@pytest.mark.slow
def test_the_json_holds_every_figure(receipt):
    report = json.loads(receipt.json.read_text())
    assert (report["schema"], report["version"]) == (SCHEMA, VERSION) == ("dspa_nn.receipt", 1)
    assert list(report["methods"]) == NAMES
    assert list(report["map_less"]) == NAMES[1:]
    assert set(report["matched_on_dev"]) == set(NAMES[1:5])
    assert list(report["rewritten"]) == [
        "paraphrased", "asked politely", '"Please answer:"', "longer prompt"
    ]  # fmt: skip
    assert report["rewritten"]["paraphrased"]["n"] == 1
    assert report["data"]["triples"]["n"] == 20
    assert len(report["answers"]) == 20
    for figures in report["methods"].values():
        assert figures["margin"]["margin"]["n"] == 20
        assert figures["multiple_choice"]["right_by_length"]["share"]["n"] == 1
        assert len(figures["values"]["kl"]) == 20
    assert "/" not in str(report["data"]["multiple_choice"]["source"])


@pytest.mark.slow
def test_figures_are_those_of_the_measures(receipt, fitted):
    tuned = target(eval_zoo.dspa(), fitted)
    _, steered = margins(eval_zoo.dspa(), triples()[12:32], [tuned])
    found = receipt.report["methods"]["the map"]
    assert found["values"]["change"] == pytest.approx(steered.change, abs=1e-5)
    assert found["margin"]["margin"]["mean"] == pytest.approx(steered.change.mean(), abs=1e-5)
    assert found["kl"]["mean"] == pytest.approx(steered.kl.mean(), abs=1e-5)
    assert found["worse"]["mean"] == pytest.approx((steered.change < 0).mean())
    other = receipt.report["methods"]["(c) swapped"]["values"]["change"]
    gap = bootstrap(np.array(found["values"]["change"]) - np.array(other))
    assert receipt.report["map_less"]["(c) swapped"]["margin"] == pytest.approx(
        gap.to_dict(), abs=1e-5
    )


@pytest.mark.slow
def test_the_branching_factor_is_in_the_json_and_on_the_page(receipt, fitted):
    dspa = eval_zoo.dspa()
    prompts = [dspa.render(one.prompt) for one in triples()[12:32]]
    methods = {"unsteered": None, "the map": target(dspa, fitted)}
    own = {
        name: branching_factor(dspa, prompts, method, max_new_tokens=3, batch_size=32)
        for name, method in methods.items()
    }
    found = receipt.report["sampled"]["branching_factor"]
    for name, one in own.items():
        assert found[name] == pytest.approx(one.factor.to_dict(), rel=1e-6)
    ratio = own["the map"].ratio(own["unsteered"])
    assert found["ratio"] == pytest.approx(ratio.to_dict(), rel=1e-6)
    words = Page(receipt.page.read_text()).words
    assert f"a ratio of {ratio.mean:.2f} [{ratio.low:.2f}, {ratio.high:.2f}], where 1 is" in words


@pytest.mark.slow
def test_every_verdict_says_its_figures_and_whether_it_holds(receipt):
    claims = [(one.claim, one.against) for one in receipt.verdicts]
    for name in NAMES[1:]:
        assert ("beats", name) in claims
    for claim in ("margin", "chosen", "few worse", "fluent", "no loops", "multiple choice"):
        assert (claim, "") in claims
    assert sum(claim == "robust" for claim, _ in claims) == 4
    for verdict in receipt.verdicts:
        assert verdict.figures in verdict.text
        assert verdict.text in str(receipt)
        if verdict.claim == "beats":
            low, high = re.findall(r"[+-]\d\.\d+", verdict.figures)[1:3]
            assert verdict.holds == (float(low) > 0 or (False if float(high) < 0 else None))


class Page(HTMLParser):
    """Tags that are open, and whatever a browser would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "link"):
            self.open.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


@pytest.mark.slow
def test_the_page_stands_alone_and_says_what_the_json_says(receipt):
    text = receipt.page.read_text()
    page = Page(text)
    assert not page.open
    assert page.fetched == ["data:,"]  # no icon is asked for
    assert "url(" not in text
    assert "prefers-color-scheme: dark" in text
    for verdict in receipt.verdicts:
        assert verdict.text in page.words
    for name in (*NAMES, "longer prompt", "within 10 %", "Multiple choice"):
        assert name in page.words
    assert receipt.report["in_short"] in page.words
    assert "<b>" not in text  # what stands in prompts and answers is no markup


@pytest.mark.slow
def test_what_is_done_is_not_done_again(tmp_path, fitted, files, receipt, monkeypatch):
    first = receipt
    shutil.copytree(receipt.page.parent / "parts", tmp_path / "parts")
    kept = sorted(path.name for path in (tmp_path / "parts").iterdir())

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    for name in ("margins", "answer", "choose", "branching_factor"):
        monkeypatch.setattr(parts, name, fail)
    again = made(tmp_path, fitted, files)
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == kept
    same = {"seconds", "written"}
    assert {k: v for k, v in again.report.items() if k not in same} == {
        k: v for k, v in first.report.items() if k not in same
    }
    assert again.report["seconds"]["margins"] == first.report["seconds"]["margins"]


@pytest.mark.slow
def test_a_run_that_was_cut_off_goes_on(tmp_path, fitted, receipt, files, monkeypatch):
    whole, calls = parts.answer, []

    def stops(*given: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(*given, **options)

    monkeypatch.setattr(parts, "answer", stops)
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path, fitted, files)
    assert not (tmp_path / "receipt.json").exists()
    monkeypatch.setattr(parts, "answer", whole)
    found = made(tmp_path, fitted, files)
    assert found.report["methods"] == receipt.report["methods"]
    assert found.report["sampled"] == receipt.report["sampled"]


@pytest.mark.slow
def test_a_damaged_part_is_measured_again(tmp_path, fitted):
    first = made(tmp_path, fitted, triples=triples()[12:18])
    part = next((tmp_path / "parts").glob("margins-*"))
    part.write_text(part.read_text()[:40])
    with pytest.warns(DSPAWarning, match="is damaged or of another version, and is measured again"):
        again = made(tmp_path, fitted, triples=triples()[12:18])
    assert again.report["methods"]["the map"] == first.report["methods"]["the map"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"dev": triples()[30:]}, "2 of 20 held-out triples are development triples too, the first "
         "of them number 18; leave them out of one of the two"),
        ({"fitted_on": triples()[:14]}, "2 of 20 held-out triples are fitting triples too, the "
         "first of them number 0; leave them out of one of the two"),
        ({"triples": triples()[:12], "fitted_on": None}, "the map was fitted on all 12 of the "
         "held-out triples; give triples that it has not seen"),
        ({"triples": triples()[:20], "fitted_on": None}, "the map was fitted on the first 12 of "
         "the held-out triples; give triples that it has not seen"),
        ({"triples": triples()[:12], "dev": None, "fitted_on": None, "limit": 5}, "the map was "
         "fitted on all 12 of the held-out triples; give triples that it has not seen"),
        ({"triples": triples()[12:14], "dev": None, "dev_share": 0.1}, "a share of 0.1 of 2 "
         "triples leaves 2 to report on and 0 to match controls on; give more triples, another "
         "share, or --dev"),
        ({"triples": triples()[12:17]}, "5 held-out triples came, where at least 6 were expected: "
         "of fewer, all may be on one side by chance; give more"),
        ({"temperature": 1e-320}, "temperature is 1e-320; expected 0, which takes the likeliest "
         "token, or a number of at least 1e-06."),
        ({"temperature": 0.0}, "temperature is 0.0; give a number above 0, since greedy answers "
         "are measured in any case"),
        ({"triples": [PreferenceTriple("sun " * 4000, "sun", "hail")]}, "all 1 held-out triples "
         "are longer than the * tokens that the model's context of * leaves them; give shorter "
         "ones"),
    ],
)  # fmt: skip
def test_bad_input_gets_one_sentence(tmp_path, fitted, changes, sentence):
    with pytest.raises(EvaluationError) as caught:
        made(tmp_path, fitted, **changes)
    pattern = re.escape(sentence).replace(r"\*", r"\d+")
    assert re.fullmatch(pattern, str(caught.value))


def test_rows_that_count_twice_or_not_at_all_are_noted(fitted):
    held_out = [*triples()[12:20], triples()[12], ("sun", "hail", "hail")]
    found = read_inputs(eval_zoo.dspa(), fitted, held_out, dev=triples()[32:])
    assert len(found.test) == 9
    assert "1 of 9 held-out triples stand there before" in " ".join(found.notes)
    assert "1 row(s) of the held-out triples were left out: chosen equals rejected." in found.notes


def test_paraphrases_are_other_words(tmp_path):
    asked = [triple.prompt[-1]["content"] for triple in triples()[12:15]]  # pyright: ignore
    rows = [(asked[0], "what of hail?"), (asked[1], asked[2]), ("nobody asked", "this")]
    said = tmp_path / "said.jsonl"
    for other in ([], [(asked[2], asked[2])]):
        lines = [json.dumps({"prompt": a, "paraphrase": b}) for a, b in [*rows, *other]]
        said.write_text("\n".join(lines))
        if other:
            with pytest.raises(
                EvaluationError, match=r"^said.jsonl has '.*' as its own paraphrase"
            ):
                read_paraphrases(said, triples()[12:15])
        else:
            assert read_paraphrases(said, triples()[12:15]).about == (
                "Paraphrases from said.jsonl, of 2 of the 3 prompts. 1 of them ask what another "
                "held-out triple asks. 1 of the file are of no held-out prompt."
            )


def test_bad_settings_and_folders_are_refused_before_anything_runs(tmp_path, fitted):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="which is a file; give a folder"):
        made(tmp_path / "file", fitted)
    with pytest.raises(SteeringError, match="alpha is -1"):
        made(tmp_path, fitted, options={"alpha": -1})
    foreign = eval_zoo.counts(12).fit(percentile=50)
    foreign.provenance = {**foreign.provenance, "input_layer": 3}
    with pytest.raises(MapError, match="it is evaluated with"):
        made(tmp_path, foreign)


@pytest.mark.slow
def test_without_development_triples_a_share_is_drawn_and_said(tmp_path, fitted):
    found = made(
        tmp_path, fitted, triples=triples()[12:20], dev=None, dev_share=0.25, fitted_on=None,
        instruction="",
    )  # fmt: skip
    assert found.report["data"]["triples"]["n"] == 6
    assert found.report["data"]["dev"]["n"] == 2
    assert list(found.report["methods"]) == NAMES[:-1]
    notes = " ".join(found.report["data"]["notes"])
    assert "2 of the held-out ones, drawn at random, matched the controls" in notes
    assert "cannot be told without --fitted-on" in notes
    assert "multiple choice was not measured" in notes


@pytest.mark.slow
def test_another_map_is_another_part(tmp_path, fitted):
    first = made(tmp_path, fitted, triples=triples()[12:18])
    count = len(list((tmp_path / "parts").iterdir()))
    first.json.rename(tmp_path / "first.json")
    made(tmp_path, fitted + 0.5 * fitted, triples=triples()[12:18], options={"alpha": 0.4})
    assert len(list((tmp_path / "parts").iterdir())) > count


@pytest.mark.slow
def test_the_receipt_of_another_map_is_not_written_over(tmp_path, fitted, receipt):
    written = tmp_path / "receipt.json"
    shutil.copy(receipt.json, written)
    with pytest.raises(EvaluationError) as caught:
        made(tmp_path, -1.0 * fitted)
    assert str(caught.value) == (
        f"{tmp_path} holds the receipt of another map, 'a map'; give another folder"
    )
    assert written.read_bytes() == receipt.json.read_bytes()
    for content in ("nonsense", "[]", "{}"):
        written.write_text(content)
        with pytest.raises(EvaluationError, match=r"receipt\.json is no receipt, or a damaged one"):
            made(tmp_path, fitted)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("nonsense", "words.jsonl, line 1 is no JSON; give one paraphrase a line"),
        ('{"prompt": "a?"}', "words.jsonl, line 1 has prompt; prompt and paraphrase were expected"),
        ('{"prompt": "a?", "paraphrase": "b?"}', "words.jsonl has 1 paraphrases and none is of one "
         "of the 1 held-out prompts; give each with its prompt as it stands in the triples"),
    ],
)  # fmt: skip
def test_bad_paraphrases_get_one_sentence(tmp_path, line, sentence):
    asked = [PreferenceTriple("x?", "yes", "no")]
    (tmp_path / "words.jsonl").write_text(line + "\n")
    with pytest.raises(EvaluationError) as caught:
        read_paraphrases(tmp_path / "words.jsonl", asked)
    assert str(caught.value) == sentence
    with pytest.raises(EvaluationError, match=r"none\.jsonl cannot be read"):
        read_paraphrases(tmp_path / "none.jsonl", asked)


def test_a_paraphrase_may_hold_other_ends_of_lines(tmp_path):
    row = {"prompt": "x\u2028y?", "paraphrase": "z\x85?"}
    (tmp_path / "words.jsonl").write_text(json.dumps(row, ensure_ascii=False))
    found = read_paraphrases(tmp_path / "words.jsonl", [PreferenceTriple("x\u2028y?", "a", "b")])
    assert found.triples[0].prompt == "z\x85?"


@pytest.mark.slow
def test_the_page_on_it_lists_the_reports_keys(receipt):
    page = (REPOSITORY / "docs" / "howto" / "evaluate.md").read_text()
    listed = re.findall(r"^\| `(\w+)` \|", page, re.M)
    assert listed == list(receipt.report)


@pytest.mark.slow
def test_verdicts_turn_out_either_way(receipt):
    from dspa_nn.evaluation import Interval
    from dspa_nn.receipt.claims import lies_above

    assert lies_above(Interval(0.2, 0.1, 0.3, 9)) is True
    assert lies_above(Interval(-0.2, -0.3, -0.1, 9)) is False
    assert lies_above(Interval(0.0, -0.1, 0.1, 9)) is None
    assert replace(receipt.verdicts[0], holds=False).to_dict()["holds"] is False
