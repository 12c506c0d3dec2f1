# ---
# title: Gemma-2-9B and Qwen3-8B by preset
# summary: The lines for the published models, run here on tiny random stand-ins of the same kind.
# group: scale
# order: 5
# tags: [presets, Gemma 2, Qwen 3, stand-in]
# minutes: 0.5
# memory: 1
# needs: [matplotlib]
# ---

# %% [markdown]
# !!! warning "On stand-ins"
#     No weights of these models were at hand where this page was built. What runs below is a tiny
#     model with **random weights**, of the same architecture, SAE type and conversation format,
#     through the same code. Its text means nothing. With the real models only the line that makes
#     `dspa` changes.
#
# ## What each preset needs
# The layers are the paper's, the SAEs those that are published. [The published
# models](../published.md) says what differs from the paper.

# %%
import matplotlib.pyplot as plt

import dspa_nn as dn
from dspa_nn.models import get_preset
from dspa_nn.reproduce import stand_in_dspa

NAMES = ("gemma-2-9b", "qwen3-8b")
for name in NAMES:
    preset = get_preset(name)
    print(f"{name}: {preset.model_id}, layers {preset.input_layer} and {preset.output_layer}")
    print(f"  {preset.input_sae}\n  {preset.output_sae}, {preset.d_out:,} latents")

# %% [markdown]
# ## The line that changes
# With a GPU, or without one on NDIF, it is one of these:
#
# ```text
# dspa = dn.DSPA.from_preset("gemma-2-9b")                                   # loads the weights
# model = dn.remote_model("google/gemma-2-9b")                               # loads nothing
# dspa = dn.DSPA.from_preset("gemma-2-9b", model=model)                      # and remote=True below
# ```
#
# Here it is the stand-in.

# %%
built = {name: stand_in_dspa(get_preset(name)) for name in NAMES}
for name, dspa in built.items():
    print(name, "->", dspa.facts.model_id, dspa.input_sae.encoder.rule["architecture"])

# %% [markdown]
# ## Fit and steer
# Base models have no chat template; the presets write the paper's format.

# %%
triples = dn.demo_triples()[:12]
message = [{"role": "user", "content": "Good news: I passed my exam!"}]
logs = {}
for name, dspa in built.items():
    map = dspa.fit(triples, percentile=50, progress=False, cache=False)
    prompt = dspa.render(message)
    print(repr(prompt.text))
    with dspa.model.generate(prompt.ids, max_new_tokens=12, do_sample=False) as tracer:
        edits = dspa.apply(map, prompt=prompt, alpha=0.3)
        ids = tracer.result.save()
    logs[name] = edits
    print(f"  {edits.total} edits on {ids.shape[1] - len(prompt.ids)} tokens")

# %%
fig, axes = plt.subplots()
for name, edits in logs.items():
    counts = edits.to_pandas()["position"].value_counts().sort_index()
    axes.step(range(len(counts)), counts, where="mid", label=name)
axes.set_xlabel("steered token")
axes.set_ylabel("edits on it (random weights)")
axes.legend()
plt.show()
