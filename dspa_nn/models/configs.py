"""Shapes of the presets' models and SAEs: enough to count operations, without hub or weights."""

from dataclasses import dataclass
from typing import Any

from dspa_nn.errors import DSPAError
from dspa_nn.models.presets import PRESETS, Preset, get_preset


@dataclass(frozen=True)
class ModelShape:
    """A preset's model as a `transformers` config, and the widths of its two SAEs.

    Example:
        >>> shape = model_shape("gemma-2-9b")
        >>> shape.preset.output_layer, shape.d_in, shape.config.num_hidden_layers
        (39, 16384, 42)

    Attributes:
        preset: layers and ids. config: a config object; no weights belong to it.
        d_in, d_out: latents of the input and of the output SAE.
    """

    preset: Preset
    config: Any
    d_in: int
    d_out: int


# Layers, hidden, MLP, heads, KV heads, head width, vocabulary, tied embeddings; SAE width.
_SHAPES = {
    "smollm2-135m-instruct": ("Llama", 30, 576, 1536, 9, 3, 64, 49152, True, 4096),
    "gemma-2-2b": ("Gemma2", 26, 2304, 9216, 8, 4, 256, 256000, True, 16384),
    "gemma-2-9b": ("Gemma2", 42, 3584, 14336, 16, 8, 256, 256000, True, 16384),
    "qwen3-8b": ("Qwen3", 36, 4096, 12288, 32, 8, 128, 151936, False, 65536),
}


def model_shape(name: str) -> ModelShape:
    """Return the shapes behind a preset's name.

    Example:
        >>> model_shape("qwen3-8b").config.hidden_size
        4096

    Raises:
        DSPAError: no preset of that name, or none whose shapes are known here.
    """
    preset = get_preset(name)
    if name not in _SHAPES:
        raise DSPAError(
            f"the shapes of the preset {name!r} are not known here; those of "
            f"{', '.join(_SHAPES)} are: give fit_flops the model's config instead"
        )
    import transformers

    family, layers, hidden, mlp, heads, kv_heads, head_dim, vocabulary, tied, width = _SHAPES[name]
    config = getattr(transformers, f"{family}Config")(
        num_hidden_layers=layers,
        hidden_size=hidden,
        intermediate_size=mlp,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=vocabulary,
        tie_word_embeddings=tied,
    )
    return ModelShape(preset, config, width, width)


def known_shapes() -> tuple[str, ...]:
    """Names that `model_shape` knows, in the order of the presets."""
    return tuple(name for name in PRESETS if name in _SHAPES)
