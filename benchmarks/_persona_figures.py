"""Figures of personas: either end of every axis, and two axes at graded strengths."""

from typing import Any

from benchmarks._drawing import BLUE, GREY, ORANGE, name_lines, numbers, panels, tables, value


def personas() -> Any:
    """How far personas of five and of twenty latents moved what was asked of them."""
    found = [rows for rows in tables("personas") if "concise" in rows[0]]
    figure, (axis,) = panels(1, (7, 4.6))
    ends = [row["asked for"] for row in found[0]]
    for rows, colour, shift, label in (
        (found[0], BLUE, -0.15, "5 latents"), (found[1], ORANGE, 0.15, "20 latents")
    ):  # fmt: skip
        for row in rows:
            [cell] = [text for text in row.values() if text.startswith("**")]
            line = ends.index(row["asked for"])
            # Even lines ask for more of a score, odd ones for less.
            mean, *interval = ((-1) ** line * one for one in numbers(cell))
            axis.plot(interval, [line + shift] * 2, color=colour)
            axis.plot([mean], [line + shift], "o", color=colour, markersize=5,
                      label=None if line else label)  # fmt: skip
    name_lines(axis, ends)
    axis.axvline(0, color=GREY, linewidth=1)
    axis.set_xlabel("moved the way that was asked, standard deviations (95 % interval)")
    axis.legend(loc="upper right")
    return figure


def doses() -> Any:
    """What personas move at graded strengths: what was asked for, and every other axis in grey."""
    [rows] = [rows for rows in tables("personas") if "stream moved" in rows[0]]
    names = list(rows[0])
    styles = names[names.index("stream moved") + 1 :][:8]
    kinds = (("concise", "ablate"), ("concise", "both"), ("proactive", "ablate"))
    figure, panes = panels(len(kinds), (8.4, 3.4), sharey=True)
    blue: Any = None
    grey: Any = None
    for pane, (axis, mode) in zip(panes, kinds, strict=True):
        mine = [row for row in rows if row[axis].startswith("**") and row["mode"] == mode]
        ends = list(dict.fromkeys(row["asked for"] for row in mine))
        signs = dict(zip(ends, (1, -1), strict=True))
        at = {signs[row["asked for"]] * value(row["alpha"]): row for row in mine}
        places = sorted(at)
        for name in (name for name in styles if name != axis):
            others = [value(at[place][name]) for place in places]
            [grey] = pane.plot(places, others, color=GREY, linewidth=0.8)
        means = [numbers(at[place][axis]) for place in places]
        [blue] = pane.plot(places, [mean for mean, _, _ in means], "o-", color=BLUE, markersize=5)
        for place, (_, low, high) in zip(places, means, strict=True):
            pane.plot([place, place], [low, high], color=BLUE, alpha=0.6)
        pane.axhline(0, color=GREY, linewidth=1)
        most = max(places)
        pane.set_xticks([-most, 0, most], [f"{most:g}", "0", f"{most:g}"])
        pane.set_xlabel(f"{ends[1]}  <  alpha  >  {ends[0]}")
        what = {"ablate": "ablation", "both": "both directions"}[mode]
        pane.set_title(f"{axis}, {what}", fontsize=11)
        pane.grid(axis="y")
    panes[0].set_ylabel("change of the score, sd")
    told = ["the axis that was asked for (95 % interval)", "the other seven"]
    figure.legend([blue, grey], told, loc="outside upper center", ncols=2)
    return figure
