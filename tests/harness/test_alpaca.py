"""AlpacaEval: outputs in its format, and its own win rate with a judge on loopback."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from dspa_nn.errors import DSPAWarning, EvaluationError, JudgeError
from dspa_nn.evaluation import answer
from dspa_nn.harness import alpaca_win_rate, write_outputs
from dspa_nn.judges import Endpoint, Judge, ReplyCache
from dspa_nn.steering import DSPAMethod
from tests import eval_zoo
from tests.judges.server import Behaviour, judge_stub

pytestmark = pytest.mark.filterwarnings("ignore")
ASKED = [
    {"instruction": f"Say {word}.", "output": f"no {word}", "dataset": "own", "generator": "ref"}
    for word in ("one", "two", "three", "four", "five")
]


def file(path: Path, rows: Any) -> Path:
    path.write_text(json.dumps(rows))
    return path


def outputs(path: Path) -> Path:
    """Answers that hold `better` where they are to win."""
    rows = [
        row | {"output": f"{'better' if n < 3 else 'worse'} {n}", "generator": "m"}
        for n, row in enumerate(ASKED)
    ]
    return file(path, rows)


def prefers_better(number: int, body: dict[str, Any]) -> Behaviour:
    """A judge that ranks the answer with `better` first, wherever it stands in the prompt."""
    text = body["messages"][-1]["content"]
    first, second = re.findall(r'"answer": """(.*?)"""', text, flags=re.DOTALL)
    won = "model_1" if "better" in first or "worse" in second else "model_2"
    lost = "model_2" if won == "model_1" else "model_1"
    return Behaviour(f"[{{'model': '{won}', 'rank': 1}}, {{'model': '{lost}', 'rank': 2}}]")


def test_outputs_are_in_alpaca_evals_format_and_go_on_where_they_were(tmp_path: Path) -> None:
    asked, out = file(tmp_path / "asked.json", ASKED), tmp_path / "said.json"
    options: dict[str, Any] = {"name": "plain", "max_new_tokens": 3, "batch_size": 2}
    write_outputs(eval_zoo.dspa(), asked, out, limit=2, **options)
    first = json.loads(out.read_text())
    assert [row["instruction"] for row in first] == ["Say one.", "Say two."]
    assert set(first[0]) == {"dataset", "instruction", "output", "generator"}
    done: list[int] = []
    write_outputs(eval_zoo.dspa(), asked, out, advance=done.append, **options)
    assert json.loads(out.read_text())[:2] == first
    assert done == [2, 2, 1]
    whole = write_outputs(eval_zoo.dspa(), asked, tmp_path / "whole.json", **options)
    assert whole.read_text() == out.read_text()
    with pytest.raises(EvaluationError, match="answers other instructions"):
        write_outputs(eval_zoo.dspa(), file(tmp_path / "b.json", ASKED[1:]), out, **options)


def test_outputs_are_those_of_the_method_and_end_before_a_stop_text(tmp_path: Path) -> None:
    dspa, asked = eval_zoo.dspa(), file(tmp_path / "asked.json", ASKED)
    method = DSPAMethod("m", dspa, eval_zoo.counts().fit(percentile=50), eval_zoo.STEER)
    prompts = [dspa.render([{"role": "user", "content": row["instruction"]}]) for row in ASKED]
    wanted = answer(dspa, prompts, method, max_new_tokens=6).texts
    assert wanted != answer(dspa, prompts, max_new_tokens=6).texts
    stop = wanted[0][2:4]
    for name, options in (("whole", {}), ("cut", {"stop": stop})):
        given: dict[str, Any] = {"name": "m", "max_new_tokens": 6, "batch_size": 5, **options}
        path = write_outputs(dspa, asked, tmp_path / f"{name}.json", method, **given)
        said = [row["output"] for row in json.loads(path.read_text())]
        ends = [text.partition(stop)[0].strip() for text in wanted] if options else wanted
        assert said == ends


def test_the_win_rate_is_alpaca_evals_and_a_second_run_asks_nothing(tmp_path: Path) -> None:
    pytest.importorskip("alpaca_eval")
    reference, mine = file(tmp_path / "ref.json", ASKED), outputs(tmp_path / "m.json")
    cache = ReplyCache(tmp_path / "replies.jsonl")
    with judge_stub(prefers_better) as stub:
        judge = Judge(Endpoint(stub.url, "stub"), cache)
        figures = alpaca_win_rate(mine, reference, judge)
        again = alpaca_win_rate(mine, reference, judge)
    assert figures["win_rate"] == pytest.approx(60)
    assert figures["n_total"] == 5
    assert figures == again
    assert len(stub.requests) == 5


def test_the_first_outputs_alone_are_judged(tmp_path: Path) -> None:
    pytest.importorskip("alpaca_eval")
    mine, reference = outputs(tmp_path / "mine.json"), file(tmp_path / "ref.json", ASKED)
    with judge_stub(prefers_better) as stub:
        figures = alpaca_win_rate(mine, reference, Judge(Endpoint(stub.url, "stub")), limit=2)
    assert (figures["n_total"], len(stub.requests)) == (2, 2)
    before = mine.read_bytes()
    done: list[int] = []
    write_outputs(eval_zoo.dspa(), reference, mine, limit=2, name="m", advance=done.append)
    assert mine.read_bytes() == before
    assert done == [2]


def test_empty_answers_are_compared_and_said(tmp_path: Path) -> None:
    pytest.importorskip("alpaca_eval")
    rows = [ASKED[0] | {"output": " \n"}, ASKED[1] | {"output": "better"}]
    mine, reference = file(tmp_path / "mine.json", rows), file(tmp_path / "ref.json", ASKED)
    told = r"1 answers are empty \('Say one.' has the first\)"
    with judge_stub(prefers_better) as stub, pytest.warns(DSPAWarning, match=told):
        figures = alpaca_win_rate(mine, reference, Judge(Endpoint(stub.url, "stub")))
    assert figures["n_total"] == 2


@pytest.mark.parametrize("options", [{"parallel": 0}, {"limit": 0}, {"limit": -1}])
def test_numbers_below_one_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    mine, reference = outputs(tmp_path / "mine.json"), file(tmp_path / "ref.json", ASKED)
    judge = Judge(Endpoint("http://127.0.0.1:9/v1", "stub"))
    with pytest.raises(EvaluationError, match="expected a whole number of at least 1"):
        alpaca_win_rate(mine, reference, judge, **options)


def test_without_the_hubs_table_the_length_controlled_rate_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("alpaca_eval")

    def away(**_: Any) -> None:
        raise FileNotFoundError("not in the cache")

    monkeypatch.setattr("alpaca_eval.evaluate", away)
    mine, reference = outputs(tmp_path / "mine.json"), file(tmp_path / "ref.json", ASKED)
    judge = Judge(Endpoint("http://127.0.0.1:9/v1", "stub"))
    with pytest.raises(EvaluationError, match="the hub does not give the table of the length-cont"):
        alpaca_win_rate(mine, reference, judge, length_controlled=True)


def test_a_reply_that_cannot_be_parsed_is_asked_for_again_and_then_left_out(tmp_path: Path) -> None:
    pytest.importorskip("alpaca_eval")
    reference, mine = file(tmp_path / "ref.json", ASKED), outputs(tmp_path / "m.json")

    def script(number: int, body: dict[str, Any]) -> Behaviour:
        if "Say two." in str(body):
            return Behaviour("I like both.")
        return prefers_better(number, body)

    with judge_stub(script) as stub:
        figures = alpaca_win_rate(mine, reference, Judge(Endpoint(stub.url, "stub"), attempts=3))
    assert len(stub.requests) == 4 + 3
    assert figures["n_total"] == 4
    assert figures["win_rate"] == pytest.approx(50)


def test_a_request_that_is_refused_is_left_out_with_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("alpaca_eval")
    reference, mine = file(tmp_path / "ref.json", ASKED), outputs(tmp_path / "m.json")
    too_long = Behaviour(status=400, body='{"error": {"message": "too long"}}')

    def script(number: int, body: dict[str, Any]) -> Behaviour:
        if "Say yes." in str(body):  # whether it takes any request
            return Behaviour("Yes.")
        return too_long if "Say two." in str(body) else prefers_better(number, body)

    with judge_stub(script) as stub:
        judge = Judge(Endpoint(stub.url, "stub"))
        with pytest.warns(DSPAWarning, match=r"stub refused 1 of 5 requests.*'too long'"):
            figures = alpaca_win_rate(mine, reference, judge)
    assert figures["n_total"] == 4
    with (
        judge_stub(lambda number, body: too_long) as stub,
        pytest.raises(JudgeError, match="refused the request"),
    ):
        alpaca_win_rate(mine, reference, Judge(Endpoint(stub.url, "stub")))


def test_a_judge_that_begins_to_refuse_whatever_comes_gives_no_win_rate(tmp_path: Path) -> None:
    pytest.importorskip("alpaca_eval")
    reference, mine = file(tmp_path / "ref.json", ASKED), outputs(tmp_path / "m.json")
    spent = Behaviour(status=400, body='{"error": {"message": "no credit"}}')

    def script(number: int, body: dict[str, Any]) -> Behaviour:
        return prefers_better(number, body) if number < 3 else spent

    with judge_stub(script) as stub, pytest.raises(JudgeError, match="no credit"):
        alpaca_win_rate(mine, reference, Judge(Endpoint(stub.url, "stub")))
    assert len(stub.requests) == 6


def test_a_judge_that_never_names_the_better_one_gets_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("alpaca_eval")
    reference, mine = file(tmp_path / "ref.json", ASKED), outputs(tmp_path / "m.json")
    with judge_stub(lambda number, body: Behaviour("I like both.")) as stub:
        judge = Judge(Endpoint(stub.url, "stub"), attempts=1)
        with pytest.raises(EvaluationError, match="none of 5 replies of stub names the better"):
            alpaca_win_rate(mine, reference, judge)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"output": None}, "entry 2 of .* has no text as its output"),
        ({"output": 3}, "entry 2 of .* has no text as its output"),
        ({"instruction": ["Say two."]}, "entry 2 of .* has no text as its instruction"),
        ({"instruction": "Say one."}, "answers 'Say one.' twice; remove one"),
    ],
)
def test_what_is_no_answer_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    judge = Judge(Endpoint("http://127.0.0.1:9/v1", "stub"))
    rows = json.loads(outputs(tmp_path / "m.json").read_text())
    rows[1] |= change
    with pytest.raises(EvaluationError, match=words):
        alpaca_win_rate(file(tmp_path / "bad.json", rows), tmp_path / "m.json", judge)
    with pytest.raises(EvaluationError, match=words):
        alpaca_win_rate(tmp_path / "m.json", tmp_path / "bad.json", judge)


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    judge = Judge(Endpoint("http://127.0.0.1:9/v1", "stub"))
    reference = file(tmp_path / "ref.json", ASKED[:3])
    with pytest.raises(EvaluationError, match=r"has no answer to 'Say four.' and 1 more"):
        alpaca_win_rate(outputs(tmp_path / "m.json"), reference, judge)
    for rows in ({}, [], [{"output": "x"}], ["x"]):
        with pytest.raises(EvaluationError, match="is no list of objects with an instruction"):
            alpaca_win_rate(file(tmp_path / "bad.json", rows), reference, judge)
    with pytest.raises(EvaluationError, match="cannot be read as JSON"):
        alpaca_win_rate(tmp_path / "none.json", reference, judge)


def test_an_unknown_annotator_gets_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("alpaca_eval")
    judge = Judge(Endpoint("http://127.0.0.1:9/v1", "stub"))
    reference, mine = file(tmp_path / "ref.json", ASKED), outputs(tmp_path / "m.json")
    with pytest.raises(EvaluationError, match="annotator 'none' is no config of alpaca_eval and"):
        alpaca_win_rate(mine, reference, judge, annotator="none")
