"""What an edit log tells of each token of each row, as plain values for a page."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from dspa_nn.errors import SteeringError
from dspa_nn.prompts import token_texts
from dspa_nn.steering import EditLog, Plan


class LatentEdit(NamedTuple):
    """One latent on one token: its number, and its value before and after."""

    latent: int
    before: float
    after: float


class LogitChange(NamedTuple):
    """One possible next token: its logit's change, and its probability before and after."""

    token: str
    change: float
    before: float
    after: float


@dataclass
class Token:
    """One token of a row, and what was done at its position.

    Attributes:
        text: what it adds to the text. prompt: whether it is the prompt's. special: whether it is
            one of the tokenizer's special tokens.
        steered: whether its position was steered at all.
        edits: the latents that moved. strongest: M_t. norm, stream: of the change, and of the
            residual stream before it.
        logits: next tokens whose logits moved most; empty where no model was at hand.
        voters: voting input latents that are active here; empty likewise, and where the token was
            not counted.
    """

    text: str
    prompt: bool
    special: bool
    steered: bool = False
    edits: list[LatentEdit] = field(default_factory=list[LatentEdit])
    strongest: float = 0.0
    norm: float = 0.0
    stream: float = 0.0
    logits: list[LogitChange] = field(default_factory=list[LogitChange])
    voters: list[int] = field(default_factory=list[int])

    @property
    def share(self) -> float:
        """The share of the residual stream's norm that moved."""
        return self.norm / self.stream if self.stream > 0 else 0.0


@dataclass
class Row:
    """One row of a run.

    Attributes:
        log: the edit log that it is of, and place: its number there.
        tokens: those of the prompt, then those that were made or given.
        plan: what was planned for it.
        answer, unsteered: the text after the prompt, and what the unsteered model says; None where
            that is unknown.
    """

    log: EditLog
    place: int
    tokens: list[Token]
    plan: Plan
    answer: str
    unsteered: str | None = None

    @property
    def prompt(self) -> str:
        """The prompt's text, less special tokens."""
        return "".join(one.text for one in self.tokens if one.prompt and not one.special)


def logs_of(edits: Any) -> list[EditLog]:
    """One log, or several, each checked for what a report shows.

    Raises:
        SteeringError: something else, a log that edits no latents, or one of a run that has not
            taken place.
    """
    logs = list(cast("Sequence[Any]", edits)) if isinstance(edits, list | tuple) else [edits]
    for log in logs:
        if not isinstance(log, EditLog):
            raise SteeringError(
                f"a report was asked of a {type(log).__name__}; give the edit log that apply or "
                "attach returned, or a list of them"
            )
        if not hasattr(log.options, "get") or "alpha" not in log.options:
            raise SteeringError(
                f"a report was asked of a {type(log).__name__}, which edits no latents; give the "
                "edit log of a DSPA run"
            )
        if not log.rows:
            raise SteeringError(
                "a report was asked of an edit log whose run has not taken place; run the model "
                "under apply or attach first"
            )
    if not logs:
        raise SteeringError("a report was asked of an empty list; give at least one edit log")
    return logs


def rows_of(logs: Sequence[EditLog], tokenizer: Any, special_ids: set[int]) -> list[Row]:
    """Every row of every log, token by token.

    Example:
        >>> with dspa.attach(hf_model, map) as edits:
        ...     ids = hf_model.generate(prompt.ids[None], max_new_tokens=4)
        >>> [row] = rows_of([edits], tokenizer, set())
        >>> sum(len(token.edits) for token in row.tokens) == edits.total
        True
    """
    rows: list[Row] = []
    for log in logs:
        plans = log.plans
        rows += [_row(log, place, plans[place], tokenizer, special_ids)
                 for place in range(log.rows)]  # fmt: skip
    return rows


def _row(log: EditLog, place: int, plan: Plan, tokenizer: Any, special_ids: set[int]) -> Row:
    sequence: Any = log.sequence(place)  # torch declares no types of lists
    ids: list[int] = sequence.ids.tolist()
    tokens = [
        Token(text or "", index < sequence.prompt, ids[index] in special_ids)
        for index, text in enumerate(token_texts(ids, tokenizer))
    ]
    positions: list[int] = sequence.positions.tolist()
    at = {position: index for index, position in enumerate(positions)}
    planned: Any = log.planned[place]
    columns: list[int] = planned.tolist()
    one: Any
    for one in log.passes():
        before, after, steered, edited, strongest, norm, stream = (
            values[place].tolist()
            for values in (
                one.before, one.after, one.steered, one.edited, one.strongest, one.norm, one.stream
            )
        )  # fmt: skip
        for offset, here in enumerate(steered):
            index = at.get(one.start + offset)
            if not here or index is None:
                continue
            token = tokens[index]
            token.steered = True
            token.strongest, token.norm = strongest[offset], norm[offset]
            token.stream = stream[offset]
            token.edits = [
                LatentEdit(columns[k], before[offset][k], after[offset][k])
                for k, moved in enumerate(edited[offset])
                if moved
            ]
    answer = tokenizer.decode(ids[sequence.prompt :], skip_special_tokens=True).strip()
    return Row(log, place, tokens, plan, answer)
