"""Whether a model is here or on NDIF, its weights, and the mode in which this package runs it."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dspa_nn.errors import SteeringError
from dspa_nn.imports import untyped
from dspa_nn.models.facts import torch_module

# Held while this package runs a model itself (`plan`, `count`, measures), whichever thread asks.
_running = threading.RLock()


def for_ndif(model: Any) -> bool:
    """Whether a model is not loaded and named by a hub id: then it is to be run on NDIF.

    What is named by a local folder cannot be, and is loaded when it is first run, as nnsight does.
    """
    loaded = getattr(model, "dispatched", True)
    return not loaded and not Path(str(getattr(model, "repo_id", ""))).exists()


def require_weights(model: Any, what: str) -> None:
    """Refuse to run here, without being told to, a model that is to be run on NDIF.

    what: the name of what was called.

    Raises:
        SteeringError: the model is not loaded.
    """
    if not for_ndif(model):
        return
    host = untyped("nnsight").CONFIG.API.HOST
    raise SteeringError(
        f"{model.repo_id} is not loaded on this machine, and {what} came without remote=True; "
        f"write remote=True to run it on NDIF ({host}), or build the model with "
        "dispatch=True (or call model.dispatch()) to load it here"
    )


def load_weights(model: Any, what: str) -> None:
    """Load an nnsight model that is not yet loaded and is to be run here; others are left alone.

    >>> load_weights(model, "count")

    Raises:
        SteeringError: as `require_weights`.
    """
    require_weights(model, what)
    if hasattr(model, "dispatched") and not model.dispatched:
        model.dispatch()


def as_local(model: Any) -> Any:
    """Return the Hugging Face model behind `model`, loaded.

    >>> as_local(model) is hf_model
    True

    Raises:
        SteeringError: the model has no weights here.
    """
    load_weights(model, "attach")
    module = torch_module(model)
    if any(parameter.is_meta for parameter in module.parameters()):
        raise SteeringError(
            f"{type(module).__name__} has no weights on this machine; load it (dispatch=True) or "
            "run with remote=True"
        )
    return module


@contextmanager
def evaluating(model: Any) -> Generator[None]:
    """Run a model in eval mode, and leave every module in the mode that it was in.

    >>> with evaluating(hf_model.train()):
    ...     hf_model.training
    False
    >>> hf_model.training
    True

    In training mode dropout is on, and the same text gives other activations each time. One thread
    runs at a time: others would see the mode change, and nnsight runs one call of a model at once.
    """
    module = torch_module(model)
    with _running:
        training = [child for child in module.modules() if child.training]
        for child in training:
            child.training = False
        try:
            yield
        finally:
            for child in training:
                child.training = True
