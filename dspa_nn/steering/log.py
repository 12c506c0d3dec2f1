"""Plan and EditLog: what was planned and what was edited, as a person reads it."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from dspa_nn.errors import DSPAWarning
from dspa_nn.graph.stand_ins import RemotePlan
from dspa_nn.graph.steer import Record
from dspa_nn.shipping import reduce_log, reduce_plan

_PLANNED = ("counts", "lengths", "weights", "scores", "augment", "ablate")


class Plan:
    """What would be steered for one prompt.

    Example:
        >>> plan = dspa.plan(map, "Tell me about volcanoes.")
        >>> plan.ablate
        [(2071, -0.31), (88, -0.12)]
        >>> with dspa.model.generate("Tell me about volcanoes."):
        ...     edits = dspa.apply(plan)

    Attributes:
        made: the plan as tensors, with the prompt's ids and the settings in force, which is what
            a run steers by.
    """

    def __init__(self, made: RemotePlan) -> None:
        self.made = made

    @property
    def prompt_latents(self) -> list[tuple[int, int, float]]:
        """`(input latent, counted tokens on which it is active, weight of its vote)`.

        Every latent that votes, strongest first.
        """
        weights, counts = self.made.weights, self.made.counts
        votes = torch.nonzero(weights).squeeze(-1)
        order = torch.sort(counts[votes], descending=True, stable=True).indices
        return [(int(i), int(counts[i]), float(weights[i])) for i in votes[order]]

    @property
    def augment(self) -> list[tuple[int, float]]:
        """`(output latent, score)` of those raised where they are active, strongest first."""
        return [(int(j), float(self.scores[j])) for j in self.made.augment if j >= 0]

    @property
    def ablate(self) -> list[tuple[int, float]]:
        """The same of those turned down."""
        return [(int(j), float(self.scores[j])) for j in self.made.ablate if j >= 0]

    @property
    def counted_tokens(self) -> int:
        """Prompt tokens that were counted."""
        return int(self.made.lengths)

    @property
    def scores(self) -> Float64[Tensor, " d_out"]:
        """s(x) before any selection (docs/method.md 4.2)."""
        return self.made.scores

    def portable(self) -> RemotePlan:
        """Return what travels in this plan's place."""
        return self.made

    def __reduce__(self) -> tuple[Any, ...]:
        return reduce_plan(self)

    @property
    def latents(self) -> list[int]:
        """Output latents that would be edited, augmented ones first."""
        return [latent for latent, _ in [*self.augment, *self.ablate]]

    def __str__(self) -> str:
        voters = ", ".join(f"{latent} ({count})" for latent, count, _ in self.prompt_latents[:8])
        more = len(self.prompt_latents) - 8
        lines = [
            f"Plan from {self.counted_tokens} prompt tokens",
            f"  votes of {len(self.prompt_latents)} input latents (active tokens): "
            + (voters or "none")
            + (f", and {more} more" if more > 0 else ""),
        ]
        for name, chosen in (("augment", self.augment), ("ablate", self.ablate)):
            if chosen:
                text = ", ".join(f"{latent} ({score:+.3f})" for latent, score in chosen)
                lines.append(f"  {name} output latents (score): {text}")
        if not self.latents:
            lines.append("  nothing would be steered")
        return "\n".join(lines)

    __repr__ = __str__


@dataclass(frozen=True)
class Edit:
    """One latent moved on one token: its value before and after, and M_t, the token's strongest."""

    row: int
    position: int
    token_id: int
    latent: int
    before: float
    after: float
    strongest: float


def plan_of(record: Record, row: int) -> Plan:
    """Take one row's plan from a record."""
    ids = record.ids[row, : record.mask.shape[1]][record.mask[row]]
    own = {name: getattr(record, name)[row].detach().cpu().clone() for name in _PLANNED}
    options = {name: value for name, value in record.options.items() if name != "allowed"}
    return Plan(RemotePlan(ids[: int(record.prompt_length[row])].cpu(), **own, options=options))


class EditLog:
    """Every edit of one steered run, read lazily from tensors.

    Example:
        >>> with model.generate("Tell me about volcanoes.", max_new_tokens=32) as tracer:
        ...     edits = dspa.apply(map)
        ...     ids = tracer.result.save()
        >>> print(edits)
        >>> edits.plans[0].ablate
        >>> edits.to_pandas()

    Rows are those of the batch (of beams and returned sequences, where those multiply it). An
    *edit* is one latent whose value changed on one token; tokens that `generate` fed to a row
    after its end of turn are left out.
    """

    def __init__(self, record: Record) -> None:
        self._record = record

    def __reduce__(self) -> tuple[Any, ...]:
        return reduce_log(self, self._record)

    @property
    def options(self) -> dict[str, Any]:
        """The settings that were in force, by the names of `apply`'s keywords."""
        names = ("alpha", "k_prompt", "k_diff", "mode", "prompt_rule", "prompt_tokens", "positions")
        return {name: self._record.options[name] for name in names}

    @property
    def plans(self) -> list[Plan]:
        """One plan a row; empty until the model has run past the input layer."""
        if self._record.augment is None:
            return []
        return [plan_of(self._record, row) for row in range(len(self._record.augment))]

    def __len__(self) -> int:
        return 0 if self._record.counts is None else len(self._record.counts)

    @property
    def steps(self) -> int:
        """Passes of the model that the output layer took part in."""
        return len(self._record.steps)

    @property
    def prompt_counts(self) -> Int[Tensor, "rows d_in"]:
        """Counted prompt tokens on which each input latent is active."""
        return self._record.counts

    @property
    def scores(self) -> Float64[Tensor, "rows d_out"]:
        """s(x) of every row, before any selection."""
        return self._record.scores

    def _live(self, step: int, where: Tensor) -> Tensor:
        """Steered positions of a step less those fed to rows that had ended."""
        record = self._record
        width = record.mask.shape[1]
        if not record.generating or not step or record.ids.shape[1] <= width:
            return where
        emitted = record.ids[:, width : width + step]
        ended = torch.isin(emitted, torch.tensor(record.eos_ids, device=emitted.device))
        return where & ~ended.any(-1, keepdim=True).to(where.device)

    def _changes(self) -> Iterator[tuple[int, dict[str, Any], Tensor, Tensor]]:
        for step, entry in enumerate(self._record.steps):
            if entry is not None:
                live = self._live(step, entry["steered"])
                yield step, entry, live, (entry["before"] != entry["after"]) & live.unsqueeze(-1)

    @property
    def tokens(self) -> int:
        """Steered tokens over all rows, whether or not a planned latent was active on them."""
        return sum(int(live.sum()) for _, _, live, _ in self._changes())

    @property
    def total(self) -> int:
        """Number of edits, over all rows and steps."""
        return sum(int(changed.sum()) for _, _, _, changed in self._changes())

    def by_row(self) -> list[int]:
        """Return the number of edits in each row."""
        total = torch.zeros(len(self), dtype=torch.int64)
        for _, _, _, changed in self._changes():
            total += changed.sum((1, 2)).cpu()
        return total.tolist()

    def by_latent(self) -> dict[int, int]:
        """Return how often each latent was edited, most often first."""
        found: dict[int, int] = {}
        for edit in self:
            found[edit.latent] = found.get(edit.latent, 0) + 1
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    def norms(self) -> Float64[Tensor, " tokens"]:
        """Return the norm of the residual stream's change at each steered token."""
        kept = [entry["norm"][live].double().cpu() for _, entry, live, _ in self._changes()]
        return torch.cat(kept) if kept else torch.zeros(0, dtype=torch.float64)

    def __iter__(self) -> Iterator[Edit]:
        record = self._record
        planned = None
        for step, entry, _, changed in self._changes():
            if planned is None:
                planned = torch.cat([record.augment, record.ablate], -1)
            for row, place, column in torch.nonzero(changed).tolist():
                position = entry["start"] + place
                if step and record.generating and entry["start"] == 0:
                    position = record.mask.shape[1] - 1 + step  # a cache: passes of one token
                known = position < record.ids.shape[1]
                yield Edit(
                    row=row,
                    position=position,
                    token_id=int(record.ids[row, position]) if known else -1,
                    latent=int(planned[row, column]),
                    before=float(entry["before"][row, place, column]),
                    after=float(entry["after"][row, place, column]),
                    strongest=float(entry["strongest"][row, place]),
                )

    def to_pandas(self) -> Any:
        """Return one line an edit, as a `pandas.DataFrame`."""
        import pandas as pd

        return pd.DataFrame([vars(edit) for edit in self], columns=list(Edit.__annotations__))

    def reason(self) -> str | None:
        """Say why nothing was edited, in one sentence, or return None where something was."""
        record = self._record
        if record.augment is None:
            return "the run ended before the input layer was reached, so nothing was planned"
        if any(bool(changed.any()) for _, _, _, changed in self._changes()):
            return None
        if not int(record.lengths.sum()):
            return (
                "no prompt token counts (the prompt is empty or BOS alone), so nothing is planned"
            )
        if record.options["alpha"] == 0:
            return "alpha is 0, so every edit leaves its latent as it is"
        if not int((record.counts > 0).sum()):
            return (
                "no input latent is active on the prompt; check that the input SAE belongs to "
                "this layer and model"
            )
        if not bool((record.scores != 0).any()):
            return "no active prompt latent has an entry in the map; fit on more triples"
        if not record.augment.numel() and not record.ablate.numel():
            mode = record.options["mode"]
            return f"no output latent has a score that mode={mode!r} could act on"
        if not any(bool((entry["strongest"] > 0).any()) for _, entry, _, _ in self._changes()):
            return (
                "no output latent at all is active on the steered tokens; check that the output "
                "SAE belongs to this layer and model"
            )
        return "none of the planned latents was active on a steered token"

    def __str__(self) -> str:
        if self._record.augment is None:
            return "EditLog: the model has not run yet"
        tokens, total = self.tokens, self.total
        settings = ", ".join(f"{name} {value}" for name, value in self.options.items())
        lines = [
            f"EditLog: {total} edits on {tokens} tokens of {len(self)} row(s) ({settings})",
        ]
        norms = self.norms()
        if total:
            often = ", ".join(f"{k} ({n})" for k, n in list(self.by_latent().items())[:10])
            lines.append(f"  most edited latents (times): {often}")
            lines.append(
                f"  {total / tokens:.2f} edits and {float(norms.mean()):.3f} change in norm a token"
            )
        else:
            lines.append(f"  nothing was edited: {self.reason()}")
        return "\n".join(lines)

    __repr__ = __str__


def warn_if_unsteered(record: Record) -> None:
    """Warn, in one sentence each, of a run that edited nothing and of prompts counted whole."""
    log = EditLog(record)
    if record.markup is not None and bool(record.markup.any()):
        warnings.warn(
            "the map was fitted on the messages' own tokens, but this prompt holds template markup "
            "and every token of it was counted; pass prompt=dspa.render(messages)",
            DSPAWarning,
            stacklevel=2,
        )
    empty = [] if record.lengths is None else torch.nonzero(record.lengths == 0).flatten().tolist()
    if empty and len(empty) < len(log):
        warnings.warn(
            f"rows {empty} have no prompt token that counts, so nothing is planned for them",
            DSPAWarning,
            stacklevel=2,
        )
    reason = log.reason()
    if reason is not None:
        warnings.warn(f"nothing was steered: {reason}", DSPAWarning, stacklevel=2)


def received(state: dict[str, Any]) -> EditLog:
    """Build the log of a run that took place on NDIF, and warn as a local run would have."""
    record = Record(state["options"])
    vars(record).update(state)
    warn_if_unsteered(record)
    return EditLog(record)
