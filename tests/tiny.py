"""Tiny models, tokenizers, SAEs and triples that every test shares: random, seeded, float32.

Nothing here imports `dspa_nn`, so the oracle's own tests may use it too. nnsight and SAELens are
imported inside functions: importing this file is cheap.

    model = tiny.model("gemma2")                 # a plain HF model, eval mode
    tok = tiny.tokenizer("add")                  # "add", "none" or "markup": see `tokenizer`
    sae_in, sae_out = tiny.saes(model, "topk")   # 48 and 40 latents, at layers 1 and 2
    nn = tiny.nnsight_model(model, tok)          # the same model inside nnsight
"""

from typing import Any, Literal

import torch

FAMILIES = ("gemma2", "qwen3", "llama")
SAE_KINDS = ("standard", "gated", "jumprelu", "topk", "topk_rescaled")
NORMALISATIONS = (
    "none",
    "expected_average_only_in",
    "constant_norm_rescale",
    "layer_norm",
    "covariance_whitening",
)
BosStyle = Literal["add", "none", "markup"]

HIDDEN = 32
LAYERS = 4
LAYER_IN = 1
LAYER_OUT = 2
WIDTH_IN = 48  # the two widths differ on purpose: nothing may assume them equal
WIDTH_OUT = 40

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>", "<|im_start|>", "<|im_end|>")
CHARACTERS = "\n" + "".join(chr(code) for code in range(32, 127))
VOCABULARY = {token: index for index, token in enumerate([*SPECIAL, *CHARACTERS])}
WORDS = "sun moon red blue cat dog tea sea oak elm fog ice run sit one two".split()


def _template(content: str, *, before: str = "", header: str = "") -> str:
    turn = "<|im_start|>{{ message['role'] }}\n{{ CONTENT }}<|im_end|>\n"
    turns = "{% for message in messages %}" + turn + "{% endfor %}"
    opening = "{% if add_generation_prompt %}<|im_start|>assistant\nHEADER{% endif %}"
    return before + turns.replace("CONTENT", content) + opening.replace("HEADER", header)


# One template a style, each with a trap of a real one.
TEMPLATES = {
    # Gemma and Llama: the template writes the BOS itself, and trims contents.
    "add": _template("message['content'] | trim", before="{{ bos_token }}"),
    # Qwen 3: no BOS at all, and an empty thinking block in the header when thinking is off.
    "none": _template(
        "message['content']",
        header="{% if enable_thinking is defined and enable_thinking is false %}"
        "<think>\n\n</think>\n\n{% endif %}",
    ),
    # SmolLM2: a default system message of the template's own.
    "markup": _template(
        "message['content']",
        before="{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n"
        "{% endif %}",
    ),
}


def model(family: str = "llama", *, seed: int = 0, **changes: Any) -> Any:
    """Build a random 4-layer model of one family, in eval mode, without an EOS.

    `initializer_range` 0.3 makes logits differ enough for a wrong edit to show. Gemma 2 keeps its
    soft-capping and a sliding window (of 8) on every other layer; all have 4 heads on 2 KV heads.
    """
    import transformers

    common: dict[str, Any] = {
        "vocab_size": len(VOCABULARY),
        "hidden_size": HIDDEN,
        "intermediate_size": 48,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 512,
        "initializer_range": 0.3,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": VOCABULARY["<pad>"],
    }
    if family == "gemma2":
        own: dict[str, Any] = {
            "sliding_window": 8,
            "query_pre_attn_scalar": 8,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
            "layer_types": ["sliding_attention", "full_attention"] * (LAYERS // 2),
        }
        config: Any = transformers.Gemma2Config(**{**common, **own, **changes})
    elif family == "qwen3":
        config = transformers.Qwen3Config(**{**common, **changes})
    elif family == "llama":
        config = transformers.LlamaConfig(**{**common, **changes})
    else:
        raise ValueError(f"no tiny {family!r}: one of {FAMILIES}")
    config._name_or_path = f"tiny-{family}"
    # Only eager attention knows Gemma 2's soft-capping; one kernel for all keeps them comparable.
    config._attn_implementation = "eager"
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        built = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    built.generation_config.pad_token_id = config.pad_token_id
    return built.eval()


def tokenizer(bos: BosStyle = "add", *, chat: bool = True) -> Any:
    """Build a character-level tokenizer: any printable text comes back as it went in.

    `"add"` prepends `<bos>` as Gemma and Llama do; `"none"` has no BOS, as Qwen; `"markup"` is
    SmolLM2's: the BOS is `<|im_start|>`, never prepended, and padding is done with the end of turn,
    so that neither can be told from its id. `chat=False` leaves the template out.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    raw: Any = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    raw.decoder = decoders.Fuse()
    raw.add_special_tokens(list(SPECIAL))
    if bos == "add":
        raw.post_processor = processors.TemplateProcessing(
            single="<bos> $A", special_tokens=[("<bos>", VOCABULARY["<bos>"])]
        )
    names = {
        "add": {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"},
        "none": {"eos_token": "<|im_end|>", "pad_token": "<pad>"},
        "markup": {
            "bos_token": "<|im_start|>",
            "eos_token": "<|im_end|>",
            "pad_token": "<|im_end|>",
        },
    }[bos]
    built = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        unk_token="<unk>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        **names,
    )
    if chat:
        built.chat_template = TEMPLATES[bos]
    return built


def nnsight_model(hf_model: Any, tok: Any) -> Any:
    """Wrap a loaded model in nnsight, for `trace` and `generate` on text, ids or encodings."""
    from nnsight.modeling.transformers import TransformersModel

    # Left to itself, the pipeline inside moves the model to a GPU where there is one.
    return TransformersModel(
        hf_model, task="text-generation", tokenizer=tok, device=hf_model.device
    )


def random_sae(
    kind: str,
    *,
    layer: int = LAYER_OUT,
    width: int = WIDTH_OUT,
    d_model: int = HIDDEN,
    scale: float = 1.0,
    seed: int = 0,
    normalise: str = "none",
    apply_b_dec_to_input: bool = True,
    dtype: str = "float32",
    model_name: str | None = None,
    k: int = 6,
) -> Any:
    """Build a random SAELens SAE on the residual stream after block `layer`.

    About a seventh of the latents fire on a vector whose entries have standard deviation `scale`.
    """
    import sae_lens

    metadata = {"hook_name": f"blocks.{layer}.hook_resid_post"}
    if model_name is not None:
        metadata["model_name"] = model_name
    settings: dict[str, Any] = {
        "architecture": kind.removesuffix("_rescaled"),
        "d_in": d_model,
        "d_sae": width,
        "dtype": dtype,
        "device": "cpu",
        "apply_b_dec_to_input": apply_b_dec_to_input,
        "normalize_activations": normalise,
        "metadata": metadata,
    }
    if kind.startswith("topk"):
        settings |= {"k": k, "rescale_acts_by_decoder_norm": kind.endswith("_rescaled")}
    sae: Any = sae_lens.SAE.from_dict(settings)
    noise = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=noise)

    rescaled = normalise in ("constant_norm_rescale", "layer_norm")  # then entries are near 1
    spread = 1.0 if rescaled else scale
    values = {
        "W_enc": normal(d_model, width) / d_model**0.5,
        "W_dec": normal(width, d_model) * (0.5 + torch.rand(width, 1, generator=noise)) / 3,
        "b_dec": 0.1 * spread * normal(d_model),
        "b_enc": spread * (0.3 * normal(width) - (0.0 if kind.startswith("topk") else 1.0)),
        "threshold": spread * 0.3 * torch.rand(width, generator=noise),
        "b_gate": spread * (0.3 * normal(width) - 1.0),
        "b_mag": 0.3 * spread * normal(width),
        "r_mag": 0.2 * normal(width),
    }
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            parameter.copy_(values[name].to(parameter.dtype))
    return sae.eval()


def saes(
    hf_model: Any,
    kind: str = "topk",
    *,
    layer_in: int = LAYER_IN,
    layer_out: int = LAYER_OUT,
    width_in: int = WIDTH_IN,
    width_out: int = WIDTH_OUT,
    seed: int = 0,
    **changes: Any,
) -> tuple[Any, Any]:
    """Build the input and the output SAE of a model, at the scale of its own hidden states."""
    noise = torch.Generator().manual_seed(seed)
    ids = torch.randint(len(SPECIAL), len(VOCABULARY), (4, 16), generator=noise)
    with torch.no_grad():
        hidden = hf_model(ids, output_hidden_states=True).hidden_states

    def build(layer: int, width: int, offset: int) -> Any:
        return random_sae(
            kind,
            layer=layer,
            width=width,
            d_model=hidden[0].shape[-1],
            scale=float(hidden[layer + 1].std()),
            seed=seed + offset,
            model_name=hf_model.config._name_or_path,
            **changes,
        )

    return build(layer_in, width_in, 1), build(layer_out, width_out, 2)


def triples(count: int = 12, *, chat: bool = False, seed: int = 0) -> list[dict[str, Any]]:
    """Draw preference triples of short words, all different; `chat=True` gives message lists.

    Plain dictionaries with the keys prompt, chosen and rejected. Every third chat has a system
    message, and every fourth an earlier exchange.
    """
    noise = torch.Generator().manual_seed(seed)

    def words(low: int, high: int) -> str:
        length = int(torch.randint(low, high + 1, (1,), generator=noise))
        picked = torch.randint(len(WORDS), (length,), generator=noise).tolist()
        return " ".join(WORDS[index] for index in picked)

    drawn: list[dict[str, Any]] = []
    for index in range(count):
        prompt: Any = f"{words(2, 5)} {index}?"
        if chat:
            system = [{"role": "system", "content": words(1, 3)}] if index % 3 == 0 else []
            earlier = [
                {"role": "user", "content": words(1, 3)},
                {"role": "assistant", "content": words(1, 3)},
            ]
            asked = [{"role": "user", "content": prompt}]
            prompt = system + (earlier if index % 4 == 0 else []) + asked
        drawn.append({"prompt": prompt, "chosen": words(2, 6) + ".", "rejected": words(2, 6) + "!"})
    return drawn


def pad(
    rows: list[list[int]], pad_id: int, side: str = "left"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad rows of ids to one length: ids [batch, length] and attention mask, both int64."""
    length = max(len(row) for row in rows)
    ids, mask = [], []
    for row in rows:
        gap = length - len(row)
        fill, real, none = [pad_id] * gap, [1] * len(row), [0] * gap
        ids.append(fill + row if side == "left" else row + fill)
        mask.append(none + real if side == "left" else real + none)
    return torch.tensor(ids), torch.tensor(mask)
