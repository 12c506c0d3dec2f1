"""Which weights a model has: its active adapters, and fingerprints of its parameters.

A name says too little. An adapter, a merge or a fine-tune keeps it and changes what is counted, and
so does another configuration over the same weights (`configuration.py`).
"""

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from dspa_nn.graph.adapters import active_adapters, active_in, adapted_layers, idle_in, strengths
from dspa_nn.imports import untyped
from dspa_nn.models.configuration import configuration
from dspa_nn.models.entries import entries_of, sampled
from dspa_nn.models.facts import torch_module
from dspa_nn.models.parts import parts_of, plain_name, saved_buffers


class Fingerprint:
    """The identity of a model's weights up to a decoder block, remembered until they change.

    >>> fingerprint = Fingerprint()
    >>> identity = fingerprint.read(hf_model, "model.layers", 2)
    >>> identity["adapters"], identity["weights"].partition(":")[0]
    ('none', 'float32')
    >>> identity["config"]["rms_norm_eps"]
    1e-06

    Every entry counts, and its place to within 122 floats. That is bound by memory alone: 0.05 s
    for the embedded model on one core, under 2 s for nine billion on a CPU.
    """

    def __init__(self) -> None:
        self._state: object = None
        self._weights: dict[str, str] = {}

    def read(self, model: Any, blocks: str, last: int, *, anew: bool = False) -> dict[str, Any]:
        """What tells a model from others of its name.

        Args:
            model: a Hugging Face model, or an nnsight model of one.
            blocks: dotted path of its decoder blocks.
            last: the last block that counts; those above it, the last norm and the head do not.
            anew: read every weight again, though nothing seems to have changed. What is remembered
                is held against versions, addresses and some entries of each tensor, which see
                all but a change through `.data` of a few entries.

        Returns:
            `adapters`: names of those in use. `weights`: of sums of what the embeddings and the
            blocks hold, as files of every version have it. `every_weight`: of all that a run up to
            the block reads, in order. `config`: settings that decide what is
            computed. Where the model is not loaded `weights` is None, and the last two are absent.
        """
        module = torch_module(model)
        adapters = {"adapters": active_adapters(module)}
        layers = adapted_layers(module)
        tensors = _tensors(module, blocks, last, layers)
        # Of the embeddings and the blocks alone: what `weights` has been made of in every version.
        summed = [item for item in tensors if item.summed]
        if not summed or any(item.tensor.is_meta or not item.tensor.numel() for item in tensors):
            return {**adapters, "weights": None}
        with untyped("torch").no_grad():
            samples = sampled([item.tensor for item in tensors])
            scaling = [found for found in strengths(layers) if found]
            state = (
                [(i.name, i.tensor.data_ptr(), i.tensor._version, i.tensor.shape) for i in tensors],
                samples,
                scaling,
            )
            if anew or state != self._state:
                self._weights = _digests(tensors, samples, scaling)
                self._state = state
        return {**adapters, **self._weights, "config": configuration(module, blocks, last, layers)}


class _Tensor(NamedTuple):
    """A parameter or buffer: its group, its name without what adapters add, and itself.

    summed: whether it is among those that `weights` is made of.
    """

    group: int
    name: str
    tensor: Any
    summed: bool


def _tensors(module: Any, blocks: str, last: int, layers: list[Any]) -> list[_Tensor]:
    """What a run up to a block reads: what lies before the blocks, then the weights of each.

    Those of an adapter count while it is active. Quantised weights are buffers.
    """
    idle: set[int] = set()
    active: set[str] = set()
    for layer in layers:
        idle |= idle_in(layer)
        active |= set(active_in(layer))
    embeddings = module.get_input_embeddings()
    embedded = {id(t) for t in (*embeddings.parameters(), *saved_buffers(embeddings))}
    seen: set[tuple[int, int]] = set()
    found: list[_Tensor] = []
    for group, name, part in parts_of(module, blocks, last):
        for path, tensor in _named(part):
            if id(tensor) in idle or (group, id(tensor)) in seen:
                continue
            seen.add((group, id(tensor)))
            summed = group > 0 or id(tensor) in embedded
            found.append(_Tensor(group, plain_name(f"{name}.{path}", active), tensor, summed))
    return found


def _named(part: Any) -> Iterator[tuple[str, Any]]:
    yield from part.named_parameters()
    for number, buffer in enumerate(saved_buffers(part)):
        yield f"buffer {number}", buffer


def _digests(tensors: list[_Tensor], samples: list[str], scaling: list[Any]) -> dict[str, str]:
    """The fingerprints of every entry, and of sums."""
    sums: dict[int, list[str]] = {}
    placed: list[str] = []
    entries = entries_of([item.tensor for item in tensors])
    for item, some, (total, digest) in zip(tensors, samples, entries, strict=True):
        shape = tuple(item.tensor.shape)
        placed.append(f"{item.group} {item.name} {shape} {item.tensor.dtype} {digest}")
        if item.summed:
            text = f"{shape} {item.tensor.dtype} {total} {some}"
            digest = hashlib.sha256(text.encode()).hexdigest()
            sums.setdefault(item.group, []).append(digest)
    added = str(scaling) if scaling else ""
    whole = hashlib.sha256()
    for group in sorted(sums):
        # Without names, which adapters change; within a block, in any order.
        whole.update(" ".join(sorted(sums[group])).encode())
    whole.update(added.encode())
    every = hashlib.sha256("\n".join([*sorted(placed), added]).encode())
    # What is in the fingerprint of sums decides what either is compared with.
    kinds = sorted({str(i.tensor.dtype).removeprefix("torch.") for i in tensors if i.summed})
    return {
        "weights": f"{'+'.join(kinds)}:{whole.hexdigest()[:16]}",
        "every_weight": f"{'+'.join(kinds)}:{every.hexdigest()[:16]}",
    }
