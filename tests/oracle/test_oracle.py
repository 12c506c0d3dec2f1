"""The oracle against numbers worked out by hand, plain SAELens, and itself arranged otherwise."""

from typing import Any

import numpy as np
import pytest
import torch

from tests import tiny
from tests.oracle import method, model

NONE: Any = None


def triple(content: list[int], length: int, chosen: list[int], rejected: list[int]) -> Any:
    """Counts with two markup tokens on which the first latent fires, and responses of 4 and 5."""
    markup = [2] + [0] * (len(content) - 1)
    return method.TripleCounts(
        np.array(content), length, np.array(markup), 2, np.array(chosen), 4, np.array(rejected), 5
    )


def fitted(A: list[list[float]], tau: list[float], mean: list[float], gate: str = "active") -> Any:
    """A map of which only what steering reads matters."""
    dense = np.array(A, dtype=np.float32)
    return method.FittedMap(
        dense, dense, np.array(tau), np.array(tau), NONE, np.array(mean), 0.0, gate, []
    )


# -- fitting: section 3 ----------------------------------------------------------------------------


def test_tau_interpolates_and_the_gate_takes_the_order_statistic_above() -> None:
    rho = np.array([[0.0, 0.5], [0.2, 0.0], [0.4, 0.0], [0.8, 0.0]])
    tau, above = method.percentile_of(rho, 50)  # place 1.5
    assert tau == pytest.approx([0.3, 0.0])
    assert above.tolist() == [0.4, 0.0]
    tau, above = method.percentile_of(rho, 100)
    assert tau.tolist() == above.tolist() == [0.8, 0.5]
    tau, above = method.percentile_of(rho[:3], 50)  # place 1, exactly
    assert tau.tolist() == above.tolist() == [0.2, 0.0]


@pytest.mark.parametrize("percentile", [0, 1, 33, 50, 90, 99.5, 100])
def test_tau_is_numpys_percentile_and_both_thresholds_open_the_same_gates(
    percentile: float,
) -> None:
    generator = np.random.default_rng(0)
    rho = generator.integers(0, 6, (37, 20)) / generator.integers(6, 9, (37, 1))
    tau, above = method.percentile_of(rho, percentile)
    np.testing.assert_allclose(tau, np.percentile(rho, percentile, axis=0), rtol=1e-15)
    assert np.array_equal(rho >= tau, rho >= above)


def test_only_a_literal_gate_is_open_where_the_latent_is_silent() -> None:
    rho = np.array([[0.0, 0.5], [0.25, 0.0]])
    assert method.gates_of(rho, np.zeros(2), "literal").tolist() == [[True, True], [True, True]]
    assert method.gates_of(rho, np.zeros(2), "active").tolist() == [[False, True], [True, False]]


def test_the_map_of_two_triples() -> None:
    counts = [
        triple([3, 0], 3, [4, 0, 2], [0, 5, 0]),  # rho 1, 0; drho 1, -1, 0.5
        triple([9, 9], 0, [4, 4, 4], [0, 0, 0]),  # nothing counts: skipped, N stays 2
        triple([1, 1], 4, [2, 0, 0], [0, 0, 5]),  # rho 0.25, 0.25; drho 0.5, 0, -1
    ]
    got = method.fit_map(counts, percentile=0, sparsify_rule="none")
    assert got.kept == [0, 2]
    assert got.tau.tolist() == [0.25, 0.0]
    assert got.gates.tolist() == [[True, False], [True, True]]
    assert got.mean_gate.tolist() == [1.0, 0.5]
    assert got.A.dtype == np.float32
    assert got.A.tolist() == [[0.75, -0.5, -0.25], [0.25, 0.0, -0.5]]
    literal = method.fit_map(counts, percentile=0, gate="literal", sparsify_rule="none")
    assert literal.A.tolist() == [[0.75, -0.5, -0.25], [0.75, -0.5, -0.25]]


def test_all_tokens_add_the_markup_and_keep_the_triple_without_content() -> None:
    counts = [triple([3, 0], 3, [4, 0], [0, 5]), triple([0, 0], 0, [4, 4], [0, 0])]
    got = method.fit_map(counts, percentile=0, prompt_tokens="all", sparsify_rule="none")
    assert got.kept == [0, 1]
    assert got.tau.tolist() == [1.0, 0.0]  # (3 + 2) / (3 + 2), and 2 / 2


def test_the_map_is_rounded_once_after_the_mean() -> None:
    generator = np.random.default_rng(1)
    gates = generator.random((30, 4)) > 0.5
    drho = generator.normal(size=(30, 5))
    expected = np.einsum("ki,kj->ij", gates.astype(float), drho) / 30
    np.testing.assert_allclose(method.mean_difference(gates, drho), expected, atol=1e-15)


# -- sparsification: section 3.4 -------------------------------------------------------------------

WIDE = np.array(
    [[5, -4, 3, -2, 1], [0, 0, 0, 0, 0], [0, 0, 0, 2.5, 0], [0.5, 0.5, 2, -0.5, 6]],
    dtype=np.float32,
)


def test_paper_rule_takes_the_smallest_extreme_and_leaves_zeros_out_of_the_minimum() -> None:
    # k = 1: extremes 5, -4; 0, 0; 2.5, 0; 6, -0.5. The smallest that is not zero is 0.5.
    kept, cutoff = method.sparsify(WIDE, "paper", 1)
    assert cutoff == 0.5
    assert np.array_equal(kept, WIDE)
    without_last, cutoff = method.sparsify(WIDE[:3], "paper", 1)
    assert cutoff == 2.5
    assert without_last.tolist() == [[5, -4, 3, 0, 0], [0] * 5, [0, 0, 0, 2.5, 0]]


def test_paper_rule_ranks_zeros_so_a_small_entry_between_them_is_no_extreme() -> None:
    # The smallest of the row is one of its zeros, not 1: zeros take part in the ranking.
    row = np.array([[0, 0, 1, 4, 8]], dtype=np.float32)
    kept, cutoff = method.sparsify(row, "paper", 1)
    assert (cutoff, kept.tolist()) == (8, [[0, 0, 0, 0, 8]])


@pytest.mark.parametrize("k_diff", [3, 5, 100])
def test_a_row_no_wider_than_twice_k_is_taken_whole(k_diff: int) -> None:
    kept, cutoff = method.sparsify(WIDE[:1], "paper", k_diff)
    assert cutoff == 1
    assert np.array_equal(kept, WIDE[:1])
    assert np.array_equal(method.sparsify(WIDE, "rows", k_diff)[0], WIDE)


def test_a_map_of_zeros_stays_one() -> None:
    kept, cutoff = method.sparsify(np.zeros((2, 5), np.float32), "paper", 1)
    assert (cutoff, kept.any()) == (0, False)


def test_rows_rule_keeps_two_k_entries_a_row_ties_to_the_lower_index() -> None:
    kept, cutoff = method.sparsify(WIDE, "rows", 1)
    assert cutoff == 0
    assert kept.tolist() == [[5, -4, 0, 0, 0], [0] * 5, [0, 0, 0, 2.5, 0], [0, 0, 0, -0.5, 6]]
    tied = np.array([[1, 1, 1, 0, -2, -2, -2]], dtype=np.float32)
    assert method.sparsify(tied, "rows", 2)[0].tolist() == [[1, 1, 0, 0, -2, -2, 0]]


def test_a_budget_raises_the_cutoff_until_it_fits_and_never_splits_a_tie() -> None:
    kept, cutoff = method.sparsify(WIDE, "none", 1, max_entries=3)
    assert (cutoff, sorted(abs(kept[kept != 0]))) == (4, [4, 5, 6])
    kept, cutoff = method.sparsify(WIDE, "none", 1, max_entries=7)  # 2 twice: 5 stay, not 7
    assert (cutoff, np.count_nonzero(kept)) == (2, 7)
    kept, cutoff = method.sparsify(WIDE, "none", 1, max_entries=6)
    assert (cutoff, np.count_nonzero(kept)) == (2.5, 5)
    kept, cutoff = method.sparsify(np.ones((2, 2), np.float32), "none", 1, max_entries=3)
    assert (cutoff, np.count_nonzero(kept)) == (float("inf"), 0)
    kept, cutoff = method.sparsify(WIDE, "none", 1, max_entries=100)
    assert (cutoff, np.array_equal(kept, WIDE)) == (0, True)


# -- planning: sections 4.1 and 4.2 ----------------------------------------------------------------


def test_prompt_latents_are_active_ones_by_count_ties_to_the_lower_index() -> None:
    counts = np.array([2, 0, 3, 2, 1, 2])
    assert method.prompt_latents(counts, 3) == [2, 0, 3]
    assert method.prompt_latents(counts, 100) == [2, 0, 3, 5, 4]


def test_weights_of_the_three_prompt_rules() -> None:
    a_map = fitted([[0.0]] * 3, tau=[0.5, 0.0, 0.5], mean=[0.25, 0.5, 0.75])
    counts = np.array([2, 0, 1])

    def weigh(rule: str, k: int) -> list[float]:
        return method.weights(a_map, counts, 4, rule, k).tolist()

    assert weigh("density", 1) == [1, 0, 0]
    assert weigh("density", 9) == [1, 0, 1]
    assert weigh("gated", 1) == [1, 0, 0]  # rho 0.5, 0, 0.25 against tau; k_prompt is not read
    assert weigh("centred", 1) == [0.75, -0.5, -0.75]
    a_map.gate = "literal"
    assert weigh("gated", 1) == [1, 1, 0]


def test_scores_add_the_stored_float32_in_float64() -> None:
    A = np.array([[0.1, 1e8], [0.2, 1], [0.4, 1]], dtype=np.float32)
    s = method.scores(A, np.array([1.0, 1.0, 0.0]))
    assert s.tolist() == [float(np.float32(0.1)) + float(np.float32(0.2)), 1e8 + 1]


def test_selection_takes_signs_and_ties_and_bars_before_choosing() -> None:
    s = np.array([0.0, -1.0, 2.0, -1.0, 2.0, -3.0, 1.0])
    assert method.select(s, 2, mode="both") == ([2, 4], [5, 1])
    assert method.select(s, 9, mode="both") == ([2, 4, 6], [5, 1, 3])
    assert method.select(s, 2) == ([], [5, 1])
    assert method.select(s, 2, mode="augment") == ([2, 4], [])
    assert method.select(s, 2, mode="both", never=[5, 2]) == ([4, 6], [1, 3])
    assert method.select(s, 2, mode="both", only=[0, 3, 6]) == ([6], [3])
    assert method.select(s, 1, mode="both", only=[3, 4], never=[4]) == ([], [3])


@pytest.mark.parametrize("rule", ["density", "gated", "centred"])
def test_a_prompt_without_counted_tokens_plans_nothing(rule: str) -> None:
    a_map = fitted([[-1.0, 1.0]], tau=[0.0], mean=[1.0], gate="literal")
    plan = method.make_plan(a_map, np.array([0]), 0, prompt_rule=rule, mode="both")
    assert (plan.prompt_latents, plan.augment, plan.ablate) == ([], [], [])
    counted = method.make_plan(a_map, np.array([1]), 1, mode="both")
    assert (counted.prompt_latents, counted.augment, counted.ablate) == ([0], [1], [0])


# -- the edit: sections 4.3 and 4.4 ----------------------------------------------------------------


def test_the_edit_moves_active_planned_latents_by_a_share_of_the_largest() -> None:
    f = np.array([4.0, 0.0, 1.0, 3.0, 0.5, 0.0])
    plan = method.Plan([], NONE, augment=[1, 2], ablate=[3, 4, 5])
    assert method.edit(f, plan, 0.25).tolist() == [4.0, 0.0, 2.0, 2.0, 0.0, 0.0]
    assert method.edit(f, plan, 0.0).tolist() == f.tolist()
    assert f.tolist() == [4.0, 0.0, 1.0, 3.0, 0.5, 0.0]
    greatest = method.Plan([], NONE, augment=[], ablate=[0, 2])  # M_t from before the edit
    assert method.edit(f, greatest, 0.5).tolist() == [2.0, 0.0, 0.0, 3.0, 0.5, 0.0]


@pytest.mark.parametrize("kind", tiny.SAE_KINDS)
@pytest.mark.parametrize("normalise", tiny.NORMALISATIONS)
def test_the_hidden_state_moves_by_the_change_alone(kind: str, normalise: str) -> None:
    sae = tiny.random_sae(kind, width=120, normalise=normalise, seed=3)
    h = torch.randn(tiny.HIDDEN, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        f = sae.encode(h[None])[0]
        active = f.nonzero().flatten().tolist()
        plan = method.Plan([], NONE, augment=active[:1], ablate=active[1:3])
        moved, before, after = model.edited_hidden(sae, model.in_float64(sae), h, plan, 0.3)
        # By hand: b_dec cancels, and what is left is scaled by the token's own norm.
        norm = {
            "constant_norm_rescale": h.norm() / tiny.HIDDEN**0.5,
            "layer_norm": (h - h.mean()).std(),
        }.get(normalise, torch.tensor(1.0))
        rows = sae.W_dec
        if kind == "topk_rescaled":
            rows = rows / rows.norm(dim=-1, keepdim=True)
        by_hand = h + (after - before) @ rows * norm
    assert torch.equal(before, f)
    assert (after != before).sum() == 3
    torch.testing.assert_close(moved, by_hand, atol=1e-5, rtol=1e-5)
    assert (moved - h).abs().max() > 1e-3
    silent = method.Plan([], NONE, augment=[], ablate=(f == 0).nonzero().flatten().tolist())
    assert torch.equal(model.edited_hidden(sae, model.in_float64(sae), h, silent, 0.3)[0], h)


# -- model passes: 3.1, 3.2, 4b --------------------------------------------------------------------


def test_only_a_leading_bos_is_left_out_and_padding_is_known_from_the_mask() -> None:
    ids = torch.tensor([[5, 5, 1, 5], [1, 5, 5, 5], [5, 1, 1, 1]])
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1], [0, 1, 1, 0]])
    counted = model.counted_tokens(ids, mask, bos_id=1)
    assert counted.tolist() == [[0, 0, 0, 1], [0, 1, 1, 1], [0, 0, 1, 0]]
    assert model.counted_tokens(ids, mask, bos_id=None).tolist() == mask.tolist()


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def setting(request: pytest.FixtureRequest) -> Any:
    """A tiny model, two SAEs, a map that steers it, and a left-padded batch of prompts."""
    hf = tiny.model(request.param)
    sae_in, sae_out = tiny.saes(hf, "topk")
    tok = tiny.tokenizer("add")

    def ids(text: str, special: bool = False) -> list[int]:
        return tok(text, add_special_tokens=special).input_ids

    counts = [
        model.count_triple(
            hf,
            sae_in,
            sae_out,
            tiny.LAYER_IN,
            tiny.LAYER_OUT,
            ids(t["prompt"], special=True),
            ids(t["chosen"]),
            ids(t["rejected"]),
            bos_id=tok.bos_token_id,
        )
        for t in tiny.triples(12)
    ]
    a_map = method.fit_map(counts, percentile=50)
    texts = [t["prompt"] for t in tiny.triples(3, seed=9)] + ["a"]
    rows = [ids(text, special=True) for text in texts]
    return hf, sae_in, sae_out, a_map, rows, tok, counts


def batch(rows: list[list[int]], side: str = "left") -> tuple[torch.Tensor, torch.Tensor]:
    """Pad with a token that also occurs as text, so that only the mask tells."""
    return tiny.pad(rows, tiny.VOCABULARY["a"], side)


def plans_of(setting: Any, rows: list[list[int]], side: str = "left", **planning: Any) -> Any:
    hf, sae_in, _, a_map, _, tok, _ = setting
    asked = {"k_prompt": 8, "k_diff": 6, "mode": "both"} | planning
    ids, mask = batch(rows, side)
    return model.make_plans(a_map, hf, sae_in, tiny.LAYER_IN, ids, mask, tok.bos_token_id, **asked)


def generate(setting: Any, rows: list[list[int]], **changes: Any) -> model.Steered:
    asked = {"alpha": 0.5, "max_new_tokens": 6} | changes
    plans = asked.pop("plans", None) or plans_of(setting, rows)
    hf, _, sae_out, _, _, tok, _ = setting
    return model.steered_generate(
        hf, sae_out, tiny.LAYER_OUT, plans, *batch(rows), bos_id=tok.bos_token_id, **asked
    )


def test_counts_are_what_saelens_encodes_of_hidden_states(setting: Any) -> None:
    hf, sae_in, sae_out, _, _, tok, counts = setting
    first = tiny.triples(12)[0]
    prompt = tok(first["prompt"]).input_ids
    chosen = tok(first["chosen"], add_special_tokens=False).input_ids
    with torch.no_grad():
        hidden = hf(torch.tensor([prompt + chosen]), output_hidden_states=True).hidden_states
        early = sae_in.encode(hidden[tiny.LAYER_IN + 1])[0, 1 : len(prompt)]  # without the BOS
        late = sae_out.encode(hidden[tiny.LAYER_OUT + 1])[0, len(prompt) :]
    assert np.array_equal(counts[0].content, (early > 0).sum(0).numpy())
    assert np.array_equal(counts[0].chosen, (late > 0).sum(0).numpy())
    assert (counts[0].content_length, counts[0].markup_length) == (len(prompt) - 1, 0)
    assert counts[0].chosen_length == len(chosen)


def test_counts_split_by_content_add_up(setting: Any) -> None:
    hf, sae_in, sae_out, _, rows, tok, _ = setting
    prompt, response = rows[0], rows[1][1:]
    marks = [place % 3 == 0 for place in range(len(prompt))]
    given = (hf, sae_in, sae_out, tiny.LAYER_IN, tiny.LAYER_OUT, prompt, response, response)
    split = model.count_triple(*given, marks, tok.bos_token_id)
    whole = model.count_triple(*given, bos_id=tok.bos_token_id)
    assert np.array_equal(split.content + split.markup, whole.content)
    assert split.content_length == sum(marks) - 1  # the BOS stands at a marked place
    assert split.content_length + split.markup_length == whole.content_length == len(prompt) - 1


def test_the_map_of_tiny_models_steers(setting: Any) -> None:
    _, _, _, a_map, rows, _, _ = setting
    assert np.count_nonzero(a_map.A) > 50
    steered, plain = generate(setting, rows), generate(setting, rows, alpha=0.0)
    assert steered.edits
    assert (steered.logits[0] - plain.logits[0]).abs().max() > 1e-2


@pytest.mark.parametrize("use_cache", [True, False])
def test_alpha_zero_and_empty_plans_are_bit_identical_to_the_plain_model(
    setting: Any, use_cache: bool
) -> None:
    hf, *_, rows, _, _ = setting
    ids, mask = batch(rows)
    plain = hf.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=6,
        do_sample=False,
        use_cache=use_cache,
        output_logits=True,
        return_dict_in_generate=True,
    )
    nothing = [method.Plan([], NONE, [], [])] * len(rows)
    for changes in ({"alpha": 0.0}, {"plans": nothing, "alpha": 9.0}):
        got = generate(setting, rows, use_cache=use_cache, **changes)
        assert got.edits == []
        assert torch.equal(got.ids, plain.sequences)
        assert torch.equal(got.logits, torch.stack(plain.logits))


def close(got: torch.Tensor, wanted: torch.Tensor) -> None:
    assert (got - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_batch_equals_single(setting: Any) -> None:
    rows = setting[4]
    together = generate(setting, rows)
    for index, row in enumerate(rows):
        alone = generate(setting, [row])
        close(together.logits[:, index], alone.logits[:, 0])
        assert torch.equal(together.ids[index, -6:], alone.ids[0, -6:])
        gap = max(map(len, rows)) - len(row)
        theirs = [(e.position - gap, e.latent) for e in together.edits if e.row == index]
        assert theirs == [(e.position, e.latent) for e in alone.edits]


@pytest.mark.parametrize("positions", ["response", "all"])
def test_cache_off_equals_cache_on(setting: Any, positions: str) -> None:
    on = generate(setting, setting[4], positions=positions)
    off = generate(setting, setting[4], positions=positions, use_cache=False)
    close(off.logits, on.logits)
    assert torch.equal(off.ids, on.ids)
    assert [(e.row, e.position, e.latent) for e in off.edits] == [
        (e.row, e.position, e.latent) for e in on.edits
    ]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("positions", ["response", "all"])
def test_teacher_forcing_what_was_generated_gives_its_logits(
    setting: Any, side: str, positions: str
) -> None:
    hf, sae_in, sae_out, a_map, rows, tok, _ = setting
    generated = generate(setting, rows, positions=positions)
    new = generated.ids[:, -6:].tolist()
    lengths = [len(row) for row in rows]
    ids, mask = batch([row + more for row, more in zip(rows, new, strict=True)], side)
    plans = model.make_plans(
        a_map,
        hf,
        sae_in,
        tiny.LAYER_IN,
        ids,
        mask,
        tok.bos_token_id,
        prompt_length=lengths,
        k_prompt=8,
        k_diff=6,
        mode="both",
    )
    assert [p.ablate for p in plans] == [p.ablate for p in plans_of(setting, rows)]
    forced = model.steered_forward(
        hf,
        sae_out,
        tiny.LAYER_OUT,
        plans,
        ids,
        mask,
        alpha=0.5,
        prompt_length=lengths,
        positions=positions,
        bos_id=tok.bos_token_id,
    )
    for row, end in enumerate(model.prompt_end(mask, lengths)):
        close(forced.logits[row, end : end + 6], generated.logits[:, row])


def test_steering_starts_at_the_last_prompt_token_and_goes_on(setting: Any) -> None:
    rows = setting[4]
    last = max(map(len, rows)) - 1
    places = {edit.position for edit in generate(setting, rows).edits}
    assert places == set(range(last, last + 6))  # the last token generated is never fed back
    everywhere = {(e.row, e.position) for e in generate(setting, rows, positions="all").edits}
    gaps = [max(map(len, rows)) - len(row) for row in rows]
    assert all(position > gaps[row] for row, position in everywhere)  # neither padding nor BOS
    assert {row for row, position in everywhere if position < last} >= {0, 1, 2}


def test_an_end_token_stops_a_row_and_then_all(setting: Any) -> None:
    rows = setting[4][:2]
    free = generate(setting, rows).ids[:, -6:]
    ends = [int(free[0, 0]), int(free[1, 2])]
    got = generate(setting, rows, eos_ids=ends, pad_id=3).ids[:, max(map(len, rows)) :]
    assert got[0, 1:].eq(3).all()
    assert got.shape[1] <= 3
