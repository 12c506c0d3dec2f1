"""What training leaves, as `SteeringMethod`s: an adapter that is switched on, or other weights."""

import hashlib
import json
import os
import re
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dspa_nn.baselines.subject import Subject
from dspa_nn.errors import FileError, SteeringError, first_line
from dspa_nn.files import as_path, on_disk
from dspa_nn.graph.calls import check_outside_blocks
from dspa_nn.graph.vectors import check_vector
from dspa_nn.progress import quiet_loaders
from dspa_nn.prompts import Rendered
from dspa_nn.steering import hooked_module


@dataclass(frozen=True)
class AdapterMethod:
    """An adapter of PEFT's, trained on the subject's model: on inside the context, off outside.

    Example:
        >>> method = AdapterMethod("DPO", Subject(dspa), "dpo")           # doctest: +SKIP
        >>> with method.steering([prompt]):                               # doctest: +SKIP
        ...     ids = hf_model.generate(prompt.ids[None], max_new_tokens=4)

    The first context puts the adapter's layers into the model, where they stay, switched off: the
    model then computes what it did before, bit for bit. (A run needs an adapter that
    `recipes/train_dpo.py` or `train_rahf.py` left, so that this is tested with them.)

    Attributes:
        name: a few words for a table, and of the adapter in the model.
        subject: the model. folder: what the training recipe, or PEFT, saved.
    """

    name: str
    subject: Subject = field(repr=False)
    folder: str | os.PathLike[str]

    @contextmanager
    def steering(self, prompts: Sequence[Rendered]) -> Generator[None]:
        """Switch the adapter on.

        Raises:
            FileError: the folder holds no adapter, or a damaged one.
            SteeringError: an adapter of another base model, or PEFT is not installed.
        """
        check_outside_blocks("steering")
        module = hooked_module(self.subject.model)
        key = self._key()
        if key not in cast(dict[str, Any], getattr(module, "peft_config", {})):
            self._put_in(module, key)
        module.set_adapter(key)
        module.enable_adapters()
        try:
            yield None
        finally:
            module.disable_adapters()

    def _key(self) -> str:
        """A name inside PEFT that another folder, or the same one trained again, does not share."""
        weights = as_path(on_disk(self.folder)) / "adapter_model.safetensors"
        written = weights.stat().st_mtime_ns if weights.exists() else 0
        told = f"{weights.resolve()} {written}".encode()
        return f"{re.sub('[ .]', '_', self.name)}_{hashlib.sha256(told).hexdigest()[:8]}"

    def _put_in(self, module: Any, key: str) -> None:
        folder = as_path(on_disk(self.folder))
        config = read_json(folder / "adapter_config.json", "an adapter that PEFT saved")
        here = self.subject.origin(self.subject.facts.n_layers - 1)
        check_trained(folder, config.get("base_model_name_or_path"), here)
        # A load that fails half-way would leave an untrained adapter in the model.
        with opened(folder / "adapter_model.safetensors"):
            pass
        try:
            with quiet_loaders(), warnings.catch_warnings():
                # Several adapters in one model are meant: one at a time is switched on.
                warnings.filterwarnings("ignore", "Already found a `peft_config`", UserWarning)
                module.load_adapter(str(folder), adapter_name=key)
        except ImportError as error:
            raise SteeringError(
                f"an adapter needs PEFT ({error}): pip install 'dspa-nn[train]' brings it"
            ) from error
        except (RuntimeError, ValueError) as error:
            raise SteeringError(
                f"the adapter in {folder} does not fit {self.subject.facts.model_id} "
                f"({first_line(error)}); use the model that it was trained on"
            ) from error
        module.disable_adapters()


@dataclass(frozen=True)
class WeightsMethod:
    """All weights of a model that was trained from the subject's, in its place inside the context.

    Example:
        >>> method = WeightsMethod("SFT", Subject(dspa), "sft")           # doctest: +SKIP

    The weights are exchanged in place and put back, so that both are in memory. (They are those
    that a training recipe left, so that this is tested with them.)

    Attributes:
        name: a few words for a table.
        subject: the model. folder: what `save_pretrained`, or a training recipe, wrote.
    """

    name: str
    subject: Subject = field(repr=False)
    folder: str | os.PathLike[str]

    @contextmanager
    def steering(self, prompts: Sequence[Rendered]) -> Generator[None]:
        """Exchange the weights.

        Raises:
            FileError: the folder holds no weights in safetensors.
            SteeringError: weights of another base model, or of other shapes.
        """
        check_outside_blocks("steering")
        module = hooked_module(self.subject.model)
        folder = as_path(on_disk(self.folder))
        here = self.subject.origin(self.subject.facts.n_layers - 1)
        check_trained(folder, None, here)
        before: list[tuple[Any, Tensor]] = []
        # Where an adapter was put in, PEFT keeps a weight under its layer's `base_layer`.
        own = {
            name.replace(".base_layer.", "."): parameter
            for name, parameter in module.named_parameters()
        }
        try:
            for name, tensor in weights_in(folder):
                if name not in own or own[name].shape != tensor.shape:
                    raise SteeringError(
                        f"{folder} holds {name} of shape {tuple(tensor.shape)}, which "
                        f"{self.subject.facts.model_id} has not; use the model that it was trained "
                        "from"
                    )
                parameter = own[name]
                before.append((parameter, parameter.detach().clone()))
                with torch.no_grad():
                    parameter.copy_(tensor)
            yield None
        finally:
            with torch.no_grad():
                for parameter, tensor in before:
                    parameter.copy_(tensor)


def check_trained(folder: Path, named: str | None, here: dict[str, Any]) -> None:
    """Refuse what was trained on another model, as its `run.json`, or else its name, says."""
    known: dict[str, Any] = {}
    if (folder / "run.json").is_file():
        known = read_json(folder / "run.json", "a run of a training recipe").get("origin", {})
    elif named:
        # A folder on some machine says nothing; a hub id is compared by its last part.
        known = {"model_id": str(named).rstrip("/").rpartition("/")[2]}
        here = {"model_id": str(here["model_id"]).rstrip("/").rpartition("/")[2]}
    check_vector(known, here, "it is used with", "what was trained in " + folder.name)


def read_json(path: Path, what: str) -> dict[str, Any]:
    """A JSON object of a file that must be there."""
    try:
        body: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileError(f"{path} cannot be read ({error}); give a folder with {what}") from None
    return cast(dict[str, Any], body if isinstance(body, dict) else {})


def weights_in(folder: Path) -> Generator[tuple[str, Tensor]]:
    """Every tensor of the safetensors files of a saved model, one after another."""
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise FileError(
            f"{folder} holds no model.safetensors; give a folder that save_pretrained wrote"
        )
    for file in files:
        with opened(file) as tensors:
            for name in tensors.keys():  # noqa: SIM118 - no mapping
                yield name, tensors.get_tensor(name)


def opened(file: Path) -> Any:
    """A safetensors file, to be entered; what is missing or damaged is one sentence."""
    try:
        return cast(Any, safe_open)(str(file), framework="pt")
    except (OSError, SafetensorError) as error:
        raise FileError(
            f"{file} cannot be read ({first_line(error)}); train again, or copy it again"
        ) from None
