"""What the toolkit needs to know of a model: its blocks, its identity, its special tokens."""

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

from dspa_nn.errors import DSPAError, SteeringError
from dspa_nn.graph.adapters import virtual_tokens
from dspa_nn.prompts import in_format

_SNAPSHOT = re.compile(r"models--([^/\\]+)[/\\]snapshots[/\\]([^/\\]+)")


@dataclass(frozen=True)
class ModelFacts:
    """Identity and layout of a decoder-only language model.

    >>> facts = read_facts(model)
    >>> facts.n_layers, facts.d_model, facts.block(2)
    (4, 32, 'model.layers.2')

    Attributes:
        model_id: hub id or folder.
        revision: commit of the model on the hub, or None.
        blocks: dotted path of the list of decoder blocks, seen from the model.
        n_layers: number of decoder blocks.
        d_model: width of the residual stream.
        dtype: of the weights, as "float32".
        bos_id: the tokenizer's BOS id, or None.
        eos_ids: ids that end an answer, of the model's generation config and of the tokenizer.
        special_ids: ids of markup tokens.
        template_sha256: of the chat template.
        tokenizer: of the transformers kind.
    """

    model_id: str
    revision: str | None
    blocks: str
    n_layers: int
    d_model: int
    dtype: str
    bos_id: int | None
    eos_ids: tuple[int, ...]
    special_ids: tuple[int, ...]
    template_sha256: str
    tokenizer: Any = field(repr=False)

    def block(self, layer: int) -> str:
        """Return the dotted path of decoder block `layer`, seen from the model."""
        return f"{self.blocks}.{layer}"


def torch_module(model: Any) -> Any:
    """The torch module behind an nnsight model, loaded or not; a torch module is itself.

    >>> torch_module(model) is hf_model, torch_module(hf_model) is hf_model
    (True, True)

    nnsight has no public name for it: `_module` is named here alone outside the two adapters.
    """
    return getattr(model, "_module", model)


def read_facts(model: Any, tokenizer: Any = None, template: str | None = None) -> ModelFacts:
    """Read the facts of an nnsight `TransformersModel` or of a Hugging Face model.

    >>> read_facts(model).model_id == read_facts(hf_model, tokenizer).model_id
    True

    Args:
        model: loaded or not.
        tokenizer: for a Hugging Face model, which has none.
        template: name of a conversation format; None is the tokenizer's own.

    Raises:
        DSPAError: no list of decoder blocks could be found, the tokenizer is missing, or there is
            no such format.
    """
    module = torch_module(model)
    check_virtual_tokens(module)
    if not hasattr(module, "config"):
        raise DSPAError(
            f"a {type(model).__name__} came for the model; pass what nnsight's "
            "TransformersModel(name, task='text-generation') returns"
        )
    tokenizer = tokenizer if tokenizer is not None else getattr(model, "tokenizer", None)
    if tokenizer is None:
        raise DSPAError(
            f"{type(model).__name__} came without a tokenizer; pass "
            "TransformersModel(..., task='text-generation', tokenizer=...)"
        )
    tokenizer = in_format(tokenizer, template)
    config = module.config
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    if getattr(config, "is_encoder_decoder", False):
        raise DSPAError(
            f"{type(module).__name__} is an encoder-decoder; DSPA steers decoder-only models"
        )
    layers = int(text.num_hidden_layers)
    # Mistral's own class has no such attribute before its first use.
    written = str(getattr(tokenizer, "chat_template", None))
    model_id, revision = _identity(model, module)
    return ModelFacts(
        model_id=model_id,
        revision=revision,
        blocks=_find_blocks(module, layers),
        n_layers=layers,
        d_model=int(text.hidden_size),
        dtype=str(getattr(module, "dtype", "unknown")).removeprefix("torch."),
        bos_id=tokenizer.bos_token_id,
        eos_ids=_eos_ids(module, tokenizer),
        special_ids=tuple(sorted(tokenizer.all_special_ids)),
        template_sha256=hashlib.sha256(written.encode()).hexdigest(),
        tokenizer=tokenizer,
    )


def check_virtual_tokens(module: Any) -> None:
    """Refuse a model that PEFT runs with tokens of its own, which no prompt and no mask shows.

    >>> check_virtual_tokens(hf_model)

    Raises:
        SteeringError: prompt tuning, prefix tuning or p-tuning.
    """
    if virtual_tokens(module):
        raise SteeringError(
            f"{type(module).__name__} puts virtual tokens in front of every prompt (prompt or "
            "prefix tuning), which can neither be counted nor steered exactly; use the base model, "
            "or adapters in its layers such as LoRA"
        )


def _find_blocks(module: Any, layers: int) -> str:
    """Find the one list of `layers` modules that hold the residual stream.

    Hybrid models alternate between classes of blocks, such as Jamba's two decoder layers.
    """
    from torch.nn import ModuleList

    paths = [
        name
        for name, child in module.named_modules()
        if isinstance(child, ModuleList)
        and len(child) == layers
        and all(re.search(r"(Layer|Block)$", type(block).__name__) for block in _kinds(child))
        and re.search(r"(layers|h|blocks)$", name)
    ]
    if not paths:
        raise DSPAError(
            f"{type(module).__name__} has no list of {layers} decoder blocks named layers, h or "
            "blocks; DSPA needs a decoder-only transformer of Hugging Face's layout"
        )
    return min(paths, key=len)


def _kinds(blocks: Any) -> list[Any]:
    """One block of each class, or none where all are of one class, which may have any name."""
    kinds: dict[str, Any] = {type(block).__qualname__: block for block in blocks}
    return list(kinds.values()) if len(kinds) > 1 else []


def _identity(model: Any, module: Any) -> tuple[str, str | None]:
    name = getattr(model, "repo_id", None) or getattr(module.config, "_name_or_path", "") or ""
    name = name or type(module).__name__
    revision = getattr(model, "revision", None) or getattr(module.config, "_commit_hash", None)
    # A snapshot folder of a hub cache names the model and the commit; the rest of the path is
    # one machine's business.
    cached = _SNAPSHOT.search(str(name))
    if cached:
        return cached[1].replace("--", "/"), cached[2]
    return str(name), revision or _cached_revision(str(name))


def _cached_revision(name: str) -> str | None:
    """Return the commit that a hub id stands for in the local hub cache, or None."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        path = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        return None
    snapshot = _SNAPSHOT.search(path) if isinstance(path, str) else None
    return snapshot and snapshot[2]


def _eos_ids(module: Any, tokenizer: Any) -> tuple[int, ...]:
    configured: Any = getattr(getattr(module, "generation_config", None), "eos_token_id", None)
    ids: list[Any] = [*configured] if isinstance(configured, (list, tuple)) else [configured]
    return tuple(sorted({int(i) for i in [*ids, tokenizer.eos_token_id] if i is not None}))


def context_length(model: Any) -> int:
    """Tokens that a model takes at most; where its configuration does not say, 2 ** 30.

    >>> context_length(model)
    512
    """
    config = torch_module(model).config.get_text_config()
    return int(getattr(config, "max_position_embeddings", 1 << 30))
