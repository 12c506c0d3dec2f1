"""A number for all entries of a tensor, by value and place, at the speed of reading them."""

import hashlib
from collections.abc import Sequence
from typing import Any

from dspa_nn.imports import untyped

# Entries of each tensor that are looked at on every call; all of them are, when it is read anew.
SAMPLES = 16
_WORD = 8
# Words that are added up before they are hashed: a prime, so that rows and columns of weights that
# change places do not fall into the same sums.
_ADDED = 61


def entries_of(tensors: Sequence[Any]) -> list[tuple[int, str]]:
    """The sum of each tensor's bytes, and a hash of the sums of each few hundred, in order.

    >>> import torch
    >>> plain, swapped = torch.arange(400.0), torch.arange(400.0)
    >>> swapped[0], swapped[200] = 200, 0
    >>> [len(set(kind)) for kind in zip(*entries_of([plain, swapped]), strict=True)]
    [1, 2]

    Sums are of words of eight bytes, wrapped around, which no order of adding changes: they are the
    same on every machine, and are taken as fast as memory is read. What changes the whole's sum
    changes one of the parts', and so do entries that change places with others further away.
    """
    torch = untyped("torch")
    sums: list[Any] = []
    rests: list[Any] = []
    for tensor in tensors:
        raw = tensor.detach().reshape(-1).contiguous().view(torch.uint8)
        length = len(raw) // (_WORD * _ADDED) * _WORD * _ADDED
        sums.append(raw[:length].view(torch.int64).view(-1, _ADDED).sum(1))
        rests.append(raw[length:])
    return [_entries(own, rest) for own, rest in zip(brought(sums), brought(rests), strict=True)]


def _entries(sums: Any, rest: Any) -> tuple[int, str]:
    torch = untyped("torch")
    digest = hashlib.sha256(sums.numpy().data)
    # A view of a joined tensor may start anywhere; words do not.
    rest = rest.clone()
    digest.update(rest.numpy().data)
    words = len(rest) // _WORD * _WORD
    total = sums.sum() + rest[:words].view(torch.int64).sum()
    return int(total) + int(rest[words:].sum()), digest.hexdigest()


def brought(tensors: Sequence[Any]) -> list[Any]:
    """Flat tensors on the CPU; those of one device and type come over together.

    >>> import torch
    >>> brought([torch.arange(2), torch.arange(3)])
    [tensor([0, 1]), tensor([0, 1, 2])]

    A GPU is waited for once, and not once a tensor.
    """
    torch = untyped("torch")
    kinds: dict[Any, list[int]] = {}
    for place, one in enumerate(tensors):
        kinds.setdefault((one.device, one.dtype), []).append(place)
    found = list(tensors)
    for (device, _), places in kinds.items():
        if device.type == "cpu":
            continue
        here = torch.cat([tensors[place] for place in places]).cpu()
        parts = here.split([len(tensors[place]) for place in places])
        for place, part in zip(places, parts, strict=True):
            found[place] = part
    return found


def sampled(tensors: Sequence[Any]) -> list[str]:
    """Some entries of each tensor, from first to last, as text that is the same on every machine.

    >>> import torch
    >>> sampled([torch.arange(3.0), torch.ones(1)])
    ['[0.0, 1.0, 2.0]', '[1.0]']
    """
    flat = [tensor.detach().reshape(-1) for tensor in tensors]
    some = [one[:: max(1, len(one) // SAMPLES)][:SAMPLES] for one in flat]
    return [str(own.tolist()) for own in brought(some)]
