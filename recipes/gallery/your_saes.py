# ---
# title: Your own SAEs, on another architecture
# summary: Steer a Qwen 3 with SAEs that SAELens saved to a folder; both are made on the spot.
# group: start
# order: 3
# tags: [SAEs, SAELens, Qwen 3]
# minutes: 0.5
# memory: 0.6
# needs: []
# ---

# %% [markdown]
# Any decoder-only model that nnsight wraps can be steered, with any two SAEs on its residual
# stream. Here the model is a Qwen 3 of four layers with random weights, so its text means
# nothing; each step is the same for a real one.
#
# ## A model

# %%
import tempfile
from pathlib import Path

import torch
from nnsight.modeling.transformers import TransformersModel
from sae_lens import SAE
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config

import dspa_nn as dn
from dspa_nn.models import model_path

torch.manual_seed(0)
tokenizer = AutoTokenizer.from_pretrained(model_path())  # any tokenizer will do
config = Qwen3Config(
    vocab_size=len(tokenizer),
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    initializer_range=0.3,
    eos_token_id=tokenizer.eos_token_id,
    pad_token_id=tokenizer.pad_token_id,
)
model = TransformersModel(
    AutoModelForCausalLM.from_config(config).eval(), tokenizer=tokenizer, task="text-generation"
)

# %% [markdown]
# ## Two SAEs, saved by SAELens
# Yours come from training, for instance with SAELens' own trainer. These are random ones, saved
# in the same format: a folder with `cfg.json` and `sae_weights.safetensors`. The two may be of
# different kinds and widths.


# %%
def save_random_sae(folder: Path, layer: int, width: int) -> Path:
    sae = SAE.from_dict(
        {
            "architecture": "topk",
            "k": 8,
            "d_in": config.hidden_size,
            "d_sae": width,
            "dtype": "float32",
            "device": "cpu",
            "apply_b_dec_to_input": True,
            "metadata": {"hook_name": f"blocks.{layer}.hook_resid_post"},
        }
    )
    with torch.no_grad():
        for weight in sae.parameters():
            weight.copy_(torch.randn(weight.shape) / weight.shape[0] ** 0.5)
    sae.save_model(folder)
    return folder


folder = Path(tempfile.mkdtemp())
early = save_random_sae(folder / "early", layer=1, width=256)
late = save_random_sae(folder / "late", layer=2, width=192)
print(sorted(path.name for path in early.iterdir()))

# %% [markdown]
# ## Both together
# The layers are those whose output each SAE reads. What an SAE says of itself (width, layer,
# model) is held against the model, and a contradiction is refused:

# %%
dspa = dn.DSPA(model, input_sae=early, output_sae=late, input_layer=1, output_layer=2)
print(dspa)

try:
    dn.DSPA(model, input_sae=early, output_sae=late, input_layer=0, output_layer=2)
except dn.SAEError as error:
    print("refused:", error)

# %% [markdown]
# ## Fit and steer, as ever

# %%
map = dspa.fit(dn.demo_triples()[:48], percentile=50, progress=False)
print(map)

prompt = dspa.render("Tell me about bees.")
with dspa.model.generate(prompt.ids, max_new_tokens=16, do_sample=False) as tracer:
    edits = dspa.apply(map, prompt=prompt)
    ids = tracer.result.save()
print(edits)

# %% [markdown]
# A published SAE needs no folder: `"release/sae_id"` of any release that SAELens lists is
# fetched from the hub. See [Use your own SAEs](../howto/saes.md) for what is read, and [What is
# refused](../limits.md) for what cannot be.
