"""What a run tells: warnings at the user's line, how far the state was moved, tables, and what to
do where an object is given to the wrong call."""

import inspect
import warnings
from typing import Any

import pytest
import torch

import dspa_nn as dn
from dspa_nn import DSPAWarning, SteeringError, TripleError
from dspa_nn.steering.warnings import LARGEST_SHARE
from tests import steer_zoo
from tests.steer_zoo import SETTINGS, Lab, by_hooks, by_nnsight

CALL: dict[str, Any] = {"max_new_tokens": 3, "do_sample": False}


@pytest.fixture(scope="module")
def lab() -> Lab:
    return steer_zoo.lab("llama", "add")


def line() -> int:
    frame: Any = inspect.currentframe()
    return frame.f_back.f_lineno


# -- warnings --------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["apply", "attach", "trace", "render"])
def test_a_warning_points_at_the_line_of_the_users(lab: Lab, way: str) -> None:
    ids = torch.tensor([lab.ids("sun")])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if way == "apply":
            here = line() + 1
            with lab.nn.generate("sun", **CALL):
                lab.dspa.apply(lab.map, alpha=0)
        elif way == "trace":
            here = line() + 1
            with lab.nn.trace("sun"):
                lab.dspa.apply(lab.map, alpha=0, positions="all")
        elif way == "attach":
            with lab.dspa.attach(lab.hf, lab.map, alpha=0):
                here = line() + 1
                lab.hf.generate(ids, attention_mask=torch.ones_like(ids), **CALL)
        else:
            here = line() + 1
            lab.dspa.render("<bos>sun")
    warning = next(one for one in caught if issubclass(one.category, DSPAWarning))
    assert warning.filename == __file__
    assert here <= warning.lineno <= here + 1


def test_what_is_known_beforehand_is_said_before_the_model_runs() -> None:
    chats = steer_zoo.lab("qwen3", "none", chat=True)
    ids = torch.tensor([chats.ids(chats.prompts(1, chat=True)[0])[1:]])  # no whole rendering
    with warnings.catch_warnings():
        warnings.simplefilter("error", DSPAWarning)
        told = "template markup"
        with pytest.raises(DSPAWarning, match=told), chats.nn.generate(ids, **CALL):
            chats.dspa.apply(chats.map, **SETTINGS)
        log = chats.dspa.attach(chats.hf, chats.map, **SETTINGS)
        with log, pytest.raises(DSPAWarning, match=told):
            chats.hf.generate(ids, attention_mask=torch.ones_like(ids), **CALL)
    assert log.steps == 0


@pytest.mark.parametrize("way", ["apply", "attach"])
def test_a_strength_of_zero_is_told_of_before_the_model_runs(lab: Lab, way: str) -> None:
    ids, log = torch.tensor([lab.ids("sun")]), lab.dspa.attach(lab.hf, lab.map, alpha=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DSPAWarning)
        if way == "attach":
            with log, pytest.raises(DSPAWarning, match="nothing was steered: alpha is 0"):
                lab.hf.generate(ids, attention_mask=torch.ones_like(ids), **CALL)
            assert log.steps == 0
            return
        seen: list[object] = []
        hook = lab.hf.register_forward_pre_hook(lambda *_: seen.append(1))
        with pytest.raises(DSPAWarning, match="alpha is 0"), lab.nn.generate("sun", **CALL):
            lab.dspa.apply(lab.map, alpha=0)
        hook.remove()
        assert not seen


def test_an_empty_plan_is_told_of_before_the_model_runs(lab: Lab) -> None:
    plan = lab.dspa.plan(lab.map, "sun", only=[])
    ids, log = torch.tensor([lab.ids("sun")]), lab.dspa.attach(lab.hf, plan)
    with log, pytest.raises(DSPAWarning, match="nothing is planned for rows"):
        lab.hf.generate(ids, attention_mask=torch.ones_like(ids), **CALL)
    assert log.steps == 0


# -- how far ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [by_nnsight, by_hooks])
@pytest.mark.parametrize("use_cache", [True, False])
def test_the_log_tells_how_far_the_state_was_moved(lab: Lab, way: Any, use_cache: bool) -> None:
    rows = [lab.ids(prompt) for prompt in lab.prompts(2)]
    log = way(lab, rows, use_cache=use_cache).log
    shares = log.shares()
    assert len(shares) == len(log.norms()) == log.tokens
    assert torch.equal(shares > 0, log.norms() > 0)
    assert torch.tensor(log.shares_by_row()).mean().item() == pytest.approx(float(shares.mean()))
    assert f"moved by {float(shares.mean()):.1%} of the residual stream's norm" in str(log)


def test_shares_are_of_the_state_before_the_edit(lab: Lab) -> None:
    with torch.no_grad(), lab.nn.trace("sun moon"):
        before = lab.nn.model.layers[lab.layers[1]].output.save()
    with torch.no_grad(), lab.nn.trace("sun moon"):
        log = lab.dspa.apply(lab.map, positions="all", **SETTINGS)
        after = lab.nn.model.layers[lab.layers[1]].output.save()
    before, after = (x[0] if isinstance(x, tuple) else x for x in (before, after))
    wanted = (after - before).norm(dim=-1) / before.norm(dim=-1)
    assert torch.allclose(log.shares().float(), wanted[0, 1:], atol=1e-4)


@pytest.mark.parametrize("way", [by_nnsight, by_hooks])
def test_a_strength_that_wrecks_the_text_is_told_of(lab: Lab, way: Any) -> None:
    assert LARGEST_SHARE == 0.3  # docs/method.md 4.4
    rows = [lab.ids(prompt) for prompt in lab.prompts(2)]
    with pytest.warns(DSPAWarning, match=r"the residual stream of rows \[0, 1\] was moved by more"):
        way(lab, rows, mode="augment", alpha=5)


# -- tables ----------------------------------------------------------------------------------------


def test_tables_name_token_score_and_direction(lab: Lab) -> None:
    run = by_nnsight(lab, [lab.ids(prompt) for prompt in lab.prompts(2)])
    frame = run.log.to_pandas()
    plans = [plan.to_pandas().set_index("latent") for plan in run.log.plans]
    assert len(frame)
    for edit in frame.itertuples():
        known = plans[edit.row].loc[edit.latent]
        assert (edit.direction, edit.score) == (known.direction, known.score)
        assert (edit.direction == "augment") == (edit.after > edit.before)
        assert edit.token == lab.tok.decode([edit.token_id])
    bare = dn.steering.EditLog(run.log._record)
    assert bare.to_pandas().token.isna().all()
    assert bare.to_pandas(lab.tok).token.tolist() == frame.token.tolist()
    assert lab.dspa.plan(lab.map, "sun", only=[]).to_pandas().empty


def test_ties_of_a_map_go_to_the_lower_latents() -> None:
    map = dn.ConditionalDifferenceMap.from_dense(torch.tensor([[0.5, -0.5], [0.75, 0.5]]))
    order = [(entry[0], entry[1]) for entry in map.top(4)]
    assert order == [(1, 0), (0, 0), (0, 1), (1, 1)]


# -- given to the wrong call -----------------------------------------------------------------------


def test_what_render_returned_is_no_text(lab: Lab) -> None:
    prompt = lab.dspa.render("sun moon")
    sentence = "the model was given what render returned where it takes text or ids; pass prompt.id"
    with pytest.raises(SteeringError, match=sentence), lab.nn.generate(prompt, **CALL):
        lab.dspa.apply(lab.map, prompt=prompt)
    with pytest.raises(SteeringError, match=sentence), lab.nn.generate([prompt, prompt], **CALL):
        lab.dspa.apply(lab.map)
    with pytest.raises(SteeringError, match=sentence), lab.nn.trace(prompt):
        lab.dspa.apply(lab.map, prompt=prompt)
    sentence = "was called with what render returned, and takes"
    with lab.dspa.attach(lab.hf, lab.map), pytest.raises(SteeringError, match=sentence):
        lab.hf.generate(prompt, **CALL)
    with lab.dspa.attach(lab.hf, lab.map), pytest.raises(SteeringError, match=sentence):
        lab.hf(prompt)


def test_logs_plans_and_prompts_have_no_file(lab: Lab) -> None:
    with lab.nn.generate("sun moon", **CALL):
        log = lab.dspa.apply(lab.map, **SETTINGS).save()
    assert log.total
    for one in (log, log.plans[0], lab.dspa.render("sun"), lab.dspa):
        for args in (("x.csv",), ()):
            with pytest.raises(SteeringError, match="write to_pandas"):
                one.save(*args)


# -- a last message of the assistant's -------------------------------------------------------------

OPEN = [{"role": "user", "content": "sun"}, {"role": "assistant", "content": " moon red"}]


@pytest.mark.parametrize(
    ("family", "bos"), [("llama", "add"), ("qwen3", "none"), ("llama", "markup")]
)
def test_a_last_message_is_closed_or_continued(family: str, bos: Any) -> None:
    lab = steer_zoo.lab(family, bos)
    closed, open_ = lab.dspa.render(OPEN), lab.dspa.render(OPEN, continue_final_message=True)
    wanted = lab.tok.apply_chat_template(OPEN, tokenize=False, continue_final_message=True)
    assert open_.text == wanted
    assert open_.ids.tolist() == lab.tok(wanted, add_special_tokens=False).input_ids
    assert open_.content[-4:].all()
    assert closed.text.startswith(open_.text)
    assert closed.text.endswith(("assistant\n", "</think>\n\n"))
    joined = lab.dspa.render(OPEN, " blue", continue_final_message=True)
    assert (joined.prompt_length, joined.text) == (open_.prompt_length, open_.text + " blue")


@pytest.mark.parametrize(
    "prompt", ["sun", OPEN[:1], [OPEN[0], {"role": "assistant", "content": ""}]]
)
def test_there_must_be_a_message_to_continue(lab: Lab, prompt: Any) -> None:
    with pytest.raises(TripleError, match="does not end in a message of the assistant's with some"):
        lab.dspa.render(prompt, continue_final_message=True)
