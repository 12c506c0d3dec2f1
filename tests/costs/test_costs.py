"""Costs: torch's counts against formulas worked out by hand, and against the code that runs."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from dspa_nn import DSPA, DSPAError, PreferenceTriple
from dspa_nn.costs import (
    account_dspa,
    account_rahf,
    add_lora,
    build,
    cost_table,
    count_backward,
    count_forward,
    dpo_flops,
    fit_flops,
    forward_flops,
    preset_costs,
    rahf_flops,
    speed_up,
)
from dspa_nn.costs import flops as flop_counting
from dspa_nn.costs import passes as training_costs
from dspa_nn.models import PRESETS, get_preset
from tests import tiny

WHERE: dict[str, Any] = {"input_layer": 1, "output_layer": 2, "d_in": 48, "d_out": 40}
LAYERS, LAYER_OUT = 4, 2

# By hand, from the tiny models' shapes: hidden 32, MLP 48, 4 heads on 2 KV heads of width 8.
ATTENTION_WEIGHTS = 32 * 32 + 2 * 32 * 16 + 32 * 32
MLP_WEIGHTS = 3 * 32 * 48
BLOCK = ATTENTION_WEIGHTS + MLP_WEIGHTS
HEADS = 4 * 8
VOCABULARY = len(tiny.VOCABULARY)


def forward_by_hand(tokens: int, keys: int, layers: int, head: bool = False) -> int:
    """Two operations a weight a token; two products of [tokens, keys] a head and layer."""
    blocks = 2 * tokens * BLOCK * layers
    attention = 2 * (2 * tokens * keys * HEADS) * layers
    return blocks + attention + head * 2 * tokens * 32 * VOCABULARY


@pytest.fixture(params=tiny.FAMILIES)
def family(request):
    return request.param


def config_of(family: str):
    # A window that nothing here reaches: the sliding case has a test of its own.
    return tiny.model(family, **({"sliding_window": 512} if family == "gemma2" else {})).config


@pytest.mark.slow
@pytest.mark.parametrize("lengths", [(10, 12, 7), (1, 1, 1), (90, 40, 60)])
def test_each_plan_costs_what_a_formula_by_hand_says(family, lengths):
    p, c, r = lengths
    config, to_output = config_of(family), LAYER_OUT + 1
    encodes = 2 * 32 * 48 * p + 2 * 32 * 40 * (c + r)
    expected = {
        "once": forward_by_hand(p, p, to_output)
        + forward_by_hand(c, p + c, to_output)
        + forward_by_hand(r, p + r, to_output),
        "pairs": sum(forward_by_hand(p + end, p + end, to_output) for end in (c, r)),
        "plain": sum(forward_by_hand(p + end, p + end, LAYERS, True) for end in (0, c, r)),
    }
    for plan, flops in expected.items():
        cost = fit_flops(config, [lengths], plan=plan, **WHERE)
        assert cost.total == flops + encodes, plan
        assert (cost.input_sae, cost.output_sae) == (2 * 32 * 48 * p, 2 * 32 * 40 * (c + r))
    assert speed_up(config, [lengths], **WHERE) == (expected["plain"] + encodes) / (
        expected["once"] + encodes
    )


@pytest.mark.slow
@pytest.mark.parametrize(("tokens", "past"), [(1, 0), (20, 0), (9, 5), (6, 30)])
def test_without_weights_torch_counts_what_it_counts_with_them(family, tokens, past):
    # The sliding window of 8 is on here, and the cache drops what lies before it.
    loaded = tiny.model(family)
    counted = count_forward(loaded, tokens, past=past)
    assert count_forward(build(loaded.config, lm_head=True), tokens, past=past) == counted
    cost = forward_flops(loaded.config)
    predicted = cost.blocks(tokens) + cost.attention(tokens, past) + tokens * cost.lm_head
    assert predicted == counted


@pytest.mark.slow
@pytest.mark.parametrize(
    "lengths", [(12, 12, 12), (5, 9, 3), (21, 4, 17)], ids=["equal", "short", "past the window"]
)
def test_counting_triples_runs_what_is_predicted(family, lengths):
    model, tokenizer = tiny.model(family), tiny.tokenizer("none")
    input_sae, output_sae = tiny.saes(model, "topk")
    dspa = DSPA(
        tiny.nnsight_model(model, tokenizer),
        input_sae=input_sae,
        output_sae=output_sae,
        input_layer=WHERE["input_layer"],
        output_layer=WHERE["output_layer"],
    )
    # One token a character; two responses of unequal length share a pass only if nothing is padded.
    texts = [letter * length for letter, length in zip("abc", lengths, strict=True)]
    triple = PreferenceTriple(*texts)
    with FlopCounterMode(display=False) as counter:
        dspa.count([triple], token_budget=1)
    assert counter.get_total_flops() == fit_flops(model.config, [lengths], **WHERE).total


def test_lists_of_lengths_add_up():
    config = config_of("llama")
    lengths = [(10, 12, 7), (3, 20, 9), (0, 5, 5)]
    for plan in ("once", "pairs", "plain"):
        whole = fit_flops(config, lengths, plan=plan, **WHERE)
        single = [fit_flops(config, [own], plan=plan, **WHERE) for own in lengths]
        assert whole.total == sum(cost.total for cost in single)
        assert whole.tokens == sum(cost.tokens for cost in single)
        assert whole.per_triple == whole.total / 3


def test_the_result_prints_and_goes_to_json():
    cost = fit_flops(config_of("llama"), [(10, 12, 7)], **WHERE)
    kept = json.loads(json.dumps(cost.to_dict()))
    parts = ("blocks", "attention", "lm_head", "input_sae", "output_sae")
    assert kept["total"] == cost.total == sum(kept[part] for part in parts)
    assert all(part in str(cost) for part in (*parts, "plan 'once'", "29 tokens"))


def test_gpu_hours_are_arithmetic_on_a_stated_utilisation():
    cost = fit_flops(config_of("llama"), [(10, 12, 7)] * 2, **WHERE)
    assert cost.gpu_hours(peak=cost.total, utilisation=0.5) == pytest.approx(2 / 3600)
    assert cost.gpu_hours(20, peak=cost.total, utilisation=1) == pytest.approx(10 / 3600)
    with pytest.raises(DSPAError, match="utilisation of 40"):
        cost.gpu_hours(utilisation=40)


# -- training --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_training_every_weight_costs_three_forwards():
    config = config_of("llama")
    forward = sum(forward_by_hand(n, n, LAYERS, True) for n in (22, 17))
    cost = dpo_flops(config, [(10, 12, 7)])
    assert (cost.forward, cost.backward) == (2 * forward, 2 * forward)
    # Two instructions, two epochs; nothing here is long enough to be cut.
    step_1, _ = rahf_flops(config, [(10, 12, 7)])
    assert (step_1.forward, step_1.backward) == (4 * forward, 8 * forward)


def test_lora_costs_no_gradients_of_frozen_weights():
    n, rank, layers = 11, 8, 3
    model = build(config_of("llama"), blocks=layers)
    plain = count_forward(model, n)
    add_lora(model, rank)
    query, value = 32 + 32, 32 + 16  # in + out features
    low_rank = 2 * n * rank * (query + value) * layers
    assert count_forward(model, n) == plain + low_rank

    product = 2 * n * n * HEADS
    # Gradients of activations alone, through every weight and both attention products ...
    activations = (layers - 1) * (2 * n * BLOCK + 4 * product)
    # ... but in the first block nothing below the query and value projections needs any.
    activations += 2 * n * (32 * 32 + MLP_WEIGHTS) + 3 * product
    # Of the low-rank terms: both matrices, and what they read, but for the first block.
    of_lora = 2 * low_rank - 2 * n * rank * 2 * 32
    assert count_backward(model, n) == activations + of_lora


@pytest.mark.slow
def test_rahf_cuts_its_sequences_and_ends_at_its_last_target():
    config = config_of("llama")
    long = rahf_flops(config, [(5000, 5000, 5000)], last_target=1)
    cut = rahf_flops(config, [(1, 767, 767)], last_target=1)
    assert long[0].total == cut[0].total
    step_2 = rahf_flops(config, [(1, 511, 511)], last_target=1)[1]
    assert long[1].total == step_2.total
    assert rahf_flops(config, [(1, 511, 511)], last_target=3)[1].total > step_2.total
    # 0.02 batches of 64: 0.64 sequences an end, three frozen forwards and one with LoRA.
    frozen = 2 * 0.64 * 4 * forward_by_hand(512, 512, 2)
    lora = 2 * 0.64 * 2 * 512 * 8 * (32 + 32 + 32 + 16) * 2
    assert step_2.forward == round(frozen + lora)


def test_the_papers_account_gives_its_ratio():
    ratio = account_rahf(8e9) / account_dspa(8e9, 1000, 1000, 1000)
    assert round(ratio, 2) == 4.47


# -- the presets' models ---------------------------------------------------------------------------


def test_shapes_have_the_published_numbers_of_parameters():
    published = {
        "smollm2-135m-instruct": 134_515_008,
        "gemma-2-2b": 2_614_341_888,
        "gemma-2-9b": 9_241_705_984,
        "qwen3-8b": 8_190_735_360,
    }
    assert set(PRESETS) == set(published)
    for name, parameters in published.items():
        model = build(get_preset(name).config, lm_head=True)
        assert sum(own.numel() for own in model.parameters()) == parameters


@pytest.mark.slow
def test_the_embedded_models_own_config_gives_the_same_costs(embedded):
    from transformers import AutoConfig

    shape = get_preset("smollm2-135m-instruct")
    where: dict[str, Any] = {"input_layer": 9, "output_layer": 24}
    where |= {"d_in": shape.d_in, "d_out": shape.d_out}
    lengths = [(120, 200, 180)]
    own = fit_flops(AutoConfig.from_pretrained(embedded), lengths, **where)
    assert own == fit_flops(shape.config, lengths, **where)
    cfg = json.loads((Path(shape.input_sae) / "cfg.json").read_text())
    assert cfg["d_sae"] == shape.d_in


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "least"), [("gemma-2-9b", 8), ("qwen3-8b", 14)])
def test_at_the_papers_lengths_rahf_costs_so_many_times_ours(preset, least):
    shape = get_preset(preset)
    ours = fit_flops(
        shape.config,
        [(1000, 1000, 1000)],
        input_layer=shape.input_layer,
        output_layer=shape.output_layer,
        d_in=shape.d_in,
        d_out=shape.d_out,
    )
    parameters = sum(own.numel() for own in build(shape.config, lm_head=True).parameters())
    assert account_rahf(parameters) / ours.total >= least


@pytest.mark.slow
def test_a_table_holds_every_way():
    config, lengths = config_of("llama"), [(10, 12, 7), (20, 22, 17)]
    table = cost_table(config, lengths, name="tiny", **WHERE)
    once = fit_flops(config, lengths, **WHERE)
    assert table.rows[0].flops == once.per_triple
    assert table.rows[0].ratio == 1
    assert (table.prompt, table.chosen, table.rejected) == (15, 17, 12)
    steps = [table[f"RAHF-SCIT step {step}"].flops for step in (1, 2)]
    assert table["RAHF-SCIT"].flops == pytest.approx(sum(steps))
    assert table["DSPA, account"].flops == account_dspa(table.parameters, 15, 17, 12)
    assert table["DPO"].ratio == pytest.approx(dpo_flops(config, lengths).total / once.total)
    assert json.loads(json.dumps(table.to_dict()))["rows"][0]["way"] in str(table)
    with pytest.raises(DSPAError, match="there is no row 'PPO'; the rows are 'DSPA"):
        table["PPO"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"plan": "twice"}, "no plan 'twice'; the plans are once, pairs, plain"),
        ({"output_layer": 4}, "output layer 4 came, and the model has layers 0 to 3"),
        ({"input_layer": 3}, "input layer must not come after"),
        ({"lengths": []}, "no lengths came"),
        ({"lengths": [(10, 0, 5)]}, r"lengths \(10, 0, 5\) came"),
        ({"lengths": [(10, 5)]}, r"lengths \(10, 5\) came"),
    ],
)
def test_what_cannot_be_counted_is_refused(changes, sentence):
    given: dict[str, Any] = {"lengths": [(10, 12, 7)], **WHERE, **changes}
    with pytest.raises(DSPAError, match=sentence):
        fit_flops(config_of("llama"), given.pop("lengths"), **given)


def test_a_model_whose_path_depends_on_data_is_refused():
    import transformers

    config = transformers.MixtralConfig(
        vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, num_local_experts=4,
    )  # fmt: skip
    model = build(config)
    assert model.device == torch.device("meta")
    with pytest.raises(DSPAError, match="could not be counted without data"):
        count_forward(model, 8)


OTHERS = {
    "GPT2": {"n_positions": 64, "bos_token_id": None, "eos_token_id": None},
    "GPTNeoX": {"intermediate_size": 48, "bos_token_id": None, "eos_token_id": None},
    "Mistral": {"num_key_value_heads": 2, "intermediate_size": 48, "sliding_window": 8},
    "Gemma3Text": {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 8},
}


@pytest.mark.parametrize(
    "kind",
    ["GPT2", *(pytest.param(kind, marks=pytest.mark.slow) for kind in OTHERS if kind != "GPT2")],
)
def test_other_families_are_counted_as_loaded_ones_are(kind):
    import transformers

    config = getattr(transformers, f"{kind}Config")(
        vocab_size=40, hidden_size=32, num_hidden_layers=4, num_attention_heads=4, **OTHERS[kind]
    )
    p, c, r = 13, 9, 4
    loaded = transformers.AutoModel.from_config(config, attn_implementation="eager").eval()
    counted = sum(count_forward(loaded, n) for n in (p, p + c, p + r))
    plain = fit_flops(config, [(p, c, r)], plan="plain", **WHERE)
    assert plain.blocks + plain.attention == counted
    table = cost_table(config, [(p, c, r)], **WHERE)
    assert table["plain: three passes, all blocks, LM head"].flops == plain.total
    assert table["RAHF-SCIT step 2"].flops > 0


def test_lora_needs_a_projection_that_is_known():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    with pytest.raises(DSPAError, match="Sequential has no projection named q_proj"):
        add_lora(model)


def test_counts_that_lengths_do_not_predict_are_refused(monkeypatch):
    config = tiny.model("llama", intermediate_size=56).config  # counted by no other test
    for module in (flop_counting, training_costs):
        monkeypatch.setattr(module, "count_forward", lambda model, n, past=0: (n + past) ** 3)
    with pytest.raises(DSPAError, match="LlamaConfig does not cost a fixed number of FLOPs"):
        fit_flops(config, [(5, 5, 5)], **WHERE)
    with pytest.raises(DSPAError, match="training does not cost a fixed number of FLOPs"):
        dpo_flops(config, [(5, 5, 5)])


def test_an_unknown_preset_names_those_there_are():
    with pytest.raises(DSPAError, match="no preset 'gpt-9'"):
        preset_costs("gpt-9")
    with pytest.raises(DSPAError, match="last_target 4 came"):
        rahf_flops(config_of("llama"), [(1, 1, 1)], last_target=4)
