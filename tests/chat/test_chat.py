"""`dspa chat`: both answers, its commands, what Ctrl-C leaves; in a real terminal of two widths."""

import json
import re
import signal
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from dspa_nn import DSPA, ConditionalDifferenceMap
from dspa_nn.chat import Piece, Talk, reasons, run_chat
from dspa_nn.errors import SteeringError
from tests import eval_zoo, tiny

ASKED = "sun moon red"


@pytest.fixture(scope="module")
def pair() -> tuple[DSPA, ConditionalDifferenceMap]:
    model = tiny.model("llama")
    early, late = tiny.saes(model, "topk")
    dspa = DSPA(
        tiny.nnsight_model(model, tiny.tokenizer("markup")), input_sae=early, output_sae=late,
        input_layer=tiny.LAYER_IN, output_layer=tiny.LAYER_OUT,
    )  # fmt: skip
    triples = tiny.triples(12)
    return dspa, dspa.fit(triples, percentile=50, progress=False, cache=False)


@pytest.fixture
def talk(pair: tuple[DSPA, ConditionalDifferenceMap]) -> Talk:
    generation = {"max_new_tokens": 6, "do_sample": False}
    return Talk(*pair, "warm", settings={"alpha": 1.0}, generation=generation)


def typed(talk: Talk, *lines: str, width: int = 80, terminal: bool = False) -> str:
    """What the loop prints for these lines, and the end of the input."""
    waiting = iter(lines)

    def read(_: str) -> str:
        line = next(waiting, None)
        if line is None:
            raise EOFError
        return line

    shown = StringIO()
    run_chat(talk, Console(file=shown, width=width, force_terminal=terminal), read)
    return shown.getvalue()


def test_an_unforeseen_error_leaves_the_talk(
    talk: Talk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fails(*_: Any, **__: Any) -> Iterator[Piece]:
        raise RuntimeError("the device is gone.\nCUDA says more")

    typed(talk, ASKED)
    monkeypatch.setattr(Talk, "ask", fails)
    shown = typed(talk, "red", f"/save {tmp_path / 'kept'}")
    assert "RuntimeError: the device is gone: this was not foreseen; /save keeps the talk" in (
        " ".join(shown.split())
    )
    assert ASKED in (tmp_path / "kept" / "transcript.md").read_text()
    assert len(talk.turns) == 1


def test_both_answers_are_those_of_conversations(talk: Talk) -> None:
    dspa, map = talk.dspa, talk.map
    pieces = list(talk.ask(ASKED))
    answers = {
        side: "".join(piece.text for piece in pieces if piece.side == side)
        for side in ("unsteered", "steered")
    }
    assert pieces.index(next(one for one in pieces if one.side == "steered")) > 0
    given: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False}
    assert answers["steered"] == dspa.conversation(map, alpha=1.0, **given).say(ASKED)
    prompt = dspa.render([{"role": "user", "content": ASKED}])
    model: Any = dspa.model
    with model.generate(prompt.ids, **given) as tracer:
        ids = tracer.result.save()
    plain = model.tokenizer.decode(ids[0, len(prompt.ids) :], skip_special_tokens=True)
    assert answers["unsteered"] == plain
    assert talk.turns == [(ASKED, plain, answers["steered"])]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_answers_stand_side_by_side_where_there_is_room(talk: Talk, width: int) -> None:
    shown = typed(talk, ASKED, width=width)
    lines = shown.splitlines()
    assert max(map(len, lines)) <= width
    heads = [line for line in lines if line.strip().startswith("unsteered")]
    assert len(heads) == 1
    assert ("steered by warm, alpha 1" in heads[0]) == (width >= 60)


def test_a_terminal_sees_the_answers_grow(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dspa_nn.chat.screen.BETWEEN", 0.0)
    shown = typed(talk, ASKED, terminal=True)
    assert shown.count("unsteered") > 2
    assert "\x1b[" in shown


def test_alpha_and_map_change_what_comes_next(talk: Talk, tmp_path: Path) -> None:
    talk.map.restrict(rows=[0]).save(tmp_path / "narrow")
    shown = typed(
        talk, "/alpha", "/alpha 99999", "/alpha 0.25", "/alpha much", "/alpha -1", "/alpha 1e39",
        "/map", "/map nowhere",
        f"/map {tmp_path / 'narrow'}", "/undo",
    )  # fmt: skip
    for part in (
        "alpha 1, in units", "alpha 99999, in units", "dspa: alpha is 99999: from 1 on an ablated",
        "alpha 0.25, in units", "/alpha came with 'much'; give a number",
        "alpha is -1", "alpha is 1e+39, and must be a number of at most 1,000,000",
        "warm: ConditionalDifferenceMap: 48 x 40", "nowhere holds no map.json",
        "steered by narrow, alpha 0.25 from now on", "nothing was said that could be undone",
    ):  # fmt: skip
        assert part in " ".join(shown.split()), part
    assert talk.alpha == 0.25
    assert talk.name == "narrow"


def test_a_map_of_another_sae_is_refused(talk: Talk, tmp_path: Path) -> None:
    other = ConditionalDifferenceMap.from_dense([[0.5]], provenance={"model_id": "somebody/else"})
    other.save(tmp_path / "other")
    before = talk.map
    assert "somebody/else" in typed(talk, f"/map {tmp_path / 'other'}")
    assert talk.map is before


def test_a_persona_steers_as_a_map_does(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    effects = eval_zoo.effects()
    monkeypatch.setattr("dspa_nn.chat.loop.known_effects", lambda dspa: effects)
    monkeypatch.setattr(talk, "_check", lambda *_: None)  # its effects are of another tiny model
    axis = effects.axes[0]
    shown = typed(talk, "/persona", f"/persona {axis}=1", "/persona nonsense=x", "/persona none")
    for part in (
        f"the axes are {axis}", f"steered by {axis}=1, alpha", "came for a weight; write AXIS=WEIG",
        "there is no file none",
    ):  # fmt: skip
        assert part in " ".join(shown.split()), part
    assert talk.name == f"{axis}=1"


def test_why_names_latents_in_words(talk: Talk) -> None:
    assert "nothing was answered yet" in typed(talk, "/why")
    shown = typed(talk, ASKED, "/why", width=200)
    assert re.search(r"\d+ edits; those edited most:", shown)
    assert talk.last is not None
    found = reasons(talk.dspa, talk.last)
    assert talk.last.edits is not None
    assert [one.latent for one in found] == list(talk.last.edits.by_latent())[: len(found)]
    for one in found:
        assert f"output latent {one.latent}, {one.direction} " in shown
        assert one.words  # tokens that it promotes, since no table knows a random SAE
        assert f"because of input latent {one.because[0][0]}: " in shown


def test_why_tells_when_nothing_was_edited(talk: Talk) -> None:
    shown = typed(talk, "/alpha 0", ASKED, "/why")
    assert "alpha is 0" in " ".join(shown.split())


def test_undo_and_save_and_going_on(talk: Talk, tmp_path: Path) -> None:
    shown = typed(talk, "/save", ASKED, "tea sea", "/undo", f"/save {tmp_path / 'talk'}")
    assert "nothing was said that could be saved" in shown
    assert "taken back: tea sea" in shown
    folder = tmp_path / "talk"
    assert (folder / "transcript.md").read_text().count("**Steered.**") == 1
    again = Talk(talk.dspa, talk.map, "warm", generation={"max_new_tokens": 6}, resume=folder)
    assert again.turns == talk.turns
    assert list(again.ask("tea"))
    assert len(again.turns) == 2


def test_help_names_every_command_and_a_wrong_one_is_told(talk: Talk) -> None:
    shown = typed(talk, "/help", "/alhpa 1", "/quit now", "never read")
    for name in ("/map [MAP]", "/alpha [NUMBER]", "/why", "/undo", "/save [FOLDER]", "/quit"):
        assert name in shown
    assert "there is no command /alhpa (did you mean '/alpha'?)" in " ".join(shown.split())
    assert "no command /quit" not in shown
    assert not talk.turns


@pytest.mark.parametrize("side", ["unsteered", "steered"])
def test_what_is_broken_off_leaves_both_sides_as_they_were(talk: Talk, side: str) -> None:
    list(talk.ask(ASKED))
    before = talk.turns
    stream = talk.ask("tea sea oak elm")
    for piece in stream:
        if piece.side == side:
            break
    stream.close()
    assert talk.turns == before
    list(talk.ask("tea sea oak elm"))
    assert len(talk.turns) == 2


def test_ctrl_c_stops_an_answer_and_not_the_talk(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask: Callable[[str], Iterator[Piece]] = talk.ask

    def stopped(text: str) -> Iterator[Piece]:
        for number, piece in enumerate(ask(text)):
            if number == 1:
                raise KeyboardInterrupt
            yield piece

    with monkeypatch.context() as patched:
        patched.setattr(talk, "ask", stopped)
        assert "stopped: the talk is as it was before this question" in typed(talk, ASKED)
    assert not talk.turns
    typed(talk, ASKED)
    assert len(talk.turns) == 1


def test_ctrl_c_while_a_map_is_read_leaves_the_talk(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dspa_nn.chat.loop.read_map", slow)
    assert "stopped: the talk goes on" in typed(talk, "/map me/warm", ASKED)
    assert len(talk.turns) == 1


def test_a_talk_refuses_what_cannot_be(talk: Talk, tmp_path: Path) -> None:
    with pytest.raises(SteeringError, match="alpha is -1"):
        Talk(talk.dspa, talk.map, "warm", settings={"alpha": -1.0})
    with pytest.raises(SteeringError, match=r"--resume .* came with --remote"):
        Talk(talk.dspa, talk.map, "warm", remote=True, resume=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 200])
def test_the_command_in_a_terminal(
    columns: int, pair: tuple[DSPA, ConditionalDifferenceMap], tmp_path: Path
) -> None:
    pexpect = pytest.importorskip("pexpect")
    model = tiny.model("llama")
    model.save_pretrained(tmp_path / "model")
    tiny.tokenizer("markup").save_pretrained(tmp_path / "model")
    for sae, name in zip(tiny.saes(model, "topk"), ("in", "out"), strict=True):
        sae.save_model(tmp_path / name)
    triples = tmp_path / "triples.jsonl"
    triples.write_text("".join(json.dumps(row) + "\n" for row in tiny.triples(12)))
    options = [
        "--model", "model", "--input-sae", "in", "--output-sae", "out", "--layers",
        f"{tiny.LAYER_IN},{tiny.LAYER_OUT}",
    ]  # fmt: skip
    run = [sys.executable, "-c", "from dspa_nn.cli.app import app; app()"]
    root = str(Path(__file__).parents[2])
    terminal: Any = {
        "cwd": str(tmp_path), "encoding": "utf-8", "timeout": 120, "dimensions": (40, columns),
        "searchwindowsize": 20000, "maxread": 1 << 16,
        "env": {"PATH": "/usr/bin", "TERM": "xterm", "PYTHONPATH": root, "HF_HUB_OFFLINE": "1",
                "HOME": str(tmp_path), "COLUMNS": str(columns)},
    }  # fmt: skip
    fit = ["fit", "triples.jsonl", "--out", "map", "--percentile", "50", *options]
    fitted = pexpect.spawn(run[0], [*run[1:], *fit], **terminal)
    fitted.expect("saved in map")
    fitted.expect(pexpect.EOF)
    chat = ["chat", "map", "--max-new-tokens", "120", "--alpha", "1", *options]
    # A suite that runs in the background hands on that Ctrl-C is ignored.
    child = pexpect.spawn(
        run[0], [*run[1:], *chat], **terminal,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    )  # fmt: skip
    child.logfile_read = shown = StringIO()
    child.expect("you> ")
    child.sendline("sun moon")
    for _ in range(3):  # drawn when it is asked for, and again when there are pieces
        child.expect("steered by map, alpha 1")
    child.sendintr()
    child.expect("stopped: the talk is as it was before this question")
    child.expect("you> ")
    child.sendline("/alpha 0.5")
    child.expect("alpha 0.5, in units")
    child.expect("you> ")
    child.sendline("/why")
    child.expect("nothing was answered yet")
    child.expect("you> ")
    child.sendline("sun")
    child.expect("you> ", timeout=300)
    child.sendline("/why")
    child.expect(r"\d+ edits; those edited most:")
    child.expect("you> ")
    child.sendline("/save")
    child.expect("saved in talk; --resume talk goes on with it")
    child.expect("you> ")
    child.sendintr()
    child.expect("/quit or Ctrl-D leaves")
    child.expect("you> ")
    child.sendline("/quit")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert (tmp_path / "talk" / "transcript.md").is_file()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\^C", "", shown.getvalue())
    lines = [part for line in plain.split("\n") for part in line.split("\r")]
    assert max(map(len, lines)) <= columns
    assert "Traceback" not in plain
