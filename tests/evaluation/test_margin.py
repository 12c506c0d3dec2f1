from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

import dspa_nn as dn
from dspa_nn.errors import DSPAError, EvaluationError, SteeringError, TripleError
from dspa_nn.evaluation import answer, encode, margins, surprise, token_changes
from dspa_nn.evaluation.passes import Pass
from dspa_nn.evaluation.teacher_forcing import check_methods, force
from dspa_nn.steering import DSPAMethod, SteeringOptions
from dspa_nn.triples import PreferenceTriple
from tests import eval_zoo, tiny


def hf_log_prob(family: str, prompt, text: str) -> float:
    """Mean log p of a response's tokens by the model's own loss."""
    own = eval_zoo.dspa(family).render(prompt, text)
    labels = own.ids.clone()
    labels[: own.prompt_length] = -100
    with torch.no_grad():
        return -float(eval_zoo.model(family)(own.ids[None], labels=labels[None]).loss)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_unsteered_margin_is_the_models_own_loss(family):
    dspa, triples = eval_zoo.dspa(family), eval_zoo.triples(5)
    (plain,) = margins(dspa, triples, [], token_budget=200)
    for found, triple in zip(plain.margin, triples, strict=True):
        chosen, rejected = (
            hf_log_prob(family, triple.prompt, text) for text in (triple.chosen, triple.rejected)
        )
        assert found == pytest.approx(chosen - rejected, abs=2e-5)
    assert not plain.change.any()
    assert not plain.edits.any()


def test_steered_margin_is_what_hooks_give():
    dspa, triples = eval_zoo.dspa(), eval_zoo.triples(4)
    map = eval_zoo.counts().fit(percentile=50)
    options: SteeringOptions = {**eval_zoo.STEER, "mode": "both"}
    plain, steered = margins(dspa, triples, [DSPAMethod("", eval_zoo.dspa(), map, options)])
    assert np.abs(steered.change).min() > 1e-4
    for place, triple in enumerate(triples):
        prompt = dspa.render(triple.prompt)
        found = []
        for text in (triple.chosen, triple.rejected):
            with dspa.attach(eval_zoo.model(), map, prompt=prompt, **options):
                found.append(hf_log_prob("llama", prompt, text))
        assert steered.margin[place] == pytest.approx(found[0] - found[1], abs=2e-5)
    assert steered.change == pytest.approx(steered.margin - plain.margin)
    assert sum(steered.by_latent.values()) > 0


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_running_the_upper_blocks_alone_is_running_all_of_them(family):
    dspa = eval_zoo.dspa(family)
    method = DSPAMethod("", dspa, eval_zoo.counts(20, family).fit(percentile=50), eval_zoo.STEER)
    batch = [dspa.render(own.prompt, own.chosen) for own in eval_zoo.triples(3)]
    plain = Pass(dspa, batch)
    short, moved = plain.again(method)
    with torch.no_grad(), dspa.model.trace(plain.inputs, **plain.settings):
        whole_log = dspa.apply(method.map, prompt=batch, **method.options)
        whole = dspa.model.output.logits.save()
    assert torch.equal(short, plain.predicting(whole))
    assert moved.edits.sum(1).tolist() == whole_log.by_row()
    assert min(whole_log.by_row()) > 0


def test_alpha_0_changes_nothing_at_all():
    map = eval_zoo.counts().fit(percentile=50)
    options: SteeringOptions = {**eval_zoo.STEER, "alpha": 0}
    _, steered = margins(
        eval_zoo.dspa(), eval_zoo.triples(4), [DSPAMethod("", eval_zoo.dspa(), map, options)]
    )
    assert not steered.change.any()
    assert not steered.edits.any()
    assert not steered.share.any()
    assert np.abs(steered.kl).max() < 1e-6


def test_batches_do_not_matter_and_kl_is_that_of_the_definition():
    dspa = eval_zoo.dspa()
    method = DSPAMethod("", eval_zoo.dspa(), eval_zoo.counts().fit(percentile=50), eval_zoo.STEER)
    sequences = [dspa.render(own.prompt, own.chosen) for own in eval_zoo.triples(5)]
    one = force(dspa, sequences, [method], token_budget=1)[0]
    many = force(dspa, sequences, [method], token_budget=10_000)[0]
    for name in ("log_prob", "kl", "edits", "share"):
        assert getattr(one, name) == pytest.approx(getattr(many, name), abs=2e-5)
    own = sequences[0]
    with torch.no_grad():
        before = eval_zoo.model()(own.ids[None]).logits.log_softmax(-1)
        with dspa.attach(eval_zoo.model(), method.map, prompt=own, **method.options):
            after = eval_zoo.model()(own.ids[None]).logits.log_softmax(-1)
    predicting = slice(own.prompt_length - 1, -1)
    kl = (before.exp() * (before - after))[0, predicting].sum(-1).mean()
    assert one.kl[0] == pytest.approx(float(kl), abs=2e-5)


def test_a_sequence_without_response_is_refused_in_one_sentence():
    dspa = eval_zoo.dspa()
    with pytest.raises(DSPAError) as caught:
        force(dspa, [dspa.render("sun moon")], [None])
    assert str(caught.value) == (
        "sequence 0 has no response, and one of at least one token was expected; leave it out"
    )


class ByHooks:
    """DSPA as evaluation sees a method that it knows nothing of: a name and a context."""

    name = "by hooks"

    def __init__(self, method: DSPAMethod, keeps_log: bool = True) -> None:
        self.method, self.keeps_log = method, keeps_log

    @contextmanager
    def steering(self, prompts):
        with self.method.steering(prompts) as log:
            yield log if self.keeps_log else None


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_method_that_is_only_entered_measures_as_the_fast_path_does(family):
    dspa = eval_zoo.dspa(family)
    map = eval_zoo.counts(20, family).fit(percentile=50)
    method = DSPAMethod("", dspa, map, eval_zoo.STEER)
    triples = eval_zoo.triples(4)
    _, fast, entered, logless = margins(
        dspa, triples, [method, ByHooks(method), ByHooks(method, keeps_log=False)]
    )
    for name in ("margin", "change", "kl", "edits", "share"):
        assert getattr(entered, name) == pytest.approx(getattr(fast, name), abs=2e-5)
    assert entered.by_latent == fast.by_latent
    assert logless.change == pytest.approx(entered.change)
    assert not logless.edits.any()
    assert logless.share == pytest.approx(entered.share, rel=1e-4)
    assert logless.by_latent == {}


def test_the_fast_path_is_for_the_model_and_layers_that_are_measured():
    dspa = eval_zoo.dspa()
    late = dn.DSPA(
        dspa.model,
        input_sae=dspa.output_sae,
        output_sae=dspa.output_sae,
        input_layer=tiny.LAYER_OUT,
        output_layer=tiny.LAYER_OUT,
    )
    triples = eval_zoo.triples(3)
    map = late.count(eval_zoo.triples(20)).fit(percentile=50)
    method = DSPAMethod("", late, map, eval_zoo.STEER)
    _, measured = margins(dspa, triples, [method])
    _, expected = margins(late, triples, [method])
    assert measured.change == pytest.approx(expected.change, abs=2e-5)
    assert np.abs(measured.change).max() > 1e-4


def test_rows_are_measured_as_the_triples_that_they_hold():
    dspa, triples = eval_zoo.dspa(), eval_zoo.triples(3)
    rows = [
        {"prompt": one.prompt, "chosen": one.chosen, "rejected": one.rejected} for one in triples
    ]
    (plain,), (given,) = margins(dspa, triples, []), margins(dspa, rows, [])
    assert np.array_equal(plain.margin, given.margin)
    assert torch.equal(encode(dspa, triples).latents, encode(dspa, rows).latents)
    # What can be gone through once alone is no less a source.
    assert len(encode(dspa, (row for row in rows)).prompts) == 3


@pytest.mark.parametrize("what", ["margins", "encode", "answer", "force", "token_changes"])
def test_a_measure_inside_a_tracing_context_is_refused(what):
    dspa, triples = eval_zoo.dspa(), eval_zoo.triples(2)
    prompts = [dspa.render(one.prompt) for one in triples]
    answers = answer(dspa, prompts, max_new_tokens=2)
    measures = {
        "margins": lambda: margins(dspa, triples, []),
        "encode": lambda: encode(dspa, triples),
        "answer": lambda: answer(dspa, prompts),
        "force": lambda: surprise(dspa, prompts, answers),
        "token_changes": lambda: token_changes(dspa, prompts, None),
    }
    measure = measures[what]
    told = f"{what} was called inside a tracing context, and runs the model itself; call it before"
    with pytest.raises(SteeringError, match=told), dspa.model.trace(prompts[0].ids):
        measure()


@pytest.mark.usefixtures("unchecked")
def test_a_triple_that_cannot_be_rendered_is_named():
    dspa, triples = eval_zoo.dspa(), eval_zoo.triples(1)
    wrong = PreferenceTriple("sun", "moon", "red")
    object.__setattr__(wrong, "chosen", 5)
    with pytest.raises(TripleError, match=r"^triple 1: a response of type int came"):
        encode(dspa, [*triples, wrong])


def test_a_prompt_that_cannot_be_rendered_is_named():
    dspa = eval_zoo.dspa()
    wrong: Any = ["sun", [{"role": "user"}]]
    with pytest.raises(TripleError, match=r"^prompt 1: "):
        dspa.prompt_batch(wrong)


def test_what_cannot_steer_is_no_method() -> None:
    # Asked of the check itself: shape checks refuse a wrong type before it in these tests.
    map = eval_zoo.counts().fit(percentile=50)
    with pytest.raises(EvaluationError, match=r"of type ConditionalDiff\w+ came, .* as DSPAM"):
        check_methods([None, DSPAMethod("DSPA", eval_zoo.dspa(), map), map])


def test_one_method_in_place_of_a_list_is_refused() -> None:
    method = DSPAMethod("DSPA", eval_zoo.dspa(), eval_zoo.counts().fit(percentile=50))
    with pytest.raises(EvaluationError, match=r"^methods is of type DSPAMethod, where a list"):
        check_methods(method)
    with pytest.raises(EvaluationError, match=r"^methods is of type NoneType, where a list"):
        check_methods(None)


def test_a_class_in_place_of_a_method_is_refused() -> None:
    with pytest.raises(EvaluationError, match=r"^the class DSPAMethod came, "):
        check_methods([DSPAMethod])


def test_margins_of_other_triples_are_not_paired() -> None:
    few, many = (margins(eval_zoo.dspa(), eval_zoo.triples(count), [])[0] for count in (1, 3))
    with pytest.raises(EvaluationError, match=r"^margins of 3 and of 1 triples came; "):
        many.less(few)


def test_marks_are_of_the_triples_that_were_measured() -> None:
    found = margins(eval_zoo.dspa(), eval_zoo.triples(3), [])[0]
    with pytest.raises(EvaluationError, match=r"^only marks 2 triples, and 3 were measured; "):
        found.effect([True, False])
