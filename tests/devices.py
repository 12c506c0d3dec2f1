"""Other devices without any: tensors that say they lie elsewhere, and refuse to meet those here.

    with devices.pretended():
        model = devices.moved(hf_model, "far:0")      # a module, or one of its layers
        logits = model(ids.to("far:0")).logits

Everything is computed on the CPU; what is checked is what a GPU would refuse: an operation on
tensors of two devices, or `numpy()` of one that is not here. As on a GPU, numbers (tensors without
a dimension) may lie on the CPU, and so may an index. "far" is a backend that torch lets Python
declare; it does so for a whole process, so this is for processes of their own.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

HERE = torch.device("cpu")
aten = torch.ops.aten
# Copies from one device to another, and reads of a single number.
CROSSING = (aten._to_copy.default, aten.copy_.default, aten._local_scalar_dense.default)
INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default,
            aten._index_put_impl_.default)  # fmt: skip


class Elsewhere(torch.Tensor):
    """A tensor of another device; `inside` holds its values."""

    inside: torch.Tensor

    @staticmethod
    def __new__(cls, inside: torch.Tensor, device: torch.device) -> "Elsewhere":
        own = torch.Tensor._make_wrapper_subclass(
            cls, inside.size(), strides=inside.stride(), storage_offset=inside.storage_offset(),
            dtype=inside.dtype, device=device,
        )  # fmt: skip
        own.inside = inside
        return own

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Compute one operation on the CPU, if a GPU would, and say where its result lies."""
    met: list[torch.Tensor] = []
    tree_map(lambda x: met.append(x) if isinstance(x, torch.Tensor) else None, (args, kwargs))
    asked = kwargs.get("device")
    where = {tensor.device for tensor in met if tensor.dim() or isinstance(tensor, Elsewhere)}
    if func in INDEXING:
        where = {args[0].device} | ({own.device for own in met[1:]} - {HERE})
    if func in CROSSING:
        where = {args[0].device}
    if len(where) > 1 and asked is None:
        raise RuntimeError(f"{func} met tensors on {sorted(map(str, where))}")
    device = torch.device(asked) if asked is not None else next(iter(where), HERE)
    if asked is not None:
        kwargs = kwargs | {"device": HERE}
        kwargs.pop("pin_memory", None)
    inner = tree_map(lambda x: x.inside if isinstance(x, Elsewhere) else x, (args, kwargs))
    out = func(*inner[0], **inner[1])
    changed = {id(value.inside): value for value in met if isinstance(value, Elsewhere)}

    def wrapped(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or device == HERE:
            return value
        known = changed.get(id(value))
        return Elsewhere(value, device) if known is None else known

    return tree_map(wrapped, out)


class _Dispatch(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


class _Made(TorchFunctionMode):
    """`torch.tensor(..., device=)` goes to a device by a way of its own."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.tolist:
            return args[0].cpu().tolist()
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            device = kwargs.pop("device")
            return func(*args, **kwargs).to(device)
        return func(*args, **kwargs)


@functools.cache
def _declare() -> None:
    _setup_privateuseone_for_python_backend("far")
    # What `torch.autocast("far", enabled=False)` asks for.
    torch.far.get_amp_supported_dtype = lambda: [torch.bfloat16]  # pyright: ignore


@contextmanager
def pretended() -> Iterator[None]:
    """Within it, `.to("far:0")` and `device="far:0"` put tensors elsewhere."""
    _declare()
    with _Made(), _Dispatch():
        yield


def moved(module: torch.nn.Module, device: str) -> torch.nn.Module:
    """Put a module's parameters and buffers elsewhere, in place (inside `pretended`)."""
    for child in module.modules():
        for name, value in child._parameters.items():
            if value is not None:
                child._parameters[name] = torch.nn.Parameter(
                    value.detach().to(device), requires_grad=False
                )
        for name, value in child._buffers.items():
            if value is not None:
                child._buffers[name] = value.to(device)
    return module
