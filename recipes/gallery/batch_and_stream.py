# ---
# title: Batches, and streaming
# summary: Steer several prompts at once, and print a steered answer while it is written.
# group: steer
# order: 1
# tags: [batch, streaming, hooks]
# minutes: 1
# memory: 1.4
# needs: [matplotlib]
# ---
# pyright: reportCallIssue=false

# %% [markdown]
# ## A map to steer with
# Fitted from 24 triples, to be quick.

# %%
import matplotlib.pyplot as plt
from transformers import TextStreamer

import dspa_nn as dn
from dspa_nn.models import as_local

dspa = dn.DSPA.from_preset("smollm2-135m-instruct")
map = dspa.fit(dn.demo_triples()[:24], percentile=50, progress=False)
tokenizer = dspa.facts.tokenizer

# %% [markdown]
# ## A batch
# Each row looks up its own latents, from its own prompt. Rows of a batch are padded on the
# left, so that all of them go on from their last token. A row gives the same result alone and
# in a batch, up to the float noise of padding.

# %%
texts = [
    "My sister is getting married on Saturday!",
    "What is the boiling point of water at sea level?",
    "My cat has been missing since Monday.",
]
prompts = [dspa.render([{"role": "user", "content": text}]) for text in texts]
batch = tokenizer.pad(
    {"input_ids": [prompt.ids.tolist() for prompt in prompts]},
    padding_side="left",
    return_tensors="pt",
)
with dspa.model.generate(dict(batch), max_new_tokens=24, do_sample=False) as tracer:
    edits = dspa.apply(map, prompt=prompts)
    ids = tracer.result.save()

start = batch["input_ids"].shape[1]
for text, row in zip(texts, ids, strict=True):
    print(f"> {text}\n{tokenizer.decode(row[start:], skip_special_tokens=True)}\n")

# %% [markdown]
# Different prompts have different latents edited, at different times:

# %%
print("edits in each row:", edits.by_row())
for row, plan in enumerate(edits.plans):
    print(f"row {row}:", plan.latents)

# %%
table = edits.to_pandas()
table["step"] = table["position"] - table.groupby("row")["position"].transform("min")
fig, axes = plt.subplots()
for row, text in enumerate(texts):
    steps = table[table["row"] == row].groupby("step").size().cumsum()
    axes.step(steps.index, steps.to_numpy(), where="post", label=text)
axes.set_xlabel("generated token")
axes.set_ylabel("edits so far")
axes.legend()
plt.show()

# %% [markdown]
# ## A stream
# `attach` makes the same edits with plain PyTorch hooks, so that whatever calls the model's
# `generate` is steered: pipelines, servers, and the streamers of transformers. Everything is
# undone when the context ends.


# %%
prompt = prompts[0]
model = as_local(dspa.model)  # the transformers model that nnsight wraps
with dspa.attach(model, map, prompt=prompt) as log:
    model.generate(
        prompt.ids[None],
        max_new_tokens=24,
        do_sample=False,
        streamer=TextStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True),
    )
print(log)
