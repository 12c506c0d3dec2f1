"""Random SAEs of every type in SAELens' registry, for inference and for training."""

import re
from typing import Any

import torch

D_MODEL = 16
WIDTH = 64

# What a type's config needs besides the sizes.
EXTRAS: dict[str, dict[str, Any]] = {
    "topk": {"k": 6},
    "abstopk": {"k": 6},
    "batchtopk": {"k": 6},
    "matryoshka_batchtopk": {"k": 6, "matryoshka_widths": [16, WIDTH]},
    "matching_pursuit": {"max_iterations": 6},
    "temporal": {"n_heads": 4, "bottleneck_factor": 4, "kval_topk": 6},
    "transcoder": {"d_out": D_MODEL, "apply_b_dec_to_input": False},
    "skip_transcoder": {"d_out": D_MODEL, "apply_b_dec_to_input": False},
    "jumprelu_transcoder": {"d_out": D_MODEL, "apply_b_dec_to_input": False},
    "jumprelu_skip_transcoder": {"d_out": D_MODEL, "apply_b_dec_to_input": False},
}


def architectures() -> list[str]:
    """Every type that SAELens registers, for inference or for training."""
    import sae_lens  # noqa: F401  (registers its types)
    from sae_lens.registry import SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY

    return sorted({*SAE_CLASS_REGISTRY, *SAE_TRAINING_CLASS_REGISTRY})


def training_architectures() -> list[str]:
    import sae_lens  # noqa: F401
    from sae_lens.registry import SAE_TRAINING_CLASS_REGISTRY

    return sorted(SAE_TRAINING_CLASS_REGISTRY)


def build(
    architecture: str,
    *,
    training: bool = False,
    seed: int = 0,
    metadata: dict[str, Any] | None = None,
    **settings: Any,
) -> Any:
    """Build an SAE with every weight, bias and threshold random (thresholds positive)."""
    import sae_lens  # noqa: F401  (registers its types)
    from sae_lens.registry import SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY
    from sae_lens.saes.sae import SAEMetadata

    registry: Any = SAE_TRAINING_CLASS_REGISTRY if training else SAE_CLASS_REGISTRY
    sae_class, config_class = registry[architecture]
    if training and architecture == "matching_pursuit":
        settings.setdefault("decoder_init_norm", 1.0)
    options = {"d_in": D_MODEL, "d_sae": WIDTH, **EXTRAS.get(architecture, {}), **settings}
    options["metadata"] = SAEMetadata(
        **({"hook_name": "blocks.3.hook_resid_post"} if metadata is None else metadata)
    )
    sae = sae_class(config_class(**options))
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in sae.state_dict().items():
            values = torch.randn(tensor.shape, generator=noise, dtype=torch.float64) / 2
            tensor.copy_(values.abs() if "threshold" in name else values)
    return sae


def in_float64(sae: Any) -> Any:
    """Copy an inference SAE to float64: SAELens' own reference for decodes."""
    from sae_lens import SAE

    copy: Any = SAE.from_dict({**sae.cfg.to_dict(), "dtype": "float64"})
    copy.load_state_dict({name: t.double() for name, t in sae.state_dict().items()})
    return copy


def hidden(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    noise = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(*shape, D_MODEL, generator=noise) + 0.5).to(dtype)


def said(error: Any) -> str:
    """What an error that `pytest.raises` caught says."""
    return str(error.value)


def assert_one_sentence(text: str) -> None:
    assert "\n" not in text
    assert not re.search(r"[.!?] +[A-Z]", text)
