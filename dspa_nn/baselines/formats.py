"""Dense vectors from the files of other packages: repeng's, and those saved of steering-vectors.

Nothing is unpickled: torch files are read with `weights_only=True`, which takes tensors, numbers
and their containers alone.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor

from dspa_nn.baselines.vector import ControlVector
from dspa_nn.errors import FileError
from dspa_nn.files import as_path, sha256_of_file
from dspa_nn.imports import late

TORCH_FILES = (".pt", ".pth", ".bin")
_NUMBER = re.compile(r"(?:^|\.)(\d+)$")


def import_vector(
    path: str | os.PathLike[str],
    *,
    layer: int | None = None,
    scale: float = 1.0,
    model_id: str | None = None,
) -> ControlVector:
    """Read one layer's vector from a file that repeng, or a user of steering-vectors, wrote.

    Example:
        >>> torch.save({"layer_activations": {2: torch.ones(32)}}, "vector.pt")
        >>> import_vector("vector.pt").layer
        2

    What the files hold, by their ending:
        .gguf: repeng's `export_gguf`, tensors `direction.<layer>`, each of length 1.
        .pt, .pth, .bin: `torch.save` of the `layer_activations` of a `SteeringVector`, a dict from
            layer to vector, or of a dict with that under `layer_activations`.
        .safetensors: tensors whose names end in the number of the layer.

    In all of them layer L is the output of decoder block L, from 0, as it is here.

    Args:
        path: the file.
        layer: which of its layers; None takes the only one.
        scale: what the vector is multiplied by where a run names nothing else.
        model_id: the model it was made for, where that is known: it is then held against the one
            that it is used with. The files do not say.

    Raises:
        FileError: a file that is none of these, one that would have to be unpickled, or no such
            layer in it.
    """
    file = as_path(path)
    if not file.is_file():
        raise FileError(f"{file} is no file; give the file that holds the vector")
    try:
        found, hint = _READERS[file.suffix](file)
    except KeyError:
        endings = ", ".join(_READERS)
        raise FileError(
            f"{file.name} ends in {file.suffix!r}, and vectors are read from {endings}; save the "
            "vector as one of these"
        ) from None
    if not found:
        raise FileError(
            f"{file} holds no vector by the number of its layer; give a file that repeng exported, "
            "or torch.save(vector.layer_activations, path) of a steering vector"
        )
    if layer is None and len(found) > 1:
        raise FileError(f"{file} holds vectors of layers {_listed(found)}; choose one with layer=")
    chosen = next(iter(found)) if layer is None else layer
    if chosen not in found:
        raise FileError(f"{file} holds vectors of layers {_listed(found)}, and not of {chosen!r}")
    noted = {
        "imported": file.name,
        "imported_sha256": sha256_of_file(file),
        **({"model_type": hint} if hint else {}),
        **({"model_id": model_id} if model_id else {}),
    }
    return ControlVector(chosen, found[chosen], "imported", scale, None, noted)


def _listed(found: Mapping[int, Any]) -> str:
    return ", ".join(str(number) for number in sorted(found))


def _vector(name: object, values: Any) -> Float[Tensor, " d_model"]:
    array = np.array(values, dtype=np.float32)
    if array.size != max(array.shape, default=0):
        raise FileError(
            f"the tensor {name} has shape {array.shape}, where one vector was expected; save one "
            "vector a layer"
        )
    return torch.as_tensor(array).flatten().contiguous()


def _gguf(file: Path) -> tuple[dict[int, Tensor], str | None]:
    try:
        reader_of: Any = late("gguf").GGUFReader
    except ImportError as error:
        raise FileError(
            f"{file} needs the package gguf, which is not installed: pip install 'dspa-nn[demo]' "
            "brings it"
        ) from error
    try:
        reader = reader_of(file)
    except (OSError, ValueError, IndexError) as error:
        raise FileError(
            f"{file} cannot be read as a GGUF file ({error}); export it again"
        ) from error
    hint: Any = reader.get_field("controlvector.model_hint")
    found = {
        int(tensor.name.removeprefix("direction.")): _vector(tensor.name, tensor.data)
        for tensor in reader.tensors
        if re.fullmatch(r"direction\.\d+", tensor.name)
    }
    return found, None if hint is None else bytes(hint.parts[-1]).decode()


def _torch(file: Path) -> tuple[dict[int, Tensor], str | None]:
    try:
        loaded: Any = cast(Any, torch).load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - torch's own, pickle's, zipfile's
        raise FileError(
            f"{file} is damaged or holds more than tensors ({type(error).__name__}), and nothing "
            "is unpickled here; save torch.save(vector.layer_activations, path) where it was made"
        ) from None
    inner: Any = loaded
    if isinstance(loaded, Mapping) and "layer_activations" in loaded:
        inner = cast(Any, loaded)["layer_activations"]
    return _by_layer(inner if isinstance(inner, Mapping) else {}), None


def _safetensors(file: Path) -> tuple[dict[int, Tensor], str | None]:
    try:
        return _by_layer(cast(Any, safetensors.torch).load_file(file)), None
    except (OSError, safetensors.SafetensorError) as error:
        raise FileError(f"{file} cannot be read ({error}); save or copy it again") from error


def _by_layer(tensors: Any) -> dict[int, Tensor]:
    """Vectors by the number that their name is, or ends in."""
    found: dict[int, Tensor] = {}
    for name, values in cast(Mapping[Any, Any], tensors).items():
        number = _NUMBER.search(str(name))
        if number is not None and isinstance(values, Tensor):
            layer = int(number[1])
            if layer in found:
                raise FileError(
                    f"two tensors end in the number of layer {layer}, {name} the second; save one "
                    "vector a layer"
                )
            found[layer] = _vector(name, values.detach().float().numpy())
    return found


_READERS = {".gguf": _gguf, **dict.fromkeys(TORCH_FILES, _torch), ".safetensors": _safetensors}
