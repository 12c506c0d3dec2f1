"""Draws the figures of the documentation from the tables of its appendix.

    python -m benchmarks.figures [--out docs/figures]

Every figure reads the table that stands in `docs/appendix/`, so that the two cannot disagree. The
background is transparent and the colours are of middle lightness: legible on white and on black.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks._arena_figures import compared, efficiency, strengths
from benchmarks._drawing import (
    BLUE,
    DOCS,
    GREEN,
    GREY,
    ORANGE,
    intervals,
    name_lines,
    numbers,
    panels,
    tables,
    value,
)
from benchmarks._persona_figures import doses, personas


def margins() -> Any:
    """Change of log p of chosen and of rejected texts under the map and its controls, by kind."""
    kinds = ("all", "factual", "personal")
    figure, axes = panels(3, (8, 3.6), sharex=True, sharey=True)
    for axis, kind, rows in zip(axes, kinds, tables("results")[:3], strict=True):
        names = [row[f"condition, {kind} prompts"] for row in rows]
        for part, colour, marker, shift in (
            ("chosen", BLUE, "o", -0.16), ("rejected", ORANGE, "D", 0.16)
        ):  # fmt: skip
            for line, row in enumerate(rows):
                mean, *interval = numbers(row[part])
                heights = [line + shift] * 2
                axis.plot(interval, heights, color=colour, solid_capstyle="round")
                label = f"{part} text" if axis is axes[0] and not line else None
                axis.plot([mean], heights[:1], marker, color=colour, markersize=6, label=label)
        name_lines(axis, names)
        axis.axvline(0, color=GREY, linewidth=1)
        axis.set_title(f"{kind} prompts", fontsize=11)
    axes[1].set_xlabel("change of log p, nats per token (95 % interval)")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def real() -> Any:
    """Change of log p of chosen and of rejected text, on two sets of real preferences."""
    found = [rows for rows in tables("real") if "moved: chosen, rejected" in rows[0]]
    figure, axes = panels(len(found), (8, 3))
    for axis, rows, title in zip(axes, found, ("HH-RLHF", "UltraFeedback"), strict=True):
        names = [row["condition"] for row in rows]
        for name, colour, shift in (("chosen", GREEN, -0.15), ("rejected", ORANGE, 0.15)):
            for line, row in enumerate(rows):
                mean, *interval = numbers(row[name])
                axis.plot(interval, [line + shift] * 2, color=colour, solid_capstyle="round")
                axis.plot(mean, line + shift, "o", color=colour, markersize=6,
                          label=None if line else name)  # fmt: skip
        name_lines(axis, names)
        axis.axvline(0, color=GREY, linewidth=1)
        axis.locator_params(axis="x", nbins=3)
        axis.set_title(title, fontsize=11)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    figure.supxlabel("change of log p, nats per token (95 % interval)", fontsize=10.5, color=GREY)
    return figure


def layers() -> Any:
    """Change of the margin against divergence, for every pair of layers that was tried."""
    figure, (axis,) = panels(1, (6.5, 3.4))
    rows = tables("results")[6]
    for row in rows:
        mean, low, high = numbers(row["change of the margin"])
        pair, across = row["input / output layer"], value(row["KL per token"])
        output = pair.rpartition(" ")[2]
        colour = BLUE if output == "24" else GREY
        axis.plot([across, across], [low, high], color=colour, alpha=0.6)
        axis.plot([across], [mean], "o", color=colour, markersize=7)
        if output != "24":
            axis.annotate(pair, (across, mean), (8, -4), textcoords="offset points")
    pairs = [row["input / output layer"].split(" / ") for row in rows]
    inputs = sorted(int(first) for first, output in pairs if output == "24")
    axis.annotate(f"{', '.join(map(str, inputs))} / 24", (0.0345, 0.235), color=BLUE)
    axis.set(
        xlabel="KL(unsteered || steered), nats per token", ylabel="change of the margin",
        xlim=(0.03, 0.065), ylim=(0, 0.26),
    )  # fmt: skip
    axis.grid()
    return figure


def ranking() -> Any:
    """Held-out ranking on UltraFeedback, for all pairs and for pairs of like length."""
    baselines, settings = tables("ranking")[:2]
    kept = [
        row for row in settings
        if (row["sparsify"], row["prompt tokens"], row["gate"], row["p"])
        == ("none", "content", "active", "90")
    ]  # fmt: skip
    names = ["longer wins", "one global difference", *(f"map, {row['rule']}" for row in kept)]
    baselines = baselines[:2]
    figure, axes = panels(2, (8, 2.8), sharey=True)
    colours = [GREY, GREY] + [BLUE] * len(kept)
    for axis, title, first, second in (
        (axes[0], "all 300 held-out pairs", "all pairs", "full"),
        (axes[1], "40 pairs of like length", "of like length", "full, like length"),
    ):
        cells = [row[first] for row in baselines] + [row[second] for row in kept]
        intervals(axis, names, cells, colours)
        axis.axvline(0.5, color=GREY, linewidth=1, linestyle="--")
        axis.set_title(title, fontsize=11)
        axis.set_xlabel("share ranked correctly")
    return figure


def costs() -> Any:
    """FLOPs of every way of alignment, as multiples of `DSPA.count`."""
    rows = {row["way"]: row for row in tables("costs")[0]}
    ways = {
        "DSPA.count": ("DSPA.count: prompt once, to the output layer", BLUE),
        "three plain passes": ("plain: three passes, all blocks, LM head", GREY),
        "DPO, one epoch": ("DPO", ORANGE),
        "RAHF-SCIT": ("RAHF-SCIT", GREEN),
    }
    models = [name for name in next(iter(rows.values())) if name not in ("way", "")]
    figure, (axis,) = panels(1, (8, 3.4))
    height = 0.8 / len(ways)
    for index, (label, (way, colour)) in enumerate(ways.items()):
        times = [numbers(rows[way][model])[-1] for model in models]
        lines = [line + (index - (len(ways) - 1) / 2) * height for line in range(len(models))]
        bars = axis.barh(lines, times, height * 0.85, color=colour, label=label)
        axis.bar_label(bars, [f"{value:g}" for value in times], padding=4, fontsize=9)
    axis.set_yticks(range(len(models)), models)
    axis.invert_yaxis()
    axis.tick_params(axis="y", length=0)
    axis.set_xlabel("FLOPs, as multiples of DSPA.count")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def training() -> Any:
    """Loss of every training run, the mean of ten steps at a time."""
    rows = tables("training")[0]
    names = [name for name in rows[0] if name != "steps"]
    columns = 4
    rows_of_panels = -(-len(names) // columns)
    figure, axes = panels(columns, (8, 2.3 * rows_of_panels), rows_of_panels)
    for axis in axes[len(names) :]:
        axis.set_axis_off()
    for axis, name in zip(axes, names, strict=False):
        told = [(numbers(row["steps"])[0] + 4.5, value(row[name])) for row in rows if row[name]]
        axis.plot([step for step, _ in told], [loss for _, loss in told], "o-", color=BLUE,
                  markersize=4)  # fmt: skip
        axis.set_title(name.replace(", ", "\n"), fontsize=10)
        axis.set_xlabel("step")
        axis.grid(axis="y")
    for axis in axes[::columns]:
        axis.set_ylabel("loss")
    return figure


def scale() -> Any:
    """CPU time and memory of a fit over the number of triples."""
    figure, axes = panels(2, (8, 3.6))
    narrow, wide = tables("scale")[:2]
    rows = {
        ("width 16,384", BLUE): [row for row in narrow if row["rule"] == "rows"],
        ("width 131,072", ORANGE): wide,
    }
    for (label, colour), points in rows.items():
        n = [value(row["triples"]) for row in points]
        seconds = [value(row["CPU s"]) for row in points]
        axes[0].loglog(n, seconds, "o-", color=colour, label=label)
        for key, style, suffix in (("peak GB", "o-", "peak"), ("private GB", "o--", "private")):
            memory = [value(row[key]) for row in points]
            axes[1].semilogx(n, memory, style, color=colour, label=f"{label}, {suffix}")
    ticks = [250, 1000, 4000, 16_000, 61_000]
    for axis, name in zip(axes, ("CPU seconds of a fit", "memory, GB"), strict=True):
        axis.set(xlabel="triples", ylabel=name)
        axis.set_xticks(ticks, [f"{n:,}" for n in ticks])
        axis.minorticks_off()
        axis.grid()
        axis.legend(loc="lower right" if axis is axes[0] else "upper left")
    axes[0].set_yticks([10, 100, 1000], ["10", "100", "1,000"])
    axes[1].set_ylim(0)
    return figure


def speed() -> Any:
    """Speed of every library's nearest edit, relative to the unsteered model."""
    rows = tables("speed")[5][1:]
    rows = sorted(rows, key=lambda row: -value(row["speed relative to HF unsteered"]))
    figure, (axis,) = panels(1, (8, 2.8))
    names = [row["contender"].replace("`", "") for row in rows]
    names = [f"dspa_nn, {name}" if name in ("apply", "attach") else name for name in names]
    colours = [BLUE if name.startswith("dspa_nn") else GREY for name in names]
    intervals(axis, names, [row["speed relative to HF unsteered"] for row in rows], colours)
    axis.axvline(1, color=GREY, linewidth=1, linestyle="--")
    axis.set_xlabel("speed relative to the unsteered model (95 % interval)")
    return figure


def growth() -> Any:
    """Milliseconds per step over SAE width, batch and length, steered and unsteered."""
    figure, axes = panels(3, (8, 3))
    across = (("width", "latents in each SAE"), ("rows", "rows in a batch"),
              ("new tokens", "new tokens so far"))  # fmt: skip
    for axis, rows, (key, label) in zip(axes, tables("speed")[6:9], across, strict=True):
        x = [value(row[key]) for row in rows]
        for name, colour in (("unsteered", GREY), ("steered", BLUE)):
            axis.plot(x, [value(row[name]) for row in rows], "o-", color=colour, label=name)
        axis.set_xscale("log", base=2)
        # Labels of the wide SAEs would touch: every second one, from the widest down.
        named = x[::-2] if key == "width" else x
        axis.set_xticks(named, [f"{v / 1024:.0f}k" if v >= 1024 else f"{v:.0f}" for v in named])
        axis.minorticks_off()
        axis.set_ylim(0, 1.08 * axis.dataLim.ymax)
        axis.set_xlabel(label)
        axis.grid(axis="y")
    axes[0].set_ylabel("milliseconds per step")
    axes[0].legend(loc="lower right")
    return figure


def theory() -> Any:
    """A against N, and templates with and without de-mixing against the condition number of M."""
    sizes, truths = tables("theory")[:2]
    figure, (left, right) = panels(2, (8, 3.4))
    triples = [value(row["N"]) for row in sizes]
    errors = [value(row["error of A, relative"]) for row in sizes]
    left.loglog(triples, errors, "o-", color=BLUE, markersize=5, label="A of a sample")
    root = [errors[0] * (triples[0] / n) ** 0.5 for n in triples]
    left.loglog(triples, root, ":", color=GREY, label="as 1 / sqrt(N)")
    left.set(xlabel="triples N", ylabel="error of A, relative")
    left.legend()
    for name, colour in (("A", ORANGE), ("ridge 0", BLUE), ("ridge 0.1", GREEN)):
        for n, style in (("16,000", "-"), ("250", "--")):
            cells = [value(row[f"{name}, N = {n}"]) for row in truths]
            label = {"A": "A alone"}.get(name, f"de-mixed, {name}") if n == "16,000" else None
            right.semilogx([value(row["condition number"]) for row in truths], cells, style,
                           color=colour, marker="o", markersize=4, label=label)  # fmt: skip
    right.set(xlabel="condition number of M (dashed: N = 250)", ylabel="cosine with the template")
    right.set_ylim(0, 1.02)
    right.legend(loc="lower left")
    for axis in (left, right):
        axis.grid(axis="y")
    return figure


def causal() -> Any:
    """What ablating each top latent alone does to the margin, over its column sum in the map."""
    names = ("plans", "news", "UltraFeedback")
    figure, axes = panels(len(names), (8, 3))
    found = [rows for rows in tables("causal") if "column sum" in rows[0]]
    for axis, name, rows in zip(axes, names, found, strict=True):
        for row in rows:
            mean, low, high = numbers(row["margin"])
            across = value(row["column sum"])
            colour = BLUE if across > 0 else ORANGE
            axis.plot([across, across], [low, high], color=colour, alpha=0.5)
            axis.plot([across], [mean], "o", color=colour, markersize=5)
        axis.axhline(0, color=GREY, linewidth=1)
        axis.set_title(name, fontsize=11)
        axis.grid()
    axes[0].set_ylabel("margin when ablated")
    axes[1].set_xlabel("column sum in the map: below 0 ablated (orange), above 0 augmented (blue)")
    return figure


FIGURES: dict[str, Callable[[], Any]] = {
    made.__name__: made
    for made in (
        margins, real, causal, personas, doses, layers, ranking, compared, efficiency, strengths,
        costs, training, scale, speed, growth, theory,
    )
}  # fmt: skip


def save(name: str, folder: Path) -> Path:
    """Draw one figure as SVG, the same bytes every time."""
    path = folder / f"{name}.svg"
    figure = FIGURES[name]()
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("".join(f"{line.rstrip()}\n" for line in lines), encoding="utf-8")
    return path


def main() -> None:
    """Draw every figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=DOCS / "figures", help="folder of the figures")
    parser.add_argument("--quick", action="store_true", help="nothing: it takes seconds anyway")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for name in FIGURES:
        print(save(name, given.out))


if __name__ == "__main__":
    main()
