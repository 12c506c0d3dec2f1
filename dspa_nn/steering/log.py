"""EditLog: what was edited in one steered run, and why nothing was where nothing was."""

import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from dspa_nn.errors import DSPAWarning
from dspa_nn.graph.record import Record
from dspa_nn.shipping import Reduced, Shipped, reduce_log
from dspa_nn.steering.plan import Plan, plan_of

if TYPE_CHECKING:
    import pandas


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


class SteeredPass(NamedTuple):
    """One pass of the model through the output layer, as the run recorded it.

    Attributes:
        step: which pass of the run, from 0; start: position of its first entry in the row.
        before: planned latents as encoded, after: as edited, strongest: each token's M_t.
        norm: norm of the residual stream's change. steered: positions that were steered, those fed
            to rows that had ended left out. edited: where a planned latent changed.
    """

    step: int
    start: int
    before: Float[Tensor, "rows positions k"]
    after: Float[Tensor, "rows positions k"]
    strongest: Float[Tensor, "rows positions"]
    norm: Float[Tensor, "rows positions"]
    steered: Bool[Tensor, "rows positions"]
    edited: Bool[Tensor, "rows positions k"]


class EditLog(Shipped):
    """Every edit of one steered run, read lazily from tensors.

    Example:
        >>> with model.generate("Tell me about volcanoes.", max_new_tokens=4) as tracer:
        ...     edits = dspa.apply(map)
        ...     ids = tracer.result.save()
        >>> print(edits)
        EditLog: ... edits on 4 tokens of 1 row(s) (alpha ...)
        ...
        >>> edits.plans[0].ablate
        [...]
        >>> edits.to_pandas().columns[:4].tolist()
        ['row', 'position', 'token_id', 'latent']

    Iterating yields one `Edit` for every latent whose value changed on one token; tokens that
    `generate` fed to a row after its end of turn are left out. `len` counts the same edits, and a
    log is true where there is at least one. Rows are those of the batch (of beams and returned
    sequences, where those multiply it).
    """

    def __init__(self, record: Record) -> None:
        self._record = record

    def as_shipped(self) -> Reduced:
        """Return what is pickled in its place for NDIF."""
        return reduce_log(self, self._record)

    @property
    def options(self) -> dict[str, Any]:
        """The settings that were in force, by the names of `apply`'s keywords."""
        names = ("alpha", "k_prompt", "k_diff", "mode", "prompt_rule", "prompt_tokens", "positions")
        return {name: self._record.options[name] for name in names}

    @property
    def plans(self) -> list[Plan]:
        """One plan per row; empty until the model has run past the input layer."""
        if self._record.augment is None:
            return []
        return [plan_of(self._record, row) for row in range(len(self._record.augment))]

    @property
    def rows(self) -> int:
        """Rows of the run's batch; 0 until the model has run past the input layer."""
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

    def passes(self) -> Iterator[SteeredPass]:
        """Iterate over the passes in which something could be edited, as tensors.

        Example:
            >>> with dspa.attach(hf_model, map) as edits:
            ...     ids = hf_model.generate(prompt.ids[None], max_new_tokens=4)
            >>> sum(int(one.edited.sum()) for one in edits.passes()) == edits.total
            True
        """
        for step, entry in enumerate(self._record.steps):
            if entry is not None:
                steered = self._live(step, entry["steered"])
                edited = (entry["before"] != entry["after"]) & steered.unsqueeze(-1)
                yield SteeredPass(step=step, edited=edited, **entry | {"steered": steered})

    @property
    def tokens(self) -> int:
        """Steered tokens over all rows, whether or not a planned latent was active on them."""
        return sum(int(one.steered.sum()) for one in self.passes())

    @property
    def total(self) -> int:
        """Number of edits, over all rows and steps."""
        return sum(int(one.edited.sum()) for one in self.passes())

    def __len__(self) -> int:
        return self.total

    def __bool__(self) -> bool:
        return any(bool(one.edited.any()) for one in self.passes())

    def by_row(self) -> list[int]:
        """Return the number of edits in each row."""
        total = torch.zeros(self.rows, dtype=torch.int64)
        for one in self.passes():
            total += one.edited.sum((1, 2)).cpu()
        return [int(edits) for edits in total]

    def by_latent(self) -> dict[int, int]:
        """Return how often each latent was edited, most often first."""
        times = Counter(edit.latent for edit in self)
        return dict(sorted(times.items(), key=lambda item: (-item[1], item[0])))

    def norms(self) -> Float64[Tensor, " tokens"]:
        """Return the norm of the residual stream's change at each steered token."""
        norms = [one.norm[one.steered].double().cpu() for one in self.passes()]
        return torch.cat(norms) if norms else torch.zeros(0, dtype=torch.float64)

    def __iter__(self) -> Iterator[Edit]:
        record = self._record
        planned = None
        for one in self.passes():
            if planned is None:
                planned = torch.cat([record.augment, record.ablate], -1)
            entries: Any = torch.nonzero(one.edited)
            for row, offset, column in entries.tolist():
                position = one.start + offset
                if one.step and record.generating and one.start == 0:
                    position = record.mask.shape[1] - 1 + one.step  # a cache: passes of one token
                known = position < record.ids.shape[1]
                yield Edit(
                    row=row,
                    position=position,
                    token_id=int(record.ids[row, position]) if known else -1,
                    latent=int(planned[row, column]),
                    before=float(one.before[row, offset, column]),
                    after=float(one.after[row, offset, column]),
                    strongest=float(one.strongest[row, offset]),
                )

    def to_pandas(self) -> "pandas.DataFrame":
        """Return one line per edit, as a `pandas.DataFrame`."""
        import pandas

        return pandas.DataFrame([vars(edit) for edit in self], columns=list(Edit.__annotations__))

    def reason(self) -> str | None:
        """Say why nothing was edited, in one sentence, or return None where something was."""
        record = self._record
        if record.augment is None:
            return "the run ended before the input layer was reached, so nothing was planned"
        if self:
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
        if not any(bool((one.strongest > 0).any()) for one in self.passes()):
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
            f"EditLog: {total} edits on {tokens} tokens of {self.rows} row(s) ({settings})",
        ]
        norms = self.norms()
        if total:
            often = ", ".join(f"{k} ({n})" for k, n in list(self.by_latent().items())[:10])
            lines.append(f"  most edited latents (times): {often}")
            edits, change = total / tokens, float(norms.mean())
            lines.append(f"  {edits:.2f} edits and {change:.3f} change in norm per token")
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
    lengths: list[int] = [] if record.lengths is None else record.lengths.tolist()
    empty = [row for row, length in enumerate(lengths) if not length]
    if empty and len(empty) < log.rows:
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
