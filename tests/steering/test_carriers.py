"""What carries the edit, and what keeps it from being carried: compiled code, loops, threads,
two carriers at once, adapters that wrap a model."""

import importlib.util
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import transformers

import dspa_nn as dn
from dspa_nn import DSPAWarning, SteeringError, evaluation
from dspa_nn.steering import received
from tests import steer_zoo, tiny
from tests.steer_zoo import SETTINGS, Lab

CALL: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False}
COMPILED = "was compiled with torch.compile, and compiled code leaves steered layers out"


@pytest.fixture(scope="module")
def lab() -> Lab:
    return steer_zoo.lab("llama", "add")


def generate(model: Any, lab: Lab, prompt: str = "sun moon", **changes: Any) -> torch.Tensor:
    ids = torch.tensor([lab.ids(prompt)])
    return model.generate(ids, attention_mask=torch.ones_like(ids), **(CALL | changes))


def said(run: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run()
    texts = [str(one.message) for one in caught if issubclass(one.category, DSPAWarning)]
    return [text for text in texts if not text.startswith("the residual stream of rows")]


# -- compiled code ---------------------------------------------------------------------------------


def compile_model(model: Any) -> Any:
    model.compile(backend="eager")
    return model


def compile_forward(model: Any) -> Any:
    model.forward = torch.compile(model.forward, backend="eager")
    return model


def compile_layer(model: Any) -> Any:
    model.model.layers[tiny.LAYER_OUT].compile(backend="eager")
    return model


def compile_inner(model: Any) -> Any:
    model.model = torch.compile(model.model, backend="eager")
    return model


def compile_outer(model: Any) -> Any:
    return torch.compile(model, backend="eager")


WAYS = (compile_model, compile_forward, compile_layer, compile_inner, compile_outer)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_compiled_model_is_refused(lab: Lab, way: Any) -> None:
    model = way(tiny.model("llama"))
    with pytest.raises(SteeringError, match=COMPILED), lab.dspa.attach(model, lab.map):
        pass


def test_a_compiled_part_that_holds_no_steered_layer_is_no_hindrance(lab: Lab) -> None:
    model = tiny.model("llama")
    model.model.layers[tiny.LAYER_OUT].mlp = torch.nn.Sequential(
        model.model.layers[tiny.LAYER_OUT].mlp
    )
    model.model.layers[tiny.LAYER_OUT].mlp.compile(backend="eager")
    with lab.dspa.attach(model, lab.map, **SETTINGS) as edits:
        pass
    assert not edits.runs


def test_a_model_that_is_compiled_while_attached_is_refused_and_told_of(lab: Lab) -> None:
    model = tiny.model("llama")

    def run() -> None:
        with lab.dspa.attach(model, lab.map, **SETTINGS):
            generate(model, lab)
            model.compile(backend="eager")

    assert said(run)[0].startswith("the model was compiled while attach steered it")
    with pytest.raises(SteeringError, match=COMPILED), lab.dspa.attach(model, lab.map):
        pass


def test_apply_refuses_a_compiled_model(lab: Lab) -> None:
    model = tiny.model("llama")
    dspa = dn.DSPA(
        tiny.nnsight_model(model, lab.tok),
        input_sae=lab.sae_in, output_sae=lab.sae_out,
        input_layer=tiny.LAYER_IN, output_layer=tiny.LAYER_OUT,
    )  # fmt: skip
    model.compile(backend="eager")
    with pytest.raises(SteeringError, match=COMPILED), dspa.model.generate("sun moon", **CALL):
        dspa.apply(lab.map)


def compiling() -> dict[str, Any]:
    """Keywords with which `generate` compiles the model, on a CPU too."""
    from transformers import CompileConfig

    config: Any = CompileConfig(backend="eager", fullgraph=False)
    config._compile_all_devices = True
    return {"cache_implementation": "static", "compile_config": config}


@pytest.mark.parametrize("way", ["attach", "apply"])
def test_automatic_compilation_is_switched_off_and_said(lab: Lab, way: str) -> None:
    edits: Any = None
    ids: Any = None

    def run() -> None:
        nonlocal edits, ids
        if way == "attach":
            with lab.dspa.attach(lab.hf, lab.map, **SETTINGS) as edits:
                ids = generate(lab.hf, lab, **compiling())
        else:
            with lab.nn.generate("sun moon", **CALL, **compiling()) as tracer:
                edits = lab.dspa.apply(lab.map, **SETTINGS)
                ids = tracer.result.save()

    assert [one.split(",")[0] for one in said(run)] == ["generate was asked to compile the model"]
    assert torch.equal(ids, steer_zoo.by_oracle(lab, [lab.ids("sun moon")], max_new_tokens=6).ids)
    assert edits.steps == 6


class AfterFirst(transformers.LogitsProcessor):
    """Does something after the first pass, where code of the user's runs."""

    def __init__(self, act: Any) -> None:
        self.act = act
        self.calls = 0

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls == 1:
            self.act(ids)
        return scores


def processed(act: Any) -> dict[str, Any]:
    return {"logits_processor": transformers.LogitsProcessorList([AfterFirst(act)])}


def test_passes_that_no_hook_saw_are_told_of(lab: Lab) -> None:
    # As compiled code does that was compiled before the hooks came.
    model = tiny.model("llama")
    hooks = model.model.layers[tiny.LAYER_OUT]._forward_hooks

    def run() -> None:
        with lab.dspa.attach(model, lab.map, **SETTINGS):
            generate(model, lab, **processed(lambda _: hooks.clear()))

    (sentence,) = said(run)
    assert sentence.startswith(
        "the steered layers were seen in 1 of the 6 passes of this run, and the others went "
        "unsteered;"
    )


def test_passes_that_are_none_of_the_runs_are_told_of(lab: Lab) -> None:
    def run() -> None:
        with lab.dspa.attach(lab.hf, lab.map, **SETTINGS):
            generate(lab.hf, lab, **processed(lab.hf))

    assert "passed 7 times for 6 new tokens" in said(run)[0]


def test_passes_are_counted_on_ndif_too(lab: Lab) -> None:
    with lab.nn.generate("sun moon", **CALL):
        log = lab.dspa.apply(lab.map, **SETTINGS)
    state = {**vars(log._record), "steps": log._record.steps[:4]}
    assert said(lambda: received(state))[0].startswith("the steered layers were seen in 4 of the 6")
    assert said(lambda: received(dict(vars(log._record)))) == []


def test_beams_may_pass_more_often_than_the_best_is_long(lab: Lab) -> None:
    def run() -> None:
        with lab.dspa.attach(lab.hf, lab.map, **SETTINGS):
            ids = generate(lab.hf, lab)
            for end in ids[0, -6:].tolist():
                generate(lab.hf, lab, num_beams=3, eos_token_id=end, pad_token_id=0)

    assert said(run) == []


def test_a_layer_that_is_run_by_itself_is_refused(lab: Lab) -> None:
    sentence = "run by something other than the model's generate"
    with lab.dspa.attach(lab.hf, lab.map), pytest.raises(SteeringError, match=sentence):
        lab.hf.model(torch.tensor([lab.ids("sun")]))


# -- threads ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_four_threads_steer_as_one_does(lab: Lab) -> None:
    prompts = lab.prompts(8) * 5

    def answer(prompt: str) -> tuple[torch.Tensor, int]:
        return generate(lab.hf, lab, prompt), 0

    with lab.dspa.attach(lab.hf, lab.map, **SETTINGS) as alone:
        wanted = [answer(prompt)[0] for prompt in prompts[:8]] * 5
    edits = sorted(log.total for log in alone.logs) * 5
    with lab.dspa.attach(lab.hf, lab.map, **SETTINGS) as together, ThreadPoolExecutor(4) as pool:
        got = [ids for ids, _ in pool.map(answer, prompts)]
    assert all(torch.equal(one, other) for one, other in zip(got, wanted, strict=True))
    assert sorted(log.total for log in together.logs) == sorted(edits)
    assert together.runs == 40


def test_single_forwards_of_threads_have_prompts_of_their_own(lab: Lab) -> None:
    chats = steer_zoo.lab("qwen3", "none", chat=True)
    prompts = [chats.dspa.render(messages) for messages in chats.prompts(4, chat=True)]

    def logits(prompt: Any) -> torch.Tensor:
        edits.prompt = prompt
        with torch.no_grad():
            return chats.hf(prompt.ids.unsqueeze(0)).logits

    with chats.dspa.attach(chats.hf, chats.map, **SETTINGS) as edits:
        wanted = [logits(prompt) for prompt in prompts] * 5
        edits.prompt = None
        with ThreadPoolExecutor(4) as pool:
            got = list(pool.map(logits, prompts * 5))
        assert edits.prompt is None
    assert all(torch.equal(one, other) for one, other in zip(got, wanted, strict=True))


def test_what_the_attaching_thread_sets_holds_for_the_others(lab: Lab) -> None:
    prompt = lab.dspa.render("sun moon")
    attached = lab.dspa.attach(lab.hf, lab.map, prompt=prompt, **SETTINGS)
    with attached as edits, ThreadPoolExecutor(1) as pool:
        pool.submit(generate, lab.hf, lab).result()
        edits.prompt = lab.dspa.render("sun")
        with pytest.raises(SteeringError, match="does not hold the tokens of its prompt="):
            pool.submit(generate, lab.hf, lab).result()


def test_a_process_that_serves_keeps_the_last_logs(lab: Lab) -> None:
    with lab.dspa.attach(lab.hf, lab.map, **SETTINGS) as edits:
        for _ in range(66):
            generate(lab.hf, lab, max_new_tokens=1)
    assert (edits.runs, len(edits.logs)) == (66, 64)


# -- loops over steps ------------------------------------------------------------------------------

LOOPS = (
    "tracer.iter[3:4]", "tracer.iter[:1]", "tracer.iter[0]", "tracer.iter[:]",
    "tracer.iter[[0, 2]]", "tracer.all()", "enumerate(tracer.iter[:2])",
)  # fmt: skip
BLOCK = """
def run(lab, settings, call):
    with lab.nn.generate("sun moon", **call) as tracer:
        for _ in LOOP:
            edits = lab.dspa.apply(lab.map, **settings)
    return edits
"""
IN_A_LOOP = "apply was called inside a loop over tracer.iter or tracer.all()"


def from_file(source: str, folder: Any) -> Any:
    """A function from a file: nnsight reads the source of blocks."""
    path = folder / "block.py"
    path.write_text(source)
    spec: Any = importlib.util.spec_from_file_location("block", path)
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.run


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_over_steps_is_refused(lab: Lab, loop: str, tmp_path: Any) -> None:
    run = from_file(BLOCK.replace("LOOP", loop), tmp_path)
    with pytest.raises(SteeringError, match=re.escape(IN_A_LOOP)):
        run(lab, SETTINGS, CALL)


# Step 0, of which nnsight notes nothing, behind a name, in a comprehension, handed over.
HIDDEN = {
    "name": "steps = tracer.iter[:1]\n        for _ in steps:\n            edits = apply()",
    "names": "walk = tracer.iter\n        steps = enumerate(walk[:1])\n        for _ in steps:\n"
    "            edits = apply()",
    "comprehension": "edits = [apply() for _ in tracer.iter[:1]][0]",
    "map": "edits = list(map(lambda _: apply(), tracer.iter[:1]))[0]",
    "helper": "edits = over(tracer.iter[:1], apply)",
    "helper, name": "steps = tracer.iter[:1]\n        edits = over(steps, apply)",
}
HIDING = """
def over(steps, apply):
    for _ in steps:
        edits = apply()
    return edits

def run(lab, settings, call):
    def apply():
        return lab.dspa.apply(lab.map, **settings)
    with lab.nn.generate("sun moon", **call) as tracer:
        BODY
    return edits
"""


@pytest.mark.parametrize("body", HIDDEN.values(), ids=HIDDEN)
def test_a_hidden_loop_over_the_first_step_is_refused(lab: Lab, body: str, tmp_path: Any) -> None:
    run = from_file(HIDING.replace("BODY", body), tmp_path)
    with pytest.raises(SteeringError, match=re.escape(IN_A_LOOP)):
        run(lab, SETTINGS, CALL)


@pytest.mark.parametrize(
    "body",
    [
        "steps = tracer.iter[:1]\n        steps = [0]\n        for _ in steps:\n"
        "            edits = apply()",
        "edits = over([all([True])], apply)\n        for _ in tracer.iter[:1]:\n"
        "            lab.nn.lm_head.output",
    ],
    ids=["name given away", "loop afterwards"],
)
def test_a_name_or_a_loop_elsewhere_is_no_hindrance(lab: Lab, body: str, tmp_path: Any) -> None:
    assert from_file(HIDING.replace("BODY", body), tmp_path)(lab, SETTINGS, CALL).steps == 6


def test_loops_over_anything_else_are_none_of_ours(lab: Lab) -> None:
    with lab.nn.generate("sun moon", **CALL) as tracer:
        for _ in range(1):
            edits = lab.dspa.apply(lab.map, **SETTINGS)
        for _ in tracer.iter[:2]:
            lab.nn.lm_head.output.save()
    assert edits.steps == 6


# -- two carriers ----------------------------------------------------------------------------------


def test_apply_inside_attach_is_refused(lab: Lab) -> None:
    twice = "the model is steered by attach already, and apply would edit it a second time"
    with lab.dspa.attach(lab.hf, lab.map, **SETTINGS):
        with pytest.raises(SteeringError, match=twice), lab.nn.generate("sun moon", **CALL):
            lab.dspa.apply(lab.map, **SETTINGS)
        with pytest.raises(SteeringError, match=twice), lab.nn.trace("sun moon"):
            lab.dspa.apply(lab.map, positions="all", **SETTINGS)


class Wrapper(torch.nn.Module):
    """A model in another, as PEFT's and TRL's are."""

    def __init__(self, base: Any) -> None:
        super().__init__()
        self.base = base

    def get_base_model(self) -> Any:
        return self.base

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.base(*args, **kwargs)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        return self.base.generate(*args, **kwargs)


def test_a_model_in_a_wrapper_is_steered(lab: Lab) -> None:
    model = Wrapper(lab.hf)
    wanted = steer_zoo.by_oracle(lab, [lab.ids("sun moon")], max_new_tokens=6).ids
    with lab.dspa.attach(model, lab.map, **SETTINGS) as edits:
        assert torch.equal(generate(model, lab), wanted)
        assert torch.equal(generate(lab.hf, lab), wanted)
    assert edits.runs == 2


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (1, 1), (2, 0), (0, 2)])
def test_two_attachments_are_refused_whatever_wraps_the_model(lab: Lab, order: Any) -> None:
    models = [lab.hf, Wrapper(lab.hf), lab.nn]
    first, second = (models[index] for index in order)
    sentence = "steered by another attach already"
    with lab.dspa.attach(first, lab.map), pytest.raises(SteeringError, match=sentence):
        lab.dspa.attach(second, lab.map).__enter__()


@pytest.mark.parametrize(
    "what", [None, "gpt2", torch.nn.Linear(2, 2)], ids=["None", "name", "torch"]
)
@pytest.mark.usefixtures("unchecked")
def test_what_is_no_model_is_refused(lab: Lab, what: Any) -> None:
    with pytest.raises(SteeringError, match=f"attach was given a {type(what).__name__}, and ste"):
        lab.dspa.attach(what, lab.map)


# -- inside a block --------------------------------------------------------------------------------


def test_what_runs_the_model_itself_is_refused_inside_a_block(lab: Lab) -> None:
    sentence = "was called inside a tracing context, and runs the model itself; call it before"
    with pytest.raises(dn.DSPAError, match=f"plan {sentence}"), lab.nn.generate("sun", **CALL):
        lab.dspa.plan(lab.map, "sun")
    with pytest.raises(dn.DSPAError, match=f"attach {sentence}"), lab.nn.generate("sun", **CALL):
        lab.dspa.attach(lab.hf, lab.map).__enter__()
    with pytest.raises(dn.DSPAError, match=f"count {sentence}"), lab.nn.generate("sun", **CALL):
        lab.dspa.count(lab.triples)
    with pytest.raises(dn.DSPAError, match=f"count {sentence}"), lab.nn.trace("sun moon"):
        lab.dspa.fit(lab.triples)
    assert lab.dspa.plan(lab.map, "sun").latents


# -- settings by position, measures under attach, threads, training --------------------------------


def test_a_generation_config_given_by_position_is_read(lab: Lab) -> None:
    ids = torch.tensor([lab.ids("sun moon")])

    def run(**settings: Any) -> Any:
        config = transformers.GenerationConfig(**CALL, pad_token_id=0, **settings)
        with lab.dspa.attach(lab.hf, lab.map, **SETTINGS) as edits:
            lab.hf.generate(ids, config, attention_mask=torch.ones_like(ids))
        return edits._record

    assert run(num_beams=2).beams
    assert run(eos_token_id=7).eos_ids == [7]
    with pytest.raises(SteeringError, match="prompt_lookup_num_tokens cannot be steered"):
        run(prompt_lookup_num_tokens=2)


def test_what_reads_the_unsteered_model_is_refused_while_attach_steers_it(lab: Lab) -> None:
    one = lab.triples[:1]
    prompts = [lab.dspa.render("sun", " moon")]
    calls: dict[str, Any] = {
        "count": lambda: lab.dspa.count(one),
        "plan": lambda: lab.dspa.plan(lab.map, "sun"),
        "encode": lambda: evaluation.encode(lab.dspa, one),
        "force": lambda: evaluation.force(lab.dspa, prompts, [None]),
        "answer": lambda: evaluation.answer(lab.dspa, prompts),
    }
    with lab.dspa.attach(lab.hf, lab.map, positions="all", **SETTINGS):
        for name, call in calls.items():
            with pytest.raises(SteeringError, match=f"^{name} was called while attach steers"):
                call()


def test_plans_and_counts_in_threads_are_those_of_one_thread(lab: Lab) -> None:
    wanted = str(lab.dspa.plan(lab.map, "sun moon"))
    with ThreadPoolExecutor(4) as pool:
        plans = list(pool.map(lambda _: str(lab.dspa.plan(lab.map, "sun moon")), range(8)))
        tables = list(pool.map(lambda _: lab.dspa.count(lab.triples[:2]), range(4)))
    assert plans == [wanted] * 8
    wanted_counts = tables[0].chosen.toarray()
    assert all((table.chosen.toarray() == wanted_counts).all() for table in tables)


@pytest.mark.parametrize("way", ["attach", "apply"])
def test_generation_in_training_mode_is_told_of(lab: Lab, way: str) -> None:
    def run() -> None:
        if way == "attach":
            with lab.dspa.attach(lab.hf, lab.map, **SETTINGS):
                generate(lab.hf, lab)
        else:
            with lab.nn.generate("sun moon", **CALL):
                lab.dspa.apply(lab.map, **SETTINGS)

    assert said(run) == []
    lab.hf.train()
    try:
        (sentence,) = said(run)
    finally:
        lab.hf.eval()
    assert sentence.startswith("the model generates in training mode, in which dropout makes every")
