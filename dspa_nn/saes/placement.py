"""Where the SAEs lie: beside the layers that they read, wherever the model was put."""

from dataclasses import replace
from typing import Any

import torch

from dspa_nn.errors import SAEError
from dspa_nn.models import torch_module
from dspa_nn.saes.loaded import LoadedSAE


def layer_device(model: Any, path: str) -> torch.device | None:
    """The device that a module runs on, by its dotted path; None where its weights are not here.

    >>> layer_device(torch.nn.Sequential(torch.nn.Linear(2, 2)), "0")
    device(type='cpu')
    """
    block = torch_module(model).get_submodule(path)
    # accelerate keeps the weights of an offloaded layer elsewhere, and runs it here.
    device = getattr(getattr(block, "_hf_hook", None), "execution_device", None)
    if device is None:
        device = next((parameter.device for parameter in block.parameters()), None)
    runs_on = None if device is None else torch.device(device)
    return None if runs_on is None or runs_on.type == "meta" else runs_on


def read_device(
    device: Any,
    keyword: str = "sae_device",
    with_none: str = "each SAE lies beside the layer that it reads",
) -> torch.device | None:
    """What `sae_device=`, or another keyword, names; with_none: what None does, for the sentence.

    >>> read_device("cuda:1")
    device(type='cuda', index=1)

    Raises:
        SAEError: it names no device.
    """
    try:
        return None if device is None else torch.device(device)
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise SAEError(
            f"{keyword} is {device!r}, which names no device: give 'cpu', 'cuda:1' and the like, "
            f"or None, with which {with_none}"
        ) from error


def placed(sae: LoadedSAE, device: torch.device | None, *, decoder: bool) -> LoadedSAE:
    """The SAE with its encoder on a device, and its decoder too if asked; itself if it is there.

    >>> placed(sae, torch.device("cuda:0"), decoder=True)                # doctest: +SKIP

    None leaves it where it is. The SAE that came is not touched: others may hold it too.
    """
    if device is None:
        return sae
    encoder = sae.encoder.on(device)
    rows = sae.decoder.to(device) if decoder else sae.decoder
    if encoder is sae.encoder and rows is sae.decoder:
        return sae
    return replace(sae, encoder=encoder, decoder=rows)
