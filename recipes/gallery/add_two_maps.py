# ---
# title: Add two maps
# summary: Steer towards two preferences at once, and see what each of them asked for.
# group: steer
# order: 5
# tags: [maps, sums, plan]
# minutes: 1
# memory: 1.5
# needs: [matplotlib]
# ---

# %% [markdown]
# ## Two preferences
# One set of triples prefers joy at good news and sympathy for bad news, the other a warm tone for
# personal messages and a formal one for questions. Each gets a map.

# %%
import matplotlib.pyplot as plt

import dspa_nn as dn

dspa = dn.DSPA.from_preset("smollm2-135m-instruct")
news = dspa.fit(dn.demo_triples()[:32], progress=False)
register = dspa.fit(dn.demo_triples(preference="register")[:32], progress=False)

# %% [markdown]
# ## Scores add, exactly
# A sum votes with each map's own thresholds and rule, multiplies, and adds. It is used wherever a
# map is. The numbers are yours: 1 and 0.5 here.

# %%
both = news + 0.5 * register
print(both)
message = [{"role": "user", "content": "Good news: I have been promoted!"}]
plan = dspa.plan(both, message)
print(plan)

# %% [markdown]
# ## What came from where
# `contributions` holds what each map adds to the score of a planned latent.

# %%
parts = plan.contributions
latents = list(parts)[:8]
for latent in latents:
    print(latent, [round(float(part), 3) for part in parts[latent]])

# %%
fig, axes = plt.subplots()
for number, name in enumerate(("news", "0.5 x register")):
    axes.barh(
        [row + 0.4 * number for row in range(len(latents))],
        [float(parts[latent][number]) for latent in latents],
        height=0.4,
        label=name,
    )
axes.set_yticks([row + 0.2 for row in range(len(latents))], [str(each) for each in latents])
axes.set_xlabel("what each map adds to the score")
axes.set_ylabel("planned latent")
axes.legend()
plt.show()

# %% [markdown]
# ## Steer with the sum
# At most `k_diff` latents are planned in each direction, however many maps there are, so a sum does
# not edit more than a single map.

# %%
prompt = dspa.render(message)
decode = dspa.facts.tokenizer.decode
for name, map in (("news alone", news), ("both", both)):
    with dspa.model.generate(prompt.ids, max_new_tokens=24, do_sample=False) as tracer:
        edits = dspa.apply(map, prompt=prompt)
        ids = tracer.result.save()
    print(f"{name}, {edits.total} edits: {decode(ids[0, len(prompt.ids) :])}")
