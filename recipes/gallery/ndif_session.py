# ---
# title: A session on NDIF
# summary: Fit and steer on a remote server, without weights here, and see what will be sent.
# group: scale
# order: 2
# tags: [NDIF, remote]
# minutes: 3
# memory: 1.5
# needs: [ndif]
# ---

# %% [markdown]
# The lines are those of a local run, with `remote=True`. The server needs nothing of this
# package: what is sent is tensors, and the source of the code that edits.
#
# ## A model that is not here
# `NDIF_HOST` names the server, `NDIF_API_KEY` your key where the server asks for one. `make
# ndif` starts a server of your own on this machine.

# %%
import os

from nnsight import CONFIG

import dspa_nn as dn

CONFIG.API.HOST = os.environ["NDIF_HOST"]
model = dn.remote_model("HuggingFaceTB/SmolLM2-135M-Instruct")  # no weights are loaded
dspa = dn.DSPA.from_preset("smollm2-135m-instruct", model=model)

# %% [markdown]
# Does the server answer, does it run this model, and do the versions fit together?

# %%
print(dn.doctor(dspa))

# %% [markdown]
# ## Count there, fit here
# The server encodes, and sends back integers. With `checkpoint=FOLDER` an interrupted count
# goes on where it stopped.

# %%
counts = dspa.count(dn.demo_triples()[:16], remote=True, progress=False)
map = counts.fit(percentile=90)
print(map)

# %% [markdown]
# ## How much will be sent?

# %%
print(dspa.payload(map))

# %% [markdown]
# ## Steer there

# %%
prompt = dspa.render([{"role": "user", "content": "I passed my exam!"}])
with model.generate(prompt.ids, max_new_tokens=24, remote=True) as tracer:
    edits = dspa.apply(map, prompt=prompt)
    ids = tracer.result.save()
print(model.tokenizer.decode(ids[0]))
print(edits)

# %% [markdown]
# ## Send less: plan first
# A plan needs the input SAE alone, and the edit that follows it the output SAE and the planned
# rows.

# %%
plan = dspa.plan(map, prompt, remote=True)
with model.generate(prompt.ids, max_new_tokens=24, remote=True) as tracer:
    edits = dspa.apply(plan)
    ids = tracer.result.save()
print(edits)

# %% [markdown]
# What can go wrong, and what is said then, is listed in [On NDIF](../howto/ndif.md).
