"""Figures of the comparison of methods, from docs/appendix/arena.md."""

from typing import Any

from benchmarks._drawing import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    Table,
    name_lines,
    numbers,
    panels,
    tables,
    value,
)

SETS = ("plans", "news", "ultrafeedback", "register")
TITLES = {"plans": "demo's plans", "news": "demo's news", "ultrafeedback": "UltraFeedback",
          "register": "demo's register"}  # fmt: skip

TRAINED = ("DPO", "RAHF-SCIT")


def of_sets(column: str, page: str = "arena") -> dict[str, Table]:
    """Set -> its table with such a column, in the order of the page."""
    found = [rows for rows in tables(page) if column in rows[0]]
    return dict(zip(SETS, found, strict=False))


def compared() -> Any:
    """Change of the preference margin under every method that does not train, set by set."""
    found = of_sets("of which chosen")
    shown = ("plans", "news", "ultrafeedback")
    figure, axes = panels(3, (8, 3.9), sharey=True)
    left_out = ("unsteered", *TRAINED)
    names = [row["method"] for row in found["plans"] if row["method"] not in left_out]
    for axis, name in zip(axes, shown, strict=True):
        rows = {row["method"]: row for row in found[name]}
        for line, method in enumerate(names):
            mean, low, high = numbers(rows[method]["change of the margin"])
            colour = BLUE if method.startswith("DSPA") else GREY
            axis.plot([low, high], [line, line], color=colour, solid_capstyle="round")
            axis.plot([mean], [line], "D" if method == "DSPA" else "o", color=colour, markersize=6)
        axis.axvline(0, color=GREY, linewidth=1)
        name_lines(axis, names)
        axis.set_title(TITLES[name], fontsize=11)
    axes[1].set_xlabel("change of the margin, nats per token (95 % interval)")
    return figure


def efficiency() -> Any:
    """Held-out ranking over the number of fitting triples, mean and sd over resamplings."""
    found = of_sets("ranked rightly by")
    shown = ("ultrafeedback", "plans")
    figure, axes = panels(len(shown), (8, 3.4), sharey=True)
    colours = (BLUE, "#7fb3e6", GREEN, ORANGE, GREY)
    for axis, name in zip(axes, shown, strict=True):
        for line, (row, colour) in enumerate(zip(found[name], colours, strict=True)):
            cells = {int(key.split()[-1]): cell for key, cell in row.items() if "N =" in key}
            points = {n: [*numbers(cell), 0.0] for n, cell in cells.items()}
            across = [n * (1 + 0.03 * (line - 2)) for n in points]
            means, spreads = ([one[place] for one in points.values()] for place in (0, 1))
            axis.errorbar(across, means, spreads, fmt="o-", color=colour, markersize=5,
                          label=row["ranked rightly by"])  # fmt: skip
        axis.set_xscale("log")
        sizes = [10, 25, 50, 100, 250]
        axis.set_xticks(sizes, [str(n) for n in sizes])
        axis.minorticks_off()
        axis.axhline(0.5, color=GREY, linewidth=1, linestyle="--")
        axis.set(xlabel="fitting triples", title=TITLES[name])
        axis.grid(axis="y")
    axes[0].set_ylabel("held-out pairs ranked rightly")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def strengths() -> Any:
    """What alpha does in every mode: to the margin, to KL and to how likely answers are."""
    rows = next(rows for rows in tables("arena") if "mode" in rows[0] and "alpha" in rows[0])
    figure, axes = panels(3, (8, 3.2))
    shown = {
        "change of the margin": "change of the margin",
        "KL": "KL, nats per token",
        "perplexity ratio": "perplexity ratio",
    }
    for axis, (column, title) in zip(axes, shown.items(), strict=True):
        for mode, colour, marker in (
            ("ablate", BLUE, "o"), ("augment", ORANGE, "D"), ("both", GREEN, "s")
        ):  # fmt: skip
            own = [row for row in rows if row["mode"] == mode]
            alphas = [value(row["alpha"]) for row in own]
            cells = [numbers(row[column]) for row in own]
            axis.plot(alphas, [cell[0] for cell in cells], marker=marker, color=colour,
                      markersize=5, label=mode if axis is axes[0] else None)  # fmt: skip
            if len(cells[0]) == 3:
                axis.fill_between(alphas, [c[1] for c in cells], [c[2] for c in cells],
                                  color=colour, alpha=0.15, linewidth=0)  # fmt: skip
        axis.set_xscale("log", base=2)
        axis.set_xticks([0.1, 0.2, 0.4, 0.8, 1.6], ["0.1", "0.2", "0.4", "0.8", "1.6"])
        axis.minorticks_off()
        axis.set_title(title, fontsize=11)
        axis.set_xlabel("alpha")
        axis.grid(axis="y")
    figure.legend(loc="outside upper center", ncols=3)
    return figure
