"""By what kept counts are known: a hash of all that they depend on, read anew for every fit.

Provenance holds the model (`models.Fingerprint`). Here is added what changes no map but may change
a count in its last bits, such as the kernel of attention, and what of SAEs may have been changed in
place.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any, cast

import torch

from dspa_nn.counts.run import CountRun
from dspa_nn.files import sha256_of_json
from dspa_nn.graph.encode import Encoder
from dspa_nn.imports import untyped
from dspa_nn.models import Fingerprint, torch_module

# Of the provenance: what is fitted with, and names of what is known by a hash.
_NOT_COUNTED_WITH = ("defaults", "data_sha256", "prompts", "input_sae", "output_sae")
# Of a model's configuration: what says nothing of how it computes.
_NOT_COMPUTED_WITH = ("_name_or_path", "architectures", "transformers_version", "use_cache")
# Whose hooks change nothing that a block returns, or are known by the model's weights.
_KNOWN_HOOKS = ("accelerate", "nnsight", "peft", "torch", "transformers")

# Ropes whose frequencies change from batch to batch.
_ROPE_BY_LENGTH = ("dynamic", "longrope")


def key_of(run: CountRun, remote: bool) -> str:
    """What counts of a run are kept under: 16 hex digits of a hash of all that they depend on.

    >>> key_of(CountRun(dspa, triples), False) == key_of(CountRun(dspa, list(triples)), False)
    True

    That is the model with its configuration, all its weights, its modules and its adapters, the
    SAEs, layers, dtype, chat template, every token that is shown in its order, this package's
    version, and where the model runs: on a CPU, a GPU, with autocast, or a server of NDIF, whose
    weights are known by their name alone.
    """
    provenance = run.origin(remote)
    identity = {name: value for name, value in provenance.items() if name not in _NOT_COUNTED_WITH}
    for side in ("input_sae", "output_sae"):
        if identity.get(f"{side}_sha256") is None:
            identity[side] = provenance.get(side)
    model = torch_module(run.dspa.model)
    inputs, outputs = run.dspa.readers
    identity["encoders"] = [_hash_of(reader.sae.encoder) for reader in (*inputs, *outputs)]
    identity["settings"] = _settings_of(model)
    if remote:
        identity["where"] = str(untyped("nnsight").CONFIG.API.HOST)
    else:
        identity["modules"] = _modules_of(model)
        if "every_weight" not in identity:  # a model that is said to count as another
            last = int(outputs[-1].path.rpartition(".")[2])
            identity["now"] = Fingerprint().read(model, run.dspa.facts.blocks, last)
        identity["where"] = _where(next(model.parameters()).device.type)
    return sha256_of_json(identity)[:16]


def unknown_hook(model: Any) -> str | None:
    """Which module has a hook that a key cannot hold, as words; None where there is none.

    A `forward` that was set on a module, in place of its class's, is one too.

    >>> unknown_hook(hf_model) is None
    True
    """
    for path, module in torch_module(model).named_modules():
        for hook in _hooks_of(module):
            named = getattr(hook, "func", hook)
            owner = str(getattr(named, "__module__", None) or type(named).__module__)
            if owner.partition(".")[0] not in _KNOWN_HOOKS:
                name = getattr(named, "__qualname__", type(named).__qualname__)
                return f"{name} on {path or type(module).__name__}"
    return None


def _hooks_of(module: Any) -> Iterator[Any]:
    attributes = _attributes(module)
    for kind in ("_forward_pre_hooks", "_forward_hooks"):
        yield from attributes.get(kind, {}).values()
    if "forward" in attributes:  # in place of its class's
        yield attributes["forward"]


def _attributes(module: Any) -> dict[str, Any]:
    """What a module holds, with a type."""
    return cast(dict[str, Any], vars(module))


def _hash_of(encoder: Encoder) -> str:
    """SHA-256 of what an encoder reads, as it is now."""
    rule: Any = vars(encoder)["rule"]
    digest = hashlib.sha256(json.dumps(rule, sort_keys=True).encode())
    for name, tensor in sorted(encoder.tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        whole = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(whole.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _settings_of(model: Any) -> dict[str, Any]:
    """All settings of a model, and its kernel of attention, whose sums differ in the last bits."""
    config: Any = model.config
    known: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    kept = {name: value for name, value in known.items() if name not in _NOT_COMPUTED_WITH}
    return kept | {"attention": str(getattr(config, "_attn_implementation", None))}


def _modules_of(model: Any) -> str:
    """A hash of the modules' classes, and of the tables that they made on loading, as they are now.

    Left out are the frequencies of a rope that follows the length of each batch.
    """
    digest = hashlib.sha256()
    for path, module in model.named_modules():
        kind = cast(type[Any], type(module))
        digest.update(f"{path} {kind.__module__}.{kind.__qualname__}\n".encode())
        if str(getattr(module, "rope_type", "")) in _ROPE_BY_LENGTH:
            continue
        for name in sorted(module._non_persistent_buffers_set):
            buffer = module._buffers.get(name)
            if buffer is not None and not buffer.is_meta:
                whole = buffer.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
                digest.update(f"{name} {buffer.dtype} {tuple(buffer.shape)}".encode())
                digest.update(whole.numpy().data)
    return digest.hexdigest()


def _where(device: str) -> str:
    """The device, and how it computes."""
    precision = torch.get_float32_matmul_precision()
    autocast = torch.is_autocast_enabled(device)
    return f"{device}, {torch.get_autocast_dtype(device) if autocast else precision}"
