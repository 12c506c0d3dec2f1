"""The settings of a model that decide what its decoder blocks compute from their weights."""

import hashlib
import json
import re
from typing import Any, cast

from dspa_nn.graph.adapters import active_in
from dspa_nn.imports import untyped
from dspa_nn.models.parts import parts_of, plain_name

# Settings that change nothing that a block returns, or that the shapes of its weights tell: names,
# training, tokens, outputs asked for, the head, the number of blocks, formats, kernels.
_ELSEWHERE = re.compile(
    r"""_name_or_path | architectures | auto_map | transformers(_version|\.js_config) | model_name |
    use_cache | init_std | layerdrop | router_jitter_noise | (torch_)?dtype |
    \w*token_(id|index) | id2label | label2id |
    num_labels | problem_type | finetuning_task | task_specific_params | tokenizer_class | prefix |
    (use_)?return_dict | output_\w+ | router_\w+_coef | initializer_\w+ | tie_\w+ | vocab_size |
    num_hidden_layers | n_layers? | num_layers | quantization_config | \w*_implementation |
    \w*dropout\w* | \w*_pdrop | summary_\w+ | gradient_checkpointing | chunk_size_feed_forward |
    is_decoder | is_encoder_decoder | add_cross_attention | cross_attention_hidden_size |
    torchscript | pretraining_tp | (final_)?logits?_(softcapping|scale|scaling) |
    max_window_layers | unsloth_\w+ | cache_implementation""",
    re.VERBOSE,
)
# Lengths of the context: they count where the rope is made for one.
_CONTEXT = ("max_position_embeddings", "n_positions", "n_ctx")
_ROPE_BY_LENGTH = ("dynamic", "longrope", "yarn")


def configuration(module: Any, blocks: str, last: int, layers: list[Any]) -> dict[str, Any]:
    """The settings that blocks up to `last` compute by: fields of the configuration, and numbers.

    >>> configuration(hf_model, "model.layers", 2, [])["hidden_act"]
    'silu'

    Fields are by name, so that two versions of transformers agree in those that both know. Numbers
    that somebody set on a module (a scale, an epsilon) are one fingerprint for each version.
    layers: those that adapters have put in place of the model's.
    """
    config: Any = module.config.get_text_config()
    fields: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    rope = json.dumps([value for name, value in fields.items() if "rope" in name])
    by_length = any(kind in rope for kind in _ROPE_BY_LENGTH)
    kept = {
        name: value
        for name, value in fields.items()
        if value is not None
        and not _ELSEWHERE.fullmatch(name)
        and (by_length or name not in _CONTEXT)
    }
    for name, value in kept.items():
        if isinstance(value, list) and len(cast(list[Any], value)) == config.num_hidden_layers:
            kept[name] = value[: last + 1]  # one for each block
    version = str(untyped("transformers").__version__)
    kept[f"values on its modules (transformers {version})"] = _numbers(module, blocks, last, layers)
    return dict(sorted(kept.items()))


def _numbers(module: Any, blocks: str, last: int, layers: list[Any]) -> str:
    """A hash of the plain numbers on modules; whole ones are left out, since modules count."""
    active = {name for layer in layers for name in active_in(layer)}
    idle = {number for layer in layers if not active_in(layer) for number in _added_by(layer)}
    found = [
        f"{group} {plain_name(f'{name}.{path}', active)} {attribute} {value!r}"
        for group, name, part in parts_of(module, blocks, last)
        for path, inner in part.named_modules()
        if id(inner) not in idle
        for attribute, value in cast(dict[str, Any], vars(inner)).items()
        if type(value) is float and "drop" not in f"{attribute} {type(inner).__name__}".lower()
    ]
    return hashlib.sha256("\n".join(sorted(found)).encode()).hexdigest()[:16]


def _added_by(layer: Any) -> set[int]:
    """Ids of the modules that an adapted layer has beside the model's own."""
    copied = layer._modules.get("original_module")
    own = (layer.base_layer if copied is None else copied).modules()
    return {id(inner) for inner in layer.modules()} - {id(inner) for inner in own}
