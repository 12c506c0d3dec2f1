"""Progress: a bar on a terminal, lines in a log, and silence where nothing takes long."""

import io
import logging as levels
import os
import subprocess
import sys

import pytest

from dspa_nn import progress
from dspa_nn.progress import quiet_loaders, show_progress, slow_bars_of_others


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, visible: bool | None = None) -> str:
    monkeypatch.setattr("sys.stderr", stream)
    with show_progress("counting", 3, "triples", visible) as advance:
        for _ in range(3):
            advance(1)
    return stream.getvalue()


def test_a_bar_is_drawn_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = shown(monkeypatch, Terminal())
    assert "counting: " in drawn
    assert "3/3" in drawn
    assert "\r" in drawn


def test_a_log_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOG_INTERVAL", 0.0)
    lines = shown(monkeypatch, io.StringIO()).splitlines()
    assert "\r" not in "".join(lines)
    assert [line.split(",")[0] for line in lines[1:4]] == [
        f"counting: {done} of 3 triples" for done in (1, 2, 3)
    ]
    assert len(lines) == 4  # the last one is not written twice


def test_a_short_step_leaves_a_log_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, io.StringIO()) == ""


def test_a_bar_can_be_asked_for_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, Terminal(), visible=False) == ""
    assert "3/3" in shown(monkeypatch, io.StringIO(), visible=True)


def test_bars_of_other_packages_stay_out_of_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn() -> str:
        code = "from tqdm.auto import tqdm\nfor _ in tqdm(range(3), desc='others'): pass"
        run = [sys.executable, "-c", code]
        return subprocess.run(run, capture_output=True, text=True, check=True).stderr

    for name in ("TQDM_DELAY", "TQDM_MININTERVAL"):
        monkeypatch.delenv(name, raising=False)
    assert "others" in drawn()
    monkeypatch.setattr("sys.stderr", Terminal())
    slow_bars_of_others()
    assert "TQDM_DELAY" not in os.environ
    monkeypatch.setenv("TQDM_MININTERVAL", "5")
    monkeypatch.setattr("sys.stderr", io.StringIO())
    slow_bars_of_others()
    assert drawn() == ""
    assert os.environ["TQDM_MININTERVAL"] == "5"


def test_loaders_are_quiet_inside_alone() -> None:
    from huggingface_hub.utils import are_progress_bars_disabled
    from transformers.utils import logging

    def state() -> tuple[bool, int, bool]:
        return (
            logging.is_progress_bar_enabled(),
            logging.get_verbosity(),
            are_progress_bars_disabled(),
        )

    before = state()
    with quiet_loaders():
        assert state() == (False, levels.ERROR, before[2])
    assert state() == before
