"""An edit log as a picture."""

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64, Int64

from dspa_nn.shown import check_axes, pyplot
from dspa_nn.steering.edits import RowTokens, SteeredPass, check_row

# Of middle lightness, so that they can be told on white and on black.
_BLUE, _ORANGE, _GREY = "#3b8ad8", "#d9772b", "#828282"


@runtime_checkable
class Drawable(Protocol):
    """An edit log, as far as it is drawn here."""

    @property
    def rows(self) -> int:
        """Rows of the batch."""
        ...

    def passes(self) -> Iterator[SteeredPass]:
        """The passes in which something could be edited."""
        ...

    def sequence(self, row: int) -> RowTokens:
        """A row's real tokens."""
        ...


def over_tokens(
    log: Drawable, row: int
) -> tuple[Int64[np.ndarray, " tokens"], Float64[np.ndarray, " tokens"]]:
    """Edits at each of a row's tokens, and the share of the stream's norm that moved there.

    >>> with dspa.attach(hf_model, map) as edits:
    ...     ids = hf_model.generate(prompt.ids[None], max_new_tokens=4)
    >>> edited, share = over_tokens(edits, 0)
    >>> int(edited.sum()) == edits.total
    True

    Raises:
        SteeringError: the log has no such row, or is of a run that has not taken place.
    """
    check_row(row, log.rows)
    positions = log.sequence(row).positions.numpy()
    edits = np.zeros(len(positions), dtype=np.int64)
    share = np.zeros(len(positions))
    place = {int(position): index for index, position in enumerate(positions)}
    for one in log.passes():
        shares, edited, steered = one.share[row], one.edited[row].sum(-1), one.steered[row]
        for offset in np.flatnonzero(steered.cpu().numpy()):
            index = place.get(one.start + int(offset))
            if index is not None:
                edits[index], share[index] = int(edited[offset]), float(shares[offset])
    return edits, share


def plot_log(log: Drawable, row: int, axes: Any) -> Any:
    """Draw edits, and below them shares of the norm, over a row's tokens: see `EditLog.plot`."""
    edits, share = over_tokens(log, row)
    check_axes(axes, 2)
    if axes is None:
        figure, axes = pyplot().subplots(
            2, 1, sharex=True, figsize=(8, 3.6), layout="constrained", squeeze=True
        )
        figure.suptitle(f"edits of row {row}", fontsize="medium")
    prompt = log.sequence(row).prompt
    for axis, values, colour, name in (
        (axes[0], edits, _BLUE, "edited latents"),
        (axes[1], 100 * share, _ORANGE, "moved, % of norm"),
    ):
        axis.bar(np.arange(len(values)), values, width=1.0, color=colour)
        axis.axvline(prompt - 0.5, color=_GREY, linestyle="--", linewidth=1)
        axis.set_ylabel(name)
    axes[1].set_xlabel("token")
    axes[1].annotate(
        "answer", (prompt - 0.5, 1), xycoords=("data", "axes fraction"), color=_GREY,
        xytext=(4, -4), textcoords="offset points", va="top", fontsize="small",
    )  # fmt: skip
    return axes
