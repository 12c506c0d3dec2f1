"""A preset's model, built in nnsight."""

from typing import Any

from dspa_nn.imports import untyped
from dspa_nn.models.embedded import model_path
from dspa_nn.models.presets import EMBEDDED, Preset


def load_model(preset: Preset, *, dispatch: bool = True) -> Any:
    """Build a preset's model in nnsight: the embedded one from here, others from the hub.

    >>> load_model(get_preset("gemma-2-9b"), dispatch=False)        # doctest: +SKIP

    Args:
        preset: what to build.
        dispatch: load the weights as well.

    Returns:
        An `nnsight.modeling.transformers.TransformersModel`.
    """
    nnsight_model: Any = untyped("nnsight.modeling.transformers").TransformersModel
    tokenizers: Any = untyped("transformers").AutoTokenizer
    if preset is EMBEDDED:
        path = model_path()
        tokenizer = tokenizers.from_pretrained(path, padding_side="left")
        return nnsight_model(
            path, task="text-generation", tokenizer=tokenizer, dispatch=dispatch, dtype="float32"
        )
    # A model without weights cannot guess its tokenizer (nnsight 0.8).
    given = {} if dispatch else {"tokenizer": tokenizers.from_pretrained(preset.model_id)}
    return nnsight_model(preset.model_id, task="text-generation", dispatch=dispatch, **given)
