"""The edit log: what it holds, how it reads, and the warnings of rule 5 with their reasons.

Its edits are held against the oracle's in test_parity and test_generation_modes.
"""

import warnings
from typing import Any

import pytest
import torch

from dspa_nn import DSPAWarning
from tests import steer_zoo, tiny
from tests.steer_zoo import SETTINGS, STEPS, Lab, by_hooks, by_nnsight, by_oracle


@pytest.fixture(scope="module")
def lab() -> Lab:
    return steer_zoo.lab("llama", "add")


@pytest.fixture(scope="module")
def rows(lab: Lab) -> list[list[int]]:
    return [lab.ids(prompt) for prompt in lab.prompts(3)]


def test_every_summary_adds_up_to_the_edits(lab: Lab, rows: Any) -> None:
    run = by_nnsight(lab, rows)
    log, edits = run.log, list(run.log)
    assert log.total == len(edits) == len(run.edits) == len(log)
    assert log.by_row() == [sum(edit.row == row for edit in edits) for row in range(3)]
    assert log.by_latent() == {
        latent: sum(edit.latent == latent for edit in edits) for latent in log.by_latent()
    }
    assert sum(log.by_latent().values()) == log.total
    assert list(log.by_latent().values()) == sorted(log.by_latent().values(), reverse=True)
    assert (log.tokens, log.steps, log.rows) == (3 * STEPS, STEPS, 3)
    assert len(log.norms()) == log.tokens
    moved = {(edit.row, edit.position) for edit in edits}
    assert int((log.norms() > 0).sum()) == len(moved)
    frame = log.to_pandas()
    assert list(frame.columns) == [
        "row", "position", "token_id", "latent", "before", "after", "strongest",
        "token", "direction", "score",
    ]  # fmt: skip
    assert len(frame) == log.total
    assert [edit.token_id for edit in edits] == [
        int(run.ids[edit.row, edit.position]) for edit in edits
    ]


def test_its_length_is_that_of_what_iterating_yields(lab: Lab, rows: Any) -> None:
    log = by_nnsight(lab, rows).log
    assert len(log) == len(list(log)) > log.rows == 3
    assert log
    alone = steer_zoo.quiet(by_nnsight, lab, rows, alpha=0).log
    assert len(alone) == len(list(alone)) == 0
    assert not alone
    assert (alone.rows, alone.tokens) == (3, log.tokens)


def test_its_passes_hold_the_edits_as_tensors(lab: Lab, rows: Any) -> None:
    log = by_nnsight(lab, rows).log
    passes = list(log.passes())
    assert [one.step for one in passes] == list(range(STEPS))
    assert sum(int(one.edited.sum()) for one in passes) == log.total
    assert all(torch.equal(one.edited, one.before != one.after) for one in passes)


def test_every_edit_is_alpha_times_the_strongest_latent(lab: Lab, rows: Any) -> None:
    log = by_nnsight(lab, rows).log
    augmented = [{latent for latent, _ in plan.augment} for plan in log.plans]
    for edit in log:
        assert 0 < edit.before <= edit.strongest
        if edit.latent in augmented[edit.row]:
            assert edit.after == pytest.approx(edit.before + 0.5 * edit.strongest, rel=1e-6)
        else:
            wanted = max(edit.before - 0.5 * edit.strongest, 0)
            assert edit.after == pytest.approx(wanted, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("use_cache", [True, False])
def test_positions_are_places_in_the_padded_row(lab: Lab, rows: Any, use_cache: bool) -> None:
    run = by_nnsight(lab, rows, use_cache=use_cache)
    width = max(map(len, rows))
    assert {place for _, place, _ in run.edits} <= set(range(width - 1, width + STEPS - 1))
    assert run.edits == by_oracle(lab, rows).edits


def test_plans_and_scores_are_the_oracles(lab: Lab, rows: Any) -> None:
    log = by_nnsight(lab, rows).log
    wanted = steer_zoo.plans(lab, steer_zoo.padded(lab, rows), SETTINGS)
    for row, plan in enumerate(log.plans):
        assert [latent for latent, _, _ in plan.prompt_latents] == wanted[row].prompt_latents
        assert [latent for latent, _ in plan.augment] == wanted[row].augment
        assert [latent for latent, _ in plan.ablate] == wanted[row].ablate
        assert torch.equal(log.scores[row], torch.from_numpy(wanted[row].scores))
        assert all(score > 0 for _, score in plan.augment)
        assert all(score < 0 for _, score in plan.ablate)


def test_it_reads_as_text_before_and_after(lab: Lab) -> None:
    before = []
    with lab.nn.generate(lab.prompts(1)[0], max_new_tokens=3, do_sample=False):
        log = lab.dspa.apply(lab.map, **SETTINGS)
        before.append(str(log))
    assert before[0] == "EditLog: the model has not run yet"
    lines = str(log).splitlines()
    assert lines[0] == (
        f"EditLog: {log.total} edits on 3 tokens of 1 row(s) (alpha 0.5, k_prompt 8, k_diff 6, "
        "mode both, prompt_rule density, prompt_tokens content, positions response)"
    )
    often = next(iter(log.by_latent().items()))
    assert lines[1].startswith(f"  most edited output latents (times): {often[0]} ({often[1]})")
    assert lines[2].endswith("edits per token")
    assert repr(log) == str(log)


# -- rule 5: a reason for every run that edited nothing --------------------------------------------


def said(run: Any, *args: Any, **changes: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(*args, **changes)
    texts = [str(one.message) for one in caught if issubclass(one.category, DSPAWarning)]
    return [text for text in texts if not text.startswith("the residual stream of rows")]


UNUSED = "nothing was steered: "


@pytest.mark.parametrize("way", [by_nnsight, by_hooks])
def test_every_reason_is_given_once(lab: Lab, rows: Any, way: Any) -> None:
    assert said(way, lab, rows) == []
    assert said(way, lab, rows, alpha=0) == [
        UNUSED + "alpha is 0, so every edit leaves its latent as it is"
    ]
    # A prompt of BOS alone.
    assert said(way, lab, [rows[0][:1]]) == [
        UNUSED + "no prompt token counts (the prompt is empty or BOS alone), so nothing is planned"
    ]
    assert said(way, lab, rows, only=[]) == [
        UNUSED + "no output latent has a score that mode='both' could act on"
    ]
    assert said(way, lab, [*rows, rows[0][:1]]) == [
        "rows [3] have no prompt token that counts, so nothing is planned for them"
    ]


def changed(lab: Lab, **tensors: Any) -> Lab:
    """The same lab, its DSPA with some of an encoder's tensors replaced."""
    import copy
    import dataclasses

    dspa = copy.copy(lab.dspa)
    for role, change in tensors.items():
        sae = copy.copy(getattr(dspa, role))
        encoder = copy.copy(sae.encoder)
        encoder.tensors = {**encoder.tensors, **change}
        object.__setattr__(sae, "encoder", encoder)
        setattr(dspa, role, sae)
    return dataclasses.replace(lab, dspa=dspa)


def test_reasons_that_lie_in_the_saes_or_the_map(lab: Lab, rows: Any) -> None:
    import dataclasses

    silent_in = changed(lab, input_sae={"b_enc": torch.full((tiny.WIDTH_IN,), -1e6)})
    assert said(by_nnsight, silent_in, rows) == [
        UNUSED + "no input latent is active on the prompt; check that the input SAE belongs to "
        "this layer and model"
    ]
    silent_out = changed(lab, output_sae={"b_enc": torch.full((tiny.WIDTH_OUT,), -1e6)})
    assert said(by_nnsight, silent_out, rows) == [
        UNUSED + "no output latent at all is active on the steered tokens; check that the output "
        "SAE belongs to this layer and model"
    ]
    empty = dataclasses.replace(lab, map=lab.map.restrict(columns=[]))
    assert said(by_nnsight, empty, rows) == [
        UNUSED + "no active prompt latent has an entry in the map; fit on more triples"
    ]
    nothing = dataclasses.replace(lab, map=lab.map - lab.map)
    assert said(by_nnsight, nothing, rows) == [
        UNUSED + "every map of this sum has the coefficient 0; give one of them another"
    ]
    edited = {edit.latent for edit in by_nnsight(lab, rows[:1]).log}
    planned = set(by_nnsight(lab, rows[:1]).log.plans[0].latents)
    assert planned - edited
    assert said(by_nnsight, lab, rows[:1], only=planned - edited, max_new_tokens=1) == [
        UNUSED + "none of the planned latents was active on a steered token"
    ]


def test_a_run_that_never_reached_the_input_layer_says_so(lab: Lab) -> None:
    def run() -> None:
        with torch.no_grad(), lab.nn.trace("sun moon") as tracer:
            lab.dspa.apply(lab.map, prompt_length=3)
            lab.nn.model.layers[0].output.save()
            tracer.stop()

    assert said(run) == [
        UNUSED + "the run ended before the input layer was reached, so nothing was planned"
    ]


def test_markup_counted_whole_warns_with_its_remedy() -> None:
    chats = steer_zoo.lab("qwen3", "none", chat=True)
    messages = chats.prompts(1, chat=True)[0]
    rows = [chats.ids(messages)]
    cut = [rows[0][1:]]  # no rendering of any messages
    for way in (by_nnsight, by_hooks):
        assert said(way, chats, cut) == [
            "the map was fitted on the messages' own tokens, but this prompt holds template markup "
            "and every token of it was counted; pass prompt=dspa.render(messages)"
        ]
        assert said(way, chats, rows) == said(way, chats, rows, prompt=messages) == []
    whole = steer_zoo.lab("qwen3", "none", chat=True, prompt_tokens="all")
    assert said(by_nnsight, whole, cut) == []
