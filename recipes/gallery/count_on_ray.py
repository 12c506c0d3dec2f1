# ---
# title: Count on Ray
# summary: Spread counting over processes or machines, and merge to the table of a single run.
# group: scale
# order: 1
# tags: [Ray, shards, counts]
# minutes: 1
# memory: 2
# needs: [ray]
# ---
# pyright: reportMissingImports=false

# %% [markdown]
# Only counting runs the model, and it splits: shard 3 of 8 is a fixed part of the planned
# batches, whoever counts it. So actors may count shards in any order, and the merged table is
# that of a single run, byte for byte.
#
# ## What each actor builds
# A small Llama with random weights and SAEs, so that two actors fit on any machine. With a real
# model, `build` is `dn.DSPA.from_preset("gemma-2-9b")`.

# %%
import os
import tempfile
from pathlib import Path

import ray
import torch
from nnsight.modeling.transformers import TransformersModel
from sae_lens import SAE
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

import dspa_nn as dn
from dspa_nn.counts import merge_shards, shard_folder
from dspa_nn.models import model_path

SHARDS = 4
BUDGET = 1024  # padded tokens in a pass: small, so that 64 triples make several batches
FOLDER = Path(tempfile.mkdtemp())


def random_sae(layer: int, width: int) -> SAE:
    settings = {
        "architecture": "topk", "k": 8, "d_in": 64, "d_sae": width, "dtype": "float32",
        "device": "cpu", "apply_b_dec_to_input": True,
        "metadata": {"hook_name": f"blocks.{layer}.hook_resid_post"},
    }  # fmt: skip
    sae = SAE.from_dict(settings)
    with torch.no_grad():
        for weight in sae.parameters():
            weight.copy_(torch.randn(weight.shape) / weight.shape[0] ** 0.5)
    return sae


def build() -> dn.DSPA:
    torch.manual_seed(0)  # every actor builds the same model
    torch.set_num_threads(1)  # sums do not depend on how many cores a machine has
    tokenizer = AutoTokenizer.from_pretrained(model_path())
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=4,
        num_attention_heads=4, initializer_range=0.3, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    hf_model = AutoModelForCausalLM.from_config(config)
    return dn.DSPA(
        TransformersModel(hf_model, tokenizer=tokenizer, task="text-generation"),
        input_sae=random_sae(1, 256), output_sae=random_sae(2, 192), input_layer=1, output_layer=2,
    )  # fmt: skip


# %% [markdown]
# ## An actor
# Each holds one model and counts the shards that it is handed. A shard is saved when it is
# done, so a run that was interrupted goes on with those that are missing.


# %%
@ray.remote(num_cpus=1, max_restarts=2, max_task_retries=2)
class Counter:
    def __init__(self) -> None:
        self.dspa = build()
        self.triples = dn.demo_triples()[:64]

    def count(self, shard: int) -> tuple[int, int, int]:
        counts = self.dspa.count(
            self.triples, shards=SHARDS, shard=shard, token_budget=BUDGET, progress=False
        )
        counts.save(shard_folder(FOLDER, shard, SHARDS))
        return shard, len(counts), os.getpid()


# %% [markdown]
# ## Hand out the shards
# Here two actors on this machine; `ray.init(address="auto")` joins a cluster instead, where the
# folder lies on a disk that all nodes see, and `num_gpus=1` gives each actor a GPU.

# %%
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
counters = ray.util.ActorPool([Counter.remote() for _ in range(2)])
processes = set()
for shard, triples, process in counters.map_unordered(
    lambda counter, shard: counter.count.remote(shard), list(range(SHARDS))
):
    processes.add(process)
    print(f"shard {shard} of {SHARDS}: {triples} triples")
ray.shutdown()
print(f"counted by {len(processes)} processes")

# %% [markdown]
# ## Merge, and fit
# No model is needed for either. The merged counts equal those of a single run:

# %%
merged = merge_shards(FOLDER)
triples = dn.demo_triples()[:64]
whole = build().count(triples, token_budget=BUDGET, progress=False)
for name, counts in (("merged", merged), ("whole", whole)):
    counts.save(FOLDER / name)

same = [
    (FOLDER / "merged" / path.name).read_bytes() == path.read_bytes()
    for path in (FOLDER / "whole").iterdir()
]
print(f"{sum(same)} of {len(same)} files are the same, byte for byte")
print(merged.fit(percentile=50))

# %% [markdown]
# `recipes/ray_fit.py` is the same as a command, on Ray Data and with checkpoints inside each
# shard: see [On a cluster](../howto/clusters.md).
