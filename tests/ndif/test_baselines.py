"""Baselines on a real server on loopback: fitted there and steering there, as here."""

from typing import Any

import pytest
import torch

from dspa_nn.baselines import (
    Condition,
    ControlVector,
    Subject,
    VectorLog,
    VectorMethod,
    activations,
    fit_caa,
    fit_global_difference,
    one_for_all,
)
from tests.ndif.test_remote import prompts, triples

pytestmark = [
    pytest.mark.ndif,
    pytest.mark.filterwarnings("ignore:the residual stream of rows:dspa_nn.DSPAWarning"),
]


def generated(dspa: Any, method: Any, rendered: list[Any], remote: bool) -> Any:
    inputs = dspa.model.tokenizer.pad(
        {"input_ids": [own.prompt_ids.tolist() for own in rendered]}, return_tensors="pt"
    )
    with dspa.model.generate(inputs, max_new_tokens=5, do_sample=False, remote=remote) as tracer:
        log = method.apply(prompt=rendered)
        ids = tracer.result.save()
    return ids, log


def test_means_are_taken_there(remote: Any, local: Any) -> None:
    here = activations(local, triples()[:4], progress=False)
    there = activations(remote, triples()[:4], remote=True, progress=False)
    scale = float(here.differences.abs().max())
    assert float((here.differences - there.differences).abs().max()) <= 1e-4 * scale
    assert float((here.prompts - there.prompts).abs().max()) <= 1e-4 * float(
        here.prompts.abs().max()
    )


@pytest.mark.parametrize("gated", [False, True])
def test_a_vector_steers_there_as_here(remote: Any, local: Any, gated: bool) -> None:
    vector = fit_caa(local, triples()[:4], scale=4.0, progress=False)
    if gated:
        condition = Condition(9, vector.vector, 0.0, True, False)
        vector = ControlVector(24, vector.vector, "cast", 4.0, condition, vector.provenance)
    rendered = prompts(local, "Tell me about volcanoes.", "Hi")
    own = generated(local, VectorMethod("here", Subject(local), vector), rendered, False)
    ids, log = generated(remote, VectorMethod("there", Subject(remote), vector), rendered, True)
    assert torch.equal(ids, own[0])
    assert isinstance(log, VectorLog)
    assert log.moved == own[1].moved == 10
    assert torch.allclose(log.norms(), own[1].norms())
    if gated:
        assert log.similarity is not None
        assert torch.allclose(log.similarity, own[1].similarity, atol=1e-5)


def test_one_set_of_latents_steers_there_as_here(remote: Any, local: Any) -> None:
    counts = local.count(triples()[:4], progress=False)
    fitted = fit_global_difference(local, counts)
    rendered = prompts(local, "Tell me about volcanoes.")
    options: Any = {"alpha": 0.5, "k_diff": 64, "mode": "both"}
    ids, log = generated(remote, one_for_all("there", remote, fitted, options), rendered, True)
    own = generated(local, one_for_all("here", local, fitted, options), rendered, False)
    assert torch.equal(ids, own[0])
    assert list(log) == list(own[1])
    assert log.total > 0
