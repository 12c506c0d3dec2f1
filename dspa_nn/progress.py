"""What is said while something runs: progress, and warnings that point at the user's line."""

import inspect
import logging
import os
import re
import sys
import sysconfig
import threading
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from dspa_nn.errors import DSPAWarning

# Seconds between two lines of a log; a step that is shorter says nothing there.
LOG_INTERVAL = 30.0
_LINE = "{desc}: {n_fmt} of {total_fmt}{unit}, {elapsed} so far, {remaining} to go"


class _Lines:
    """Standard error, where what tqdm would draw over and over becomes a line each time.

    tqdm draws the end of a step twice when its last update was due to be drawn anyway; a line is
    written once for each count.
    """

    last = ""

    def write(self, drawn: str) -> int:
        line = drawn.strip()
        count = line.partition(",")[0]
        if line and count != self.last:
            self.last = count
            sys.stderr.write(line + "\n")
        return len(drawn)

    def flush(self) -> None:
        sys.stderr.flush()


@contextmanager
def show_progress(
    step: str, total: int, unit: str = "", visible: bool | None = None
) -> Generator[Callable[[int], None]]:
    """Show how far a step is, on standard error; yields a function that says how much was done.

    Example:
        >>> with show_progress("counting", 250, "triples") as advance:
        ...     advance(250)

    Args:
        step: what is done, in a word or two.
        total: how many units it takes.
        unit: what is counted.
        visible: True draws a bar, False says nothing. None draws a bar on a terminal; elsewhere (a
            pipe, a file, a scheduler's log) it prints a line every half minute.
    """
    from tqdm.auto import tqdm

    bars: Callable[..., Any] = tqdm
    options: dict[str, Any] = {
        "total": total, "desc": step, "unit": f" {unit}" if unit else "",
        "disable": visible is False,
    }  # fmt: skip
    if visible is None and not sys.stderr.isatty():
        options |= {
            "file": _Lines(),
            "mininterval": LOG_INTERVAL,
            "delay": LOG_INTERVAL,
            "miniters": 1,
            "bar_format": _LINE,
        }
    with bars(**options) as bar:

        def advance(done: int) -> None:
            bar.update(done)

        yield advance


def slow_bars_of_others() -> None:
    """Where standard error is no terminal, draw other packages' tqdm bars every half minute.

    >>> slow_bars_of_others()

    To be called before anything imports tqdm, which reads its defaults from the environment then
    (https://tqdm.github.io/docs/tqdm/#parameters). What a user has set there stays.
    """
    if not sys.stderr.isatty():
        for name in ("TQDM_DELAY", "TQDM_MININTERVAL"):
            os.environ.setdefault(name, f"{LOG_INTERVAL:.0f}")


def say(text: str, visible: bool | None = None) -> None:
    """Print a line on standard error, where progress is shown; not where visible is False.

    >>> say("counted", visible=False)
    """
    if visible is not False:
        sys.stderr.write(f"{text}\n")


@contextmanager
def quiet_loaders() -> Generator[None]:
    """Keep transformers' bars and remarks of a model's loading out of sight; errors still come.

    Example:
        >>> with quiet_loaders():
        ...     pass

    What the hub's client shows of a download stays: it can take long, and shows on terminals alone.
    """
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )
    from transformers.utils import logging as loaders

    bars, level = loaders.is_progress_bar_enabled(), loaders.get_verbosity()
    downloads = not are_progress_bars_disabled()
    loaders.disable_progress_bar()
    if downloads:
        enable_progress_bars()
    loaders.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        loaders.set_verbosity(level)
        if bars:
            loaders.enable_progress_bar()
        if not downloads:
            disable_progress_bars()


_held = threading.local()


@contextmanager
def warnings_held() -> Generator[list[str]]:
    """Keep what this thread would warn of in a list, for the thread of the user's to say.

    >>> with warnings_held() as texts:
    ...     warn("the prompt is empty")
    >>> texts
    ['the prompt is empty']
    """
    before, _held.texts = getattr(_held, "texts", None), list[str]()
    try:
        yield _held.texts
    finally:
        _held.texts = before


def warn(text: str) -> None:
    """Warn, and point at the line of the user's that led here.

    >>> warn("the prompt is empty")

    What lies in between is not the user's: this package, nnsight, transformers, torch, and whatever
    else is installed. nnsight runs blocks in greenlets, whose stacks do not reach down to the
    `with` statement, so the stacks of those that wait for it are looked through as well.
    """
    if getattr(_held, "texts", None) is not None:
        _held.texts.append(text)
        return
    frames = list(_frames())
    caller = next((frame for frame in frames if _is_users(frame.f_code.co_filename)), frames[-1])
    names: dict[str, Any] = caller.f_globals
    # The globals of a traced block are nnsight's, which look into the module's on demand.
    names = getattr(names, "glbls", names)
    warnings.warn_explicit(
        text,
        DSPAWarning,
        caller.f_code.co_filename,
        caller.f_lineno,
        module=names.get("__name__", "<unknown>"),
        registry=names.setdefault("__warningregistry__", {}),
    )


def _frames() -> Iterator[FrameType]:
    """Frames from here outwards, through the greenlets that wait for this one."""
    frame = inspect.currentframe()
    greenlet: Any = sys.modules.get("greenlet")
    running = None if greenlet is None else greenlet.getcurrent()
    while frame is not None:
        yield frame
        frame = frame.f_back
        while frame is None and running is not None and running.parent is not None:
            running = running.parent
            frame = running.gr_frame


_HERE = str(Path(__file__).parent)
_INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


# nnsight puts the name and the line of a function that it has sent before its file.
_SENT = re.compile(r"(?:\[[^\]]*\] )*")


def _is_users(name: str) -> bool:
    """Whether a file is neither of this package nor of an installed one nor of Python."""
    file = _SENT.sub("", name, count=1)
    made_up = file.startswith("<") and not file.startswith(("<ipython", "<stdin", "<string"))
    return not made_up and not file.startswith((_HERE, *_INSTALLED)) and "-packages" not in file
