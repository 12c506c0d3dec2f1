"""SAELens' trainer, with the loss of every step in a file."""

import json
import time
from pathlib import Path
from typing import Any

from sae_lens.training.sae_trainer import SAETrainer
from torch import Tensor


class LoggingTrainer(SAETrainer[Any, Any]):
    """`SAETrainer` that writes a line of JSON for every step."""

    log: Path | None = None

    def log_to(self, path: Path) -> None:
        """Write to this file; of one that is there, keep the steps up to the checkpoint."""
        # SAELens writes a checkpoint before it counts the step.
        done = self.n_training_samples // self.cfg.train_batch_size_samples
        kept = path.read_text().splitlines()[:done] if path.is_file() else []
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(line + "\n" for line in kept))
        self.log = path

    def step(self, batch: Tensor) -> Any:
        """One training step, timed and written down."""
        began, worked = time.monotonic(), time.process_time()
        output = super().step(batch)
        told = {
            "step": self.n_training_samples // self.cfg.train_batch_size_samples,
            "loss": float(output.loss.detach()),
            **{name: float(loss.detach()) for name, loss in output.losses.items()},
            "l0": float(output.feature_acts.bool().sum(-1).float().mean()),
            "seconds": round(time.monotonic() - began, 3),
            "processor_seconds": round(time.process_time() - worked, 3),
        }
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(json.dumps(told) + "\n")
        return output
