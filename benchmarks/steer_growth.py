"""How the cost of steering a token grows with SAE width, batch and length, and its plot.

    python benchmarks/steer_growth.py [--quick] [--out benchmarks/results]

Steered and unsteered generation run in turns. For the widths, both SAEs are random JumpReLU SAEs
with about 100 active latents a token, and the map is random, 32 entries a row: the cost of the
arithmetic does not depend on what the numbers mean. Batches and lengths use the preset.
"""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from _report import options, ratio, run_interleaved, write
from _steering import Scene

import dspa_nn as dn

ACTIVE = 100
ENTRIES = 32


def random_sae(width: int, hidden: torch.Tensor, layer: int, seed: int) -> Any:
    """A SAELens JumpReLU SAE with about `ACTIVE` active latents on these hidden states."""
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
        kept = (hidden @ weights).flatten().float()
        place = int(kept.numel() * (1 - min(0.5, ACTIVE / width)))
        sae.threshold.fill_(float(kept.kthvalue(max(1, place)).values.clamp(min=1e-3)))
    return sae


def random_map(width: int, provenance: dict[str, Any]) -> dn.ConditionalDifferenceMap:
    """A map with `ENTRIES` entries in every row, half of them negative."""
    generator = torch.Generator().manual_seed(0)
    columns = torch.randint(width - ENTRIES, (width, 1), generator=generator)
    columns = (columns + torch.arange(ENTRIES)).to(torch.int32)
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
    own = scene.dspa
    with torch.no_grad():
        out = scene.hf(scene.ids[:1], output_hidden_states=True)
    saes = [
        random_sae(width, out.hidden_states[layer + 1][0, 1:], layer, layer)
        for layer in (own.input_layer, own.output_layer)
    ]
    made = dn.DSPA(
        own.model,
        input_sae=saes[0],
        output_sae=saes[1],
        input_layer=own.input_layer,
        output_layer=own.output_layer,
        defaults={**own.defaults, "prompt_rule": "density"},
    )
    other = Scene.__new__(Scene)
    vars(other).update(vars(scene))
    other.dspa, other.map = made, random_map(width, made.provenance())
    return other


def point(scene: Scene, batch: int, tokens: int, repeats: int) -> dict[str, Any]:
    """Time steered against unsteered at one setting."""
    scene.take(batch)
    runs = {name: partial(getattr(scene, name), tokens) for name in ("unsteered", "steered")}
    seconds = run_interleaved(runs, repeats)
    plain, ours = (sum(own) / repeats / tokens * 1e3 for own in seconds.values())
    return {
        "width": scene.dspa.output_sae.width,
        "batch": batch,
        "new tokens": tokens,
        "unsteered, ms a step": plain,
        "steered, ms a step": ours,
        "steered over unsteered, speed": ratio(seconds["unsteered"], seconds["steered"]),
    }


def plot(tables: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """A panel a table: milliseconds a step, both ways."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    axes_of = {"SAE width": "width", "Batch": "batch", "Length": "new tokens"}
    figure, panels = pyplot.subplots(1, len(tables), figsize=(11, 3.4))
    for panel, (title, rows) in zip(panels, tables.items(), strict=True):
        across = [row[axes_of[title]] for row in rows]
        for name in ("unsteered", "steered"):
            panel.plot(across, [row[f"{name}, ms a step"] for row in rows], "o-", label=name)
        panel.set_xscale("log", base=2)
        panel.set_ylim(bottom=0)
        panel.set_xlabel(title if title != "Length" else "New tokens")
        panel.set_ylabel("ms a step")
        panel.legend(frameon=False)
        panel.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    asked = options(__doc__ or "")
    widths, batches, lengths, tokens, repeats = (
        ((1024, 16384, 131072), (1, 8), (32,), 16, 2)
        if asked.quick
        else (
            (1024, 4096, 16384, 32768, 65536, 131072),
            (1, 2, 4, 8, 16, 32),
            (64, 128, 256, 512, 1024),
            32,
            5,
        )
    )
    scene = Scene(max(batches))
    tables: dict[str, list[dict[str, Any]]] = {"SAE width": [], "Batch": [], "Length": []}
    for width in widths:
        tables["SAE width"].append(point(of_width(scene, width), 1, tokens, repeats))
    for batch in batches:
        tables["Batch"].append(point(scene, batch, tokens, repeats))
    for length in lengths:
        tables["Length"].append(point(scene, 1, length, min(repeats, 3)))
    notes = [
        "SAE width: random JumpReLU SAEs of this width at both layers; otherwise the preset's.",
        "Times include the prompt's pass and planning, spread over the new tokens.",
    ]
    write("steer_growth", "How the cost of steering grows", tables, notes, asked.out)
    plot(tables, asked.out / "steer_growth.svg")


if __name__ == "__main__":
    main()
