"""`dspa_nn` against the oracle: counts, maps, and the logits of every generated step.

The oracle (tests/oracle) shares no line with the package. Both run here on tiny models of three
families, with and without a BOS, through nnsight and through plain hooks.
"""

from typing import Any

import numpy as np
import pytest
import torch

from dspa_nn.maps import ConditionalDifferenceMap
from tests import steer_zoo, tiny
from tests.oracle import method
from tests.oracle import model as oracle
from tests.steer_zoo import Lab, assert_equal, by_hooks, by_nnsight, by_oracle, deviation

# Tiny random models are steered far, so that a wrong edit shows.

WORLDS: tuple[tuple[str, Any], ...] = (
    ("gemma2", "add"),
    ("qwen3", "none"),
    ("llama", "markup"),
    ("llama", "add"),
)
NAMES = ["-".join(world) for world in WORLDS]
MODES = ("ablate", "augment", "both")
RULES = ("density", "gated", "centred")


@pytest.fixture(scope="module", params=WORLDS, ids=NAMES)
def world(request: pytest.FixtureRequest) -> tuple[str, Any]:
    return request.param


@pytest.fixture(scope="module")
def lab(world: tuple[str, Any]) -> Lab:
    return steer_zoo.lab(*world)


@pytest.fixture(scope="module")
def rows(lab: Lab) -> list[list[int]]:
    """Three prompts of different lengths, and one of a single counted token."""
    return [lab.ids(prompt) for prompt in [*lab.prompts(3), "a"]]


# -- counts and maps -------------------------------------------------------------------------------


@pytest.mark.parametrize("chat", [False, True], ids=["text", "chat"])
def test_counts_are_the_oracles(world: tuple[str, Any], chat: bool) -> None:
    lab = steer_zoo.lab(*world, chat=chat)
    assert lab.counts.index.tolist() == list(range(len(lab.triples)))
    for name in ("content", "markup", "chosen", "rejected"):
        table = np.stack([getattr(counts, name) for counts in lab.oracle_counts])
        lengths = [getattr(counts, f"{name}_length") for counts in lab.oracle_counts]
        assert np.array_equal(getattr(lab.counts, name).toarray(), table), name
        assert getattr(lab.counts, f"{name}_length").tolist() == lengths, name
    assert bool(lab.counts.markup_length.any()) == chat


@pytest.mark.parametrize("gate", ["active", "literal"])
@pytest.mark.parametrize(
    ("percentile", "sparsify", "k_diff", "max_entries"),
    [
        (90, "paper", 3, None),
        (50, "paper", 6, 200),
        (75, "rows", 2, None),
        (62.5, "none", 16, None),
        (0, "paper", 16, None),
        (100, "paper", 100, None),
    ],
)
def test_maps_are_the_oracles(
    world: tuple[str, Any], gate: str, percentile: Any, sparsify: str, k_diff: int, max_entries: Any
) -> None:
    lab = steer_zoo.lab(*world, chat=True)
    for prompt_tokens in ("content", "all"):
        given: dict[str, Any] = {
            "percentile": percentile,
            "gate": gate,
            "k_diff": k_diff,
            "max_entries": max_entries,
            "prompt_tokens": prompt_tokens,
        }
        ours = lab.counts.fit(sparsify=sparsify, **given)
        theirs = method.fit_map(lab.oracle_counts, sparsify_rule=sparsify, **given)
        dense = ours.to_dense().numpy()
        assert np.abs(dense - theirs.A).max() <= 1e-6
        assert np.array_equal(dense != 0, theirs.A != 0)
        assert np.array_equal(ours.tau.numpy(), theirs.tau)
        assert np.array_equal(ours.gate_mean.numpy(), theirs.mean_gate)
        assert theirs.A.any()


# -- generation ------------------------------------------------------------------------------------


def three_ways(lab: Lab, rows: list[list[int]], contents: Any = None, **changes: Any) -> Any:
    """The same run by nnsight, by hooks and by the oracle; all three must agree."""
    prompt = {} if contents is None else {"prompt": changes.pop("prompt")}
    ours = by_nnsight(lab, rows, **changes, **prompt)
    hooks = by_hooks(lab, rows, **changes, **prompt)
    assert_equal(hooks, ours, 1e-6)
    assert_equal(ours, by_oracle(lab, rows, contents, **changes))
    assert ours.edits
    return ours


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_and_prompt_rule(lab: Lab, rows: Any, mode: str, rule: str) -> None:
    run = three_ways(lab, rows, mode=mode, prompt_rule=rule)
    plain = by_oracle(lab, rows, alpha=0.0)
    assert deviation(run.logits[0], plain.logits[0]) > 1e-3  # the first token's are steered too


@pytest.mark.parametrize(
    "changes",
    [
        {"use_cache": False},
        {"positions": "all"},
        {"positions": "all", "use_cache": False},
        {"k_diff": 1000, "k_prompt": 1000},
        {"never": range(0, tiny.WIDTH_OUT, 2)},
        {"only": range(0, 30, 2), "never": [4, 6]},
        {"alpha": 3},
    ],
    ids=lambda changes: "-".join(f"{key}" for key in changes),
)
def test_every_way_of_running(lab: Lab, rows: Any, changes: dict[str, Any]) -> None:
    three_ways(lab, rows, **changes)


@pytest.mark.slow
@pytest.mark.parametrize("prompt_tokens", ["content", "all"])
def test_chat_prompts(world: tuple[str, Any], prompt_tokens: str) -> None:
    lab = steer_zoo.lab(*world, chat=True, prompt_tokens=prompt_tokens)
    messages = lab.prompts(4, chat=True)
    rendered = [lab.dspa.render(prompt) for prompt in messages]
    by_hand = [steer_zoo.prompt_ids(lab.tok, lab.bos, prompt) for prompt in messages]
    assert [prompt.ids.tolist() for prompt in rendered] == [ids for ids, _ in by_hand]
    contents = [content for _, content in by_hand]
    three_ways(lab, [ids for ids, _ in by_hand], contents, prompt=rendered)


def test_batch_equals_single(lab: Lab, rows: Any) -> None:
    together = by_nnsight(lab, rows)
    for row, ids in enumerate(rows):
        alone = by_nnsight(lab, [ids])
        gap = max(map(len, rows)) - len(ids)
        assert deviation(together.logits[:, row], alone.logits[:, 0]) <= 1e-5
        assert torch.equal(together.ids[row, gap:], alone.ids[0])
        theirs = [(at - gap, latent) for r, at, latent in together.edits if r == row]
        assert theirs == [(at, latent) for _, at, latent in alone.edits]


def test_a_prompt_of_one_token(lab: Lab) -> None:
    rows = [[tiny.VOCABULARY["b"]]]
    for changes in ({}, {"use_cache": False}, {"positions": "all"}):
        three_ways(lab, rows, **changes)


# -- teacher forcing -------------------------------------------------------------------------------


def forced(lab: Lab, inputs: Any, use_hooks: bool = False, **options: Any) -> tuple[Any, Any]:
    if use_hooks:
        # Hugging Face's forward takes positions from the user; nnsight supplies these.
        places = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        inputs = {**inputs, "position_ids": places}
        with lab.dspa.attach(lab.hf, lab.map, **options) as steering, torch.no_grad():
            logits = lab.hf(**inputs).logits
        return logits, steering.logs[0]
    with torch.no_grad(), lab.nn.trace(inputs):
        log = lab.dspa.apply(lab.map, **options)
        logits = lab.nn.lm_head.output.save()
    if lab.hf.config.model_type == "gemma2":  # the head's output is not capped yet
        cap = lab.hf.config.final_logit_softcapping
        logits = torch.tanh(logits / cap) * cap
    return logits, log


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("positions", ["response", "all"])
@pytest.mark.parametrize("told", ["int", "rows", "prompt"])
def test_both_paddings_in_trace(lab: Lab, side: str, positions: str, told: str) -> None:
    prompts, response = lab.prompts(3), lab.tok("sun tea", add_special_tokens=False).input_ids
    heads = [lab.ids(prompt) for prompt in prompts]
    rows = [head + response[: 5 + row] for row, head in enumerate(heads)]
    inputs = steer_zoo.padded(lab, rows, side)
    lengths = [4] * 3 if told == "int" else [len(head) for head in heads]
    options: dict[str, Any] = {**steer_zoo.SETTINGS, "positions": positions}
    if told == "prompt":
        ours: dict[str, Any] = {"prompt": prompts}
    else:
        ours = {"prompt_length": 4 if told == "int" else lengths}
    got, log = forced(lab, inputs, **options, **ours)
    hooks, _ = forced(lab, inputs, use_hooks=True, **options, **ours)
    planned = steer_zoo.plans(lab, inputs, options | {"prompt_length": lengths})
    wanted = oracle.steered_forward(
        lab.hf, lab.sae_out, lab.layers[1], planned, inputs["input_ids"], inputs["attention_mask"],
        alpha=options["alpha"], prompt_length=lengths, positions=positions,
        bos_id=lab.tok.bos_token_id,
    )  # fmt: skip
    real = inputs["attention_mask"].bool()
    scale = wanted.logits[real].abs().max()
    assert (got - wanted.logits)[real].abs().max() <= 1e-5 * scale
    assert (hooks - got)[real].abs().max() <= 1e-6 * scale
    places, values = steer_zoo.listed(log)
    theirs, their_values = steer_zoo.listed(wanted.edits)
    assert places == theirs
    assert places
    assert np.abs(values - their_values).max() <= 1e-4 * np.abs(their_values).max()


def test_trace_with_positions_all_and_no_length_takes_the_row_for_the_prompt(lab: Lab) -> None:
    rows = [lab.ids(prompt) for prompt in lab.prompts(3)]
    inputs = steer_zoo.padded(lab, rows, "right")
    options: dict[str, Any] = {**steer_zoo.SETTINGS, "positions": "all"}
    got, _ = forced(lab, inputs, **options)
    told, _ = forced(lab, inputs, **options, prompt_length=[len(row) for row in rows])
    assert torch.equal(got, told)


# -- other SAEs, other layers ----------------------------------------------------------------------

OTHERS: tuple[dict[str, Any], ...] = (
    {"kind": "standard"},
    {"kind": "gated"},
    {"kind": "jumprelu", "normalise": "layer_norm"},
    {"kind": "topk_rescaled", "normalise": "constant_norm_rescale"},
    {"kind": "topk", "normalise": "layer_norm"},
    {"kind": "topk", "layers": (2, 2)},
    {"kind": "topk", "layers": (0, 3), "gate": "literal", "percentile": 90},
)


@pytest.mark.slow
@pytest.mark.parametrize("others", OTHERS, ids=lambda changes: "-".join(map(str, changes.values())))
def test_other_saes_layers_and_gates(others: dict[str, Any]) -> None:
    lab = steer_zoo.lab("llama", "add", **others)
    assert np.array_equal(lab.map.to_dense().numpy(), lab.oracle_map.A)
    rows = [lab.ids(prompt) for prompt in lab.prompts(3)]
    three_ways(lab, rows)
    three_ways(lab, rows, prompt_rule="gated", positions="all", use_cache=False)


def test_the_map_travels_through_a_file(lab: Lab, rows: Any, tmp_path: Any) -> None:
    lab.map.save(tmp_path)
    loaded = ConditionalDifferenceMap.load(tmp_path)
    with lab.dspa.attach(lab.hf, loaded, **steer_zoo.SETTINGS):
        ids = lab.hf.generate(**steer_zoo.padded(lab, rows), max_new_tokens=4, do_sample=False)
    assert torch.equal(ids, by_oracle(lab, rows, max_new_tokens=4).ids)
