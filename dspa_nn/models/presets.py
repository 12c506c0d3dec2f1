"""Published settings and sizes, by the name of a preset; the embedded model with its SAEs is one.

A preset is one record of `PRESETS`: adding one touches nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict, cast

from dspa_nn.errors import DSPAError
from dspa_nn.files import ASSETS
from dspa_nn.graph.spelling import did_you_mean
from dspa_nn.imports import untyped
from dspa_nn.models.embedded import REPO_ID


class TunedSettings(TypedDict, total=False):
    """Settings that were tuned for a preset; what is not here takes the paper's value.

    Attributes:
        percentile, k_diff, prompt_tokens: of fitting (docs/method.md 3).
        alpha, k_prompt, mode, prompt_rule: of steering (docs/method.md 4).
    """

    percentile: float
    k_diff: int
    prompt_tokens: Literal["content", "all"]
    alpha: float
    k_prompt: int
    mode: Literal["ablate", "augment", "both"]
    prompt_rule: Literal["density", "gated", "centred"]


@dataclass(frozen=True)
class Architecture:
    """Sizes of a decoder-only model, named as in a `transformers` config.

    >>> get_preset("gemma-2-9b").architecture.num_hidden_layers
    42

    Attributes:
        family: of `transformers`: its class `{family}Config` takes the other fields.
    """

    family: Literal["Llama", "Gemma2", "Qwen3"]
    num_hidden_layers: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    tie_word_embeddings: bool = True


@dataclass(frozen=True)
class Preset:
    """A model, its two SAEs and layers, and the settings that were tuned or published for it.

    >>> preset = get_preset("gemma-2-9b")
    >>> preset.output_layer, preset.d_in, preset.config.num_hidden_layers
    (39, 16384, 42)

    Attributes:
        name: what `DSPA.from_preset` is asked for.
        model_id: hub id of the model.
        input_sae, output_sae: a folder or "release/sae_id", as `DSPA` takes them.
        input_layer, output_layer: 0-based decoder blocks whose output the SAEs read.
        d_in, d_out: latents of the two SAEs.
        architecture: the model's sizes: enough to count operations without hub or weights.
        defaults: settings that were tuned for it.
        rahf_last_target: the last decoder block whose hidden state RAHF-SCIT regresses, where the
            paper says which (docs/method.md 8).
        template: the format that conversations are written in, by name; None is the tokenizer's.
        sae_type: of both SAEs, by the name that SAELens gives it at inference.
        revision: commit of the model on the hub; None where no run has told it yet.
    """

    name: str
    model_id: str
    input_sae: str
    output_sae: str
    input_layer: int
    output_layer: int
    d_in: int
    d_out: int
    architecture: Architecture
    defaults: TunedSettings = field(default_factory=TunedSettings)
    rahf_last_target: int | None = None
    template: str | None = None
    sae_type: str = "topk"
    revision: str | None = None

    @property
    def config(self) -> Any:
        """A new `transformers` config of the architecture; no weights belong to it."""
        sizes = dict(vars(self.architecture))
        return getattr(untyped("transformers"), f"{sizes.pop('family')}Config")(**sizes)

    def settings(self) -> dict[str, Any]:
        """Return the keywords of `DSPA` that this preset stands for.

        >>> sorted(get_preset("qwen3-8b").settings())
        ['defaults', 'input_layer', 'input_sae', 'output_layer', 'output_sae', 'template']
        """
        names = ("input_sae", "output_sae", "input_layer", "output_layer", "defaults", "template")
        return {name: getattr(self, name) for name in names}


def _scope(size: str, layer: int) -> str:
    return f"gemma-scope-{size}-pt-res-canonical/layer_{layer}/width_16k/canonical"


def _karvonen(layer: int) -> str:
    # Trainer 2 has 65,536 latents of which 80 fire; 0 and 1 have 16,384. The paper names none.
    folder = f"saes_Qwen_Qwen3-8B_batch_top_k/resid_post_layer_{layer}/trainer_2"
    return f"adamkarvonen/qwen3-8b-saes/{folder}"


EMBEDDED = Preset(
    name="smollm2-135m-instruct",
    model_id=REPO_ID,
    input_sae=str(ASSETS / "saes" / "blocks.9.hook_resid_post"),
    output_sae=str(ASSETS / "saes" / "blocks.24.hook_resid_post"),
    input_layer=9,
    output_layer=24,
    d_in=4096,
    d_out=4096,
    architecture=Architecture(
        family="Llama",
        num_hidden_layers=30,
        hidden_size=576,
        intermediate_size=1536,
        num_attention_heads=9,
        num_key_value_heads=3,
        head_dim=64,
        vocab_size=49152,
    ),
    # Tuned on the demo's development triples (`recipes/tune_preset.py`), never on its test.
    defaults={
        "percentile": 50,
        "k_diff": 16,
        "alpha": 1.0,
        "k_prompt": 32,
        "mode": "ablate",
        "prompt_rule": "centred",
        "prompt_tokens": "content",
    },
)

# The paper's SAEs, fine-tuned on HH-RLHF, are not released: these are the published ones that they
# started from. Not run here: the hub and the memory are missing. The format is that of the paper's
# runs, and both types of SAE encode with a threshold (a BatchTopK SAE does outside training).
_PAPER: Any = {"template": "human-assistant", "sae_type": "jumprelu"}
_PUBLISHED = (
    Preset(
        name="gemma-2-2b",
        model_id="google/gemma-2-2b",
        input_sae=_scope("2b", 7),
        output_sae=_scope("2b", 24),
        input_layer=7,
        output_layer=24,
        d_in=16384,
        d_out=16384,
        architecture=Architecture(
            family="Gemma2",
            num_hidden_layers=26,
            hidden_size=2304,
            intermediate_size=9216,
            num_attention_heads=8,
            num_key_value_heads=4,
            head_dim=256,
            vocab_size=256000,
        ),
        rahf_last_target=14,
        **_PAPER,
    ),
    Preset(
        name="gemma-2-9b",
        model_id="google/gemma-2-9b",
        input_sae=_scope("9b", 9),
        output_sae=_scope("9b", 39),
        input_layer=9,
        output_layer=39,
        d_in=16384,
        d_out=16384,
        architecture=Architecture(
            family="Gemma2",
            num_hidden_layers=42,
            hidden_size=3584,
            intermediate_size=14336,
            num_attention_heads=16,
            num_key_value_heads=8,
            head_dim=256,
            vocab_size=256000,
        ),
        rahf_last_target=18,
        **_PAPER,
    ),
    Preset(
        name="qwen3-8b",
        model_id="Qwen/Qwen3-8B",
        input_sae=_karvonen(9),
        output_sae=_karvonen(18),
        input_layer=9,
        output_layer=18,
        d_in=65536,
        d_out=65536,
        architecture=Architecture(
            family="Qwen3",
            num_hidden_layers=36,
            hidden_size=4096,
            intermediate_size=12288,
            num_attention_heads=32,
            num_key_value_heads=8,
            head_dim=128,
            vocab_size=151936,
            tie_word_embeddings=False,
        ),
        **_PAPER,
    ),
)

PRESETS: dict[str, Preset] = {preset.name: preset for preset in (EMBEDDED, *_PUBLISHED)}


def get_preset(name: str) -> Preset:
    """Return a preset by name.

    >>> get_preset("gemma-2-9b").model_id
    'google/gemma-2-9b'

    Raises:
        DSPAError: there is none of that name.
    """
    given = cast(Any, name)  # whatever a user passed
    if not isinstance(given, str) or name not in PRESETS:
        near = did_you_mean(name, tuple(PRESETS))
        raise DSPAError(f"there is no preset {name!r}{near}; the presets are {', '.join(PRESETS)}")
    return PRESETS[name]


def preset_of(provenance: Mapping[str, Any]) -> Preset | None:
    """The preset of the model and the layers that counts or a map come from, or None.

    >>> origin = {"model_id": "Qwen/Qwen3-8B", "input_layer": 9, "output_layer": 18}
    >>> preset_of(origin).name, preset_of(origin | {"output_layer": 20})
    ('qwen3-8b', None)
    """
    keys = ("model_id", "input_layer", "output_layer")
    origin = [provenance.get(key) for key in keys]
    for preset in PRESETS.values():
        if [getattr(preset, key) for key in keys] == origin:
            return preset
    return None
