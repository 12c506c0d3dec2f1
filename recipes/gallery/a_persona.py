# ---
# title: A persona
# summary: Weigh axes of style, steer by them without triples, and add a map to them.
# group: steer
# order: 7
# tags: [personas, style, sums]
# minutes: 0.5
# memory: 1.5
# needs: [matplotlib]
# ---

# %% [markdown]
# ## Weights on axes of style
# What ablating a latent does to each of eight axes was measured one latent at a time, and comes
# with the package. A persona weighs the axes and takes the latents that serve the weights best. On
# this model [it does not get far](../howto/personas.md): read the answers with that in mind.

# %%
import matplotlib.pyplot as plt

import dspa_nn as dn
from dspa_nn.personas import Persona, known_effects

dspa = dn.DSPA.from_preset("smollm2-135m-instruct")
effects = known_effects(dspa)
persona = Persona({"concise": -1.0, "proactive": -0.5}, effects)
print(persona)

# %% [markdown]
# ## Steer by it
# A persona is used where a map is. It scores every prompt alike.

# %%
prompt = dspa.render([{"role": "user", "content": "What is a good breakfast?"}])
decode = dspa.facts.tokenizer.decode
with dspa.model.generate(prompt.ids, max_new_tokens=32, do_sample=False) as tracer:
    plain = tracer.result.save()
with dspa.model.generate(prompt.ids, max_new_tokens=32, do_sample=False) as tracer:
    edits = dspa.apply(persona, prompt=prompt)
    steered = tracer.result.save()
for name, ids in (("unsteered", plain), ("steered", steered)):
    print(f"{name}: {decode(ids[0, len(prompt.ids) :])}")
print(edits)

# %% [markdown]
# ## With a map
# Scores add. A map's are differences of densities, a persona's are gains in standard deviations, so
# the factor is yours to choose: the contributions say what each brings.

# %%
map = dspa.fit(dn.demo_triples()[:16], progress=False)
plan = dspa.plan(map + 20 * persona, prompt)
parts = list(plan.contributions.items())[:8]
for latent, (of_map, of_persona) in parts:
    print(f"{latent:>5}  map {of_map:+.3f}  persona {of_persona:+.3f}")

# %%
fig, axes = plt.subplots()
names = [str(latent) for latent, _ in parts]
for number, name in enumerate(("map", "20 x persona")):
    axes.barh(
        [row + 0.4 * number for row in range(len(parts))],
        [float(both[number]) for _, both in parts],
        height=0.4,
        label=name,
    )
axes.set_yticks([row + 0.2 for row in range(len(parts))], names)
axes.set_xlabel("what each adds to the score")
axes.set_ylabel("planned latent")
axes.legend()
plt.show()
