"""What kept counts are known by: all that they depend on, as it is when `fit` is called."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

import dspa_nn as dn
from dspa_nn import DSPAWarning
from dspa_nn.counts import CountRun, kept_counts
from dspa_nn.counts.keys import key_of, unknown_hook
from tests import steer_zoo, tiny
from tests.steer_zoo import Lab

CONFIGS: list[tuple[str, dict[str, Any]]] = [
    ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 50.0}}),
    ("llama", {"rms_norm_eps": 0.5}),
    ("llama", {"hidden_act": "gelu"}),
    ("gemma2", {"sliding_window": 4}),
    ("gemma2", {"attn_logit_softcapping": 1.0}),
    ("gemma2", {"query_pre_attn_scalar": 1}),
]


@pytest.fixture
def lab() -> Lab:
    return steer_zoo.lab("llama", "add")


def key(dspa: Any, triples: Any) -> str:
    return key_of(CountRun(dspa, triples), False)


@pytest.mark.parametrize(("family", "change"), CONFIGS)
def test_another_configuration_of_the_same_weights_is_another_model(
    family: str, change: dict[str, Any]
) -> None:
    lab = steer_zoo.lab(family, "add")

    def built(**changes: Any) -> str:
        hf = tiny.model(family, **changes)
        hf.load_state_dict(lab.hf.state_dict())
        dspa = dn.DSPA(
            tiny.nnsight_model(hf, lab.dspa.facts.tokenizer),
            input_sae=lab.dspa.input_sae,
            output_sae=lab.dspa.output_sae,
        )
        return key(dspa, lab.triples)

    assert built(**change) != built() == key(lab.dspa, lab.triples)


def _weight(lab: Lab) -> Callable[[], None]:
    # An entry that is not among those that are looked at on every call; `.data` counts no version.
    weight = lab.hf.model.layers[0].mlp.up_proj.weight.data.view(-1)
    before = weight[3].clone()
    weight[3] += 1

    def back() -> None:
        weight[3] = before

    return back


def _sae(lab: Lab) -> Callable[[], None]:
    bias = lab.dspa.input_sae.encoder.tensors["b_enc"]
    before = bias.clone()
    bias[3] += 1

    def back() -> None:
        bias.copy_(before)

    return back


def _scale(lab: Lab) -> Callable[[], None]:
    attention = lab.hf.model.layers[0].self_attn
    before, attention.scaling = attention.scaling, 3.0
    return lambda: setattr(attention, "scaling", before)


def _rope(lab: Lab) -> Callable[[], None]:
    table = lab.hf.model.rotary_emb.inv_freq  # no parameter, and in no file
    before = table.clone()
    table.mul_(0.5)

    def back() -> None:
        table.copy_(before)

    return back


def _activation(lab: Lab) -> Callable[[], None]:
    mlp = lab.hf.model.layers[0].mlp
    before, mlp.act_fn = mlp.act_fn, torch.nn.ReLU()
    return lambda: setattr(mlp, "act_fn", before)


@pytest.mark.parametrize("change", [_weight, _sae, _scale, _rope, _activation])
def test_what_was_changed_in_place_is_noticed(
    lab: Lab, change: Callable[[Lab], Callable[[], None]]
) -> None:
    before = key(lab.dspa, lab.triples)
    with torch.no_grad():
        back = change(lab)
        try:
            assert key(lab.dspa, lab.triples) != before
        finally:
            back()
    assert key(lab.dspa, lab.triples) == before


def test_autocast_counts_apart(lab: Lab) -> None:
    before = key(lab.dspa, lab.triples)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert key(lab.dspa, lab.triples) != before


def test_counts_under_a_hook_of_the_users_are_not_kept(lab: Lab) -> None:
    plain = lab.dspa.fit(lab.triples, percentile=50, progress=False)
    assert unknown_hook(lab.hf) is None
    block = lab.hf.model.layers[0]

    def louder(_: Any, __: Any, output: Any) -> Any:
        return output * 2 if torch.is_tensor(output) else (output[0] * 2, *output[1:])

    handle = block.register_forward_hook(louder)
    try:
        with pytest.warns(DSPAWarning, match=r"has a hook of its user's \(.*louder on model.lay"):
            hooked = lab.dspa.fit(lab.triples, percentile=50, progress=False)
        wanted = lab.dspa.count(lab.triples, progress=False).fit(percentile=50)
    finally:
        handle.remove()
    assert torch.equal(hooked.to_dense(), wanted.to_dense())
    assert not torch.equal(hooked.to_dense(), plain.to_dense())
    assert len(kept_counts()) == 1


def test_counts_of_a_module_with_a_forward_of_its_own_are_not_kept(lab: Lab) -> None:
    norm = lab.hf.model.layers[0].input_layernorm
    before = norm.__dict__.get("forward")
    plain = norm.forward
    norm.forward = lambda x: 2 * plain(x)
    try:
        with pytest.warns(DSPAWarning, match=r"has a hook of its user's \(.*on model.layers.0.inp"):
            lab.dspa.fit(lab.triples, percentile=50, progress=False)
    finally:
        if before is None:
            del norm.forward
        else:
            norm.forward = before
    assert kept_counts() == []
    assert unknown_hook(lab.hf) is None
