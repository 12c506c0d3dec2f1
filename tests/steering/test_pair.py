"""What a DSPA is built of: layers that the SAEs know, and a model under another name."""

from typing import Any

import pytest

from dspa_nn import DSPA, MapError, SAEError, SteeringError
from tests import steer_zoo, tiny
from tests.steer_zoo import SETTINGS, Lab


@pytest.fixture(scope="module")
def lab() -> Lab:
    return steer_zoo.lab("llama", "add")


def built(lab: Lab, model_name: str | None = None, **changes: Any) -> DSPA:
    pair = [
        tiny.random_sae("topk", layer=layer, d_model=32, model_name=model_name)
        for layer in (tiny.LAYER_IN, tiny.LAYER_OUT)
    ]
    given = {"input_sae": pair[0], "output_sae": pair[1]}
    return DSPA(lab.nn, **(given | changes))


def test_layers_come_from_the_saes(lab: Lab) -> None:
    cases: list[dict[str, Any]] = [
        {},
        {"input_layer": tiny.LAYER_IN},
        {"output_layer": tiny.LAYER_OUT},
    ]
    for given in cases:
        dspa = built(lab, **given)
        assert (dspa.input_layer, dspa.output_layer) == (tiny.LAYER_IN, tiny.LAYER_OUT)
        assert dspa.paths == lab.dspa.paths


def test_layers_that_the_saes_do_not_know_or_in_the_wrong_order(lab: Lab) -> None:
    silent = tiny.random_sae("topk", layer=tiny.LAYER_IN, d_model=32)
    silent.cfg.metadata.hook_name = None
    with pytest.raises(SAEError, match="does not say which layer it reads: pass input_layer="):
        built(lab, input_sae=silent)
    first = tiny.random_sae("topk", layer=0, d_model=32)
    with pytest.raises(SteeringError, match="input layer 1 and output layer 0 came, and tiny"):
        built(lab, output_sae=first)
    with pytest.raises(SteeringError, match=r"^output layer 9 came, and tiny-llama has"):
        built(lab, output_layer=9)


def test_the_same_model_under_another_name(lab: Lab) -> None:
    with pytest.raises(SAEError, match="or say same_model_as='gemma-2-2b' if it is that model"):
        built(lab, "gemma-2-2b")
    dspa = built(lab, "gemma-2-2b", same_model_as="google/gemma-2-2b")
    provenance = dspa.provenance()
    assert (provenance["model_id"], provenance["model_revision"]) == ("google/gemma-2-2b", None)
    assert provenance["loaded_model"]["model_id"] == lab.dspa.provenance()["model_id"]
    fitted = dspa.fit(lab.triples, progress=False)
    assert fitted.provenance["loaded_model"] == provenance["loaded_model"]
    with dspa.attach(lab.hf, fitted, **SETTINGS):
        pass
    # A map of the model under its first name is one of this model, too, and of no other.
    here = built(lab, same_model_as=lab.dspa.provenance()["model_id"])
    with pytest.raises(MapError, match="fitted with model google/gemma-2-2b, but"):
        here.steerer(fitted, SETTINGS)
    wide = tiny.random_sae("topk", layer=1, d_model=64)
    with pytest.raises(SAEError, match="width"):
        built(lab, input_sae=wide, same_model_as="google/gemma-2-2b")
