"""Models: what is known of one, the presets by name, and where the embedded one comes from."""

from dspa_nn.models.embedded import REPO_ID, Weights, model_path, snapshot_dir
from dspa_nn.models.facts import (
    ModelFacts,
    check_virtual_tokens,
    context_length,
    read_facts,
    torch_module,
)
from dspa_nn.models.fingerprint import Fingerprint
from dspa_nn.models.loading import load_model, load_named, model_of
from dspa_nn.models.presets import (
    PRESETS,
    Architecture,
    Preset,
    TunedSettings,
    get_preset,
    preset_of,
)
from dspa_nn.models.running import (
    as_local,
    evaluating,
    for_ndif,
    load_weights,
    require_weights,
)

__all__ = [
    "PRESETS",
    "REPO_ID",
    "Architecture",
    "Fingerprint",
    "ModelFacts",
    "Preset",
    "TunedSettings",
    "Weights",
    "as_local",
    "check_virtual_tokens",
    "context_length",
    "evaluating",
    "for_ndif",
    "get_preset",
    "load_model",
    "load_named",
    "load_weights",
    "model_of",
    "model_path",
    "preset_of",
    "read_facts",
    "require_weights",
    "snapshot_dir",
    "torch_module",
]
