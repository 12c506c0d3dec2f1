"""A batch whose rows have maps and settings of their own: each row is as it is alone."""

from typing import Any

import pytest
import torch

from dspa_nn import SteeringError
from dspa_nn.prompts import padded
from dspa_nn.steering import EditLog, MixedRows, row_steerer
from tests import steer_zoo
from tests.steer_zoo import STEPS, Lab

# None is an unsteered row.
ROWS: list[Any] = [
    {"alpha": 0.5, "k_prompt": 8, "k_diff": 6, "mode": "both"},
    None,
    {"alpha": 1.5, "k_prompt": 3, "k_diff": 2, "mode": "augment"},
    {"alpha": 0.25, "k_diff": 4, "mode": "ablate", "prompt_rule": "centred"},
]


@pytest.fixture(scope="module", params=[("llama", "add"), ("gemma2", "add"), ("qwen3", "none")])
def lab(request: pytest.FixtureRequest) -> Lab:
    return steer_zoo.lab(*request.param)


@pytest.fixture(scope="module")
def llama() -> Lab:
    return steer_zoo.lab("llama", "add")


def maps(lab: Lab) -> list[Any]:
    return [lab.map, lab.map, lab.map + 0.5 * lab.map.restrict(columns=[1, 3, 5]), -1.0 * lab.map]


def told(log: EditLog, row: int) -> list[tuple[Any, ...]]:
    """A row's edits: the token of the answer, the latent, and the values to five digits."""
    width = log._record.mask.shape[1]
    return [
        (edit.position - width, edit.latent, round(edit.before, 4), round(edit.after, 4))
        for edit in log
        if edit.row == row
    ]


def told_once(edit: Any) -> tuple[Any, ...]:
    return edit.position, edit.token_id, edit.latent, round(edit.after, 4)


def alone(lab: Lab, map: Any, prompt: Any, options: dict[str, Any] | None) -> tuple[Any, Any]:
    ids = torch.tensor([lab.ids(prompt)])
    call: dict[str, Any] = {"max_new_tokens": STEPS, "do_sample": False}
    if options is None:
        return lab.hf.generate(ids, **call)[0, -STEPS:], None
    with lab.dspa.attach(lab.hf, map, **options) as log:
        return lab.hf.generate(ids, **call)[0, -STEPS:], log


def check(lab: Lab, prompts: list[Any], found: torch.Tensor, log: EditLog) -> None:
    for row, (map, prompt, options) in enumerate(zip(maps(lab), prompts, ROWS, strict=True)):
        wanted, single = alone(lab, map, prompt, options)
        assert torch.equal(found[row, -STEPS:], wanted)
        assert told(log, row) == ([] if single is None else told(single, 0))
        if single is not None and isinstance(log, MixedRows):
            row_log = log.log_of_row(row, wanted.tolist())
            assert str(row_log) == str(single)
            assert [told_once(edit) for edit in row_log] == [told_once(edit) for edit in single]
        if single is not None:
            assert single.total > 0
            mine, own = log.plans[row], single.plans[0]
            assert str(mine) == str(own)
            assert mine.contributions == own.contributions
            assert mine.made.options == own.made.options


def test_rows_that_are_planned_in_the_run(lab: Lab) -> None:
    prompts = lab.prompts(4)
    rendered = [lab.dspa.render(prompt) for prompt in prompts]
    steerers = [
        None if options is None else row_steerer(lab.dspa, map, options)
        for map, options in zip(maps(lab), ROWS, strict=True)
    ]
    inputs = padded([own.prompt_ids for own in rendered], "left")
    with MixedRows(lab.dspa, steerers, rendered) as log:
        found = lab.hf.generate(**inputs, max_new_tokens=STEPS, do_sample=False)
    check(lab, prompts, found, log)
    assert log.by_row()[1] == 0
    assert log.plans[1].latents == []
    assert log.options["alpha"] == [0.5, 0, 1.5, 0.25]
    assert log.options["mode"][2:] == ["augment", "ablate"]


def test_plans_of_different_maps_and_settings(lab: Lab) -> None:
    prompts = lab.prompts(4)
    settings: list[dict[str, Any]] = [{"alpha": 0.0} if own is None else own for own in ROWS]
    plans: list[Any] = [
        lab.dspa.plan(map, prompt, **options)
        for map, prompt, options in zip(maps(lab), prompts, settings, strict=True)
    ]
    inputs = padded([torch.tensor(lab.ids(own)) for own in prompts], "left")
    with lab.nn.generate(inputs, max_new_tokens=STEPS, do_sample=False) as tracer:
        log = lab.dspa.apply(plans)
        found = tracer.result.save()
    check(lab, prompts, found, log)


def test_beams_of_rows_with_different_alphas(llama: Lab) -> None:
    prompts = llama.prompts(2)
    plans: list[Any] = [
        llama.dspa.plan(llama.map, prompt, alpha=alpha, mode="both")
        for prompt, alpha in zip(prompts, (0.3, 1.2), strict=True)
    ]
    beams: dict[str, Any] = {"max_new_tokens": STEPS, "do_sample": False, "num_beams": 2}
    inputs = padded([torch.tensor(llama.ids(own)) for own in prompts], "left")
    with llama.dspa.attach(llama.hf, plans):
        found = llama.hf.generate(**inputs, **beams)
    for row, (plan, prompt) in enumerate(zip(plans, prompts, strict=True)):
        with llama.dspa.attach(llama.hf, plan):
            wanted = llama.hf.generate(torch.tensor([llama.ids(prompt)]), **beams)
        assert torch.equal(found[row, -STEPS:], wanted[0, -STEPS:])


def test_positions_may_differ(llama: Lab) -> None:
    prompts = [llama.dspa.render(own) for own in llama.prompts(2)]
    rows = [
        row_steerer(llama.dspa, llama.map, {"alpha": 0.5}),
        row_steerer(llama.dspa, llama.map, {"alpha": 0.5, "positions": "all"}),
    ]
    inputs = padded([own.prompt_ids for own in prompts], "left")
    with MixedRows(llama.dspa, rows, prompts) as log:
        llama.hf.generate(**inputs, max_new_tokens=2, do_sample=False)
    first = next(log.passes())
    assert first.steered.sum(-1).tolist() == [1, len(prompts[1].prompt_ids) - 1]  # BOS apart


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_an_alpha_for_each_row_moves_as_one_for_all(dtype: torch.dtype) -> None:
    from dspa_nn.graph.edit import edit_latents

    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(3, 5, 4, generator=generator, dtype=torch.float64).to(dtype)
    strongest = latents.amax(-1, keepdim=True).abs()
    signs = torch.tensor([1, -1, 0, -1], dtype=dtype).expand(3, 1, 4)
    wide = torch.promote_types(dtype, torch.float32)
    alphas = torch.full((3, 1, 1), 0.3, dtype=wide)
    found = edit_latents(latents, strongest, signs, alphas)
    assert torch.equal(found, edit_latents(latents, strongest, signs, 0.3))


def test_what_is_refused(llama: Lab) -> None:
    prompt = llama.dspa.render(llama.prompts(1)[0])
    with pytest.raises(SteeringError, match="given 1 rows, 0 of them steered, and 1 prompts"):
        MixedRows(llama.dspa, [None], [prompt])
