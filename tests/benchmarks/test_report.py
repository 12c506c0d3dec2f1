"""What the benchmarks share: turns, paired ratios, and the report that says where it was made."""

import json
import sys

import pytest

from benchmarks import _report


def test_contenders_take_turns_and_the_warm_up_is_left_out():
    order = []
    contenders = {name: lambda name=name: order.append(name) for name in "ab"}
    seconds = _report.run_interleaved(contenders, repeats=3, warm_up=1)
    assert "".join(order) == "ba" + "ab" + "ba" + "ab"
    assert {name: len(taken) for name, taken in seconds.items()} == {"a": 3, "b": 3}
    assert all(value >= 0 for taken in seconds.values() for value in taken)


def test_the_ratio_is_that_of_pairs():
    # The machine is ten times slower in the second half: pairs do not care.
    ours = [1.0, 1.1, 10.0, 11.0]
    plain = [2.0, 2.2, 20.0, 22.0]
    assert _report.ratio(plain, ours) == pytest.approx((2, 2, 2))
    mean, low, high = _report.ratio([2.0, 8.0], [1.0, 1.0])
    assert (mean, low, high) == pytest.approx((4, 2, 8))
    with pytest.raises(ValueError, match="no pairs"):
        _report.ratio([1.0], [1.0, 2.0])


def test_a_report_names_its_machine_and_versions(tmp_path, capsys):
    rows = [{"way": "plain", "seconds": 2.5, "ratio": (2.0, 1.9, 2.1)}]
    text = _report.write("fit", "Speed", rows, ["a note"], tmp_path / "deep" / "folder")
    assert capsys.readouterr().out.strip() == text.strip()
    assert (tmp_path / "deep" / "folder" / "fit.md").read_text() == text
    assert "| plain | 2.5 | 2 [1.9, 2.1] |" in text
    assert "- a note" in text
    kept = json.loads((tmp_path / "deep" / "folder" / "fit.json").read_text())
    assert kept["rows"] == [{"way": "plain", "seconds": 2.5, "ratio": [2.0, 1.9, 2.1]}]
    assert {"cpu", "cores", "memory_gib", "torch_threads"} <= set(kept["machine"])
    assert kept["machine"]["memory_gib"] > 0
    assert len(kept["load_average"]) == 3
    assert set(kept["versions"]) == {
        "python", "dspa_nn", "torch", "nnsight", "transformers", "sae-lens",
    }  # fmt: skip
    assert all(kept["versions"].values())


def test_several_tables_come_under_their_headings(tmp_path):
    text = _report.write("two", "Two", {"One": [{"a": 1}], "Other": [{"b": "x"}]}, [], tmp_path)
    assert text.index("## One") < text.index("| a |") < text.index("## Other") < text.index("| b |")


def test_every_script_takes_quick_and_out(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["x", "--quick", "--out", str(tmp_path), "--n", "3"])
    found = _report.options("about", lambda parser: parser.add_argument("--n", type=int))
    assert (found.quick, found.out, found.n) == (True, tmp_path, 3)
