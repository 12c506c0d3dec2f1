"""One edit, and one pass of the model through the output layer, as a log tells of them."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from dspa_nn.errors import SteeringError
from dspa_nn.graph.record import Record


@dataclass(frozen=True)
class Edit:
    """One output latent moved on one token: its value before, after, and the token's M_t."""

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
        step: which pass of the run, from 0; start: position of its first entry in the padded row.
        before: planned latents as encoded, after: as edited, strongest: each token's M_t.
        norm: norm of the residual stream's change; stream: norm of what was changed.
        steered: positions that were steered, those fed to rows that had ended left out.
        edited: where a planned latent changed.
    """

    step: int
    start: int
    before: Float[Tensor, "rows positions k"]
    after: Float[Tensor, "rows positions k"]
    strongest: Float[Tensor, "rows positions"]
    norm: Float[Tensor, "rows positions"]
    stream: Float[Tensor, "rows positions"]
    steered: Bool[Tensor, "rows positions"]
    edited: Bool[Tensor, "rows positions k"]

    @property
    def share(self) -> Float64[Tensor, "rows positions"]:
        """Norm of the change over that of the stream; 0 where the stream itself is 0."""
        norm, stream = self.norm.double().cpu(), self.stream.double().cpu()
        return torch.where(stream > 0, norm / stream, 0.0)


class RowTokens(NamedTuple):
    """A row's real tokens.

    Attributes:
        ids: of the prompt and of what was made.
        positions: where each stands in the batch's padded row, as in `Edit.position`.
        prompt: how many of them are the prompt's.
    """

    ids: Int64[Tensor, " tokens"]
    positions: Int64[Tensor, " tokens"]
    prompt: int


def check_row(row: Any, rows: int) -> None:
    """Refuse a row that a log of so many rows does not have; none are a run yet to come.

    >>> check_row(0, 1)

    Raises:
        SteeringError: naming both.
    """
    if not rows:
        raise SteeringError(
            "tokens were asked of an edit log whose run has not taken place; run the model under "
            "apply or attach first"
        )
    whole = isinstance(row, int | np.integer) and not isinstance(row, bool)
    if not whole or not 0 <= row < rows:
        raise SteeringError(f"row {row!r} came, and the log has {rows}; count them from 0")


def sequence_of(record: Record, row: int) -> RowTokens:
    """Read a row's real tokens from a record: see `EditLog.sequence`.

    Raises:
        SteeringError: the run has not taken place, or has no such row.
    """
    rows: Any = () if record.mask is None else record.mask
    check_row(row, len(rows))
    mask, ids = rows[row].cpu(), record.ids[row].cpu()
    width = len(mask)
    made = ids[width:]
    ended = torch.isin(made, torch.tensor(record.eos_ids, dtype=made.dtype)).nonzero()
    last = width + (int(ended[0]) + 1 if len(ended) else len(made))
    real = torch.cat([mask.nonzero().squeeze(-1), torch.arange(width, last)])
    return RowTokens(ids[real], real, int(record.prompt_length[row]))
