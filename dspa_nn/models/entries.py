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


def entries_of(tensor: Any) -> tuple[int, str]:
    """The sum of a tensor's bytes, and a hash of the sums of each few hundred of them, in order.

    >>> import torch
    >>> plain, swapped = torch.arange(400.0), torch.arange(400.0)
    >>> swapped[0], swapped[200] = 200, 0
    >>> [len({entries_of(tensor)[kind] for tensor in (plain, swapped)}) for kind in (0, 1)]
    [1, 2]

    Sums are of words of eight bytes, wrapped around, which no order of adding changes: they are the
    same on every machine, and are taken as fast as memory is read. What changes the whole's sum
    changes one of the parts', and so do entries that change places with others further away.
    """
    torch = untyped("torch")
    raw = tensor.detach().reshape(-1).contiguous().view(torch.uint8)
    length = len(raw) // (_WORD * _ADDED) * _WORD * _ADDED
    sums, rest = raw[:length].view(torch.int64).view(-1, _ADDED).sum(1), raw[length:]
    digest = hashlib.sha256(sums.cpu().numpy().data)
    digest.update(rest.cpu().numpy().data)
    words = len(rest) // _WORD * _WORD
    total = sums.sum() + rest[:words].view(torch.int64).sum()
    return int(total) + int(rest[words:].sum()), digest.hexdigest()


def sampled(tensors: Sequence[Any]) -> list[str]:
    """Some entries of each tensor, from first to last, as text that is the same on every machine.

    >>> import torch
    >>> sampled([torch.arange(3.0), torch.ones(1)])
    ['[0.0, 1.0, 2.0]', '[1.0]']

    Those of one device come over together: a GPU is waited for once, not once a tensor.
    """
    torch = untyped("torch")
    flat = [tensor.detach().reshape(-1) for tensor in tensors]
    some = [one[:: max(1, len(one) // SAMPLES)][:SAMPLES] for one in flat]
    kinds: dict[Any, list[int]] = {}
    for place, one in enumerate(some):
        kinds.setdefault((one.device, one.dtype), []).append(place)
    found = [""] * len(some)
    for places in kinds.values():
        here = torch.cat([some[place] for place in places]).cpu()
        for place, own in zip(places, here.split([len(some[p]) for p in places]), strict=True):
            found[place] = str(own.tolist())
    return found
