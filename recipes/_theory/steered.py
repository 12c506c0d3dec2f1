"""Steered margins of many methods, piece by piece on disk, and one method of the recipe's own."""

import json
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import dspa_nn as dn
from dspa_nn.evaluation import margins
from dspa_nn.models import torch_module
from dspa_nn.prompts import Rendered
from dspa_nn.steering import SteeringMethod
from dspa_nn.triples import PreferenceTriple

FIGURES = ("change", "kl", "share", "edits")
# Padded tokens to a pass on a GPU: its logits take 2 GB twice.
GPU_BUDGET = 10240


def on_device(name: str, device: str) -> dn.DSPA:
    """A preset's model and SAEs on a device."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    dspa = dn.DSPA.from_preset(name)
    torch_module(dspa.model).to(device)
    dspa.place_saes()
    return dspa


def budget(device: str) -> dict[str, Any]:
    """Keywords of a pass on this device."""
    return {"token_budget": GPU_BUDGET} if device.startswith("cuda") else {}


def batches(methods: Sequence[SteeringMethod], size: int) -> Iterator[Sequence[SteeringMethod]]:
    """A few methods at a time: what is kept of a run of all of them would fill the memory."""
    for start in range(0, len(methods), size):
        yield methods[start : start + size]


def measured(
    dspa: dn.DSPA,
    triples: Mapping[int, PreferenceTriple],
    methods: Sequence[SteeringMethod],
    path: Path,
    device: str,
    size: int = 8,
) -> dict[str, dict[str, Any]]:
    """Name -> figures of chosen and rejected responses, one value per triple; kept in JSON lines.

    Methods whose line is there are not run again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, Any]] = {}
    if path.exists():
        for line in path.read_text().splitlines():
            one = json.loads(line)
            found[one.pop("name")] = one
    left = [method for method in methods if method.name not in found]
    for some in batches(left, size):
        begun = time.perf_counter()
        _, *results = margins(dspa, list(triples.values()), some, **budget(device))
        with path.open("a") as file:
            for method, result in zip(some, results, strict=True):
                one: dict[str, Any] = {"rows": list(triples)}
                for side in ("chosen", "rejected"):
                    part = getattr(result, side)
                    for figure in FIGURES:
                        values = np.round(getattr(part, figure), 6).tolist()
                        one[f"{side}.{figure}"] = values
                found[method.name] = one
                file.write(json.dumps({"name": method.name, **one}) + "\n")
        print(f"{path.name}: {[m.name for m in some]}: {time.perf_counter() - begun:.0f} s",
              flush=True)  # fmt: skip
    return found


@dataclass(frozen=True)
class EveryToken:
    """The planned latents' directions, taken off at every steered token, whether active or not.

    Attributes:
        plans: prompt's ids as a tuple -> latents to ablate. norm: of the change at every token.
    """

    name: str
    dspa: dn.DSPA = field(repr=False)
    plans: Mapping[tuple[int, ...], Sequence[int]] = field(repr=False)
    norm: float = 1.0

    def vector(self, prompt: Rendered) -> Tensor:
        """What is added at each token of one prompt's response: float32 [d_model]."""
        latents = list(self.plans[tuple(prompt.prompt_ids.tolist())])
        decoder = self.dspa.output_sae.decoder.detach().float().cpu()
        if not latents:
            return torch.zeros(decoder.shape[1])
        direction = -decoder[latents].sum(0)
        return self.norm * direction / direction.norm().clamp(min=1e-12)

    @contextmanager
    def steering(self, prompts: Sequence[Rendered]) -> Generator[None]:
        """Add the vectors with a plain hook; rows are padded on the right, as they are scored."""
        vectors = torch.stack([self.vector(prompt) for prompt in prompts])
        starts = torch.tensor([[prompt.prompt_length - 1] for prompt in prompts])
        ends = torch.tensor([[len(prompt.ids)] for prompt in prompts])

        def add(_module: Any, _inputs: Any, output: Any) -> Any:
            hidden = output[0] if isinstance(output, tuple) else output
            at = torch.arange(hidden.shape[1])
            where = ((starts <= at) & (at < ends)).unsqueeze(-1)
            change = (where * vectors.unsqueeze(1)).to(hidden.device, hidden.dtype)
            moved = hidden + change
            return (moved, *output[1:]) if isinstance(output, tuple) else moved

        block = self.dspa.facts.block(self.dspa.output_layer)
        handle = torch_module(self.dspa.model).get_submodule(block).register_forward_hook(add)
        try:
            yield None
        finally:
            handle.remove()
