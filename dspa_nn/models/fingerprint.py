"""Which weights a model has: its active adapters, and a fingerprint of its parameters.

A name says too little. An adapter, a merge or a fine-tune keeps it and changes what is counted.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

from dspa_nn.graph.adapters import active_adapters, adapted_layers, idle_in, strengths
from dspa_nn.imports import untyped
from dspa_nn.models.facts import torch_module

# Entries of each parameter that are looked at on every call; all of them once, in one sum.
SAMPLES = 16


class Fingerprint:
    """The identity of a model's weights up to a decoder block, remembered until they change.

    >>> fingerprint = Fingerprint()
    >>> identity = fingerprint.read(hf_model, "model.layers", 2)
    >>> identity["adapters"], identity["weights"].partition(":")[0]
    ('none', 'float32')

    Every parameter counts whole, as one integer sum of its bytes, and by some of its entries. That
    is bound by memory alone: 0.1 s for the embedded model, under 2 s for nine billion on a CPU.
    """

    def __init__(self) -> None:
        self._state: object = None
        self._weights: str | None = None

    def read(self, model: Any, blocks: str, last: int) -> dict[str, str | None]:
        """`adapters` and `weights` of a model, the latter None where it is not loaded.

        Args:
            model: a Hugging Face model, or an nnsight model of one.
            blocks: dotted path of its decoder blocks.
            last: the last block whose weights count; those above it, and the head, do not.
        """
        module = torch_module(model)
        return {
            "adapters": active_adapters(module),
            "weights": self._read_weights(module, blocks, last),
        }

    def _read_weights(self, module: Any, blocks: str, last: int) -> str | None:
        groups = list(_parameters(module, blocks, last))
        tensors = [tensor for group in groups for tensor in group]
        if any(tensor.is_meta or not tensor.numel() for tensor in tensors) or not tensors:
            return None
        with untyped("torch").no_grad():
            samples = [_sampled(tensor) for tensor in tensors]
            scaling = [found for found in strengths(adapted_layers(module)) if found]
            state = (
                [(tensor.data_ptr(), tensor._version, tuple(tensor.shape)) for tensor in tensors],
                samples,
                scaling,
            )
            if state != self._state:
                self._state = state
                digests = {
                    id(tensor): hashlib.sha256(
                        f"{tuple(tensor.shape)} {tensor.dtype} {_total(tensor)} {some}".encode()
                    ).hexdigest()
                    for tensor, some in zip(tensors, samples, strict=True)
                }
                whole = hashlib.sha256()
                for group in groups:
                    # Without names, which adapters change; within a block, in any order.
                    whole.update(" ".join(sorted(digests[id(tensor)] for tensor in group)).encode())
                if scaling:
                    whole.update(str(scaling).encode())
                kinds = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors})
                self._weights = f"{'+'.join(kinds)}:{whole.hexdigest()[:16]}"
        return self._weights


def _parameters(module: Any, blocks: str, last: int) -> Iterator[list[Any]]:
    """What a run up to a block reads: of the embeddings, then of each block, the weights.

    Those of an adapter count while it is active. Quantised weights are buffers.
    """
    idle: set[int] = set()
    for layer in adapted_layers(module):
        idle |= idle_in(layer)
    embeddings = module.get_input_embeddings()
    listed = module.get_submodule(blocks)
    parts = [embeddings, *(listed[number] for number in range(last + 1))]
    for part in parts:
        tensors = [*part.parameters(), *_saved_buffers(part)]
        yield [tensor for tensor in tensors if id(tensor) not in idle]


def _saved_buffers(part: Any) -> Iterator[Any]:
    """Buffers that are saved with the weights, which masks and tables made on loading are not."""
    for module in part.modules():
        for name, buffer in module._buffers.items():
            if buffer is None or name in module._non_persistent_buffers_set:
                continue
            if buffer.numel():
                yield buffer


def _sampled(tensor: Any) -> str:
    """Some entries, from first to last, as text that is the same on every machine."""
    flat = tensor.detach().reshape(-1)
    return str(flat[:: max(1, len(flat) // SAMPLES)][:SAMPLES].tolist())


def _total(tensor: Any) -> int:
    """The sum of all bytes in words of eight, wrapped around: no order of adding changes it."""
    torch = untyped("torch")
    raw = tensor.detach().reshape(-1).contiguous().view(torch.uint8)
    words = len(raw) // 8 * 8
    total = int(raw[:words].view(torch.int64).sum()) if words else 0
    return total + int(raw[words:].sum())
