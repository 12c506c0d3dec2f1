"""How good an SAE is on text it never saw: sparsity, error, dead latents, loss when spliced in."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .activations import Batch, batches


def error_and_latents(
    sae: Any, sets: dict[str, Float[np.ndarray, "tokens d"]], chunk: int = 2048
) -> dict[str, float]:
    """L0, FVU (per set, against that set's mean, and of all sets) and the share of dead latents.

    Dead is a latent that fires on none of the tokens looked at, of all sets together; `tokens` says
    how many they were (100,000 for the shipped SAEs).
    """
    fired = torch.zeros(sae.cfg.d_sae, dtype=torch.bool)
    active = error = variance = 0.0
    figures: dict[str, float] = {}
    for name, stored in sets.items():
        mean = torch.from_numpy(np.asarray(stored).mean(0, dtype=np.float64)).float()
        set_error = set_variance = 0.0
        for start in range(0, len(stored), chunk):
            x = torch.from_numpy(np.asarray(stored[start : start + chunk], dtype=np.float32))
            with torch.inference_mode():
                latents = sae.encode(x)
                set_error += (x - sae.decode(latents)).double().pow(2).sum().item()
            set_variance += (x - mean).double().pow(2).sum().item()
            active += (latents > 0).sum().item()
            fired |= (latents > 0).any(0)
        figures[f"fvu {name}"] = set_error / set_variance
        error, variance = error + set_error, variance + set_variance
    tokens = sum(len(stored) for stored in sets.values())
    return figures | {
        "tokens": tokens,
        "l0": active / tokens,
        "fvu": error / variance,
        "dead": 1.0 - fired.float().mean().item(),
    }


def up_to(rows: Sequence[list[int]], tokens: int) -> list[list[int]]:
    """The first rows that make up this many tokens."""
    taken: list[list[int]] = []
    for row in rows:
        if tokens <= 0:
            break
        taken.append(row)
        tokens -= len(row) - 1
    return taken


@contextmanager
def replaced(
    model: Any, layer: int, batch: Batch, change: Callable[[Tensor], Tensor]
) -> Iterator[None]:
    """Within the block, the layer's output is `change` of itself at every counted position."""

    def hook(_module: Any, _inputs: Any, output: Any) -> Any:
        stream = output[0] if isinstance(output, tuple) else output
        stream = torch.where(batch.counted[..., None], change(stream), stream)
        return (stream, *output[1:]) if isinstance(output, tuple) else stream

    handle = model.model.layers[layer].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _loss(model: Any, batch: Batch) -> tuple[float, int]:
    """Summed next-token loss at counted positions, and how many were predicted."""
    logits = model(batch.ids, attention_mask=batch.mask, use_cache=False).logits[:, :-1]
    asked = (batch.counted[:, :-1]) & batch.mask[:, 1:].bool()
    loss = torch.nn.functional.cross_entropy(logits[asked], batch.ids[:, 1:][asked])
    return loss.item() * int(asked.sum()), int(asked.sum())


def loss_recovered(
    model: Any,
    saes: dict[int, Any],
    means: dict[int, Float[Tensor, " d"]],
    rows: Sequence[list[int]],
    *,
    pad: int,
) -> dict[int, dict[str, float]]:
    """Next-token loss with each SAE's reconstruction instead of its layer's output.

    Position 0 keeps the model's value throughout, in the ablations too. Recovered is
    (ablated - spliced) / (ablated - clean), once against ablation to the mean and once to zero.

    Args:
        model: the causal language model, in float32.
        saes: SAEs by the layer after whose block they read.
        means: the held-out mean of that layer's output.
        rows: token ids.
        pad: any token id; padding is masked.
    """
    sums: dict[int, dict[str, float]] = {
        layer: {"spliced": 0.0, "mean": 0.0, "zero": 0.0} for layer in saes
    }
    clean, count = 0.0, 0
    # Small batches, since logits are many times wider than the residual stream.
    for batch in batches(rows, pad, 1024):
        with torch.inference_mode():
            loss, scored = _loss(model, batch)
            clean, count = clean + loss, count + scored
            for layer, sae in saes.items():
                changes: dict[str, Callable[[Tensor], Tensor]] = {
                    "spliced": sae,
                    "mean": means[layer].expand_as,
                    "zero": torch.zeros_like,
                }
                for name, change in changes.items():
                    with replaced(model, layer, batch, change):
                        sums[layer][name] += _loss(model, batch)[0]
    result = {}
    for layer, totals in sums.items():
        losses = {name: total / count for name, total in {"clean": clean, **totals}.items()}
        recovered = {
            f"recovered {name}": (losses[name] - losses["spliced"])
            / (losses[name] - losses["clean"])
            for name in ("mean", "zero")
        }
        result[layer] = {f"loss {n}": v for n, v in losses.items()} | recovered
        result[layer]["loss tokens"] = count
    return result


def saved_saes(folder: Path) -> dict[int, Any]:
    """Every SAE below `folder`, as SAELens loads it, by layer."""
    from sae_lens.saes.sae import SAE

    saes: dict[int, Any] = {}
    for config in sorted(folder.glob("*/cfg.json")):
        sae = SAE.load_from_disk(config.parent)
        saes[int(str(sae.cfg.metadata.hook_name).split(".")[1])] = sae
    return dict(sorted(saes.items()))


def table(figures: dict[int, dict[str, float]]) -> str:
    """The figures as a Markdown table: one row per figure, one column per SAE."""
    names = list(next(iter(figures.values())))
    lines = ["| on held-out text | " + " | ".join(f"layer {layer}" for layer in figures) + " |"]
    lines.append("|---" * (len(figures) + 1) + "|")
    for name in names:
        cells = [_cell(name, row[name]) for row in figures.values()]
        lines.append(f"| {_LABELS.get(name, _label(name))} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


_LABELS = {
    "tokens": "tokens looked at",
    "l0": "L0, latents active on a token",
    "fvu": "FVU, all text",
    "dead": "dead latents",
    "loss clean": "next-token loss, model alone",
    "loss spliced": "next-token loss, reconstruction spliced in",
    "loss mean": "next-token loss, mean ablation",
    "loss zero": "next-token loss, zero ablation",
    "recovered mean": "loss recovered, against mean ablation",
    "recovered zero": "loss recovered, against zero ablation",
    "loss tokens": "predictions scored",
}


def _label(name: str) -> str:
    return name.replace("fvu ", "FVU, ")


def _cell(name: str, value: float) -> str:
    if math.isnan(value):
        return "-"
    if name == "dead" or name.startswith("recovered"):
        return f"{100 * value:.2f} %"
    return f"{value:,.0f}" if "tokens" in name else f"{value:.4f}"
