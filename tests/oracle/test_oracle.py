"""The oracle's model passes against plain SAELens and Hugging Face, and arranged otherwise."""

from typing import Any

import numpy as np
import pytest
import torch

from tests import tiny
from tests.oracle import method, model

NONE: Any = None

# -- the edit: section 4.4 -------------------------------------------------------------------------


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
