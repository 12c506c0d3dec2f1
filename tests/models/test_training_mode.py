"""With dropout on, the same triples give the same counts, plans and scores, and it stays on."""

from typing import Any

import pytest

from dspa_nn import DSPA
from dspa_nn.evaluation import answer, force
from dspa_nn.models import evaluating
from dspa_nn.steering import DSPAMethod
from tests import steer_zoo, tiny

DROPOUT: dict[str, Any] = {"attention_dropout": 0.5}


@pytest.fixture
def dspa() -> DSPA:
    lab = steer_zoo.lab("llama", "add")
    model = tiny.model("llama", **DROPOUT).train()
    model.model.layers[3].eval()
    return DSPA(
        tiny.nnsight_model(model, lab.tok), input_sae=lab.sae_in, output_sae=lab.sae_out,
        input_layer=1, output_layer=2,
    )  # fmt: skip


def modes(dspa: DSPA) -> list[bool]:
    module: Any = dspa.model
    return [child.training for child in module._module.modules()]


def test_counts_plans_and_measures_are_those_of_eval_mode(dspa: DSPA) -> None:
    lab = steer_zoo.lab("llama", "add")
    before = modes(dspa)
    assert True in before
    assert False in before
    counts = dspa.count(lab.triples, token_budget=256, progress=False)
    for name in ("content", "markup", "chosen", "rejected"):
        assert (getattr(counts, name) != getattr(lab.counts, name)).nnz == 0
    prompts = lab.prompts()
    assert [one.latents for one in dspa.plan(lab.map, prompts)] == [
        one.latents for one in lab.dspa.plan(lab.map, prompts)
    ]
    texts = [dspa.render("sun moon", "red")]
    for method in (None, lambda own: DSPAMethod("tuned", own, lab.map)):
        mine, theirs = (
            force(own, texts, [None if method is None else method(own)])[0].log_prob
            for own in (dspa, lab.dspa)
        )
        assert mine == pytest.approx(theirs)
    said = [answer(own, texts[:1], max_new_tokens=4).texts for own in (dspa, lab.dspa)]
    assert said[0] == said[1]
    assert modes(dspa) == before


def test_the_mode_is_put_back_after_an_error(dspa: DSPA) -> None:
    def fail() -> None:
        with evaluating(dspa.model):
            assert not any(modes(dspa))
            raise KeyboardInterrupt

    before = modes(dspa)
    with pytest.raises(KeyboardInterrupt):
        fail()
    assert modes(dspa) == before
