"""Adapters of the real PEFT, where it is installed: it is in no extra of this package."""

from typing import Any

import pytest
import torch

from dspa_nn import DSPA, MapError, SteeringError
from tests import steer_zoo, tiny
from tests.steer_zoo import SETTINGS, Lab

peft: Any = pytest.importorskip("peft")
# PEFT 0.21 asks transformers 5.23 for a name that is on its way out.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
CALL: dict[str, Any] = {"max_new_tokens": 4, "do_sample": False}


@pytest.fixture(scope="module")
def lab() -> Lab:
    return steer_zoo.lab("llama", "add")


def adapted(**changes: Any) -> tuple[Any, Any]:
    """A tiny model, and PEFT's wrapper of it."""
    model = tiny.model("llama")
    options = {"r": 4, "target_modules": ["q_proj", "down_proj"], "init_lora_weights": False}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        config = peft.LoraConfig(task_type="CAUSAL_LM", **(options | changes))
        return model, peft.get_peft_model(model, config).eval()


def over(lab: Lab, model: Any) -> DSPA:
    return DSPA(
        tiny.nnsight_model(model, lab.tok), input_sae=lab.sae_in, output_sae=lab.sae_out,
        input_layer=1, output_layer=2,
    )  # fmt: skip


def test_the_wrapper_and_the_model_in_it_are_one(lab: Lab) -> None:
    model, wrapper = adapted()
    dspa, of_wrapper = over(lab, model), over(lab, wrapper)
    assert dspa.identity() == of_wrapper.identity()
    counts, others = (one.count(lab.triples, progress=False) for one in (dspa, of_wrapper))
    for name in ("content", "chosen", "rejected"):
        assert not (getattr(counts, name) != getattr(others, name)).nnz
    map, ids = counts.fit(percentile=50), torch.tensor([lab.ids("sun moon")])
    answers = []
    for steered in (model, wrapper):
        with dspa.attach(steered, map, **SETTINGS) as edits:
            answers.append(steered.generate(input_ids=ids, **CALL))
        assert edits.total
    for one in (dspa, of_wrapper):
        with one.model.generate("sun moon", **CALL) as tracer:
            one.apply(map, **SETTINGS)
            result = tracer.result.save()
        answers.append(result)
    assert all(torch.equal(answers[0], answer) for answer in answers)


def test_scaling_other_adapters_and_copies_have_fingerprints_of_their_own(lab: Lab) -> None:
    model, wrapper = adapted(modules_to_save=["embed_tokens"])
    dspa = over(lab, model)
    base, before = over(lab, tiny.model("llama")).identity(), dspa.identity()
    assert before["weights"] != base["weights"]
    with wrapper.disable_adapter():
        assert dspa.identity() == base
    assert over(lab, adapted(lora_alpha=64)[0]).identity() != over(lab, adapted()[0]).identity()
    map = dspa.fit(lab.triples, progress=False)
    layer = model.model.layers[1].mlp.down_proj
    layer.scale_layer(0.5)
    with pytest.raises(MapError, match="fitted with weights of the fingerprint"):
        dspa.plan(map, "sun")
    layer.unscale_layer()
    assert dspa.identity() == before
    off = pytest.raises(MapError, match="used with active adapters: none")
    with dspa.attach(wrapper, map, **SETTINGS), wrapper.disable_adapter(), off:
        wrapper.generate(input_ids=torch.tensor([lab.ids("sun")]), **CALL)


def test_virtual_tokens_are_refused(lab: Lab) -> None:
    for kind in (peft.PromptTuningConfig, peft.PrefixTuningConfig):
        wrapper = peft.get_peft_model(
            tiny.model("llama"), kind(num_virtual_tokens=3, task_type="CAUSAL_LM")
        )
        with pytest.raises(SteeringError, match="puts virtual tokens in front of every prompt"):
            lab.dspa.attach(wrapper, lab.map)
