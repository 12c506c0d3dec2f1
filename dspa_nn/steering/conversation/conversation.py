"""A steered conversation: what was said, one turn after the other."""

import threading
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any, Literal, overload

from dspa_nn.checks import check_choice, check_type
from dspa_nn.errors import SteeringError
from dspa_nn.graph.portable import as_portable
from dspa_nn.imports import late
from dspa_nn.progress import warn, warnings_held
from dspa_nn.prompts import warn_of_markup
from dspa_nn.steering.conversation.answering import Way
from dspa_nn.steering.conversation.files import Saved, read, write
from dspa_nn.steering.conversation.keywords import Asked
from dspa_nn.steering.conversation.turns import Answer, Turns
from dspa_nn.steering.log import EditLog
from dspa_nn.steering.options import run_settings
from dspa_nn.steering.pair import ModelAndSAEs
from dspa_nn.steering.plan import Plan
from dspa_nn.triples import Message, as_messages, check_text


class Conversation:
    """A conversation with a steered model; each turn is planned from all that was said.

    Example:
        >>> conversation = dspa.conversation(map, system="be kind", max_new_tokens=8)
        >>> answer = conversation.say("tell me of the sea")
        >>> [message["role"] for message in conversation.messages]
        ['system', 'user', 'assistant']
        >>> conversation.undo()
        'tell me of the sea'

    A turn gives the tokens of a run that encodes the whole conversation again, as the paper's runs
    do, and its logits but for the order of float sums (docs/method.md 5.1). The model's cache of
    plain text is kept from turn to turn, and so are the counts of its tokens: one answer and one
    message pass through the model. A turn that fails, or is stopped, leaves the conversation as it
    was. A copy goes on by itself, and encodes everything once. Made by `DSPA.conversation`, whose
    arguments these are.
    """

    def __init__(
        self,
        dspa: ModelAndSAEs,
        map: Any,
        *,
        system: str | None = None,
        messages: Iterable[Mapping[str, Any]] = (),
        through: Way = "attach",
        seed: int | None = None,
        **options: Any,
    ) -> None:
        check_choice("through", through, ("attach", "apply"), SteeringError)
        check_type("messages", messages, Iterable, SteeringError)
        given = list(messages)
        said = as_messages(given, "messages=") if given else ()
        if system is not None:
            check_text(system, "system=")
            said = (Message("system", system), *said)
        self._dspa, self._messages = dspa, said
        self._asked = Asked.of("conversation", map, options, seed)
        self._check(self._asked)
        self._turns = Turns(dspa, through)
        self._edits: list[EditLog | None] = []
        self._plans: list[Plan | None] = []
        self._turn = threading.Lock()

    @property
    def messages(self) -> list[dict[str, str]]:
        """All that was said, as chat messages: a new list."""
        return [dict(message) for message in self._messages]

    @property
    def edits(self) -> EditLog | None:
        """What was edited in the last turn; None before the first one, and after loading."""
        return self._edits[-1] if self._edits else None

    @property
    def plan(self) -> Plan | None:
        """What the last turn was steered by; None before the first one."""
        return self._plans[-1] if self._plans else None

    @overload
    def say(
        self, text: str, *, stream: Literal[False] = ..., map: Any = ..., seed: int | None = ...,
        **options: Any,
    ) -> str: ...  # fmt: skip
    @overload
    def say(
        self, text: str, *, stream: Literal[True], map: Any = ..., seed: int | None = ...,
        **options: Any,
    ) -> Iterator[str]: ...  # fmt: skip
    def say(
        self,
        text: str,
        *,
        stream: bool = False,
        map: Any = None,
        seed: int | None = None,
        **options: Any,
    ) -> str | Iterator[str]:
        """Say something, and return the steered answer.

        Example:
            >>> conversation = dspa.conversation(map, max_new_tokens=8)
            >>> whole = conversation.say("tell me of the sea", do_sample=True, seed=0)
            >>> pieces = conversation.say("and of ships", stream=True, alpha=0.5)
            >>> "".join(pieces) == conversation.messages[-1]["content"]
            True

        Args:
            text: the user's next message.
            stream: return an iterator of pieces of the answer, as they are made. The turn begins
                with the first piece, and ends with the last one; a stream that is closed before
                then leaves the conversation as it was.
            map: another map, for this turn alone.
            seed: of this turn's sampling.
            options: for this turn, keywords of `DSPA.apply` (alpha, mode, ...) and of transformers'
                `generate` (max_new_tokens, do_sample, stop_strings, ...).

        Returns:
            The answer without special tokens.

        Raises:
            SteeringError: a keyword of neither, a turn that is under way already, or a message
                that does not fit the context. Where the whole does not fit, the oldest messages
                are left out, with a warning.
        """
        check_text(text, "what is said")
        more = Asked.of("say", map, options, seed)
        asked = Asked(
            self._asked.map if map is None else map,
            self._asked.steering | more.steering,
            self._asked.generation | more.generation,
            self._asked.seed if seed is None else seed,
        )
        if map is not None or more.steering:  # else it is what the conversation was begun with
            self._check(asked)
        message = Message("user", text)
        warn_of_markup(self._dspa.facts.tokenizer, [message])
        if stream:
            return self._streamed(message, asked)
        with self._one_turn("say"):
            answer = self._turns.answer((*self._messages, message), asked)
            return self._add(message, answer)

    def _check(self, asked: Asked) -> None:
        """Refuse a map or settings that cannot steer, before anything is run."""
        if isinstance(as_portable(asked.map), list):
            raise SteeringError(
                "a conversation was given a plan, and plans every turn from all that was said; "
                "give it the map that the plan was made with"
            )
        given, chosen = run_settings("conversation", asked.steering)
        self._dspa.steerer(asked.map, given, **chosen)

    def _streamed(self, message: Message, asked: Asked) -> Generator[str]:
        streamer: Any = late("transformers").TextIteratorStreamer(
            self._dspa.facts.tokenizer, skip_prompt=True, skip_special_tokens=True
        )
        stop = threading.Event()

        def answer() -> tuple[Answer, list[str]]:
            try:
                with warnings_held() as texts:
                    said = (*self._messages, message)
                    made = self._turns.answer(said, asked, streamer, stop.is_set)
                return made, texts
            finally:
                streamer.text_queue.put(streamer.stop_signal)

        with self._one_turn("say"), ThreadPoolExecutor(1, "conversation") as other:
            running = other.submit(answer)
            try:
                yield from streamer
            except BaseException:
                stop.set()
                raise
            made, texts = running.result()
            for text in texts:
                warn(text)
            self._add(message, made)

    def _add(self, message: Message, answer: Answer) -> str:
        """Add a turn that has come to its end."""
        self._messages = (*self._messages, message, Message("assistant", answer.text))
        self._edits.append(answer.edits)
        self._plans.append(answer.edits.plans[0])
        return answer.text

    def undo(self) -> str:
        """Take the last turn back, the user's message and the answer; return that message.

        Example:
            >>> conversation = dspa.conversation(map, max_new_tokens=4)
            >>> answer = conversation.say("tell me of the sea")
            >>> again = conversation.say(conversation.undo(), alpha=0.1)

        Raises:
            SteeringError: nothing was said, or a turn is under way.
        """
        with self._one_turn("undo"):
            asked = [n for n, one in enumerate(self._messages) if one["role"] == "user"]
            if not asked:
                raise SteeringError("nothing was said that could be undone; say something first")
            text = self._messages[asked[-1]]["content"]
            self._messages = self._messages[: asked[-1]]
            self._edits, self._plans = self._edits[:-1], self._plans[:-1]
            return text

    @contextmanager
    def _one_turn(self, call: str) -> Generator[None]:
        """Let one turn run at a time, whichever thread it is in."""
        if not self._turn.acquire(blocking=False):
            raise SteeringError(
                f"{call} was called while a turn is under way; wait for its answer, or read its "
                "stream to the end, or close it"
            )
        try:
            yield
        finally:
            self._turn.release()

    def save(self, folder: str | Path) -> None:
        """Save what was said, the settings, and the last turn's plan, as safetensors and JSON.

        Example:
            >>> conversation = dspa.conversation(map, max_new_tokens=4)
            >>> answer = conversation.say("tell me of the sea")
            >>> conversation.save("talk")
            >>> Conversation.load("talk", dspa, map).messages == conversation.messages
            True

        Functions among the settings (an extension that was given itself, not by name; a logits
        processor) cannot be saved, and a warning names them; neither are the edits and the cache.
        folder: made where it does not exist.

        Raises:
            FileError: a full disk or a read-only folder.
            SteeringError: a turn is under way.
        """
        with self._one_turn("save"):
            asked, way = self._asked, self._turns.way
            options = asked.steering | asked.generation
            saved = Saved(self._messages, options, asked.seed, way, self.plan)
            write(folder, saved, self._dspa.facts)

    @classmethod
    def load(
        cls, folder: str | Path, dspa: ModelAndSAEs, map: Any, **options: Any
    ) -> "Conversation":
        """Go on with a conversation that `save` wrote; its first turn encodes all of it.

        Args:
            folder: where it was saved.
            dspa: the model and its SAEs. map: the map to steer by from now on.
            options: keywords of `DSPA.conversation`, in place of those that were saved; system=
                takes the place of the system message.

        Raises:
            FileError: no saved conversation, or a damaged one.
            SteeringError: one with another model, or messages=, which are those that were saved.
        """
        if "messages" in options:
            raise SteeringError(
                "load was given messages=, and goes on with those that were saved; begin another "
                "conversation with dspa.conversation(map, messages=...)"
            )
        saved = read(folder, dspa.facts)
        said = saved.messages
        if options.get("system") is not None and said and said[0]["role"] == "system":
            said = said[1:]
        given: dict[str, Any] = {"through": saved.through, "seed": saved.seed}
        given |= saved.options | options
        conversation = cls(dspa, map, messages=said, **given)
        if saved.plan is not None:
            conversation._plans, conversation._edits = [saved.plan], [None]
        return conversation

    def __copy__(self) -> "Conversation":
        twin = Conversation(
            self._dspa, self._asked.map, messages=self._messages, through=self._turns.way
        )
        twin._asked = self._asked
        twin._edits, twin._plans = [*self._edits], [*self._plans]
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> "Conversation":
        return copy(self)  # map, model and plans are never changed

    def __repr__(self) -> str:
        said = sum(message["role"] == "user" for message in self._messages)
        lines = [f"Conversation: {said} turn(s), {len(self._messages)} message(s)"]
        lines += [f"  {one['role']}: {one['content']}" for one in self._messages[-2:]]
        return "\n".join(lines)
