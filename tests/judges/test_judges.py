"""A judge that is late, busy, broken, chatty or hostile: retried, recorded or refused in words."""

import errno
import json
import re
from pathlib import Path
from typing import Any

import pytest

from dspa_nn.errors import DSPAWarning, FileError, JudgeError
from dspa_nn.judges import Endpoint, Judge, Reply, ReplyCache, Spend
from dspa_nn.judges import endpoint as endpoint_module
from tests.judges.server import Behaviour, completion, judge_stub

ASKED = [{"role": "user", "content": "Grade this."}]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client waits between tries; here it tries again at once."""
    pytest.importorskip("openai")
    import openai._base_client as client

    monkeypatch.setattr(client, "INITIAL_RETRY_DELAY", 0.001)
    monkeypatch.setattr(client, "MAX_RETRY_DELAY", 0.001)
    monkeypatch.setattr(endpoint_module, "_FIRST_PAUSE", 0.001)


def first_then_well(*faults: Behaviour) -> Any:
    return lambda number, body: faults[number] if number < len(faults) else Behaviour()


@pytest.mark.parametrize(
    "fault",
    [
        Behaviour(status=429, body='{"error": {"message": "slow down"}}'),
        Behaviour(status=500, body="{}"),
        Behaviour(status=503, body="<html>busy</html>", content_type="text/html"),
        Behaviour(body=completion("Rating: [[7]]")[:40]),
        Behaviour(body="{}"),
        Behaviour(body='{"choices": []}'),
        Behaviour(body='{"choices": "many"}'),
        Behaviour(body='{"choices": [{"message": "Rating: [[7]]"}]}'),
        Behaviour(delay=0.6),
    ],
    ids=[
        "429",
        "500",
        "503 as a page",
        "half a JSON",
        "no choices",
        "empty choices",
        "choices that are none",
        "a message that is none",
        "late",
    ],
)
def test_a_passing_fault_is_tried_again(fault: Behaviour) -> None:
    with judge_stub(first_then_well(fault)) as stub:
        reply = Endpoint(stub.url, "stub", timeout=0.3, retries=2).ask(ASKED)
    assert reply == Reply("Rating: [[7]]", 10, 2)
    assert len(stub.requests) == 2


@pytest.mark.parametrize(
    ("fault", "words", "passing", "requests"),
    [
        (Behaviour(status=429, body="{}"), "answered with status 429 in each of 3 tries", True, 3),
        (Behaviour(status=500, body="{}"), "answered with status 500 in each of 3 tries", True, 3),
        (Behaviour(delay=0.6), "did not answer in time in 3 tries", True, 3),
        (Behaviour(body="{"), "answered 3 times with what is no chat completion", True, 3),
        (Behaviour(status=401, body="{}"), "set the environment variable JUDGE_KEY", False, 1),
        (
            Behaviour(status=404, body="{}"),
            "knows no chat completions for a model 'stub'",
            False,
            1,
        ),
        (Behaviour(status=400, body="{}"), "refused the request (status 400)", False, 1),
        (
            Behaviour(body="\n <!DOCTYPE html><p>Hi</p>", content_type="text/html"),
            "answered with a web page",
            False,
            1,
        ),
    ],
    ids=["429", "500", "late", "half a JSON", "401", "404", "400", "a page"],
)
def test_a_lasting_fault_is_one_sentence(
    fault: Behaviour, words: str, passing: bool, requests: int
) -> None:
    with judge_stub(lambda number, body: fault) as stub:
        endpoint = Endpoint(stub.url, "stub", key_variable="JUDGE_KEY", timeout=0.3, retries=2)
        with pytest.raises(JudgeError, match=re.escape(words)) as raised:
            endpoint.ask(ASKED)
    assert raised.value.passing is passing
    assert len(stub.requests) == requests


def test_the_servers_own_words_are_passed_on_without_the_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-hidden")
    body = '{"error": {"message": "max_tokens is not\\nsupported (key sk-hidden)"}}'
    words = "max_tokens is not supported (key ...)"
    for status, told in (
        (400, f"refused the request (status 400, '{words}')"),
        (404, f"(status 404, '{words}')"),
        (500, f"answered with status 500 in each of 2 tries ('{words}')"),
        (200, f"answered 2 times with what is no chat completion ({words})"),
    ):
        fault = Behaviour(status=status, body=body)
        with judge_stub(lambda number, asked, fault=fault: fault) as stub:
            endpoint = Endpoint(stub.url, "stub", key_variable="JUDGE_KEY", retries=1)
            with pytest.raises(JudgeError, match=re.escape(told)):
                endpoint.ask(ASKED)


def not_taken(body: dict[str, Any], *names: str) -> Behaviour:
    """What OpenAI answers where a model does not take one of these settings."""
    for name in names:
        if name in body:
            code = "unsupported_value" if name == "temperature" else "unsupported_parameter"
            error = {"message": f"no {name}", "param": name, "code": code}
            return Behaviour(status=400, body=json.dumps({"error": error}))
    return Behaviour()


def test_a_model_that_takes_other_settings_is_asked_as_it_wants() -> None:
    with judge_stub(lambda number, body: not_taken(body, "max_tokens", "temperature")) as stub:
        endpoint = Endpoint(stub.url, "stub", retries=0)
        with pytest.warns(DSPAWarning, match="the judge 'stub' takes no temperature and samples"):
            assert endpoint.ask(ASKED, max_tokens=9).text == "Rating: [[7]]"
        assert len(stub.requests) == 3
        endpoint.ask(ASKED)  # what was learnt is kept, and said once
    first, *_, third, fourth = stub.requests
    assert (first["max_tokens"], first["temperature"]) == (9, 0)
    assert (third["max_completion_tokens"], set(third) & {"max_tokens", "temperature"}) == (
        9,
        set(),
    )
    assert (len(stub.requests), fourth["max_completion_tokens"]) == (4, 2048)


def test_a_setting_that_is_refused_in_any_form_ends_in_the_servers_words() -> None:
    names = ("max_tokens", "max_completion_tokens")
    with (
        judge_stub(lambda number, body: not_taken(body, *names)) as stub,
        pytest.raises(JudgeError, match="'no max_completion_tokens'") as raised,
    ):
        Endpoint(stub.url, "stub", retries=2).ask(ASKED)
    assert (raised.value.of_request, len(stub.requests)) == (True, 2)


@pytest.mark.parametrize(
    ("status", "header", "told"),
    [
        (429, ("Retry-After", "3600"), "status 429 and asks for a pause of 3600 s; wait"),
        (503, ("X-Should-Retry", "false"), "status 503 and asks for no further try now; wait"),
    ],
)
def test_a_server_that_wants_no_further_try_now_is_asked_once(
    status: int, header: tuple[str, str], told: str
) -> None:
    fault = Behaviour(status=status, body="{}", headers=dict([header]))
    with judge_stub(lambda number, body: fault) as stub, pytest.raises(JudgeError, match=told):
        Endpoint(stub.url, "stub", retries=2).ask(ASKED)
    assert len(stub.requests) == 1


def test_a_refused_setting_that_is_no_name_is_a_refusal() -> None:
    error = {"message": "not so", "param": ["max_tokens"], "code": "unsupported_parameter"}
    fault = Behaviour(status=400, body=json.dumps({"error": error}))
    with judge_stub(lambda number, body: fault) as stub, pytest.raises(JudgeError, match="not so"):
        Endpoint(stub.url, "stub", retries=2).ask(ASKED)
    assert len(stub.requests) == 1


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("nan"), float("inf"), 1e12])
def test_a_timeout_that_no_clock_knows(timeout: float) -> None:
    with pytest.raises(JudgeError, match="expected more than 0 seconds, and at most a day"):
        Endpoint("http://127.0.0.1:8000/v1", "stub", timeout=timeout)


def test_whether_a_judge_takes_requests() -> None:
    def script(number: int, body: dict[str, Any]) -> Behaviour:
        return Behaviour(status=(200, 200, 400, 401)[number])

    with judge_stub(script) as stub:
        judge = Judge(Endpoint(stub.url, "stub", retries=0))
        assert [judge.takes_requests() for _ in range(3)] == [True, True, False]
        with pytest.raises(JudgeError, match="refused the key"):
            judge.takes_requests()
    assert judge.spend == Spend(2, 0, 20, 4)


def test_pauses_grow_between_replies_that_are_no_completions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(endpoint_module, "_FIRST_PAUSE", 0.5)
    pauses: list[float] = []
    monkeypatch.setattr(endpoint_module.time, "sleep", pauses.append)
    half, told = Behaviour(body="{"), "answered 7 times with what is no chat completion"
    with judge_stub(lambda number, body: half) as stub, pytest.raises(JudgeError, match=told):
        Endpoint(stub.url, "stub", retries=6).ask(ASKED)
    assert [pause for pause in pauses if pause] == [0.5, 1, 2, 4, 8, 8]


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(JudgeError, match="did not answer at all in 2 tries"):
        Endpoint("http://127.0.0.1:9/v1", "stub", retries=1).ask(ASKED)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8000",
        "file:///etc/passwd",
        "ftp://host/v1",
        "http://[half/v1",
        "http://h:99999/",
    ],
)
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(JudgeError, match="expected the base of an OpenAI-compatible API"):
        Endpoint(url, "stub")


def test_a_url_with_a_password_and_a_judge_without_a_name() -> None:
    with pytest.raises(JudgeError, match="put the key in the environment variable") as raised:
        Endpoint("https://me:secret@host/v1", "stub")
    assert "secret" not in str(raised.value)
    with pytest.raises(JudgeError, match="no judge model is named"):
        Endpoint("https://host/v1", "")


def test_the_key_comes_from_the_environment_and_is_written_nowhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-hidden")
    cache = ReplyCache(tmp_path / "replies.jsonl")
    with judge_stub(first_then_well(Behaviour(status=500, body="{}"))) as stub:
        judge = Judge(Endpoint(stub.url, "stub", key_variable="JUDGE_KEY"), cache)
        judge.ask(ASKED)
    assert stub.keys == ["Bearer sk-hidden"] * 2
    captured = capfd.readouterr()
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    for text in (repr(judge.endpoint), captured.out, captured.err, *written):
        assert "sk-hidden" not in text


def test_a_key_that_no_request_can_carry_is_refused_without_being_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with judge_stub(lambda number, body: Behaviour()) as stub:
        endpoint = Endpoint(stub.url, "stub", key_variable="JUDGE_KEY", retries=0)
        for key in ("sk-hïdden", "sk-hid\nden"):
            monkeypatch.setenv("JUDGE_KEY", key)
            with pytest.raises(JudgeError, match="the key in the environment variable") as raised:
                endpoint.ask(ASKED)
            assert "den" not in str(raised.value)
        monkeypatch.setenv("JUDGE_KEY", "sk-hidden\n")  # as it is read from a file
        endpoint.ask(ASKED)
    assert stub.keys == ["Bearer sk-hidden"]


def test_what_was_answered_is_never_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    with judge_stub(lambda number, body: Behaviour(f"reply {number}")) as stub:
        endpoint = Endpoint(stub.url, "stub")
        first = Judge(endpoint, ReplyCache(path))
        assert first.ask(ASKED).text == "reply 0"
        again = Judge(endpoint, ReplyCache(path))
        assert again.ask(ASKED).text == "reply 0"
        assert again.ask(ASKED, temperature=1.0).text == "reply 1"
    assert first.spend == Spend(requests=1, prompt_tokens=10, completion_tokens=2)
    assert again.spend == Spend(requests=1, cached=1, prompt_tokens=10, completion_tokens=2)


def test_a_line_that_was_cut_off_is_asked_again_and_harms_no_other(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    whole = ReplyCache(path)
    for number in range(3):
        whole.put(f"key {number}", Reply(f"reply {number}", 1, 1))
    content = path.read_bytes()
    for length in (*range(0, len(content), 7), len(content) - 1, len(content)):
        path.write_bytes(content[:length])
        cut = ReplyCache(path)
        # Only the newline after a whole line may be missing.
        assert len(cut) == content[: length + 1].count(b"\n")
        cut.put("another", Reply("more"))
        assert len(ReplyCache(path)) == len(cut)
        assert ReplyCache(path).get("another") == Reply("more")


def test_a_line_that_the_disk_had_no_room_for_spoils_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ReplyCache(tmp_path / "replies.jsonl")
    cache.put("a", Reply("one"))

    def full(_: int) -> None:
        content = cache.path.read_bytes()
        cache.path.write_bytes(content[:-9])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("dspa_nn.judges.cache.os.fsync", full)
        with pytest.raises(FileError, match="No space left on device"):
            cache.put("b", Reply("two"))
    cache.put("c", Reply("three"))
    again = ReplyCache(cache.path)
    assert [again.get(key) for key in "abc"] == [Reply("one"), None, Reply("three")]


@pytest.mark.parametrize("usage", [None, {"prompt_tokens": "many"}, "lots"])
def test_usage_that_is_no_number_counts_nothing(usage: Any) -> None:
    body = json.dumps({**json.loads(completion("Rating: [[7]]")), "usage": usage})
    with judge_stub(lambda number, asked: Behaviour(body=body)) as stub:
        assert Endpoint(stub.url, "stub", retries=0).ask(ASKED) == Reply("Rating: [[7]]")


def test_a_reply_that_is_not_accepted_is_asked_for_again(tmp_path: Path) -> None:
    with judge_stub(first_then_well(Behaviour("Hm."))) as stub:
        judge = Judge(Endpoint(stub.url, "stub"), ReplyCache(tmp_path / "replies.jsonl"))
        reply = judge.ask(ASKED, accept=lambda text: "[[" in text)
    assert reply.text == "Rating: [[7]]"
    with judge_stub(lambda number, body: Behaviour("Hm.")) as stub:
        judge = Judge(Endpoint(stub.url, "stub"), attempts=3)
        assert judge.ask(ASKED, accept=lambda text: "[[" in text).text == "Hm."
    assert len(stub.requests) == 3


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("attempts", [0, 1.5])
def test_a_question_is_put_at_least_once(attempts: Any) -> None:
    endpoint = Endpoint("http://127.0.0.1:9/v1", "stub")
    with pytest.raises(JudgeError, match=f"attempts is {attempts}; expected a whole number of at"):
        Judge(endpoint, attempts=attempts)
    with pytest.raises(JudgeError, match="retries is -1; expected a whole number of at least 0"):
        Endpoint("http://127.0.0.1:9/v1", "stub", retries=-1)


def test_half_a_surrogate_pair_can_be_asked_about() -> None:
    with judge_stub(first_then_well()) as stub:
        Judge(Endpoint(stub.url, "stub")).ask([{"role": "user", "content": "bad \ud800 text"}])
    assert stub.requests[0]["messages"][0]["content"] == "bad ? text"


def test_without_the_package_openai_the_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(JudgeError, match=r"pip install 'dspa-nn\[eval\]'"):
        Endpoint("http://127.0.0.1:9/v1", "stub").ask(ASKED)


def test_the_file_of_replies_is_json_lines(tmp_path: Path) -> None:
    lines = tmp_path / "replies.jsonl"
    cache = ReplyCache(lines)
    cache.put("a", Reply("one\ntwo \u2028 three", 1, 2))
    (line,) = lines.read_text().splitlines()
    assert json.loads(line) == {
        "key": "a",
        "text": "one\ntwo \u2028 three",
        "prompt_tokens": 1,
        "completion_tokens": 2,
    }
    assert ReplyCache(lines).get("a") == Reply("one\ntwo \u2028 three", 1, 2)
