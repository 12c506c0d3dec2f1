"""`apply` in every kind of tracing context, `plan`, and what a user reads around them."""

import dataclasses
from typing import Any

import pytest
import torch
from jaxtyping import Float64, Int64

from dspa_nn import DSPA, SteeringError, extension
from tests import steer_zoo, tiny
from tests.steer_zoo import SETTINGS, STEPS, Lab, by_hooks, by_nnsight, by_oracle, deviation

# One rounding of a logit in bfloat16 is 4e-3 of it: a few of them, since edits are rounded too.
BFLOAT16 = 2e-2


@pytest.fixture(scope="module")
def lab() -> Lab:
    return steer_zoo.lab("llama", "add")


@pytest.fixture(scope="module")
def chats() -> Lab:
    return steer_zoo.lab("qwen3", "none", chat=True)


def greedy(**changes: Any) -> dict[str, Any]:
    return {"max_new_tokens": STEPS, "do_sample": False, **changes}


# -- what the prompt may be ------------------------------------------------------------------------


def test_a_string_ids_in_a_list_and_a_tensor_and_an_encoding_are_one(lab: Lab) -> None:
    prompt = lab.prompts(1)[0]
    ids = lab.ids(prompt)
    wanted = by_oracle(lab, [ids]).ids
    encoding = dict(lab.tok(prompt, return_tensors="pt"))
    for given in (prompt, [prompt], ids, torch.tensor(ids), torch.tensor([ids]), encoding):
        with lab.nn.generate(given, **greedy()) as tracer:
            edits = lab.dspa.apply(lab.map, **SETTINGS)
            got = tracer.result.save()
        assert torch.equal(got, wanted)
        assert edits.total


def test_a_list_of_strings_is_a_batch_each_row_steered_by_its_own_prompt(lab: Lab) -> None:
    prompts = lab.prompts(3)
    with lab.nn.generate(prompts, **greedy()) as tracer:
        edits = lab.dspa.apply(lab.map, **SETTINGS)
        got = tracer.result.save()
    wanted = by_oracle(lab, [lab.ids(own) for own in prompts])
    assert torch.equal(got[:, -STEPS:], wanted.ids[:, -STEPS:])
    assert [own.latents for own in edits.plans] == [
        lab.dspa.plan(lab.map, own, k_prompt=8, k_diff=6, mode="both").latents for own in prompts
    ]
    assert len({tuple(own.latents) for own in edits.plans}) == 3


def test_chat_messages_given_to_the_model(chats: Lab) -> None:
    messages = chats.prompts(1, chat=True)[0]
    with chats.nn.generate(messages, **greedy()) as tracer:
        edits = chats.dspa.apply(chats.map, **SETTINGS)
        got = tracer.result.save()
    # The pipeline leaves thinking on, so the header is one piece shorter than `render` has it.
    ids, content = steer_zoo.prompt_ids(chats.tok, "none", messages)
    shorter = len(ids) - len(chats.tok("<think>\n\n</think>\n\n").input_ids)
    assert torch.equal(got, by_oracle(chats, [ids[:shorter]], [content[:shorter]]).ids)
    assert edits.plans[0].counted_tokens == sum(content)


def test_rendered_messages_count_their_content(chats: Lab) -> None:
    messages = chats.prompts(1, chat=True)[0]
    prompt = chats.dspa.render(messages)
    ids, content = steer_zoo.prompt_ids(chats.tok, "none", messages)
    for given in (prompt, messages, [prompt]):
        with chats.nn.generate(prompt.ids, **greedy()) as tracer:
            edits = chats.dspa.apply(chats.map, prompt=given, **SETTINGS)
            got = tracer.result.save()
        assert torch.equal(got, by_oracle(chats, [ids], [content]).ids)
        assert edits.plans[0].counted_tokens == sum(content)


# -- contexts --------------------------------------------------------------------------------------


def test_without_as_tracer(lab: Lab) -> None:
    prompt = lab.prompts(1)[0]
    with lab.nn.generate(prompt, **greedy()):
        edits = lab.dspa.apply(lab.map, **SETTINGS)
    wanted = by_oracle(lab, [lab.ids(prompt)])
    assert steer_zoo.listed(edits)[0] == wanted.edits
    with torch.no_grad(), lab.nn.trace(prompt):
        edits = lab.dspa.apply(lab.map, **SETTINGS, prompt_length=4)
        logits = lab.nn.lm_head.output.save()
    assert edits.total
    assert logits.shape[1] == len(lab.ids(prompt))


def test_statements_after_apply_run_and_see_the_steered_layer(lab: Lab) -> None:
    prompt = lab.prompts(1)[0]
    ran = []
    with lab.nn.generate(prompt, **greedy()) as tracer:
        before = lab.nn.model.layers[0].output.clone().save()
        edits = lab.dspa.apply(lab.map, **SETTINGS)
        ran.append("after")
        middle = lab.nn.model.layers[2].output.clone().save()
        result = tracer.result.save()
        ran.append("end")
    assert ran == ["after", "end"]
    with torch.no_grad():
        hidden = lab.hf(torch.tensor([lab.ids(prompt)]), output_hidden_states=True).hidden_states
    assert torch.equal(before, hidden[1])
    assert torch.equal(middle[:, :-1], hidden[3][:, :-1])
    change = (middle - hidden[3])[0, -1].norm()
    assert float(change) == pytest.approx(float(edits.norms()[0]), rel=1e-4)
    assert torch.equal(result, by_oracle(lab, [lab.ids(prompt)]).ids)


def test_several_invokes_each_with_a_map_and_settings_of_its_own(lab: Lab) -> None:
    prompts = lab.prompts(3)
    halved = lab.map.restrict(columns=range(0, tiny.WIDTH_OUT, 2))
    with lab.nn.generate(**greedy()) as tracer:
        with tracer.invoke(prompts[0]):
            first = lab.dspa.apply(lab.map, **SETTINGS)
        with tracer.invoke(prompts[1]):
            pass
        with tracer.invoke([prompts[2], prompts[0]]):
            second = lab.dspa.apply(halved, **(SETTINGS | {"alpha": 1.0, "mode": "ablate"}))
        with tracer.invoke():
            result = tracer.result.save()

    def alone(prompt: str, map: Any, **changes: Any) -> torch.Tensor:
        with lab.dspa.attach(lab.hf, map, **(SETTINGS | changes)):
            ids = torch.tensor([lab.ids(prompt)])
            return lab.hf.generate(ids, attention_mask=torch.ones_like(ids), **greedy())

    wanted = [
        alone(prompts[0], lab.map),
        steer_zoo.quiet(alone, prompts[1], lab.map, alpha=0),
        alone(prompts[2], halved, alpha=1.0, mode="ablate"),
        alone(prompts[0], halved, alpha=1.0, mode="ablate"),
    ]
    for got, own in zip(result, wanted, strict=True):
        assert torch.equal(got[-STEPS:], own[0, -STEPS:])
    assert (first.rows, second.rows) == (1, 2)
    assert first.total
    assert all(second.by_row())


def test_two_invokes_in_trace_match_single_traces(lab: Lab) -> None:
    prompts = lab.prompts(2)
    with torch.no_grad(), lab.nn.trace() as tracer:
        with tracer.invoke(prompts[0]):
            lab.dspa.apply(lab.map, prompt_length=5, **SETTINGS)
            one = lab.nn.lm_head.output[:, -1].save()
        with tracer.invoke(prompts[1]):
            lab.dspa.apply(lab.map, prompt=prompts[1], **SETTINGS)
            two = lab.nn.lm_head.output[:, -1].save()
    for got, prompt, length in ((one, prompts[0], 5), (two, prompts[1], None)):
        told = {"prompt": prompt} if length is None else {"prompt_length": length}
        with torch.no_grad(), lab.dspa.attach(lab.hf, lab.map, **told, **SETTINGS):
            wanted = lab.hf(torch.tensor([lab.ids(prompt)])).logits[:, -1]
        assert deviation(got, wanted) <= 1e-5


def test_sampling_with_a_seed_gives_the_tokens_of_plain_hooks(lab: Lab) -> None:
    rows = [lab.ids(own) for own in lab.prompts(3)]
    how = {"do_sample": True, "temperature": 0.7, "top_k": 20, "max_new_tokens": 12}
    drawn = []
    for run in (by_nnsight, by_hooks):
        torch.manual_seed(5)
        drawn.append(run(lab, rows, **how).ids)
    drawn.append(steer_zoo.by_generate(lab, rows, **how, seed=5))
    torch.manual_seed(5)
    drawn.append(steer_zoo.quiet(by_hooks, lab, rows, alpha=0, **how).ids)
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[3])


def test_stopping_after_the_output_layer_still_edits(lab: Lab) -> None:
    prompt = lab.prompts(1)[0]
    with torch.no_grad(), lab.nn.trace(prompt) as tracer:
        edits = lab.dspa.apply(lab.map, prompt=prompt, **SETTINGS)
        steered = lab.nn.model.layers[2].output.save()
        tracer.stop()
    with torch.no_grad():
        hidden = lab.hf(torch.tensor([lab.ids(prompt)]), output_hidden_states=True).hidden_states[3]
    assert not torch.equal(steered, hidden)
    assert edits.total


def test_an_edit_of_the_users_own_before_apply_is_what_the_sae_reads(lab: Lab) -> None:
    prompt = lab.prompts(1)[0]
    with torch.no_grad(), lab.nn.trace(prompt):
        lab.nn.model.layers[0].output[:] = 0
        edits = lab.dspa.apply(lab.map, prompt=prompt, **SETTINGS)
    plain = lab.dspa.plan(lab.map, prompt, k_prompt=8, k_diff=6, mode="both")
    assert not torch.equal(edits.scores[0], plain.scores)


# -- plan ------------------------------------------------------------------------------------------


def test_a_plan_is_what_apply_does(chats: Lab) -> None:
    messages = chats.prompts(2, chat=True)[1]
    prompt = chats.dspa.render(messages)
    options = {"k_prompt": 5, "k_diff": 3, "mode": "both", "prompt_rule": "gated", "never": [1, 2]}
    plan = chats.dspa.plan(chats.map, messages, **options)
    with chats.nn.generate(prompt.ids, **greedy()):
        edits = chats.dspa.apply(chats.map, prompt=prompt, **options)
    done = edits.plans[0]
    assert (plan.prompt_latents, plan.augment, plan.ablate) == (
        done.prompt_latents,
        done.augment,
        done.ablate,
    )
    assert torch.equal(plan.scores, done.scores)
    assert plan.latents
    assert not {1, 2} & set(plan.latents)
    assert torch.equal(
        plan.scores,
        chats.map.score(
            edits.prompt_counts, torch.tensor([plan.counted_tokens]), prompt_rule="gated"
        )[0],
    )


def test_a_plan_reads_as_text(lab: Lab) -> None:
    plan = lab.dspa.plan(lab.map, lab.prompts(1)[0], mode="both", k_diff=2)
    lines = str(plan).splitlines()
    assert lines[0] == f"Plan from {plan.counted_tokens} prompt tokens"
    assert lines[2].startswith("  augment output latents (score): ")
    assert lines[3].startswith("  ablate output latents (score): ")
    nothing = lab.dspa.plan(lab.map.restrict(columns=[]), "sun")
    assert str(nothing).endswith("nothing would be steered")


@extension("select")
def lowest(
    scores: Float64[torch.Tensor, "batch d_out"], k_diff: int
) -> tuple[Int64[torch.Tensor, "batch raised"], Int64[torch.Tensor, "batch lowered"]]:
    order = scores.argsort(dim=-1, stable=True)
    return order[:, :0], order[:, :k_diff]


def test_a_selection_of_ones_own_decides(lab: Lab) -> None:
    rows = [lab.ids(own) for own in lab.prompts(2)]
    ours = by_nnsight(lab, rows, select=lowest, mode="ablate")
    assert ours.edits == by_oracle(lab, rows, mode="ablate").edits


# -- settings --------------------------------------------------------------------------------------


def test_settings_come_from_the_call_then_the_map_then_the_preset_then_the_paper(lab: Lab) -> None:
    dspa = DSPA(
        lab.nn, input_sae=lab.sae_in, output_sae=lab.sae_out, input_layer=1, output_layer=2,
        defaults={"alpha": 0.7, "k_prompt": 9},
    )  # fmt: skip
    tuned = lab.counts.fit(percentile=50, k_diff=5)
    tuned.defaults = {"k_prompt": 7}
    with lab.nn.generate(lab.prompts(1)[0], **greedy()):
        edits = dspa.apply(tuned, k_diff=4)
    assert edits.options == {
        "alpha": 0.7,
        "k_prompt": 7,
        "k_diff": 4,
        "mode": "ablate",
        "prompt_rule": "density",
        "prompt_tokens": "content",
        "positions": "response",
    }


def test_what_fit_is_told_is_what_counts_fit_is_told(lab: Lab) -> None:
    ours = lab.dspa.fit(lab.triples, percentile=50, k_diff=6, token_budget=256, progress=False)
    assert torch.equal(ours.to_dense(), lab.map.to_dense())
    assert "tiny-llama" in repr(lab.dspa)


def test_bfloat16_models_agree_with_the_oracle_within_a_stated_tolerance() -> None:
    single = steer_zoo.lab("llama", "add")
    own = tiny.model("llama").to(torch.bfloat16)
    nn = tiny.nnsight_model(own, single.tok)
    dspa = DSPA(
        nn, input_sae=single.sae_in, output_sae=single.sae_out, input_layer=1, output_layer=2
    )
    lab = dataclasses.replace(single, hf=own, nn=nn, dspa=dspa)
    rows = [lab.ids(prompt) for prompt in lab.prompts(3)]
    ours, hooks, wanted = (run(lab, rows) for run in (by_nnsight, by_hooks, by_oracle))
    assert torch.equal(ours.logits, hooks.logits)
    assert ours.edits
    assert deviation(ours.logits[0].float(), wanted.logits[0].float()) <= BFLOAT16


def test_plan_and_attach_name_what_they_do_not_take(lab: Lab) -> None:
    wrong: dict[str, Any] = {"temperature": 1}
    two: dict[str, Any] = {"positions": "all", **wrong}
    with pytest.raises(SteeringError, match=r"plan takes no positions, temperature; it takes alph"):
        lab.dspa.plan(lab.map, "sun", **two)
    with pytest.raises(SteeringError, match=r"attach takes no temperature; it takes what apply"):
        lab.dspa.attach(lab.hf, lab.map, **wrong)
