# ---
# title: Audit one answer
# summary: Follow one word of a steered answer back to the prompt token that asked for it.
# group: steer
# order: 4
# tags: [audit, report, plan]
# minutes: 1
# memory: 1.5
# needs: [matplotlib]
# ---

# %% [markdown]
# ## An answer to look into
# A map from 48 triples, which prefer joy at good news and sympathy for bad news.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import dspa_nn as dn
from dspa_nn.audit import report

dspa = dn.DSPA.from_preset("smollm2-135m-instruct")
map = dspa.fit(dn.demo_triples()[:48], progress=False)

prompt = dspa.render([{"role": "user", "content": "Good news: I passed my driving test!"}])
with dspa.model.generate(prompt.ids, max_new_tokens=24, do_sample=False) as tracer:
    edits = dspa.apply(map, prompt=prompt, mode="both", alpha=0.4)
    ids = tracer.result.save()
print(dspa.facts.tokenizer.decode(ids[0, len(prompt.ids) :]))
print(edits)

# %% [markdown]
# ## Which token was moved most?
# An edit is worth looking at where it moved much of the residual stream.

# %%
table = edits.to_pandas()
print(table[["position", "token"]].value_counts().head(5))

# %% [markdown]
# ## Why this latent?
# The plan names the prompt latents that voted for each output latent. Each vote is an entry of
# the map: how much more often the output latent fired in preferred responses to such prompts.

# %%
latent = int(table["latent"].value_counts().index[0])
plan = edits.plans[0]
print(f"latent {latent}: score {float(plan.scores[latent]):+.3f}")
print(plan)

# %% [markdown]
# ## All of it in one file
# The report shows the answer beside an unsteered one, and opens every token: edits, the next
# tokens whose probabilities changed, and the path from prompt token to edit. It fetches nothing.
# Here it goes into a temporary folder; keep it wherever you like.

# %%
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "report.html"
    report(edits, path, dspa=dspa, map=map)
    print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB, stands alone")

# %%
edits.plot(row=0)
plt.show()
