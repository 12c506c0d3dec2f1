# ---
# title: Quick start
# summary: Fit a map from preference triples, steer a small chat model with it, and see every edit.
# group: start
# order: 1
# tags: [fit, plan, steer]
# minutes: 1.5
# memory: 1.6
# needs: [matplotlib]
# ---

# %% [markdown]
# ## A model with two SAEs
# One sparse autoencoder (SAE) reads the prompt at an early-middle layer, the other is edited at
# a late one. A preset names the model, the two layers and the two SAEs. This one is a chat
# model of 135M parameters, whose SAEs come with the package.

# %%
import matplotlib.pyplot as plt

import dspa_nn as dn

dspa = dn.DSPA.from_preset("smollm2-135m-instruct")

# %% [markdown]
# ## Preference triples
# A triple is a prompt, a response that was preferred, and one that was not. Those of the demo
# prefer joy at good news, and sympathy for bad news. 48 of them keep this page quick; more give
# a better map.

# %%
triples = dn.demo_triples()[:48]
first = triples[0]
print("prompt:  ", first.messages[0]["content"])
print("chosen:  ", first.chosen)
print("rejected:", first.rejected)

# %% [markdown]
# ## The map
# Counting runs the model once over every triple, and keeps integers alone. Fitting is
# arithmetic on these counts and takes a moment, so several maps can be fitted from one count.
#
# An entry of the map says: when this latent of the early layer is active in the prompt, that
# latent of the late layer is active more often (positive) or less often (negative) in preferred
# responses.

# %%
counts = dspa.count(triples, progress=False)
map = counts.fit(percentile=50)
print(map)
print(map.top(5))

# %% [markdown]
# ## A look ahead
# Before anything is generated, a plan says which late latents would be turned off for a prompt,
# and which early latents voted for that.

# %%
message = [{"role": "user", "content": "Good news: I got the job I applied for!"}]
print(dspa.plan(map, message))

# %% [markdown]
# ## Steer
# `apply` goes into any nnsight context of the model. The same prompt without it is the model as
# it was. One answer proves nothing: this prompt is one of those that the model alone gets wrong
# and the steered one right, and with 48 triples it is often the same or still wrong.
# [Results](../results.md) has the figures over many answers.

# %%
prompt = dspa.render(message)
with dspa.model.generate(prompt.ids, max_new_tokens=40, do_sample=False) as tracer:
    plain = tracer.result.save()

with dspa.model.generate(prompt.ids, max_new_tokens=40, do_sample=False) as tracer:
    edits = dspa.apply(map, prompt=prompt)
    steered = tracer.result.save()

decode = dspa.facts.tokenizer.decode
print("plain:  ", decode(plain[0, len(prompt.ids) :]))
print("steered:", decode(steered[0, len(prompt.ids) :]))

# %% [markdown]
# ## What was edited
# Every edit is on a numbered latent, and logged: where, on which token, from which activation
# to which.

# %%
print(edits)
print(edits.to_pandas().head())

# %%
table = edits.to_pandas()
table["token"] = table["position"] - table["position"].min()
fig, axes = plt.subplots()
points = axes.scatter(
    table["token"], table["latent"].astype(str), c=table["before"], cmap="viridis"
)
fig.colorbar(points, label="activation before the edit")
axes.set_xlabel("generated token")
axes.set_ylabel("latent that was turned off")
plt.show()
