"""Models that remember more than keys and values: the counts are those of whole, plain passes."""

import importlib
from typing import Any

import pytest
import torch
import transformers
from transformers import cache_utils

from dspa_nn import DSPA, CountsError, PreferenceTriple
from dspa_nn.counts import prepare
from dspa_nn.graph.count import KEYS_AND_VALUES, Counter
from tests import tiny

COMMON: dict[str, Any] = {
    "vocab_size": len(tiny.VOCABULARY),
    "hidden_size": tiny.HIDDEN,
    "intermediate_size": 48,
    "num_hidden_layers": tiny.LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}
DELTA: dict[str, Any] = {
    "head_dim": 8,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "layer_types": ["linear_attention", "full_attention"] * 2,
}
SSM: dict[str, Any] = {
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 8,
}
ALONE = {key: COMMON[key] for key in COMMON if "token" in key or key == "vocab_size"} | {
    "hidden_size": tiny.HIDDEN,
    "num_hidden_layers": tiny.LAYERS,
}
# What each family keeps beside keys and values, in the cache or in its modules.
FAMILIES: dict[str, dict[str, Any]] = {
    "Qwen3_5Text": COMMON | DELTA,
    "Qwen3Next": COMMON
    | DELTA
    | {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
    },
    "Mamba": ALONE | {"state_size": 4},
    "Mamba2": ALONE
    | {"state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 2, "chunk_size": 8},
    "Jamba": COMMON
    | {
        "num_experts": 2,
        "num_experts_per_tok": 1,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "mamba_d_state": 4,
        "use_mamba_kernels": False,
    },
    "FalconH1": COMMON | SSM | {"head_dim": 8, "mamba_d_ssm": 32, "mamba_n_heads": 4},
    "Bamba": COMMON | SSM | {"attn_layer_indices": [1, 3]},
    "RecurrentGemma": COMMON
    | {"lru_width": 32, "attention_window_size": 8, "block_types": ["recurrent", "attention"]},
    "Lfm2": COMMON | {"layer_types": ["conv", "full_attention"] * 2, "block_multiple_of": 8},
    "MiniMax": COMMON
    | {
        "head_dim": 8,
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
        "layer_types": ["linear_attention", "full_attention"] * 2,
        "block_size": 8,
    },
    "xLSTM": ALONE | {"num_heads": 4},
    # Takes no positions, and counts padding.
    "TrOCR": {
        "vocab_size": len(tiny.VOCABULARY),
        "d_model": tiny.HIDDEN,
        "decoder_layers": tiny.LAYERS,
        "decoder_attention_heads": 4,
        "decoder_ffn_dim": 48,
        "max_position_embeddings": 512,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": 0,
    },
}
# These share a prompt's keys and values between two responses, as ever.
ATTENTION: dict[str, dict[str, Any]] = {
    "Gemma3Text": COMMON | {"head_dim": 8, "sliding_window": 8},
    "GptOss": COMMON
    | {"head_dim": 8, "sliding_window": 8, "num_local_experts": 2, "num_experts_per_tok": 1},
}
# Modules of transformers that define cache layers of their models' own.
MODULES = ("minimax_m3_vl", "deepseek_v4", "unlimited_ocr")
# Layers that hold more, or lie across rows: no response goes on from them.
OTHERS = {
    "BaseQuantizedLayer", "DynamicIndexedLayer", "DeepseekV4CSACache", "DeepseekV4HCACache",
    "Fp8QuantizedLayer", "HQQQuantizedLayer", "LinearAttentionAndFullAttentionLayer",
    "LinearAttentionAndSlidingWindowAttentionLayer", "LinearAttentionAndStaticFullAttentionLayer",
    "LinearAttentionAndStaticSlidingWindowAttentionLayer", "LinearAttentionLayer",
    "MiniMaxM3VLSparseCacheLayer", "MiniMaxM3VLSparseStaticCacheLayer", "QuantizedLayer",
    "QuantoQuantizedLayer", "StaticIndexedLayer", "StaticLayer", "StaticSlidingWindowLayer",
    "UnlimitedOcrDynamicReferenceSlidingWindowLayer",
    "UnlimitedOcrStaticReferenceSlidingWindowLayer",
}  # fmt: skip


def build(family: str) -> Any:
    config: Any = getattr(transformers, f"{family}Config")(**(FAMILIES | ATTENTION)[family])
    config._name_or_path = f"tiny-{family}"
    config._attn_implementation = "eager"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        for parameter in model.parameters():
            if parameter.ndim > 1:  # states that matter
                torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def steered(model: Any) -> DSPA:
    sae_in, sae_out = (
        tiny.random_sae("topk", layer=layer, width=width, seed=layer)
        for layer, width in ((tiny.LAYER_IN, tiny.WIDTH_IN), (tiny.LAYER_OUT, tiny.WIDTH_OUT))
    )
    return DSPA(
        tiny.nnsight_model(model, tiny.tokenizer("add")),
        input_sae=sae_in, output_sae=sae_out, input_layer=1, output_layer=2,
    )  # fmt: skip


def in_whole_passes(dspa: DSPA, model: Any, triples: list[PreferenceTriple]) -> dict[str, Any]:
    """Counts of one triple at a time: its prompt, and either text whole, without a cache."""
    encoders: Any = dspa.encoders

    def active(role: int, ids: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
        seen: list[Any] = []
        block = model.get_submodule(dspa.paths[role])
        hook = block.register_forward_hook(lambda _, __, output: seen.append(output))
        with torch.no_grad():
            model(ids[None], use_cache=False)
        hook.remove()
        hidden = seen[0][0] if isinstance(seen[0], tuple) else seen[0]
        return (encoders[role].encode(hidden[0])[0] > 0)[counted].sum(0)

    tables: dict[str, Any] = {"content": [], "chosen": [], "rejected": []}
    for triple in prepare(triples, dspa.facts.tokenizer, 512, "error")[0]:
        prompt = triple.prompt
        tables["content"].append(active(0, prompt.prompt_ids, prompt.counted("content")))
        for name, end in (("chosen", triple.chosen), ("rejected", triple.rejected)):
            after = torch.arange(len(end.ids)) >= prompt.prompt_length
            tables[name].append(active(1, end.ids, after))
    return {name: torch.stack(rows) for name, rows in tables.items()}


@pytest.mark.slow
@pytest.mark.parametrize("family", [*FAMILIES, *ATTENTION])
def test_batches_count_what_whole_passes_of_one_triple_show(family: str) -> None:
    model = build(family)
    dspa = steered(model)
    triples = [PreferenceTriple(**fields) for fields in tiny.triples(8)]
    wanted = in_whole_passes(dspa, model, triples)
    for budget in (1, 10**6):
        counts = dspa.count(triples, token_budget=budget, progress=False)
        for name, rows in wanted.items():
            assert (getattr(counts, name).toarray() == rows.numpy()).all(), (name, budget)


def layer_classes() -> set[type]:
    for name in MODULES:
        importlib.import_module(f"transformers.models.{name}.modeling_{name}")
    waiting: list[Any] = [
        cache_utils.CacheLayerMixin,
        cache_utils.LinearAttentionCacheLayerMixin,
        cache_utils.DummyLayer,
    ]
    classes: set[type] = set()
    while waiting:
        below = waiting.pop().__subclasses__()
        classes.update(below)
        waiting += below
    return {one for one in classes if one.__module__.startswith("transformers.")} | {
        cache_utils.DummyLayer
    }


def test_every_cache_layer_of_transformers_is_known() -> None:
    """A new class is counted in whole texts until somebody looks at what it holds."""
    names = {one.__name__ for one in layer_classes()}
    assert names == OTHERS | set(KEYS_AND_VALUES)
    mapped = {one.__name__ for one in cache_utils.DYNAMIC_LAYER_TYPE_MAPPING.values()}
    assert mapped <= names


@pytest.mark.parametrize("name", ["DynamicLayer", "DynamicSlidingWindowLayer"])
def test_every_tensor_of_a_shared_layer_has_the_rows_asked_for_each_time(name: str) -> None:
    settings = {"sliding_window": 4} if "Sliding" in name else {}
    layer: Any = getattr(cache_utils, name)(**settings)
    layer.update(torch.randn(3, 2, 5, 8), torch.randn(3, 2, 5, 8))
    before = {key: value for key, value in vars(layer).items() if torch.is_tensor(value)}
    counter = Counter([], [])
    counter.cache = cache_utils.Cache(layers=[layer])
    counter.states = [dict(vars(layer))]
    copies = {key: value.clone() for key, value in before.items()}
    for rows in (torch.tensor([2, 0, 2, 1]), torch.tensor([1])):
        counter.resume(rows)
        for key, value in copies.items():
            assert torch.equal(vars(layer)[key], value[rows] if value.ndim else value), key
        layer.update(torch.randn(len(rows), 2, 1, 8), torch.randn(len(rows), 2, 1, 8))
    assert all(torch.equal(before[key], value) for key, value in copies.items())


def test_a_cache_with_other_states_is_refused_by_name() -> None:
    counter = Counter([], [], architecture="Qwen3_5ForCausalLM")
    counter.cache = cache_utils.Cache(layers=[cache_utils.LinearAttentionLayer()])
    with pytest.raises(CountsError, match=r"^Qwen3_5ForCausalLM keeps a LinearAttentionLayer i"):
        counter.resume(torch.tensor([0]))
    odd: Any = cache_utils.Cache(layers=[cache_utils.DynamicLayer()])
    odd.linear_cache = [torch.zeros(2)]
    counter.cache = odd
    with pytest.raises(CountsError, match="keeps a Cache in its cache"):
        counter.resume(torch.tensor([0]))


def test_several_residual_streams_are_refused_by_name() -> None:
    config = transformers.Gemma3nTextConfig(
        **COMMON, head_dim=8, sliding_window=8, num_kv_shared_layers=2, laurel_rank=4,
        layer_types=["sliding_attention", "full_attention"] * 2,
        vocab_size_per_layer_input=len(tiny.VOCABULARY), hidden_size_per_layer_input=8,
    )  # fmt: skip
    model: Any = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with pytest.raises(CountsError, match=r"Gemma3nForCausalLM put out hidden states of shape \(4"):
        steered(model).count([PreferenceTriple("sun", "moon", "tea")], progress=False)


@pytest.mark.parametrize("family", ["RecurrentGemma", "xLSTM", "TrOCR", "Qwen3_5Text"])
def test_prompts_that_are_planned_together_are_planned_as_each_alone(family: str) -> None:
    dspa = steered(build(family))
    map = dspa.fit([PreferenceTriple(**fields) for fields in tiny.triples(4)], progress=False)
    prompts = [fields["prompt"] for fields in tiny.triples(3, seed=9)]
    plans: Any = dspa.plan(map, prompts)
    together = [plan.portable().counts for plan in plans]
    alone = [dspa.plan(map, prompt).portable().counts for prompt in prompts]
    assert all(torch.equal(one, other) for one, other in zip(together, alone, strict=True))
