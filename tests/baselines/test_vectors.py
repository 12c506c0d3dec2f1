"""Dense vectors: fits and steered runs against plain PyTorch and numpy, by hooks and by nnsight."""

from typing import Any

import numpy as np
import pytest
import torch

from dspa_nn import DSPAWarning, SteeringError
from dspa_nn.baselines import (
    Condition,
    ControlVector,
    VectorLog,
    activations,
    fit_caa,
    fit_cast,
    fit_repe,
)
from dspa_nn.baselines.cast import Gate, agreeing, as_labels, best_gate
from dspa_nn.evaluation import calibrate_norm, encode, margins
from dspa_nn.steering import DSPAMethod, Intervention
from tests import steer_zoo, tiny
from tests.baselines import zoo
from tests.oracle import dense
from tests.steer_zoo import STEPS, Lab, deviation, padded


@pytest.fixture(scope="module", params=zoo.FAMILIES, ids=[family for family, _ in zoo.FAMILIES])
def lab(request: pytest.FixtureRequest) -> Lab:
    return steer_zoo.lab(*request.param)


@pytest.fixture(scope="module")
def taken(request: pytest.FixtureRequest, lab: Lab) -> Any:
    family = lab.hf.config._name_or_path.removeprefix("tiny-")
    return zoo.taken(family, lab.bos)


def close(ours: Any, theirs: Any) -> None:
    scale = np.abs(theirs).max()
    assert np.abs(np.asarray(ours) - theirs).max() <= 1e-5 * scale


def half_open(lab: Lab, taken: Any) -> ControlVector:
    """A vector whose gate splits the prompts that these tests steer in two."""
    direction = torch.linspace(-1, 1, tiny.HIDDEN)
    alike = [
        dense.similarity(dense.states(lab.hf, 1, row)[bos_of(lab, row) :].mean(0),
                         direction.double().numpy(), True)
        for row in rows_of(lab)
    ]  # fmt: skip
    middle = float(np.mean(sorted(alike)[1:3]))
    condition = Condition(1, direction, middle, True, True, "all")
    return ControlVector(2, fit_caa(lab.dspa, taken).vector, "cast", 2.0, condition)


def bos_of(lab: Lab, row: list[int]) -> int:
    return int(row[0] == lab.tok.bos_token_id)


def rows_of(lab: Lab) -> list[list[int]]:
    return [lab.ids(prompt) for prompt in lab.prompts(4)]


def test_activations_are_the_oracles(lab: Lab, taken: Any) -> None:
    ids = zoo.as_ids(lab)
    close(taken.differences, zoo.differences(lab))
    prompts = [
        dense.states(lab.hf, 1, prompt)[bos_of(lab, prompt) :].mean(0) for prompt, _, _ in ids
    ]
    close(taken.prompts, np.stack(prompts))
    last = activations(lab.dspa, lab.triples[:2], pooling="last", progress=False)
    close(last.chosen[1], dense.states(lab.hf, 2, [*ids[1][0], *ids[1][1]])[-1])


def test_batches_of_any_size_give_the_same_means(lab: Lab, taken: Any) -> None:
    single = activations(lab.dspa, lab.triples, token_budget=1, progress=False)
    close(single.differences, taken.differences.numpy())


def test_fits_are_the_oracles(lab: Lab, taken: Any) -> None:
    rows = zoo.differences(lab)
    close(fit_caa(lab.dspa, taken).vector, dense.difference_of_means(rows))
    for number in (1, 3, 16):
        for weights in ("projection", "signs"):
            own = fit_repe(lab.dspa, taken, directions=number, weights=weights)  # pyright: ignore
            close(own.vector, dense.control_direction(rows, number, weights))


def test_all_directions_together_are_the_difference_of_means(lab: Lab, taken: Any) -> None:
    every = fit_repe(lab.dspa, taken, directions=10**6)
    close(every.vector, fit_caa(lab.dspa, taken).vector.numpy())


@pytest.mark.parametrize("tanh", [True, False])
def test_cast_is_the_oracles(lab: Lab, taken: Any, tanh: bool) -> None:
    labelled = np.arange(len(taken)) % 3 == 0
    fitted = fit_cast(lab.dspa, taken, labels=labelled.tolist(), tanh=tanh)
    condition = fitted.condition
    assert condition is not None
    prompts = taken.prompts.numpy()
    direction = dense.condition_direction(prompts, labelled)
    assert abs(abs(condition.vector.numpy() @ direction) - 1) < 1e-5  # its sign is arbitrary
    close(fitted.vector, zoo.differences(lab)[labelled].mean(0))
    alike = np.array([dense.similarity(prompt, direction, tanh) for prompt in prompts])
    assert fitted.provenance["f1"] == pytest.approx(dense.best_f1(alike, labelled))
    opened = alike > condition.threshold if condition.larger else alike < condition.threshold
    right = (opened & labelled).sum()
    assert 2 * right / (opened.sum() + labelled.sum()) == pytest.approx(fitted.provenance["f1"])


@pytest.mark.parametrize("way", [zoo.by_nnsight, zoo.by_hooks])
@pytest.mark.parametrize("use_cache", [True, False])
def test_generation_is_the_oracles(lab: Lab, taken: Any, way: Any, use_cache: bool) -> None:
    own, rows = zoo.method(lab, fit_caa(lab.dspa, taken), scale=1.5), rows_of(lab)
    run = way(lab, own, rows, use_cache=use_cache)
    for number, (ids, logits) in enumerate(zoo.by_oracle(lab, own, rows)):
        assert run.ids[number, -STEPS:].tolist() == ids[-STEPS:]
        assert deviation(run.logits[:, number], logits) <= 1e-5
    assert run.log.moved == run.log.tokens == len(rows) * STEPS
    norms = run.log.norms()
    assert torch.allclose(norms, torch.full_like(norms, 1.5 * own.vector.norm))


@pytest.mark.parametrize("way", [zoo.by_nnsight, zoo.by_hooks])
def test_a_gate_steers_the_prompts_that_it_opens_for(lab: Lab, taken: Any, way: Any) -> None:
    own, rows = zoo.method(lab, half_open(lab, taken)), rows_of(lab)
    run = way(lab, own, rows)
    assert run.log.opened.tolist().count(True) == 2
    for number, (ids, logits) in enumerate(zoo.by_oracle(lab, own, rows, run.log.opened)):
        assert run.ids[number, -STEPS:].tolist() == ids[-STEPS:]
        assert deviation(run.logits[:, number], logits) <= 1e-5
    closed = run.log.opened.tolist().index(False)
    unsteered = lab.hf.generate(
        **padded(lab, rows), max_new_tokens=STEPS, do_sample=False, output_logits=True,
        return_dict_in_generate=True,
    )  # fmt: skip
    assert torch.equal(run.logits[:, closed], torch.stack(unsteered.logits)[:, closed])


def test_every_position_but_bos_can_be_steered(lab: Lab, taken: Any) -> None:
    own, rows = zoo.method(lab, fit_caa(lab.dspa, taken), positions="all"), rows_of(lab)[:2]
    run = zoo.by_nnsight(lab, own, rows)
    for number, (ids, logits) in enumerate(zoo.by_oracle(lab, own, rows, everywhere=True)):
        assert run.ids[number, -STEPS:].tolist() == ids[-STEPS:]
        assert deviation(run.logits[:, number], logits) <= 1e-5


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_trace_is_the_oracles_on_either_side(lab: Lab, taken: Any, side: str) -> None:
    own, rows = zoo.method(lab, fit_caa(lab.dspa, taken), scale=2.0), rows_of(lab)[:2]
    inputs, lengths = padded(lab, rows, side), [len(row) - 2 for row in rows]
    change = 2.0 * own.vector.vector
    with lab.nn.trace(
        {**inputs, "position_ids": (inputs["attention_mask"].cumsum(-1) - 1).clamp(0)}
    ):
        log = own.apply(prompt_length=lengths)
        logits = lab.nn.output.logits.save()
    with own.attach(lab.hf, prompt_length=lengths) as hooked:
        again = lab.hf(
            **inputs, position_ids=(inputs["attention_mask"].cumsum(-1) - 1).clamp(0)
        ).logits
    assert log.moved == hooked.moved == 6
    for number, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        steered = [place >= length - 1 for place in range(len(row))]
        wanted = dense.forward(lab.hf, lab.layers[1], row, change, steered)
        for got in (logits, again):
            real = got[number][inputs["attention_mask"][number].bool()]
            assert deviation(real.detach(), wanted) <= 1e-5


@pytest.mark.filterwarnings("ignore:nothing was steered:dspa_nn.DSPAWarning")
@pytest.mark.parametrize("way", [zoo.by_nnsight, zoo.by_hooks])
def test_scale_0_is_bit_identical(lab: Lab, taken: Any, way: Any) -> None:
    rows = rows_of(lab)[:2]
    run = way(lab, zoo.method(lab, fit_caa(lab.dspa, taken), scale=0.0), rows)
    unsteered = lab.hf.generate(
        **padded(lab, rows), max_new_tokens=STEPS, do_sample=False, output_logits=True,
        return_dict_in_generate=True,
    )  # fmt: skip
    assert torch.equal(run.logits, torch.stack(unsteered.logits))
    assert not run.log
    assert run.log.reason() == "the vector times its scale is 0, so every token stays as it is"


# What does not depend on the family


@pytest.fixture(scope="module")
def llama() -> Lab:
    return steer_zoo.lab("llama", "markup")


@pytest.fixture(scope="module")
def caa(llama: Lab) -> ControlVector:
    return fit_caa(llama.dspa, zoo.taken("llama", "markup"))


def test_the_first_token_is_steered_too(llama: Lab, caa: ControlVector) -> None:
    rows = rows_of(llama)[:1]
    run = zoo.by_nnsight(llama, zoo.method(llama, caa), rows, max_new_tokens=1)
    plain = llama.hf(**padded(llama, rows)).logits[:, -1].detach()
    assert deviation(run.logits[0], plain) > 1e-3


def test_beams_and_returned_sequences(llama: Lab, caa: ControlVector) -> None:
    rows, own = rows_of(llama)[:2], zoo.method(llama, caa)
    call = {"num_beams": 2, "num_return_sequences": 2, "max_new_tokens": 3}
    assert torch.equal(
        zoo.by_nnsight(llama, own, rows, **call).ids, zoo.by_hooks(llama, own, rows, **call).ids
    )


def test_blocks_of_one_context_each_have_a_vector(llama: Lab, caa: ControlVector) -> None:
    one, other = llama.prompts(2)
    first, second = zoo.method(llama, caa), zoo.method(llama, caa, scale=-1.0)
    with llama.nn.generate(max_new_tokens=3, do_sample=False) as tracer:
        with tracer.invoke(one):
            first.apply()
        with tracer.invoke(other):
            second.apply()
        with tracer.invoke():
            ids = tracer.result.save()
    for row, own in ((one, first), (other, second)):
        alone = zoo.by_hooks(llama, own, [llama.ids(row)], max_new_tokens=3)
        number = 0 if own is first else 1
        assert ids[number, -3:].tolist() == alone.ids[0, -3:].tolist()


def test_what_cannot_be_steered_is_refused_as_for_dspa(llama: Lab, caa: ControlVector) -> None:
    own = zoo.method(llama, caa)
    with pytest.raises(SteeringError, match="apply was called outside a tracing context"):
        own.apply()
    with (
        pytest.raises(SteeringError, match="does not say where the prompt ends"),
        own.attach(llama.hf),
    ):
        llama.hf(torch.tensor([[7, 8]]))
    with (
        own.attach(llama.hf),
        pytest.raises(SteeringError, match="steered by another attach already"),
        llama.dspa.attach(llama.hf, llama.map),
    ):
        pass
    with (
        own.steering([llama.dspa.render("sun")]),
        pytest.raises(SteeringError, match="row 0 does not hold the tokens of its prompt="),
    ):
        llama.hf.generate(torch.tensor([[7, 8]]), max_new_tokens=2)


def test_a_vector_of_another_model_is_refused(llama: Lab, caa: ControlVector) -> None:
    other = steer_zoo.lab("qwen3", "none")
    own = zoo.method(other, caa)
    words = "this vector was fitted with model tiny-llama, but it is used with model tiny-qwen3"
    with pytest.raises(SteeringError, match=words):
        own.steering([])
    narrow = ControlVector(2, torch.ones(8), "caa")
    with pytest.raises(SteeringError, match="has 8 numbers, and the residual stream of tiny-llama"):
        zoo.method(llama, narrow)
    with pytest.raises(SteeringError, match="layer 9 came, and tiny-llama has layers 0 to 3"):
        zoo.method(llama, ControlVector(9, torch.ones(32), "caa"))


def test_other_weights_of_the_same_name_are_refused(llama: Lab, caa: ControlVector) -> None:
    own, twin = zoo.method(llama, caa), tiny.model("llama", seed=1)
    with pytest.raises(SteeringError, match="fitted with weights of the fingerprint float32"):
        own.attach(twin)


def test_a_condition_that_holds_nowhere_is_told(llama: Lab, caa: ControlVector) -> None:
    never = Condition(1, torch.ones(32), 2.0)
    own = zoo.method(llama, ControlVector(2, caa.vector, "cast", 1.0, never))
    prompt = llama.dspa.render("sun moon")
    words = "nothing was steered: the condition holds for none of the prompts"
    with pytest.warns(DSPAWarning, match=words), own.steering([prompt]) as log:
        llama.hf.generate(prompt.ids[None], max_new_tokens=2)
    assert "the condition holds for 0 of 1 prompts" in str(log)


def test_measures_take_it(llama: Lab, caa: ControlVector) -> None:
    own = zoo.method(llama, caa).at_norm(2.5)
    assert isinstance(own, Intervention)
    assert own.strength * caa.norm == pytest.approx(2.5)
    _, steered = margins(llama.dspa, llama.triples[:2], [own])
    assert (steered.chosen.share > 0).all()
    assert not steered.chosen.edits.any()


def test_a_vector_is_matched_in_strength_with_a_map(llama: Lab, caa: ControlVector) -> None:
    target = DSPAMethod("map", llama.dspa, llama.map, {"alpha": 0.5, "k_diff": 6})
    codes = encode(llama.dspa, llama.triples[:3])
    own, wanted = calibrate_norm(codes, zoo.method(llama, caa), target)
    _, mapped, dense = margins(llama.dspa, llama.triples[:3], [target, own])
    for measured in (mapped, dense):
        share = (measured.chosen.share.mean() + measured.rejected.share.mean()) / 2
        assert share == pytest.approx(wanted, rel=1e-4)


def test_without_labels_those_are_taken_whose_difference_points_along_the_others() -> None:
    """Each is held against the mean of the others alone: its own would always speak for it."""
    differences = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-5.0, 0.0], [0.5, 9.0]]).double()
    assert agreeing(differences).tolist() == [False, False, False, False]
    differences[2] = torch.tensor([-1.0, 0.0])
    assert agreeing(differences).tolist() == [True, True, False, True]


def test_of_equal_gates_the_first_is_taken() -> None:
    alike = torch.tensor([0.0, 0.5, 1.0]).double()
    # Open for all, above the lowest or below the highest: two right, and one too many.
    gate = best_gate(alike, torch.tensor([True, False, True]))
    assert (gate.threshold, gate.larger) == (-1.0, True)
    assert gate.f1 == pytest.approx(0.8)
    assert best_gate(alike, torch.tensor([True, True, False])) == Gate(0.75, False, 1.0)


def test_labels_that_tell_nothing_apart_are_refused(llama: Lab) -> None:
    taken = zoo.taken("llama", "markup")
    for labels in ([True] * 12, [True, False]):
        with pytest.raises(SteeringError, match="CAST tells prompts of two kinds apart"):
            fit_cast(llama.dspa, taken, labels=labels)


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), 1e300])
def test_a_scale_that_is_not_finite_is_refused(
    llama: Lab, caa: ControlVector, scale: float
) -> None:
    with pytest.raises(SteeringError, match=r"scale is (nan|inf|1e\+300)[;,] .*finite"):
        zoo.method(llama, caa, scale=scale)
    with pytest.raises(SteeringError, match=r"scale is (nan|inf)|no longer finite"):
        zoo.method(llama, fit_caa(llama.dspa, zoo.taken("llama", "markup"), scale=scale))
    with pytest.raises(SteeringError, match="norm is nan; expected a finite number"):
        zoo.method(llama, caa).at_norm(float("nan"))


def test_a_condition_is_of_finite_numbers_and_of_a_layer_that_is_there(
    llama: Lab, caa: ControlVector
) -> None:
    with pytest.raises(SteeringError, match="threshold is nan; expected a finite number"):
        Condition(1, torch.ones(32), float("nan"))
    with pytest.raises(SteeringError, match="prompt_tokens is 'every'; expected one of 'content'"):
        Condition(1, torch.ones(32), 0.0, prompt_tokens="every")
    below = ControlVector(2, caa.vector, "cast", 1.0, Condition(-1, torch.ones(32), 0.0))
    with pytest.raises(SteeringError, match="layer -1 came, and tiny-llama has layers 0 to 3"):
        zoo.method(llama, below)


def test_labels_are_true_or_false(llama: Lab) -> None:
    taken = zoo.taken("llama", "markup")
    for labels in (["yes", "no"] * 6, "yes", [0.5] * 12, [[True]] * 12):
        with pytest.raises(SteeringError, match="give one for each triple, True where its prompt"):
            as_labels(labels)
    numbers = fit_cast(llama.dspa, taken, labels=torch.tensor([1, 0] * 6).bool())
    assert numbers.provenance["labelled"] == int(as_labels([1, 0] * 6).sum()) == 6


def test_options_of_what_was_taken_already_are_refused(llama: Lab) -> None:
    words = "layer came with activations, which were taken without it"
    with pytest.raises(SteeringError, match=words):
        fit_caa(llama.dspa, zoo.taken("llama", "markup"), layer=1)


def test_a_log_reads_as_an_edit_log(llama: Lab, caa: ControlVector) -> None:
    run = zoo.by_hooks(llama, zoo.method(llama, caa), rows_of(llama)[:2])
    log = run.log
    assert isinstance(log, VectorLog)
    assert (list(log), log.by_latent(), len(log), log.steps) == ([], {}, 0, STEPS)
    assert len(log.shares_by_row()) == log.rows == 2
    assert log.options == {"scale": 1.0, "positions": "response"}
    assert str(log).startswith("VectorLog: 12 of 12 tokens of 2 row(s) moved (scale 1.0, ")
