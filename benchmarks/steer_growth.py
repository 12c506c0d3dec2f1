"""How the cost of steering per token grows with SAE width, batch and length, and its plot.

    python -m benchmarks.steer_growth [--quick] [--out benchmarks/results]

Steered and unsteered generation run in turns. For the widths, both SAEs are random JumpReLU SAEs
with about 100 active latents per token, and the map is random, over the 64 output latents that are
active most on the prompt, so that something is edited. Batches and lengths use the preset. The time
of a run of one token, which is the prompt's pass and planning, is subtracted: the cost of a step is
left.
"""

import argparse
import itertools
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList

import dspa_nn as dn
from benchmarks._report import options, ratio, run_interleaved, write
from benchmarks._steering import Scene

CONTENDERS = ("unsteered", "steered")
ACTIVE = 100
ENTRIES = 32


def random_sae(width: int, hidden: torch.Tensor, layer: int, seed: int) -> Any:
    """A SAELens JumpReLU SAE with `ACTIVE` active latents on the median of these hidden states."""
    from sae_lens import JumpReLUSAE, JumpReLUSAEConfig
    from sae_lens.saes.sae import SAEMetadata

    d_model = hidden.shape[-1]
    generator = torch.Generator().manual_seed(seed)
    metadata = SAEMetadata(hook_name=f"blocks.{layer}.hook_resid_post")
    sae = JumpReLUSAE(JumpReLUSAEConfig(d_in=d_model, d_sae=width, metadata=metadata))
    weights = torch.randn(d_model, width, generator=generator) / d_model**0.5
    with torch.no_grad():
        sae.W_enc.copy_(weights)
        sae.W_dec.copy_(weights.T / weights.T.norm(dim=-1, keepdim=True))
        # Per token: a few tokens have so large norms that one threshold over all would let only
        # latents of these tokens through.
        weakest = (hidden @ weights).float().topk(ACTIVE + 1).values[:, -1]
        sae.threshold.fill_(float(weakest.median().clamp(min=1e-3)))
    return sae


def random_map(
    width: int, latents: torch.Tensor, provenance: dict[str, Any]
) -> dn.ConditionalDifferenceMap:
    """A map with `ENTRIES` entries in every row, half of them negative, over these latents."""
    generator = torch.Generator().manual_seed(0)
    starts = torch.randint(len(latents) - ENTRIES, (width, 1), generator=generator)
    columns = latents.sort().values[starts + torch.arange(ENTRIES)].to(torch.int32)
    values = torch.randn(width, ENTRIES, generator=generator)
    return dn.ConditionalDifferenceMap(
        torch.arange(width),
        torch.arange(width + 1) * ENTRIES,
        columns.flatten(),
        values.flatten(),
        (width, width),
        provenance=provenance,
    )


def of_width(scene: Scene, width: int) -> Scene:
    """The same scene with random SAEs of this width, and a random map."""
    preset = scene.dspa
    with torch.no_grad():
        out = scene.hf(scene.ids[:1], output_hidden_states=True)
    saes = [
        random_sae(width, out.hidden_states[layer + 1][0, 1:], layer, layer)
        for layer in (preset.input_layer, preset.output_layer)
    ]
    made = dn.DSPA(
        preset.model,
        input_sae=saes[0],
        output_sae=saes[1],
        input_layer=preset.input_layer,
        output_layer=preset.output_layer,
        defaults={**preset.defaults, "prompt_rule": "density"},
    )
    other = Scene.__new__(Scene)
    vars(other).update(vars(scene))
    active = saes[1].encode(out.hidden_states[preset.output_layer + 1][0, 1:]) > 0
    often = active.sum(0).topk(2 * ENTRIES).indices
    other.dspa, other.map = made, random_map(width, often, made.provenance())
    return other


def point(scene: Scene, batch: int, tokens: int, repeats: int) -> dict[str, Any]:
    """Time steered against unsteered at one setting."""
    scene.take(batch)
    runs = {name: partial(getattr(scene, name), tokens) for name in CONTENDERS}
    first = {f"{name}, once": partial(getattr(scene, name), 1) for name in CONTENDERS}
    seconds = run_interleaved({**runs, **first}, repeats)
    step = {
        name: [(all - one) / (tokens - 1) * 1e3 for all, one in zip(
            seconds[name], seconds[f"{name}, once"], strict=True)]
        for name in CONTENDERS
    }  # fmt: skip
    scene.steered(tokens)
    return {
        "width": scene.dspa.output_sae.width,
        "batch": batch,
        "edits per token": scene.edits.total / scene.edits.tokens,
        **{f"{name}, ms per step": sorted(times)[len(times) // 2] for name, times in step.items()},
        "steered over unsteered, speed of a step": ratio(step["unsteered"], step["steered"]),
        **{
            f"{name}, ms until the first token": min(seconds[f"{name}, once"]) * 1e3
            for name in CONTENDERS
        },
    }


class Clock(LogitsProcessor):
    """Records the time at which each generation step ended; changes nothing."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Called by `generate` after every pass."""
        self.times.append(time.perf_counter())
        return scores


def along(scene: Scene, longest: int, marks: tuple[int, ...], repeats: int) -> list[dict[str, Any]]:
    """Time a step at every length up to `longest`, from runs of that length: medians of 64 steps.

    A generation up to a length is the beginning of a longer one, so that one run serves all.
    """
    scene.take(1)
    taken: dict[str, list[list[float]]] = {name: [] for name in CONTENDERS}
    for turn in range(repeats):
        for name in CONTENDERS[:: -1 if turn % 2 else 1]:
            clock = Clock()
            getattr(scene, name)(longest, logits_processor=LogitsProcessorList([clock]))
            taken[name].append([b - a for a, b in itertools.pairwise(clock.times)])
    rows = []
    for mark in marks:
        window = slice(max(0, mark - 64), mark - 1)
        step = {
            name: [sorted(run[window])[len(run[window]) // 2] * 1e3 for run in runs]
            for name, runs in taken.items()
        }
        whole = {name: [sum(run[: mark - 1]) for run in runs] for name, runs in taken.items()}
        rows.append(
            {
                "new tokens": mark,
                **{f"{name}, ms per step": sum(times) / len(times) for name, times in step.items()},
                "steered over unsteered, speed up to there": ratio(
                    whole["unsteered"], whole["steered"]
                ),
            }
        )
    return rows


def plot(tables: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """One panel per table: milliseconds per step, both ways."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    # Text stays text: the file is a quarter of the size.
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "steer_growth", "font.size": 9})
    labels = {"Length": "new tokens so far", "Batch": "rows to a batch"}
    axes_of = {"SAE width": "width", "Batch": "batch", "Length": "new tokens"}
    figure, panels = pyplot.subplots(
        1, len(tables), figsize=(9, 3), layout="constrained", squeeze=False
    )
    for panel, (title, rows) in zip(panels[0], tables.items(), strict=True):
        across = [row[axes_of[title]] for row in rows]
        for name, colour in zip(CONTENDERS, ("0.5", "C0"), strict=True):
            panel.plot(
                across, [row[f"{name}, ms per step"] for row in rows], "o-", color=colour,
                markersize=4, label=name,
            )  # fmt: skip
        panel.set_xscale("log", base=2)
        names = [f"{value / 1000:.0f}k" if value > 1000 else str(value) for value in across]
        panel.set_xticks(across, names, fontsize=8)
        panel.minorticks_off()
        panel.set_ylim(0, 1.08 * panel.dataLim.ymax)
        panel.set_xlabel(labels.get(title, title))
        panel.spines[["top", "right"]].set_visible(False)
    panels[0, 0].set_ylabel("milliseconds per step")
    panels[0, 0].legend(frameon=False, loc="lower right")
    figure.savefig(path, metadata={"Date": None})
    figure.savefig(path.with_suffix(".png"), dpi=110)


def extend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    parser.add_argument(
        "--only", choices=("widths", "batches", "lengths"), nargs="+",
        default=("widths", "batches", "lengths"), help="these curves alone",
    )  # fmt: skip


def main() -> None:
    asked = options(__doc__ or "", extend)
    torch.set_num_threads(asked.threads)
    widths, batches, marks, tokens, repeats = (
        ((1024, 16384, 131072), (1, 8), (32, 64), 9, 2)
        if asked.quick
        else (
            (1024, 4096, 16384, 32768, 65536, 131072),
            (1, 2, 4, 8, 16, 32),
            (64, 128, 256, 512, 1024),
            33,
            5,
        )
    )
    scene = Scene(max(batches))
    tables: dict[str, list[dict[str, Any]]] = {}
    if "widths" in asked.only:
        tables["SAE width"] = [
            point(of_width(scene, width), 1, tokens, repeats) for width in widths
        ]
    if "batches" in asked.only:
        tables["Batch"] = [point(scene, batch, tokens, repeats) for batch in batches]
    if "lengths" in asked.only:
        tables["Length"] = along(scene, max(marks), marks, 1 if asked.quick else 2)
    notes = [
        "SAE width: random JumpReLU SAEs of this width at both layers; otherwise the preset's.",
        f"Widths and batches: {tokens} new tokens less a run of one, {repeats} repeats in turns; "
        "medians.",
    ]
    write("steer_growth", "How the cost of steering grows", tables, notes, asked.out)
    plot(tables, asked.out / "steer_growth.svg")


if __name__ == "__main__":
    main()
