"""The loop of `dspa chat`: a line is said to the model, or is a command where it begins with /."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from dspa_nn.chat.screen import Screen
from dspa_nn.chat.talk import Talk
from dspa_nn.chat.why import reasons
from dspa_nn.errors import DSPAError, SteeringError, first_line
from dspa_nn.graph.spelling import did_you_mean
from dspa_nn.personas import Persona, known_effects, read_map, read_weights
from dspa_nn.steering import remark_on_alpha

PROMPT = "you> "
SAVED_IN = "talk"


class Command(NamedTuple):
    """A command of the talk: how it is written, what it does, and the function that does it."""

    written: str
    meaning: str
    run: Callable[[Talk, Screen, str], None]


def run_chat(talk: Talk, console: Console, read: Callable[[str], str] | None = None) -> None:
    """Talk until /quit or the end of the input.

    >>> lines = iter(["tell me of the sea", "/quit"])
    >>> talk = Talk(dspa, map, "warm", generation={"max_new_tokens": 4})
    >>> run_chat(talk, Console(width=80), read=lambda prompt: next(lines))
    steered by warm, alpha ...; /help lists the commands
    ...
    >>> len(talk.turns)
    1

    Ctrl-C stops an answer, and leaves the talk as it was before the question.

    Args:
        talk: what is talked about, and with whom.
        console: where it is printed.
        read: asks for a line; Python's `input`, with its history, where it is left out.
    """
    screen = Screen(console)
    read = read or _reader(console)
    screen.say(f"steered by {_steering(talk)}; /help lists the commands", "dim")
    _remark(talk, screen)
    while True:
        try:
            line = read(PROMPT).strip()
        except EOFError:
            return
        except KeyboardInterrupt:
            screen.say("/quit or Ctrl-D leaves", "dim")
            continue
        if line.split(" ")[0] == "/quit":
            return
        try:
            if line.startswith("/"):
                _command(line, talk, screen)
            elif line:
                _turn(line, talk, screen)
        except DSPAError as error:
            screen.say(f"dspa: {error}", "red")
        except KeyboardInterrupt:  # while a map was read, or words were looked up
            screen.say("stopped: the talk goes on", "dim")
        except Exception as error:  # noqa: BLE001 (what was said so far must not be lost to it)
            unforeseen = first_line(error, named=True)
            screen.say(f"dspa: {unforeseen}: this was not foreseen; /save keeps the talk", "red")


def _turn(line: str, talk: Talk, screen: Screen) -> None:
    heads = ("unsteered", f"steered by {_steering(talk)}")
    try:
        screen.answers(talk.ask(line), heads)
    except KeyboardInterrupt:
        screen.say("stopped: the talk is as it was before this question", "dim")
        return
    for note in talk.notes:
        screen.say(f"dspa: {note}", "yellow")


def _command(line: str, talk: Talk, screen: Screen) -> None:
    name, _, rest = line.partition(" ")
    if name not in COMMANDS:
        known = (*COMMANDS, "/quit")
        raise SteeringError(
            f"there is no command {name}{did_you_mean(name, known)}; the commands are "
            f"{', '.join(known)}"
        )
    COMMANDS[name].run(talk, screen, rest.strip())


def _steering(talk: Talk) -> str:
    return f"{talk.name}, alpha {talk.alpha:g}"


def _map(talk: Talk, screen: Screen, given: str) -> None:
    if given:
        talk.take(read_map(given), Path(given).name)
        screen.say(f"steered by {_steering(talk)} from now on", "dim")
    else:
        screen.say(f"{talk.name}: {talk.map!r}")


def _persona(talk: Talk, screen: Screen, given: str) -> None:
    if not given:
        axes = ", ".join(known_effects(talk.dspa).axes)
        screen.say(f"/persona FILE, or weights, as /persona friendly=1; the axes are {axes}")
        return
    if "=" in given:
        words = given.split()
        talk.take(Persona(read_weights(words), known_effects(talk.dspa)), " ".join(words))
    else:
        talk.take(Persona.load(given), Path(given).stem)
    screen.say(f"steered by {_steering(talk)} from now on", "dim")


def _alpha(talk: Talk, screen: Screen, given: str) -> None:
    if given:
        try:
            alpha = float(given)
        except ValueError:
            raise SteeringError(f"/alpha came with {given!r}; give a number, as 0.5") from None
        talk.set("alpha", alpha)
    screen.say(f"alpha {talk.alpha:g}, in units of the token's strongest latent", "dim")
    _remark(talk, screen)


def _remark(talk: Talk, screen: Screen) -> None:
    remark = remark_on_alpha(talk.alpha)
    if remark is not None:
        screen.say(f"dspa: {remark}", "yellow")


def _why(talk: Talk, screen: Screen, _: str) -> None:
    if talk.last is None:
        raise SteeringError("nothing was answered yet; ask something first")
    found = reasons(talk.dspa, talk.last)
    if not found:
        said = None if talk.last.edits is None else talk.last.edits.reason()
        screen.say(said or "nothing was edited in the last answer")
        return
    edits = talk.last.edits
    screen.say(f"{'' if edits is None else edits.total} edits; those edited most:", "dim")
    screen.why(found)


def _undo(talk: Talk, screen: Screen, _: str) -> None:
    screen.say(f"taken back: {talk.undo()}", "dim")


def _save(talk: Talk, screen: Screen, given: str) -> None:
    folder = talk.save(given or SAVED_IN)
    how = "" if talk.remote else f"; --resume {folder} goes on with it"
    screen.say(f"saved in {folder}{how}", "dim")


def _help(_: Talk, screen: Screen, __: str) -> None:
    told = [(one.written, one.meaning) for one in COMMANDS.values()]
    screen.lines([*told, ("/quit", "leave, as Ctrl-D does")])
    screen.say("Everything else is said to the model. Ctrl-C stops an answer.", "dim")


COMMANDS = {
    "/map": Command("/map [MAP]", "steer by another map: a folder or a hub id", _map),
    "/persona": Command(
        "/persona [FILE | AXIS=WEIGHT ...]",
        "steer by a persona: weights on axes of style",
        _persona,
    ),
    "/alpha": Command("/alpha [NUMBER]", "steer more or less", _alpha),
    "/why": Command("/why", "the latents behind the last answer, in words", _why),
    "/undo": Command("/undo", "take the last question and both answers back", _undo),
    "/save": Command(
        "/save [FOLDER]", "write the talk, to read it or, but for --remote, to go on with it", _save
    ),
    "/help": Command("/help", "this list", _help),
}


def _reader(console: Console) -> Callable[[str], str]:
    """Python's `input`; on a terminal with history and completed commands where it can be had."""
    if not sys.stdin.isatty():
        return lambda _: input()
    try:
        import readline
    except ImportError:  # Windows
        return input
    known = (*COMMANDS, "/quit")

    def complete(text: str, state: int) -> str | None:
        found = [name for name in known if name.startswith(text)]
        return found[state] if state < len(found) else None

    readline.set_completer_delims(" ")
    readline.set_completer(complete)
    readline.parse_and_bind("tab: complete")
    return input
