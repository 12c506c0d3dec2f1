"""EditLog: what was edited in one steered run, and why nothing was where nothing was."""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float64, Int, Int64
from torch import Tensor

from dspa_nn.graph.record import Record
from dspa_nn.graph.settings import LOGGED_SETTINGS
from dspa_nn.shipping import Reduced, Shipped, reduce_log
from dspa_nn.steering.edits import Edit, RowTokens, SteeredPass, sequence_of
from dspa_nn.steering.notebook import log_html
from dspa_nn.steering.plan import Plan, plan_of
from dspa_nn.steering.plots import plot_log
from dspa_nn.steering.telling import NOT_RUN, passes_missed, printed, why_nothing

if TYPE_CHECKING:
    import pandas


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

    Iterating yields one `Edit` for every output latent whose value changed on one token; tokens
    that `generate` fed to a row after its end of turn are left out. `len` counts the same edits,
    and a log is true where there is at least one. Rows are those of the batch (of beams and
    returned sequences, where those multiply it).
    """

    def __init__(self, record: Record, tokenizer: Any = None) -> None:
        self._record = record
        self._tokenizer = tokenizer

    def as_shipped(self) -> Reduced:
        """Return what is pickled in its place for NDIF."""
        return reduce_log(self, self._record)

    @property
    def options(self) -> dict[str, Any]:
        """The settings that were in force, by the names of `apply`'s keywords.

        A setting that differs between the rows of a batch of plans is a list, one value per row.
        """
        return {name: self._record.options[name] for name in LOGGED_SETTINGS}

    @property
    def origin(self) -> dict[str, Any]:
        """What identifies the map (of the first row, where they differ), its model and SAEs."""
        own = self._record.own or [self._record.options]
        return own[0].get("origin") or {}

    @property
    def plans(self) -> list[Plan]:
        """One plan per row; empty until the model has run past the input layer."""
        if self._record.augment is None:
            return []
        return [plan_of(self._record, row) for row in range(len(self._record.augment))]

    @property
    def planned(self) -> Int64[Tensor, "rows k"]:
        """Output latents of each row's plan, raised ones first, padded with -1.

        They are what the last axis of a pass's `before`, `after` and `edited` stands for.
        """
        return torch.cat([self._record.augment, self._record.ablate], -1).cpu()

    @property
    def rows(self) -> int:
        """Rows of the run's batch; 0 until the model has run past the input layer."""
        return 0 if self._record.counts is None else len(self._record.counts)

    @property
    def tokenizer(self) -> Any:
        """What its tokens are read with; None of a log from NDIF."""
        return self._tokenizer

    @property
    def generated(self) -> bool:
        """Whether the run was a `generate`, not a single forward."""
        return self._record.generating

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
                start = entry["start"]
                if step and self._record.generating and not start:
                    start = self._record.mask.shape[1] - 1 + step  # a cache: passes of one token
                told = entry | {"steered": steered, "start": start}
                yield SteeredPass(step=step, edited=edited, **told)

    @property
    def tokens(self) -> int:
        """Steered tokens over all rows, whether or not a planned latent was active on them."""
        return sum(int(one.steered.sum()) for one in self.passes())

    @property
    def total(self) -> int:
        """Number of edits, over all rows and steps."""
        return sum(int(one.edited.sum()) for one in self.passes())

    def sequence(self, row: int) -> RowTokens:
        """Return a row's real tokens, with their positions in the batch's padded row.

        Example:
            >>> with dspa.attach(hf_model, map) as edits:
            ...     ids = hf_model.generate(prompt.ids[None], max_new_tokens=4)
            >>> tokens = edits.sequence(0)
            >>> tokens.ids.equal(ids[0]), tokens.prompt == len(prompt.ids)
            (True, True)

        Padding is left out, and what follows a row's end of turn. Of beams the prompt is known.

        Raises:
            SteeringError: the run has not taken place, or has no such row.
        """
        return sequence_of(self._record, row)

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
        """Return how often each output latent was edited, most often first."""
        times = Counter(edit.latent for edit in self)
        return dict(sorted(times.items(), key=lambda item: (-item[1], item[0])))

    def norms(self) -> Float64[Tensor, " tokens"]:
        """Return the norm of the residual stream's change at each steered token."""
        norms = [one.norm[one.steered].double().cpu() for one in self.passes()]
        return torch.cat(norms) if norms else torch.zeros(0, dtype=torch.float64)

    def shares(self) -> Float64[Tensor, " tokens"]:
        """Return the norm of each change over that of the residual stream before it.

        Example:
            >>> with dspa.attach(hf_model, map) as edits:
            ...     ids = hf_model.generate(prompt.ids[None], max_new_tokens=4)
            >>> bool((edits.shares() >= 0).all())
            True

        One for each steered token, in the order of `norms`.
        """
        shares = [one.share[one.steered.cpu()] for one in self.passes()]
        return torch.cat(shares) if shares else torch.zeros(0, dtype=torch.float64)

    def shares_by_row(self) -> list[float]:
        """Return the mean of `shares` over the steered tokens of each row; 0 where there are none.

        Example:
            >>> with dspa.attach(hf_model, map) as edits:
            ...     ids = hf_model.generate(prompt.ids[None], max_new_tokens=4)
            >>> len(edits.shares_by_row()) == edits.rows
            True
        """
        total = torch.zeros(self.rows, dtype=torch.float64)
        tokens = torch.zeros(self.rows, dtype=torch.float64)
        for one in self.passes():
            steered = one.steered.cpu()
            total += (one.share * steered).sum(-1)
            tokens += steered.sum(-1)
        return [float(share) for share in total / tokens.clamp(min=1)]

    def __iter__(self) -> Iterator[Edit]:
        record = self._record
        planned: Any = None if record.augment is None else self.planned
        for one in self.passes():
            entries: Any = torch.nonzero(one.edited)
            for row, offset, column in entries.tolist():
                position = one.start + offset
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

    def to_pandas(self, tokenizer: Any = None) -> "pandas.DataFrame":
        """Return one line per edit: the fields of `Edit`, and what is known of them.

        `latent` is the output latent, `token` the text of the token, `direction` whether the
        latent was planned to be raised ("augment") or turned down ("ablate"), and `score` its
        s(x) in that row (docs/method.md 4.2). A log that comes from NDIF knows no tokenizer: give
        it, or `token` is None.
        """
        import pandas

        tokenizer = self._tokenizer if tokenizer is None else tokenizer
        record = self._record
        columns = [*Edit.__annotations__, "token", "direction", "score"]
        lines: list[dict[str, Any]] = []
        raised = [] if record.augment is None else [set(row) for row in record.augment.tolist()]
        for edit in self:
            told = {
                "token": None if tokenizer is None else tokenizer.decode([max(edit.token_id, 0)]),
                "direction": "augment" if edit.latent in raised[edit.row] else "ablate",
                "score": float(record.scores[edit.row, edit.latent]),
            }
            lines.append(vars(edit) | told)
        return pandas.DataFrame(lines, columns=columns)

    def missed(self) -> str | None:
        """Say that passes of the run went unsteered, in one sentence, or return None.

        Every pass of `generate` makes one token, so the passes that the output layer took part in
        are held against the tokens made. Beams may have passed more often than the best of them
        is long.
        """
        return passes_missed(self._record, self.steps)

    def reason(self) -> str | None:
        """Say why nothing was edited, in one sentence, or return None where something was."""
        record = self._record
        if record.augment is not None and self:
            return None
        return why_nothing(record, self.passes())

    def plot(self, row: int = 0, axes: Any = None) -> Any:
        """Draw edits and the share of the norm that moved over a row's tokens, with matplotlib.

        Example:
            >>> with dspa.attach(hf_model, map) as edits:
            ...     ids = hf_model.generate(prompt.ids[None], max_new_tokens=4)
            >>> above, below = edits.plot()
            >>> below.get_xlabel()
            'token'

        axes: two of matplotlib's to draw on; returned, as are new ones where None is given.
        """
        return plot_log(self, row, axes)

    def _repr_html_(self) -> str:
        return log_html(self, self._tokenizer)

    def __str__(self) -> str:
        return printed(self) if self._record.augment is not None else NOT_RUN

    __repr__ = __str__
