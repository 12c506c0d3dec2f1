"""On a CUDA device: counting, steering and the benchmarks. `pytest -m gpu`; skipped without one."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from dspa_nn import DSPA
from tests import steer_zoo, tiny
from tests.steer_zoo import Lab

pytestmark = pytest.mark.gpu

BENCHMARKS = ("fit_speed", "steer_speed", "steer_growth", "map_scale")
# As on the CPU (test_steering): a few roundings of a logit.
BFLOAT16 = 2e-2


def on_gpu(dtype: torch.dtype = torch.float32, **changes: Any) -> Lab:
    lab = steer_zoo.lab("llama", "add")
    own = tiny.model("llama").to(dtype)
    nn = tiny.nnsight_model(own, lab.tok)
    own.to("cuda")
    dspa = DSPA(
        nn, input_sae=lab.sae_in, output_sae=lab.sae_out, input_layer=tiny.LAYER_IN,
        output_layer=tiny.LAYER_OUT, **changes,
    )  # fmt: skip
    return dataclasses.replace(lab, hf=own, nn=nn, dspa=dspa)


def prompts(lab: Lab) -> list[list[int]]:
    return [lab.ids(prompt) for prompt in lab.prompts(3)]


def test_saes_follow_the_model() -> None:
    dspa = on_gpu().dspa
    assert dspa.input_sae.encoder.device.type == dspa.output_sae.decoder.device.type == "cuda"
    assert on_gpu(sae_device="cpu").dspa.output_sae.encoder.device.type == "cpu"


@pytest.mark.parametrize("sae_device", [None, "cpu"])
def test_steering_is_that_of_the_cpu(sae_device: str | None) -> None:
    lab = on_gpu(sae_device=sae_device)
    here = steer_zoo.by_nnsight(steer_zoo.lab("llama", "add"), prompts(lab))
    found = steer_zoo.by_nnsight(lab, prompts(lab))
    assert steer_zoo.deviation(found.logits.cpu(), here.logits) <= 1e-4
    assert found.edits == here.edits
    inputs = {key: value.cuda() for key, value in steer_zoo.padded(lab, prompts(lab)).items()}
    with lab.dspa.attach(lab.hf, lab.map, **steer_zoo.SETTINGS) as steering:
        lab.hf.generate(**inputs, max_new_tokens=steer_zoo.STEPS, do_sample=False)
    assert steer_zoo.listed(steering.logs[0])[0] == here.edits


def test_counts_are_those_of_the_cpu_but_for_few_flips() -> None:
    lab = on_gpu()
    counts = lab.dspa.count(lab.triples, token_budget=256, progress=False)
    for name in ("content", "markup", "chosen", "rejected"):
        one, other = getattr(counts, name), getattr(lab.counts, name)
        assert abs(one - other).sum() <= 1e-2 * other.sum()


def test_merged_is_whole_on_one_gpu() -> None:
    lab = on_gpu()
    given: dict[str, Any] = {"token_budget": 40, "progress": False}
    whole = lab.dspa.count(lab.triples, **given)
    parts = [lab.dspa.count(lab.triples, shards=2, shard=at, **given) for at in range(2)]
    merged = parts[0].merge(parts[1])
    for name in ("content", "markup", "chosen", "rejected"):
        assert (getattr(merged, name) != getattr(whole, name)).nnz == 0


def test_a_bfloat16_model_with_float32_saes() -> None:
    lab = on_gpu(torch.bfloat16)
    assert lab.dspa.output_sae.dtype == torch.float32
    assert len(lab.dspa.count(lab.triples, token_budget=256, progress=False)) == len(lab.triples)
    rows = prompts(lab)
    batch = steer_zoo.by_nnsight(lab, rows)
    assert batch.edits
    for place, row in enumerate(rows):
        single = steer_zoo.by_nnsight(lab, [row])
        first, own = batch.logits[0, place].float(), single.logits[0, 0].float()
        assert steer_zoo.deviation(first, own) <= BFLOAT16


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="a device map over two GPUs needs two")
def test_layers_on_two_gpus() -> None:
    from accelerate import dispatch_model

    lab = on_gpu()
    names = ("embed_tokens", "layers.0", "layers.1", "layers.2", "layers.3", "norm", "rotary_emb")
    places = {f"model.{name}": int(name in ("layers.2", "layers.3", "norm")) for name in names}
    dispatch_model(lab.hf, device_map={**places, "lm_head": 1})
    lab.dspa.place_saes()
    encoders = lab.dspa.input_sae.encoder, lab.dspa.output_sae.encoder
    assert [own.device.index for own in encoders] == [0, 1]
    here = steer_zoo.by_nnsight(steer_zoo.lab("llama", "add"), prompts(lab))
    found = steer_zoo.by_nnsight(lab, prompts(lab))
    assert steer_zoo.deviation(found.logits.cpu(), here.logits) <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_runs(name: str, tmp_path: Path) -> None:
    """The embedded model goes to the GPU by itself, and the SAEs with it."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--quick", "--out", str(tmp_path)]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert list(tmp_path.glob("*.json"))
