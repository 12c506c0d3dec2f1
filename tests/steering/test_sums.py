"""Sums of maps, and two `DSPA`s at different layers, under every carrier."""

from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import torch

import dspa_nn as dn
from dspa_nn import MapError
from dspa_nn.evaluation import accuracy, permuted, swapped
from dspa_nn.maps import ConditionalDifferenceMap, MapSum, unconditional
from dspa_nn.ndif import look_through
from tests import steer_zoo, tiny
from tests.elsewhere import run_elsewhere
from tests.steer_zoo import STEPS, Lab

NUMBERS = (1.0, 0.5, -0.3)


@pytest.fixture(scope="module")
def lab() -> Lab:
    return steer_zoo.lab("llama", "add")


@pytest.fixture(scope="module")
def maps(lab: Lab) -> list[ConditionalDifferenceMap]:
    """Three maps of parts of the triples, each with a percentile and a prompt rule of its own."""
    made = []
    rows = np.arange(len(lab.counts))
    for part, percentile, rule in ((0, 50, "centred"), (1, 90, "gated"), (2, 0, "density")):
        map = lab.counts.subset(rows[part::2]).fit(percentile=percentile, k_diff=6)
        map.defaults = {"prompt_rule": rule, "k_prompt": 4 + part}
        made.append(map)
    return made


@pytest.fixture(scope="module")
def total(maps: list[Any]) -> MapSum:
    return NUMBERS[0] * maps[0] + NUMBERS[1] * maps[1] + NUMBERS[2] * maps[2]


OPTIONS: dict[str, Any] = {"alpha": 0.5, "k_diff": 6, "mode": "both"}


def generated(lab: Lab, map: Any, prompt: Any, **options: Any) -> tuple[torch.Tensor, Any]:
    with lab.nn.generate(prompt, max_new_tokens=STEPS, do_sample=False) as tracer:
        edits = lab.dspa.apply(map, **options)
        ids = tracer.result.save()
    return ids, edits


def test_a_sum_is_planned_from_the_sum_of_the_scores(lab: Lab, maps: Any, total: MapSum) -> None:
    for prompt in lab.prompts(3):
        plan = lab.dspa.plan(total, prompt, **OPTIONS)
        single = [lab.dspa.plan(map, prompt, **OPTIONS) for map in maps]
        wanted = NUMBERS[0] * single[0].scores
        for number, own in zip(NUMBERS[1:], single[1:], strict=True):
            wanted = wanted + number * own.scores
        assert torch.equal(plan.scores, wanted)
        assert torch.equal(total.score(plan.made.counts, plan.counted_tokens), wanted)
        assert plan.latents
        assert list(plan.contributions) == plan.latents
        for latent, parts in plan.contributions.items():
            assert parts == [
                float(number * own.scores[latent])
                for number, own in zip(NUMBERS, single, strict=True)
            ]
        votes = {latent for own in single for latent, _, _ in own.prompt_latents}
        assert {latent for latent, _, _ in plan.prompt_latents} == votes


def test_what_scores_every_prompt_alike_has_no_voters_in_a_print(lab: Lab, maps: Any) -> None:
    alike = unconditional({3: 1.0}, lab.map.shape)
    plan = lab.dspa.plan(maps[2] + 0.5 * alike, "tea sea", **OPTIONS)
    alone = lab.dspa.plan(maps[2], "tea sea", **OPTIONS)
    assert str(plan).splitlines()[1] == (
        f"{str(alone).splitlines()[1]}; map 2: the same for every prompt"
    )
    # A map may have a row for latent 0 alone, and a gate that is open wherever its threshold is 0.
    row = ConditionalDifferenceMap.from_dense(
        torch.eye(48)[:, :1].expand(48, 40),
        tau=[0.0] + [1.0] * 47, gate="literal",
    )  # fmt: skip
    told = str(lab.dspa.plan(row, "tea sea", prompt_rule="gated"))
    assert "  votes of 1 input latents (active tokens): 0 (" in told


def test_a_rule_that_is_given_holds_for_every_map(lab: Lab, maps: Any, total: MapSum) -> None:
    [prompt] = lab.prompts(1)
    own = lab.dspa.plan(total, prompt, **OPTIONS).made.options
    assert own["prompt_rule"] == ("centred", "gated", "density")
    assert own["k_prompt"] == (4, 5, 6)
    given = lab.dspa.plan(total, prompt, prompt_rule="density", k_prompt=3, **OPTIONS)
    assert (given.made.options["prompt_rule"], given.made.options["k_prompt"]) == ("density", 3)
    parts = [
        lab.dspa.plan(map, prompt, prompt_rule="density", k_prompt=3, **OPTIONS).scores
        for map in maps
    ]
    assert torch.equal(given.scores, parts[0] + 0.5 * parts[1] + -0.3 * parts[2])
    without = ConditionalDifferenceMap.from_dense(maps[0].to_dense())
    both = maps[1] + without
    with pytest.raises(MapError, match="prompt_rule='gated' needs the map's tau, which this map"):
        lab.dspa.plan(both, prompt, prompt_rule="gated")
    assert lab.dspa.plan(both, prompt).latents


def test_one_plan_in_words_and_as_a_table(lab: Lab, total: MapSum) -> None:
    [prompt] = lab.prompts(1)
    plan = lab.dspa.plan(total, prompt, **OPTIONS)
    lines = str(plan).splitlines()
    [at] = [number for number, line in enumerate(lines) if line.startswith("  ablate")]
    latent = plan.ablate[0][0]
    for number in range(3):
        first = f"{plan.contributions[latent][number]:+.3f}"
        opening = f"    of which {NUMBERS[number]:+g} x map {number + 1}: {first}"
        assert lines[at + 1 + number].startswith(opening)
    frame = plan.to_pandas()
    assert list(frame.columns) == ["latent", "direction", "score", "map 1", "map 2", "map 3"]
    added = frame["map 1"] + frame["map 2"] + frame["map 3"]
    assert (added == frame["score"]).all()


def test_the_carriers_steer_alike(lab: Lab, total: MapSum) -> None:
    rows = [lab.ids(prompt) for prompt in lab.prompts(3)]
    inputs = steer_zoo.padded(lab, rows)
    ids, edits = generated(lab, total, inputs, **OPTIONS)
    with lab.dspa.attach(lab.hf, total, **OPTIONS) as hooked:
        wanted = lab.hf.generate(**inputs, max_new_tokens=STEPS, do_sample=False)
    plans = lab.dspa.plan(total, lab.prompts(3), **OPTIONS)
    planned, told = generated(lab, plans, inputs)
    assert edits.total
    for others, log in ((wanted, hooked.logs[0]), (planned, told)):
        assert torch.equal(ids, others)
        assert list(log) == list(edits)
        assert str(log) == str(edits)
        assert [own.contributions for own in log.plans] == [
            own.contributions for own in edits.plans
        ]
    assert "prompt_rule centred/gated/density" in str(edits)


def test_sums_of_one_map_are_that_map(lab: Lab, maps: Any) -> None:
    [prompt] = lab.prompts(1)
    one, edits = generated(lab, 1 * maps[0], prompt, **OPTIONS)
    other, wanted = generated(lab, maps[0], prompt, **OPTIONS)
    assert torch.equal(one, other)
    assert list(edits) == list(wanted)
    none = lab.dspa.plan(maps[0] - maps[0], prompt, **OPTIONS)
    assert not none.latents


def test_plans_of_a_map_and_of_a_sum_steer_one_batch_as_alone(lab: Lab, maps: Any) -> None:
    prompts = lab.prompts(2)
    rule = {"prompt_rule": "density", "k_prompt": 4}
    plans = [
        lab.dspa.plan(map, prompt, **OPTIONS, **rule)
        for map, prompt in zip((maps[0], maps[0] + maps[1]), prompts, strict=True)
    ]
    with lab.nn.generate(prompts, max_new_tokens=2):
        together = lab.dspa.apply(plans)
    for row, (plan, prompt) in enumerate(zip(plans, prompts, strict=True)):
        with lab.nn.generate(prompt, max_new_tokens=2):
            alone = lab.dspa.apply(plan)
        mine = [(edit.token_id, edit.latent) for edit in together if edit.row == row]
        assert mine == [(edit.token_id, edit.latent) for edit in alone]


def test_a_sum_of_another_model_is_refused(lab: Lab, maps: Any) -> None:
    foreign = ConditionalDifferenceMap.from_dense(
        maps[0].to_dense(), provenance={"weights": "float32:0123"}
    )
    unknown = ConditionalDifferenceMap.from_dense(maps[0].to_dense() / 2)
    sentence = "was fitted with weights of the fingerprint float32:0123, but it is used with"
    with pytest.raises(MapError, match=sentence):
        lab.dspa.plan(unknown + foreign, "sun")


def test_what_is_sent_is_what_can_be_edited(lab: Lab, maps: Any, tmp_path: Any) -> None:
    narrow = [maps[0].restrict(columns=[2, 5]), maps[1].restrict(columns=[7])]
    total = narrow[0] - 2 * narrow[1]
    shipment = look_through({"all": (lab.dspa, total)})
    assert len(shipment.maps) == 2
    assert shipment.columns is not None
    assert shipment.columns.tolist() == [2, 5, 7]
    payload = lab.dspa.payload(total)
    names = [part.name for part in payload.parts]
    assert names[2:] == ["decoder, 3 rows", *(f"map, {len(map.rows)} rows" for map in narrow)]
    alone = [lab.dspa.payload(map).parts[-1].nbytes for map in narrow]
    assert [part.nbytes for part in payload.parts[-2:]] == alone
    code = (
        "print(type(sent[1]).__name__, [type(m).__name__ for _, m in sent[1].terms], "
        "[c for c, _ in sent[1].terms])"
    )
    done = run_elsewhere(code, (lab.dspa, total), tmp_path)
    wanted = "PortableSum ['PortableMap', 'PortableMap'] [1.0, -2.0]"
    assert done.stdout.strip() == wanted, done.stderr


def run_packed(
    dspa: dn.DSPA, map: Any, prompt: Any, options: dict[str, Any]
) -> tuple[torch.Tensor, Any]:
    # A function of its own: what is sent is all that the block's function holds.
    model = dspa.model
    with model.generate(prompt, max_new_tokens=6, do_sample=False, remote="local") as tracer:
        edits = dspa.apply(map, **options)
        ids = tracer.result.save()
    return ids, edits


def test_packed_as_for_ndif_it_steers_the_same(lab: Lab, total: MapSum) -> None:
    [prompt] = lab.prompts(1)
    ids, edits = generated(lab, total, prompt, **OPTIONS)
    found, there = run_packed(lab.dspa, total, prompt, OPTIONS)
    assert torch.equal(ids, found)
    assert list(there) == list(edits)
    assert there.plans[0].contributions == edits.plans[0].contributions
    planned = lab.dspa.plan(total, prompt, remote="local", **OPTIONS)
    assert planned.contributions == edits.plans[0].contributions
    assert torch.equal(run_packed(lab.dspa, planned, prompt, {})[0], ids)


def test_controls_and_measures_take_sums(lab: Lab, maps: Any, total: MapSum) -> None:
    assert torch.equal(swapped(total).to_dense(), -total.to_dense())
    other = permuted(total, seed=1)
    assert isinstance(other, MapSum)
    assert [number for number, _ in other.terms] == [number for number, _ in total.terms]
    assert torch.equal(other.terms[1][1].to_dense(), permuted(maps[1], seed=1).to_dense())
    assert accuracy(total, lab.counts).shape == (len(lab.counts),)


# Two `DSPA`s at different layers


@pytest.fixture(scope="module", params=[(0, 3), (2, 3)], ids=["apart", "reads what is edited"])
def second(lab: Lab, request: pytest.FixtureRequest) -> tuple[dn.DSPA, ConditionalDifferenceMap]:
    """A second DSPA over the same model, and its map."""
    layers = request.param
    assert lab.layers == (1, 2)
    one, two = tiny.saes(lab.hf, "topk", layer_in=layers[0], layer_out=layers[1], seed=5)
    dspa = dn.DSPA(
        lab.nn, input_sae=one, output_sae=two, input_layer=layers[0], output_layer=layers[1]
    )
    return dspa, dspa.count(lab.triples, progress=False).fit(percentile=50, k_diff=6)


def test_two_dspas_in_one_block_are_two_attachments(lab: Lab, second: Any) -> None:
    [prompt] = lab.prompts(1)
    call = {"max_new_tokens": STEPS, "do_sample": False}
    ids = torch.tensor([lab.ids(prompt)])
    pairs = [(lab.dspa, lab.map), second]
    found = []
    for order in (pairs, pairs[::-1]):
        with lab.nn.generate(ids, **call) as tracer:
            first = order[0][0].apply(order[0][1], **OPTIONS)
            then = order[1][0].apply(order[1][1], **OPTIONS)
            result = tracer.result.save()
        with ExitStack() as stack:
            hooked = [
                stack.enter_context(dspa.attach(lab.hf, map, **OPTIONS)) for dspa, map in order
            ]
            wanted = lab.hf.generate(ids, **call)
        assert "generate" not in vars(lab.hf)
        assert torch.equal(result, wanted)
        logs = [first, then]
        for log, other in zip(logs, hooked, strict=True):
            assert log.total
            assert list(log) == list(other.logs[0])
        found.append((result, [list(log) for log in logs]))
    reads_what_is_edited = second[0].input_layer == lab.dspa.output_layer
    (one, logs), (other, turned) = found
    if not reads_what_is_edited:
        assert torch.equal(one, other)
        assert logs == turned[::-1]
    alone, edits = generated(lab, lab.map, ids, **OPTIONS)
    assert not torch.equal(one, alone)
    # The earlier layers' edits are those of a run without the later ones, on the same tokens.
    at_once = [edit for edit in logs[0] if edit.position == ids.shape[1] - 1]
    assert at_once == [edit for edit in edits if edit.position == ids.shape[1] - 1]


def test_attachments_may_be_left_in_any_order(lab: Lab, second: Any) -> None:
    ids = torch.tensor([lab.ids("sun moon")])
    plain = lab.hf.generate(ids, max_new_tokens=3, do_sample=False)
    dspa, map = second
    outer, inner = lab.dspa.attach(lab.hf, lab.map, **OPTIONS), dspa.attach(lab.hf, map, **OPTIONS)
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None)
    lab.hf.generate(ids, max_new_tokens=3, do_sample=False)
    assert (outer.runs, inner.runs) == (0, 1)
    inner.__exit__(None)
    assert "generate" not in vars(lab.hf)
    assert torch.equal(lab.hf.generate(ids, max_new_tokens=3, do_sample=False), plain)
    with lab.dspa.attach(lab.hf, lab.map, **OPTIONS) as again, inner:
        lab.hf.generate(ids, max_new_tokens=3, do_sample=False)
    assert (again.runs, inner.runs) == (1, 2)


def test_single_forwards_under_two_attachments(lab: Lab, second: Any) -> None:
    ids = torch.tensor([lab.ids("sun moon red")])
    dspa, map = second
    options: dict[str, Any] = OPTIONS | {"positions": "all"}
    with (
        lab.dspa.attach(lab.hf, lab.map, **options) as one,
        dspa.attach(lab.hf, map, **options) as two,
    ):
        wanted = lab.hf(ids).logits
    with lab.nn.trace(ids):
        first = lab.dspa.apply(lab.map, **options)
        then = dspa.apply(map, **options)
        found = lab.nn.output.logits.save()
    assert steer_zoo.deviation(found.detach(), wanted.detach()) <= 1e-6
    assert [list(one), list(two)] == [list(first), list(then)]
