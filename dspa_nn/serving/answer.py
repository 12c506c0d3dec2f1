"""One answer on its way: its row in a batch, its text, and what is told of its steering."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from dspa_nn.errors import ServingError
from dspa_nn.graph.record import Steerer
from dspa_nn.prompts import Rendered
from dspa_nn.serving.sampling import Sampling
from dspa_nn.serving.text import TextStream
from dspa_nn.steering import EditLog, MixedRows

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Piece:
    """Some more text of an answer."""

    text: str


@dataclass(frozen=True)
class Done:
    """An answer's end.

    Attributes:
        reason: "stop" (the model's end of turn, or a stop string) or "length".
        prompt_tokens, completion_tokens: of the model.
        dspa: what is told of the steering, or None where nothing was asked for or wrong.
    """

    reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    dspa: dict[str, Any] | None


Event: TypeAlias = Piece | Done | ServingError


@dataclass(eq=False)
class Answer:
    """An answer that is asked for, waiting or under way.

    Attributes:
        prompt: what the model reads.
        steerer: how it is steered, or None.
        map: the name of its map, or None.
        sampling: how its tokens are chosen.
        text: its text.
        max_tokens: its length, at most.
        plan, edits: whether those are told.
        deliver: called with each `Event`, from the thread that runs the model. Where it raises,
            nobody is there to be told, and the answer is given up.
        made: its tokens so far.
        over: whether it has ended, failed, or was given up.
    """

    prompt: Rendered
    steerer: Steerer | None
    map: str | None
    sampling: Sampling
    text: TextStream
    max_tokens: int
    plan: bool
    edits: bool
    deliver: Callable[[Event], None]
    made: list[int] = field(default_factory=list[int], init=False)
    _over: threading.Event = field(default_factory=threading.Event, init=False, repr=False)

    @property
    def over(self) -> bool:
        """Whether nothing more is to be made of it."""
        return self._over.is_set()

    def cancel(self) -> None:
        """Give the answer up: nobody waits for it. Any thread may call this."""
        self._over.set()

    def fail(self, error: ServingError) -> None:
        """End the answer with an error."""
        if not self.over:
            self._over.set()
            self._tell(error)

    def _tell(self, event: Event) -> None:
        try:
            self.deliver(event)
        except Exception:  # noqa: BLE001  # answers of others are in the same batch
            self.cancel()

    def add(self, token: int, ends: Sequence[int], row: int, log: MixedRows | None) -> None:
        """Take the next token; end the answer where it ends.

        Args:
            token: what the model made.
            ends: tokens that end a turn.
            row: its row in the batch. log: of the batch, or None where no row is steered.
        """
        if self.over:
            return
        self.made.append(token)
        ended = token in ends
        piece = "" if ended else self.text.add(token)
        whole = len(self.made) >= self.max_tokens
        over = ended or whole or self.text.stopped
        if over and not self.text.stopped:
            piece += self.text.end()
        if piece:
            self._tell(Piece(piece))
        if over:
            told = None if self.steerer is None else self._told(row, log)
            reason = "stop" if ended or self.text.stopped else "length"
            self._over.set()
            self._tell(Done(reason, len(self.prompt.prompt_ids), len(self.made), told))

    def _told(self, row: int, log: MixedRows | None) -> dict[str, Any] | None:
        """What the answer says of its steering: what was asked for, and what went wrong."""
        if log is None:
            return None
        own = log.log_of_row(row, self.made)
        warnings = log.remarks(own)
        told: dict[str, Any] = {}
        if self.plan or self.edits or warnings:
            told = {"map": self.map, "settings": own.options}
        if self.plan:
            told["plan"] = _plan_of(own)
        if self.edits:
            told["edits"] = _edits_of(own)
        if warnings:
            told["warnings"] = warnings
        return told or None


def _plan_of(log: EditLog) -> dict[str, Any]:
    [plan] = log.plans
    named = ("latent", "active_tokens", "weight")
    return {
        "counted_tokens": plan.counted_tokens,
        "prompt_latents": [dict(zip(named, one, strict=True)) for one in plan.prompt_latents],
        "augment": [{"latent": latent, "score": score} for latent, score in plan.augment],
        "ablate": [{"latent": latent, "score": score} for latent, score in plan.ablate],
    }


def _edits_of(log: EditLog) -> list[dict[str, Any]]:
    table: Any = log.to_pandas()
    return table.drop(columns=["row", "score"]).to_dict(orient="records")
