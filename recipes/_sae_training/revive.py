"""Give latents that never fire new directions, and train those latents alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

SAMPLE = 40_000
NEIGHBOURS = 30


@dataclass(frozen=True)
class Revival:
    """Which latents begin anew, and the unit directions that they begin with."""

    which: Int[Tensor, " dead"]
    directions: Float[Tensor, "dead d"]


@torch.inference_mode()
def plan(folder: Path, activations: Float[np.ndarray, "tokens d"], seed: int) -> Revival:
    """Find the latents of a stored SAE that fire on no training token, and new directions for them.

    A direction is the mean reconstruction error of 30 similar tokens: one drawn with a probability
    proportional to its squared error, and the tokens of a sample whose errors are most like it.
    """
    from sae_lens.saes.sae import SAE

    sae = SAE.load_from_disk(folder)
    fired = torch.zeros(sae.cfg.d_sae, dtype=torch.bool)
    for start in range(0, len(activations), 8192):
        x = torch.from_numpy(np.asarray(activations[start : start + 8192], dtype=np.float32))
        fired |= (sae.encode(x) > 0).any(0)
    which = (~fired).nonzero()[:, 0]
    draw = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(activations), generator=draw)[:SAMPLE].sort().values.numpy()
    x = torch.from_numpy(np.asarray(activations[rows], dtype=np.float32))
    error = torch.cat([part - sae.decode(sae.encode(part)) for part in x.split(4096)])
    size = error.norm(dim=-1)
    drawn = torch.multinomial(size.square(), max(1, len(which)), generator=draw)[: len(which)]
    alike = (error[drawn] @ (error / size[:, None]).T).topk(min(NEIGHBOURS, len(error))).indices
    mean = error[alike].mean(1)
    return Revival(which, mean / mean.norm(dim=-1, keepdim=True))


def begin(sae: Any, revival: Revival) -> None:
    """Put the directions into a training SAE, and let only those latents learn."""
    which = revival.which
    sae.W_dec.data[which] = revival.directions
    sae.W_enc.data[:, which] = revival.directions.T.clone()
    sae.b_enc.data[which] = 0.0
    learns = torch.zeros(sae.cfg.d_sae)
    learns[which] = 1.0
    sae.W_dec.register_hook(lambda grad: grad * learns[:, None])
    sae.W_enc.register_hook(lambda grad: grad * learns)
    sae.b_enc.register_hook(lambda grad: grad * learns)
    sae.b_dec.register_hook(torch.zeros_like)
