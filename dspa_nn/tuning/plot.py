"""Effect against damage of everything that was tried: in the terminal, and as PNG."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

from dspa_nn.imports import untyped
from dspa_nn.tuning.region import Region, front_of
from dspa_nn.tuning.space import Trial

# Of middle lightness, so that they can be told on white and on black.
_BLUE, _ORANGE, _GREY = "#3b8ad8", "#d9772b", "#828282"
_LABEL = 8  # columns before the plot


def drawn(
    trials: Sequence[Trial], region: Region | None, kl: float, width: int = 78, height: int = 16
) -> str:
    """The plot as text: KL to the right, margin upwards.

    `.` is a trial, `o` one of the front, `*` one of the region of the best, `#` the best; `:` marks
    the limit on KL.
    """
    columns = width - _LABEL - 1
    right = max([kl, *(trial.damage for trial in trials)]) * 1.02 or 1.0
    low = min([0.0, *(trial.margin for trial in trials)])
    high = max([0.0, *(trial.margin for trial in trials)])
    scale = (high - low) or 1.0

    def at(trial: Trial) -> tuple[int, int]:
        column = round(trial.damage / right * (columns - 1))
        return round((high - trial.margin) / scale * (height - 1)), column

    cells = [[" "] * columns for _ in range(height)]
    for row in cells:
        row[round(kl / right * (columns - 1))] = ":"
    members = [] if region is None else [trial for trial, _ in region.members]
    best = [] if region is None else [region.best]
    for mark, some in ((".", trials), ("o", front_of(trials)), ("*", members), ("#", best)):
        for trial in some:
            row, column = at(trial)
            cells[row][column] = mark
    labels = {0: high, height - 1: low, round(high / scale * (height - 1)): 0.0}
    lines = [
        f"{f'{labels[row]:+.2f}' if row in labels else '':>{_LABEL - 2}} |{''.join(line)}".rstrip()
        for row, line in enumerate(cells)
    ]
    foot = f"{'':>{_LABEL - 2}} +{'-' * columns}"
    ends = f"{'':>{_LABEL}}0{f'KL {right:.2f}':>{columns - 1}}"
    return "\n".join(["margin, nats a token", *lines, foot, ends])


def png(trials: Sequence[Trial], region: Region | None, kl: float) -> bytes | None:
    """The plot as PNG; None where matplotlib is missing."""
    try:
        figures: Any = untyped("matplotlib.figure")
    except ImportError:
        return None
    figure = figures.Figure(figsize=(7, 4.5), layout="constrained")
    axis = figure.subplots()
    axis.plot(
        [one.damage for one in trials], [one.margin for one in trials], "o", color=_GREY,
        markersize=4, alpha=0.6, label="tried",
    )  # fmt: skip
    front = front_of(trials)
    axis.plot(
        [one.damage for one in front], [one.margin for one in front], "-", color=_BLUE,
        linewidth=1.5, label="front",
    )  # fmt: skip
    if region is not None:
        members = [trial for trial, _ in region.members]
        axis.plot(
            [one.damage for one in members], [one.margin for one in members], "o", color=_ORANGE,
            markersize=6, label="as good as the best, within noise",
        )  # fmt: skip
        axis.plot(
            [region.best.damage], [region.best.margin], "*", color=_ORANGE, markersize=16,
            label="best allowed",
        )  # fmt: skip
    axis.axvline(kl, color=_GREY, linestyle=":", linewidth=1.5, label="limit on KL")
    axis.axhline(0, color=_GREY, linewidth=1)
    axis.set_xlabel("damage: KL(unsteered || steered), nats per token", color=_GREY)
    axis.set_ylabel("effect: change of the margin, nats per token", color=_GREY)
    axis.tick_params(colors=_GREY, labelcolor=_GREY)
    axis.grid(color=_GREY, alpha=0.25)
    for spine in axis.spines.values():
        spine.set_color(_GREY)
    figure.legend(loc="outside upper center", ncols=3, frameon=False, labelcolor=_GREY)
    file = BytesIO()
    figure.savefig(file, format="png", dpi=150, transparent=True)
    return file.getvalue()
