"""Train one SAE with SAELens' trainer on activations that are stored on disk, and save it."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .revive import Revival, begin


class Schedule(Protocol):
    """What `fit` reads of the settings of a run."""

    @property
    def batch(self) -> int: ...
    @property
    def lr(self) -> float: ...
    @property
    def warm_up(self) -> float: ...
    @property
    def decay(self) -> float: ...
    @property
    def dead_window(self) -> int: ...
    @property
    def checkpoints(self) -> int: ...


@dataclass(frozen=True)
class Settings:
    """How an SAE is trained; the defaults are those of the SAEs that ship with the package."""

    width: int = 4096
    k: int = 32
    epochs: float = 5.0
    batch: int = 2048
    lr: float = 1e-3
    warm_up: float = 0.02
    decay: float = 0.4
    dead_window: int = 100
    seed: int = 0
    checkpoints: int = 5


def shuffled(
    activations: list[Float[np.ndarray, "tokens d"]], batch: int, seed: int, start: int
) -> Iterator[Float[Tensor, "batch d"]]:
    """Endless batches, shuffled anew in each epoch; `start` is in samples.

    The order depends on seed and position alone: a run that resumes sees what it would have seen.
    """
    together = torch.from_numpy(np.concatenate([np.asarray(part) for part in activations]))
    steps = len(together) // batch
    for step in range(start // batch, 2**62):
        epoch, index = divmod(step, steps)
        if index == 0 or step == start // batch:
            generator = torch.Generator().manual_seed(seed * 1000 + epoch)
            order = torch.randperm(len(together), generator=generator)
        yield together[order[index * batch : (index + 1) * batch]].float()


def train(
    activations: list[Float[np.ndarray, "tokens d"]],
    settings: Settings,
    metadata: dict[str, Any],
    work: Path,
    start_from: Path | None = None,
    revival: Revival | None = None,
) -> Any:
    """Train a TopK SAE and return it, its input scale folded into the weights.

    The inputs are scaled to a mean norm of sqrt(d), and the decoder's bias begins at their mean,
    which holds more than half of the residual stream's energy. SAELens' checkpoints are written to
    `work`; if there are any, training resumes from the newest. `start_from` is a stored SAE of the
    same width and k to begin with instead of random weights; with a `revival` its dead latents are
    the only ones that learn.
    """
    from sae_lens.saes.sae import SAEMetadata
    from sae_lens.saes.topk_sae import TopKTrainingSAEConfig

    from .sparse import SparseTopKTrainingSAE

    torch.manual_seed(settings.seed)
    d_in = activations[0].shape[1]
    tokens = sum(len(part) for part in activations)
    steps = math.ceil(settings.epochs * (tokens // settings.batch))
    sample = torch.from_numpy(
        np.concatenate([np.asarray(part[:20_000], dtype=np.float32) for part in activations])
    )
    scale = math.sqrt(d_in) / sample.norm(dim=-1).mean().item()
    sae = SparseTopKTrainingSAE(
        TopKTrainingSAEConfig(
            d_in=d_in,
            d_sae=settings.width,
            k=settings.k,
            normalize_activations="expected_average_only_in",
            # The auxiliary loss is a sum over d as the main one is; 1/32 is the published weight.
            aux_loss_coefficient=1 / 32,
            metadata=SAEMetadata(**metadata),
        )
    )
    sae.b_dec.data = sample.mean(0) * scale
    if start_from is not None:
        _begin_with(sae, start_from, scale)
    if revival is not None:
        begin(sae, revival)
    batches = partial(shuffled, activations, settings.batch, settings.seed)
    return fit(sae, settings, steps, work, batches, scale)


def fit(
    sae: Any,
    settings: Schedule,
    steps: int,
    work: Path,
    batches: Callable[[int], Iterator[Tensor]],
    scale: float | None = None,
    log: Path | None = None,
) -> Any:
    """Run SAELens' trainer on a training SAE, from the newest checkpoint in `work` if there is one.

    Args:
        sae: the training SAE; it is trained in place, and returned.
        settings: batch, learning rate and so on. steps: optimiser steps in all.
        work: receives SAELens' checkpoints. log: receives a line for each step.
        batches: batches of activations from a number of samples on.
        scale: of the inputs, which SAELens folds into the weights at the end.
    """
    from sae_lens.config import SAETrainerConfig

    from .logged import LoggingTrainer

    trainer = LoggingTrainer(
        cfg=SAETrainerConfig(
            total_training_samples=steps * settings.batch,
            train_batch_size_samples=settings.batch,
            lr=settings.lr,
            lr_end=settings.lr,
            lr_warm_up_steps=max(2, int(settings.warm_up * steps)),
            lr_decay_steps=max(1, int(settings.decay * steps)),
            dead_feature_window=settings.dead_window,
            feature_sampling_window=10**9,
            n_checkpoints=settings.checkpoints,
            checkpoint_path=str(work),
        ),
        sae=sae,
        data_provider=iter(()),
    )
    trainer.activation_scaler.scaling_factor = scale
    saved = sorted((int(p.name) for p in work.glob("[0-9]*") if _is_whole(p)), reverse=True)
    for samples in saved[:1]:
        sae.load_weights_from_checkpoint(work / str(samples))
        trainer.load_trainer_state(work / str(samples))
        trainer.checkpoint_thresholds = [t for t in trainer.checkpoint_thresholds if t > samples]
    if log is not None:
        trainer.log_to(log)
    trainer.data_provider = batches(trainer.n_training_samples)
    return trainer.fit()


def _is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint was written to its end: SAELens writes the scaler last."""
    try:
        json.loads((checkpoint / "activation_scaler.json").read_text())
    except (OSError, ValueError):
        return False
    return True


def _begin_with(sae: Any, folder: Path, scale: float) -> None:
    """Put a stored SAE's weights into a training one, whose inputs are `scale` times the raw ones.

    Decoder rows have norm 1 in both, so that only the biases depend on the scale.
    """
    from safetensors.torch import load_file

    stored = {name: t.float() for name, t in load_file(folder / "sae_weights.safetensors").items()}
    sae.W_enc.data, sae.W_dec.data = stored["W_enc"], stored["W_dec"]
    sae.b_enc.data, sae.b_dec.data = stored["b_enc"] * scale, stored["b_dec"] * scale


def store(sae: Any, folder: Path) -> None:
    """Write the inference SAE in SAELens' format: float16 weights that it runs in float32.

    Decoder rows have norm 1 and the input scale is in the weights, so neither is left to run time.
    """
    from safetensors.torch import load_file, save_file

    folder.mkdir(parents=True, exist_ok=True)
    weights, config = sae.save_inference_model(folder)
    tensors = load_file(weights)
    if max(tensor.abs().max().item() for tensor in tensors.values()) > 60_000:
        raise OverflowError(f"a weight of {folder.name} is too large for float16")
    save_file({name: t.to(torch.float16).contiguous() for name, t in tensors.items()}, weights)
    entries = json.loads(Path(config).read_text())
    # The norms are 1 now; as rounded they would only add noise to the selection.
    entries |= {"dtype": "float32", "device": "cpu", "rescale_acts_by_decoder_norm": False}
    Path(config).write_text(json.dumps(entries, indent=1, sort_keys=True) + "\n")
    # safetensors makes files that only their owner may read.
    Path(weights).chmod(0o644)
