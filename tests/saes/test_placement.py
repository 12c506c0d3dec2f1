"""SAEs beside their layers; counting and steering where the model, or an SAE, lies elsewhere."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dspa_nn import DSPA, SAEError
from dspa_nn.saes import layer_device, load_sae, placed, read_device
from tests import steer_zoo, tiny

TABLES = ("content", "markup", "chosen", "rejected")
# Where the model is, what sae_device says, and where the two SAEs are then.
CASES = [
    ("far:0", None, "far:0"),
    ("far:0", "cpu", "cpu"),
    ("far:0", "far:1", "far:1"),
    ("cpu", "far:0", "far:0"),
]


def main() -> None:
    """Count, plan, apply and attach with pretended devices; the test runs it in a process apart."""
    from tests import devices

    lab = steer_zoo.lab("llama", "add")
    rows = [lab.ids(prompt) for prompt in lab.prompts(3)]
    wanted = steer_zoo.by_nnsight(lab, rows)
    assert wanted.edits
    models = [tiny.model("llama") for _ in CASES]
    wrapped = [tiny.nnsight_model(own, lab.tok) for own in models]
    for own, nn, (model, sae_device, there) in zip(models, wrapped, CASES, strict=True):
        with devices.pretended(), torch.no_grad():
            devices.moved(own, model)
            dspa = DSPA(
                nn, input_sae=lab.sae_in, output_sae=lab.sae_out, input_layer=tiny.LAYER_IN,
                output_layer=tiny.LAYER_OUT, sae_device=sae_device,
            )  # fmt: skip
            encoders = dspa.input_sae.encoder, dspa.output_sae.encoder
            assert [str(own.device) for own in encoders] == [there, there], (model, sae_device)
            assert str(dspa.output_sae.decoder.device) == there
            assert dspa.input_sae.decoder.device.type == "cpu"
            counts = dspa.count(lab.triples, token_budget=256, progress=False)
            for name in TABLES:
                assert (getattr(counts, name) != getattr(lab.counts, name)).nnz == 0
            far = dataclasses.replace(lab, hf=own, nn=nn, dspa=dspa)
            found = steer_zoo.by_nnsight(far, rows)
            assert str(found.logits.device) == model
            assert found.edits == wanted.edits
            assert steer_zoo.deviation(found.logits.cpu(), wanted.logits) <= 1e-5
            inputs = steer_zoo.padded(lab, rows)
            with dspa.attach(own, lab.map, **steer_zoo.SETTINGS) as steering:
                own.generate(
                    **{name: value.to(model) for name, value in inputs.items()},
                    max_new_tokens=steer_zoo.STEPS, do_sample=False,
                )  # fmt: skip
            assert steer_zoo.listed(steering.logs[0])[0] == wanted.edits
            assert str(steering.logs[0]).startswith("EditLog:")
            plan = dspa.plan(lab.map, lab.prompts(1)[0])
            assert plan.ablate == lab.dspa.plan(lab.map, lab.prompts(1)[0]).ablate
            assert all(
                str(sae.encoder.device) == there for sae in (dspa.input_sae, dspa.output_sae)
            )
        # The SAEs that came are where they were.
        assert {p.device.type for p in lab.sae_out.parameters()} == {"cpu"}
    print("all cases passed")


@pytest.mark.slow
def test_counting_and_steering_on_other_devices() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from tests.saes.test_placement import main; main()"],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.endswith("all cases passed\n")


def test_a_layer_is_where_it_runs() -> None:
    model: Any = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2, device="meta"))
    assert layer_device(model, "0") == torch.device("cpu")
    assert layer_device(model, "1") is None  # not loaded
    # As accelerate keeps a layer whose weights are offloaded.
    model[1]._hf_hook = SimpleNamespace(execution_device="cuda:1")
    assert layer_device(model, "1") == torch.device("cuda:1")


def test_saes_follow_each_layer_of_a_device_map() -> None:
    lab = steer_zoo.lab("llama", "add")
    own = tiny.model("llama")
    dspa = DSPA(
        tiny.nnsight_model(own, lab.tok), input_sae=lab.sae_in, output_sae=lab.sae_out,
        input_layer=1, output_layer=2,
    )  # fmt: skip
    assert dspa.input_sae.encoder.device.type == "cpu"
    own.model.layers[2]._hf_hook = SimpleNamespace(execution_device="meta:0")
    own.model.layers[1]._hf_hook = SimpleNamespace(execution_device="cpu")
    dspa.place_saes()
    assert dspa.output_sae.encoder.device.type == "cpu"  # a layer on meta is nowhere
    moved = placed(dspa.output_sae, torch.device("meta"), decoder=True)
    assert (moved.encoder.device.type, moved.decoder.device.type) == ("meta", "meta")
    assert moved.sha256 == dspa.output_sae.sha256
    assert placed(dspa.output_sae, torch.device("cpu"), decoder=True) is dspa.output_sae
    assert placed(dspa.output_sae, None, decoder=True) is dspa.output_sae


def test_what_names_no_device_is_refused() -> None:
    assert read_device(None) is None
    assert read_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(SAEError, match=r"^device is 'gpu', which .* the tensors stay where they a"):
        load_sae(tiny.saes(tiny.model("llama"), "topk")[0], device="gpu")
    with pytest.raises(SAEError, match=r"sae_device is 'gpu', which names no device: give 'cpu', "):
        read_device("gpu")
