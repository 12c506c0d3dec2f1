"""Extensions in every kind of run, and the paper's method as what stands at the same points."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

import dspa_nn as dn
from dspa_nn import ExtensionError, SteeringError, extension
from dspa_nn.extensions import (
    Demixed,
    check,
    clamped_augment,
    debug,
    names,
    norm_preserving,
    rule_of,
    soft_gate,
)
from dspa_nn.graph.edit import edit_latents
from dspa_nn.graph.select import scores as summed
from dspa_nn.steering import DSPAMethod, MixedRows, row_steerer
from tests import steer_zoo
from tests.steer_zoo import Lab, by_hooks, by_nnsight, by_oracle, deviation, padded

Weights = Float64[Tensor, "batch d_in"]
Scores = Float64[Tensor, "batch d_out"]
Latents = Float[Tensor, "batch position k"]
Planned = tuple[Int64[Tensor, "batch raised"], Int64[Tensor, "batch lowered"]]


def half(value: Any) -> Any:
    return value * 0.5


@extension("gate")
def papers_gate(densities: Weights, k_prompt: int) -> Weights:
    """The paper's rule again, from densities."""
    order = densities.sort(dim=-1, descending=True, stable=True)
    kept = (order.values[:, :k_prompt] > 0).double()
    return torch.zeros_like(densities).scatter(-1, order.indices[:, :k_prompt], kept)


@extension("score")
def papers_score(weights: Weights, vote: Any, d_out: int) -> Scores:
    """The paper's scores again."""
    return half(vote(weights) * 2)[:, :d_out]


@extension("select")
def papers_selection(scores: Scores, k_diff: int, mode: str) -> Planned:
    """The paper's selection again."""
    raised = scores.argsort(dim=-1, descending=True, stable=True)[:, :k_diff]
    lowered = scores.argsort(dim=-1, stable=True)[:, :k_diff]
    up = torch.where(scores.gather(-1, raised) > 0, raised, -1)
    down = torch.where(scores.gather(-1, lowered) < 0, lowered, -1)
    return (up if mode != "ablate" else up[:, :0]), (down if mode != "augment" else down[:, :0])


@extension("edit")
class PapersEdit:
    """The paper's edit again, times a number."""

    def __init__(self, times: float = 1.0) -> None:
        self.times = times

    def __call__(
        self,
        latents: Latents,
        strongest: Float[Tensor, "batch position 1"],
        signs: Float[Tensor, "batch 1 k"],
        alpha: float,
    ) -> Latents:
        changed = latents + signs * self.size(alpha * strongest).to(latents.dtype)
        return torch.where(latents > 0, changed.clamp(min=0), latents)

    def size(self, step: Any) -> Any:
        return step * self.times


PAPERS: dict[str, Any] = {
    "gate": papers_gate,
    "score": papers_score,
    "select": papers_selection,
    "edit": PapersEdit(),
}


@pytest.fixture(scope="module")
def lab() -> Lab:
    return steer_zoo.lab("llama", "add")


@pytest.mark.parametrize("mode", ["ablate", "both"])
@pytest.mark.parametrize("run", [by_nnsight, by_hooks])
def test_the_papers_method_written_by_a_user_steers_as_the_papers(
    lab: Lab, run: Any, mode: str
) -> None:
    rows = [lab.ids(prompt) for prompt in lab.prompts(3)]
    theirs = run(lab, rows, mode=mode, prompt_rule="density")
    ours = run(lab, rows, mode=mode, prompt_rule="density", **PAPERS)
    assert ours.edits == theirs.edits
    assert torch.equal(ours.logits, theirs.logits)
    assert ours.edits == by_oracle(lab, rows, mode=mode, prompt_rule="density").edits


def test_a_fit_and_a_run_take_the_same_gate(lab: Lab) -> None:
    fitted = lab.dspa.fit(lab.triples, percentile=50, gate=papers_gate, progress=False)
    counts = lab.dspa.count(lab.triples, progress=False)
    assert torch.equal(fitted.values, counts.fit(percentile=50, gate=papers_gate).values)
    assert not torch.equal(fitted.to_dense(), counts.fit(percentile=50).to_dense())
    plan = lab.dspa.plan(fitted, "sun moon", mode="both", gate=papers_gate)
    assert plan.settings["extensions"] == {"gate": "papers_gate"}
    with pytest.raises(ExtensionError, match="gate= is papers_score, which is registered as a sc"):
        lab.dspa.fit(lab.triples, gate=papers_score, progress=False)


def test_named_extensions_and_the_papers_own_names(lab: Lab) -> None:
    plan = lab.dspa.plan(lab.map, "sun moon", mode="both", prompt_rule="density")
    named: Any = {"select": "papers_selection", "score": "paper", "gate": "density"}
    again = lab.dspa.plan(lab.map, "sun moon", mode="both", **named)
    assert (again.augment, again.ablate) == (plan.augment, plan.ablate)
    assert again.settings["extensions"] == {
        "select": "papers_selection", "score": "paper", "gate": "density"
    }  # fmt: skip
    assert "papers_selection" in names("select")


def test_a_trace_a_batch_and_single_rows_agree(lab: Lab) -> None:
    prompts = lab.prompts(3)
    rows = [lab.ids(prompt) for prompt in prompts]
    options: Any = {"edit": PapersEdit(1.5), "select": papers_selection, "gate": soft_gate}
    together = by_nnsight(lab, rows, **options)
    for row, ids in enumerate(rows):
        alone = by_nnsight(lab, [ids], **options)
        assert torch.equal(alone.ids[0], together.ids[row][-alone.ids.shape[1] :])
    inputs = padded(lab, rows)
    with torch.no_grad(), lab.nn.trace(inputs):
        log = lab.dspa.apply(lab.map, positions="all", **options)
    assert log.total > 0
    with lab.dspa.attach(lab.hf, lab.map, positions="all", **options) as hooked, torch.no_grad():
        lab.hf(**inputs)
    assert hooked.total == log.total


def test_an_edit_of_ones_own_is_stronger(lab: Lab) -> None:
    rows = [lab.ids(prompt) for prompt in lab.prompts(2)]
    double = by_nnsight(lab, rows, edit=PapersEdit(2.0))
    wanted = by_oracle(lab, rows, alpha=2 * steer_zoo.SETTINGS["alpha"])
    assert torch.equal(double.ids, wanted.ids)
    assert deviation(double.logits, wanted.logits) <= 1e-5


def test_a_norm_is_preserved(lab: Lab) -> None:
    inputs = padded(lab, [lab.ids(prompt) for prompt in lab.prompts(2)])
    norms = []
    given: Any = {"positions": "all", "mode": "both", "alpha": 3.0}
    for edit in (None, "paper", norm_preserving):
        kept: list[Tensor] = []
        with lab.dspa.attach(lab.hf, lab.map, edit=edit, **given) as log, torch.no_grad():
            if edit is None:
                given_alpha = log  # the unsteered norms are those in the log
            block = lab.hf.get_submodule(lab.dspa.paths[1])
            handle = block.register_forward_hook(
                lambda _, __, out, kept=kept: kept.append(out[0] if isinstance(out, tuple) else out)
            )
            lab.hf(**inputs)
            handle.remove()
        entry = next(log.passes())
        after = kept[0][:, entry.start :].norm(dim=-1)
        norms.append((after - entry.stream)[entry.steered].abs().max())
    assert norms[1] > 1e-3
    assert norms[2] < 1e-4
    assert given_alpha.total


def test_a_clamped_augmentation_never_passes_the_strongest(lab: Lab) -> None:
    rows = [lab.ids(prompt) for prompt in lab.prompts(2)]
    wild = by_nnsight(lab, rows, mode="augment", alpha=5.0)
    tame = by_nnsight(lab, rows, mode="augment", alpha=5.0, edit=clamped_augment)
    assert max(edit.after / edit.strongest for edit in wild.log) > 2
    assert max(edit.after / edit.strongest for edit in tame.log) <= 1 + 1e-6


def test_scores_of_ones_own_in_a_sum_of_maps(lab: Lab) -> None:
    @extension("score", name="negated")
    def negated(scores: Scores) -> Scores:
        return -scores

    both = lab.map + 0.5 * lab.map.restrict(rows=lab.map.rows[:5].tolist())
    plain = lab.dspa.plan(both, "sun moon", mode="both")
    turned = lab.dspa.plan(both, "sun moon", mode="both", score=negated)
    assert torch.equal(turned.scores, -plain.scores)
    assert turned.settings["extensions"] == {"score": "negated"}


def test_only_and_never_hold_for_a_selection_that_does_not_look_at_them(lab: Lab) -> None:
    @extension("select", name="first three")
    def first(scores: Scores) -> Planned:
        three = torch.arange(3).expand(len(scores), -1)
        return three[:, :0], three

    assert lab.dspa.plan(lab.map, "sun", select=first, never=[1]).latents == [0, 2]
    assert lab.dspa.plan(lab.map, "sun", select=first, only=[1]).latents == [1]


def test_nan_and_the_wrong_shape_in_a_run_are_one_sentence(lab: Lab) -> None:
    @extension("score", name="fragile")
    def fragile(scores: Scores, d_out: int) -> Scores:
        return scores / (0.0 if d_out == 40 else 1.0)

    @extension("edit", name="shrinking")
    def shrinking(latents: Latents, hidden: Float[Tensor, "batch position d_model"]) -> Latents:
        return latents if hidden.shape[-1] < 24 else latents[..., :1]

    with pytest.raises(ExtensionError, match=r"the score fragile returned NaN or infinity for row"):
        lab.dspa.plan(lab.map, "sun moon", score=fragile)
    with pytest.raises(ExtensionError, match=r"the edit shrinking returned \[1, "):
        by_hooks(lab, [lab.ids(lab.prompts(1)[0])], edit=shrinking)


def test_an_edit_that_turns_nan_after_the_first_pass_is_warned_of(lab: Lab) -> None:
    @extension("edit", name="nan later")
    def later(latents: Latents, hidden: Float[Tensor, "batch position d_model"]) -> Latents:
        late = hidden.shape[1] == 1 and hidden.shape[2] >= 24  # no sample is so wide
        return latents * (float("nan") if late else 1.0)

    rows = [lab.ids(lab.prompts(1)[0])]
    with pytest.warns(dn.DSPAWarning, match=r"the edit of rows \[0\] became NaN or infinite after"):
        by_hooks(lab, rows, edit=later, positions="all")


def test_what_an_extension_raises_in_a_run_is_one_sentence(lab: Lab) -> None:
    @extension("gate", name="gates by")
    class GatesBy:
        def __init__(self, by: Float64[Tensor, "d_in"]) -> None:
            self.by = by

        def __call__(self, densities: Weights) -> Weights:
            return densities * self.by

    @extension("edit", name="edits by")
    class EditsBy:
        def __init__(self, by: Float[Tensor, "d_model"]) -> None:
            self.by = by

        def __call__(self, latents: Latents, hidden: Float[Tensor, "batch s d_model"]) -> Latents:
            return latents + (hidden * self.by).sum(-1, keepdim=True).to(latents.dtype)

    words = r"gate gates by raised RuntimeError .The size .*, given densities .*, holding by .5."
    gate: Any = GatesBy(torch.ones(5, dtype=torch.float64))
    with pytest.raises(ExtensionError, match=words):
        lab.dspa.plan(lab.map, "sun moon", gate=gate)
    with pytest.raises(ExtensionError, match=words):
        lab.counts.fit(percentile=50, gate=gate)
    for run in (by_hooks, by_nnsight):
        with pytest.raises(ExtensionError, match=r"edit edits by raised RuntimeError .*holding by"):
            run(lab, [lab.ids(lab.prompts(1)[0])], edit=EditsBy(torch.ones(5)))


def test_a_plan_of_one_latent_twice_is_refused_in_a_run(lab: Lab) -> None:
    @extension("select", name="doubles where wide")
    def doubles(scores: Scores, d: int = 40) -> Planned:
        first = scores.argsort(dim=-1, stable=True)[:, : 1 + (scores.shape[1] == d)]
        first = first[:, :1].expand_as(first)
        return first[:, :0], first

    with pytest.raises(ExtensionError, match=r"planned latent \d+ twice for one prompt"):
        lab.dspa.plan(lab.map, "sun moon", select=doubles)


def test_what_is_given_at_the_wrong_point_or_is_not_registered(lab: Lab) -> None:
    def plain(scores: Any) -> Any:
        return scores

    for options, words in (
        ({"gate": papers_selection}, "gate= is papers_selection, which is registered as a select"),
        ({"select": plain}, "select= is plain, which is not registered; put @dspa_nn.extension"),
        ({"edit": "clamped_agment"}, "no edit of that name is registered .did you mean"),
        ({"score": Demixed}, "the class Demixed came where an object of it is needed"),
        ({"score": 3}, "score= is 3, which is not registered"),
    ):
        wrong: Any = options
        with pytest.raises(ExtensionError, match=words):
            lab.dspa.plan(lab.map, "sun", **wrong)


def test_a_plan_that_was_made_with_an_edit_asks_for_it_again(lab: Lab) -> None:
    plan = lab.dspa.plan(lab.map, lab.prompts(1)[0], edit=clamped_augment, mode="both")
    ids = torch.tensor([lab.ids(lab.prompts(1)[0])])
    with pytest.raises(SteeringError, match="made with the edit clamped_augment, which a plan"):
        lab.dspa.attach(lab.hf, plan)
    with lab.dspa.attach(lab.hf, plan, edit=clamped_augment) as log:
        lab.hf.generate(ids, max_new_tokens=2, do_sample=False)
    assert log.plans[0].settings["extensions"] == {"edit": "clamped_augment"}
    with pytest.raises(SteeringError, match="select= came with a plan, which is already made"):
        lab.dspa.attach(lab.hf, plan, edit=clamped_augment, select=papers_selection)


def test_rows_of_one_batch_share_an_edit(lab: Lab) -> None:
    prompts = [lab.dspa.render(prompt) for prompt in lab.prompts(2)]
    one = row_steerer(lab.dspa, lab.map, {"edit": clamped_augment})
    other = row_steerer(lab.dspa, lab.map, {})
    MixedRows(lab.dspa, [one, None], prompts)
    with pytest.raises(SteeringError, match="rows of one batch came with the edits clamped_augm"):
        MixedRows(lab.dspa, [one, other], prompts)


def test_debug_checks_every_call(lab: Lab) -> None:
    @extension("score", name="wide only")
    def wide_only(scores: Scores, d_out: int) -> Scores:
        return scores if d_out != 40 else scores.float()

    with debug(), pytest.raises(ExtensionError, match="score wide only returned Float32"):
        lab.dspa.plan(lab.map, "sun", score=wide_only)
    with debug():
        run = by_hooks(lab, [lab.ids(lab.prompts(1)[0])], **PAPERS)
    assert run.edits == by_hooks(lab, [lab.ids(lab.prompts(1)[0])], prompt_rule="density").edits


def test_extensions_are_copied_and_pickled_by_their_names() -> None:
    assert copy.deepcopy(papers_gate) is papers_gate
    assert pickle.loads(pickle.dumps(papers_gate)) is papers_gate
    twin = pickle.loads(pickle.dumps(PapersEdit(2.5)))
    assert twin.times == 2.5


def test_the_papers_rules_stand_at_the_same_points() -> None:
    edit, score = rule_of("edit", "paper"), rule_of("score", "paper")
    assert edit is not None
    assert edit.function is edit_latents
    assert score is not None
    assert score.function is summed
    assert [names(kind)[0] for kind in ("gate", "score", "select", "edit")] == [
        "density", "paper", "paper", "paper"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "shipped", [soft_gate, clamped_augment, norm_preserving, Demixed, "baselines"],
    ids=str,
)  # fmt: skip
def test_what_the_package_brings_passes_the_checks_of_a_users(lab: Lab, shipped: Any) -> None:
    if shipped == "baselines":
        from dspa_nn.baselines import one_for_all
        from dspa_nn.evaluation import SameForAll, density_matched
        from dspa_nn.theory import Whitening

        every_prompt: Any = one_for_all("one", lab.dspa, lab.map).options.get("gate")
        matched = type(density_matched(np.zeros(3)))
        for one in (every_prompt, matched, SameForAll, Whitening):
            check(one)
    else:
        check(shipped)


def test_demixed_scores_are_those_of_the_formula(lab: Lab) -> None:
    draw = torch.Generator().manual_seed(1)
    opened = torch.rand(30, lab.map.shape[0], generator=draw) > 0.6
    bounds = torch.cat([torch.zeros(1, dtype=torch.int64), opened.sum(1).cumsum(0)])
    own = Demixed(bounds, torch.nonzero(opened)[:, 1], ridge=0.05)
    plan = lab.dspa.plan(lab.map, "sun moon", score=own, prompt_rule="gated")
    weights = lab.dspa.plan(lab.map, "sun moon", prompt_rule="gated").made.weights
    active = torch.nonzero(weights)[:, 0]
    gates = opened[:, active].double()
    gram = gates.T @ gates / 30
    gram += torch.eye(len(active)) * 0.05 * gram.diagonal().mean()
    wanted = lab.map.to_dense().double()[active].T @ torch.linalg.solve(gram, weights[active])
    assert torch.allclose(plan.scores, wanted)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("bounds", "latents", "ridge", "sentence"),
    [
        ([0, 2, 9], [1, 4, 7, 9], 0.1, r"indptr is \[0, 2, 9\], with 4 gates in latents; expected"),
        ([0, 3, 2, 4], [1, 4, 7, 9], 0.1, "expected bounds that ascend from 0 to 4"),
        ([0], [], 0.1, "expected bounds that ascend from 0 to 0"),
        ([0, 2], [1, -4], 0.1, "gate -4 came; expected numbers of input latents"),
        ([0, 2], [1, 4], -1, "ridge is -1; expected a finite number of at least 0"),
        ([0, 2], [1, 4], "x", "ridge is 'x'; expected a finite number"),
        (None, [1, 4], 0.1, "indptr is None; expected an int64 tensor of one axis"),
    ],
)
def test_demixed_is_of_gates(bounds: Any, latents: Any, ridge: Any, sentence: str) -> None:
    some = None if bounds is None else torch.tensor(bounds, dtype=torch.int64)
    given: Any = some
    with pytest.raises(ExtensionError, match=sentence):
        Demixed(given, torch.tensor(latents, dtype=torch.int64), ridge)


def test_demixed_of_another_saes_gates_is_refused(lab: Lab) -> None:
    width = lab.map.shape[0]
    own = Demixed(torch.tensor([0, 2]), torch.tensor([1, width]))
    with pytest.raises(ExtensionError, match=f"gate {width} is among .*, and the input SAE has"):
        lab.dspa.plan(lab.map, "sun moon", score=own)


def test_a_method_of_the_evaluation_takes_extensions(lab: Lab) -> None:
    method = DSPAMethod("mine", lab.dspa, lab.map, {"select": papers_selection})
    prompt = lab.dspa.render(lab.prompts(1)[0])
    with method.steering([prompt]) as log:
        lab.hf.generate(prompt.ids[None], max_new_tokens=2, do_sample=False)
    assert log.plans[0].settings["extensions"] == {"select": "papers_selection"}
    assert dn.extension is extension
