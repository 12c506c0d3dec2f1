"""A type of SAE that SAELens does not ship: registered, loaded, encoded, and sent by value."""

import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import torch
from sae_lens import StandardSAE, StandardSAEConfig, register_sae_class

import dspa_nn as dn
from dspa_nn.saes import load_sae, register_sae_type, sae_types
from tests import sae_zoo as zoo
from tests import tiny
from tests.elsewhere import run_elsewhere

USERS_MODULE = """
import torch

def most(rule):
    return rule["cap"]

def capped(x, tensors, rule):
    latents = torch.relu(x @ tensors["W_enc"] + tensors["b_enc"])
    return latents.clamp(max=most(rule))
"""


@dataclass
class CappedConfig(StandardSAEConfig):
    cap: float = 2.0

    @classmethod
    def architecture(cls) -> str:
        return "capped"


class CappedSAE(StandardSAE):
    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return super().encode(x).clamp(max=self.cfg.cap)  # pyright: ignore


@pytest.fixture
def users_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module that the server does not have, with the type's encode; forgotten afterwards."""
    import cloudpickle
    from sae_lens.registry import SAE_CLASS_REGISTRY

    from dspa_nn.saes import types

    (tmp_path / "users_sae.py").write_text(USERS_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(types, "_registered", dict(types._registered))
    module = importlib.import_module("users_sae")
    register_sae_class("capped", CappedSAE, CappedConfig)
    yield module
    del SAE_CLASS_REGISTRY["capped"], sys.modules["users_sae"]
    if "users_sae" in cloudpickle.list_registry_pickle_by_value():
        cloudpickle.cloudpickle._PICKLE_BY_VALUE_MODULES.discard("users_sae")


def test_a_registered_type_is_loaded_and_encodes_as_its_own_class(users_module, tmp_path):
    register_sae_type("capped", users_module.capped, tensors=("W_enc", "b_enc"), settings=("cap",))
    assert sae_types()["capped"].settings == ("cap",)
    sae = zoo.build("capped", cap=1.5)
    sae.save_model(tmp_path / "saved")
    ours, hidden = load_sae(tmp_path / "saved"), zoo.hidden(3, 11)
    assert torch.equal(ours.encoder.encode(hidden)[0], sae.encode(hidden))
    assert (sae.encode(hidden) == 1.5).any()
    assert "capped, 64 latents of 16" in repr(ours)
    assert load_sae(sae).sha256 == ours.sha256


@pytest.mark.slow
def test_a_registered_type_travels_by_value(users_module, tmp_path):
    register_sae_type("capped", users_module.capped, tensors=("W_enc", "b_enc"), settings=("cap",))
    hf = tiny.model("llama")
    saes = [
        zoo.build("capped", d_in=tiny.HIDDEN, metadata={"hook_name": f"blocks.{n}.hook_resid_post"})
        for n in (1, 2)
    ]
    dspa = dn.DSPA(
        tiny.nnsight_model(hf, tiny.tokenizer("add")),
        input_sae=saes[0], output_sae=saes[1], input_layer=1, output_layer=2,
    )  # fmt: skip
    hidden = torch.randn(5, tiny.HIDDEN, generator=torch.Generator().manual_seed(3))
    code = "print(sent[0].encoders[1].encode(sent[1])[0].double().sum().item())"
    done = run_elsewhere(code, (dspa, hidden), tmp_path)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == saes[1].encode(hidden).double().sum().item()


def test_what_cannot_be_registered(users_module):
    with pytest.raises(dn.SAEError, match="'topk' is known already: register yours under another"):
        register_sae_type("topk", users_module.capped, tensors=())
    with pytest.raises(dn.SAEError, match=r"must be a function of \(x, tensors, rule\)"):
        register_sae_type("capped", users_module.most, tensors=())
    # A tuple without its comma is a string, and would be read letter by letter.
    with pytest.raises(dn.SAEError, match=r"the string 'W_enc', and must list names: write \('W_"):
        register_sae_type("capped", users_module.capped, tensors=("W_enc"))
    with pytest.raises(dn.SAEError, match="settings of the SAE type 'capped' is the string 'cap'"):
        register_sae_type("capped", users_module.capped, tensors=("W_enc",), settings="cap")


def test_names_that_the_sae_lacks_are_refused(users_module):
    register_sae_type("capped", users_module.capped, tensors=("W_enc", "bias"))
    with pytest.raises(dn.SAEError, match=r"has no weights named bias, only .*W_enc"):
        load_sae(zoo.build("capped"))
    register_sae_type("capped", users_module.capped, tensors=("W_enc",), settings=("lid",))
    with pytest.raises(dn.SAEError, match="has no config value 'lid': give register_sae_type"):
        load_sae(zoo.build("capped"))
