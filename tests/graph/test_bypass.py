"""While `apply` alone waits for a module, the other modules hand nnsight nothing."""

from collections import Counter
from typing import Any

import pytest
import torch
from nnsight.intervention.interleaver import Interleaver
from nnsight.intervention.source import Controller

from tests import steer_zoo, tiny
from tests.steer_zoo import SETTINGS, STEPS, Lab

CALL = {"max_new_tokens": STEPS, "do_sample": False}


@pytest.fixture(scope="module")
def lab() -> Lab:
    return steer_zoo.lab("llama", "add")


@pytest.fixture
def visits(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each location was handed to nnsight."""
    visited: Counter[str] = Counter()
    handle = Interleaver.handle

    def counted(self: Any, provider: str, value: Any) -> Any:
        visited[provider] += 1
        return handle(self, provider, value)

    monkeypatch.setattr(Interleaver, "handle", counted)
    return visited


def outputs(lab: Lab) -> tuple[str, str]:
    """Where the output layer's output goes, and that of a later module."""
    return (
        f"{lab.nn.path}.{lab.dspa.paths[1]}.output",
        f"{lab.nn.path}.model.layers.{tiny.LAYERS - 1}.output",
    )


def steered(lab: Lab) -> tuple[torch.Tensor, Any]:
    rows = [lab.ids(prompt) for prompt in lab.prompts(2)]
    with lab.nn.generate(steer_zoo.padded(lab, rows), **CALL) as tracer:
        log = lab.dspa.apply(lab.map, **SETTINGS)
        ids = tracer.result.save()
    return ids, log


def instrumented(lab: Lab) -> bool:
    """Whether every module hands nnsight what goes in and out."""
    return all(isinstance(vars(module).get("forward"), Controller) for module in lab.hf.modules())


def test_after_the_first_pass_the_output_layer_alone_hands_over(lab: Lab, visits: Any) -> None:
    _, log = steered(lab)
    steered_layer, later = outputs(lab)
    assert (visits[steered_layer], visits[later]) == (STEPS, 0)
    assert log.steps == STEPS
    assert log.total
    visits.clear()
    # The next run hands over again.
    assert instrumented(lab)
    with lab.nn.generate(steer_zoo.padded(lab, [lab.ids("sun")]), **CALL) as tracer:
        tracer.result.save()
    assert visits[later] == STEPS


def test_a_block_that_reads_every_step_is_served(lab: Lab, visits: Any) -> None:
    ids, log = steered(lab)
    visits.clear()
    rows = [lab.ids(prompt) for prompt in lab.prompts(2)]
    seen: list[torch.Tensor] = []
    with lab.nn.generate(steer_zoo.padded(lab, rows), **CALL) as tracer:
        again = lab.dspa.apply(lab.map, **SETTINGS)
        for _ in tracer.iter[:STEPS]:
            seen += [lab.nn.lm_head.output[:, -1].argmax(-1)]
    assert torch.equal(torch.stack(seen, 1), ids[:, -STEPS:])
    assert visits[outputs(lab)[1]] == STEPS
    assert steer_zoo.listed(again)[0] == steer_zoo.listed(log)[0]


def test_a_cache_sees_every_step(lab: Lab) -> None:
    rows = [lab.ids(prompt) for prompt in lab.prompts(2)]
    with lab.nn.generate(steer_zoo.padded(lab, rows), **CALL) as tracer:
        cache = tracer.cache(modules=[lab.nn.lm_head])
        lab.dspa.apply(lab.map, **SETTINGS)
        ids = tracer.result.save()
    kept = [logits[:, -1].argmax(-1) for logits in cache[f"{lab.nn.path}.lm_head"].output]
    assert torch.equal(torch.stack(kept, 1), ids[:, -STEPS:])


def test_a_block_beside_another_is_served(lab: Lab) -> None:
    first, second = lab.prompts(2)
    seen: list[torch.Tensor] = []
    with lab.nn.generate(**CALL) as tracer:
        with tracer.invoke(first):
            log = lab.dspa.apply(lab.map, **SETTINGS)
        with tracer.invoke(second):
            for _ in tracer.iter[:STEPS]:
                seen += [lab.nn.lm_head.output[:, -1]]
    assert len(seen) == STEPS
    assert log.steps == STEPS


def test_an_interrupted_run_puts_everything_back(lab: Lab) -> None:
    class Stop(Exception):
        pass

    def stop(_: Any, __: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise Stop

    calls: list[int] = []
    handle = lab.hf.lm_head.register_forward_pre_hook(stop)
    try:
        with pytest.raises(Stop):
            steered(lab)
    finally:
        handle.remove()
    assert instrumented(lab)
    assert steered(lab)[1].steps == STEPS


def test_a_forward_of_the_modules_own_goes_on(lab: Lab) -> None:
    from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module

    class Counted(ModelHook):
        calls = 0

        def pre_forward(self, module: Any, *args: Any, **kwargs: Any) -> Any:
            Counted.calls += 1
            return args, kwargs

    wanted, _ = steered(lab)
    norm = lab.hf.model.norm
    controller = vars(norm)["forward"]
    add_hook_to_module(norm, Counted())
    vars(norm)["forward"] = controller  # as nnsight installs itself over accelerate's
    try:
        ids, _ = steered(lab)
    finally:
        remove_hook_from_module(norm)
        vars(norm)["forward"] = controller
    assert torch.equal(ids, wanted)
    assert Counted.calls == STEPS
