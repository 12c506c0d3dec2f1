# ---
# title: A small arena
# summary: Compare a map with an instruction, a dense vector and one difference for all prompts.
# group: evaluate
# order: 4
# tags: [baselines, margin, KL]
# minutes: 2
# memory: 1.8
# needs: [matplotlib]
# ---

# %% [markdown]
# Does the condition on the prompt earn its keep? Every method below is fitted on the same 48
# triples and measured on the same 12 held-out ones, without a judge: how much likelier it makes
# the chosen response than the rejected one (the margin), and what that costs (the KL divergence
# from the unsteered model). 12 triples show how it is done; [the comparison](../arena.md) has
# enough of them to tell methods apart, and tunes each one.
#
# ## Fit each method
# One pass of the model gives the counts, which serve three of them.

# %%
import matplotlib.pyplot as plt

import dspa_nn as dn
from dspa_nn.baselines import baseline_method, fit_baseline
from dspa_nn.evaluation import margins

dspa = dn.DSPA.from_preset("smollm2-135m-instruct")
triples = dn.demo_triples()
fitting, held_out = triples[:48], triples[-12:]
counts = dspa.count(fitting, progress=False)

sources = {
    "dspa": counts,
    "global-difference": counts,
    "random-map": counts,
    "caa": fitting[:24],
    "prefix": (),
}
methods = [
    baseline_method(name, dspa, fit_baseline(name, dspa, source))
    for name, source in sources.items()
]
print(*[method.name for method in methods], sep="\n")

# %% [markdown]
# ## Measure all of them in one call
# The first row that `margins` returns is the unsteered model.

# %%
unsteered, *steered = margins(dspa, held_out, methods)
for method, found in zip(methods, steered, strict=True):
    change, kl = found.change.mean(), found.kl.mean()
    print(f"{method.name:<22} margin {change:+.3f} nats a token, KL {kl:.3f}")

# %% [markdown]
# ## Effect against cost
# Up is more effect, left is less damage. The settings are each method's defaults, so what lies
# further right is stronger, and not necessarily worse: compare methods at one strength before you
# conclude anything.

# %%
fig, axes = plt.subplots()
for method, found in zip(methods, steered, strict=True):
    axes.scatter(float(found.kl.mean()), float(found.change.mean()), label=method.name)
axes.axhline(0, linewidth=0.5, color="gray")
axes.set_xlabel("KL(unsteered || steered), nats per token")
axes.set_ylabel("change of the margin, nats per token")
axes.legend()
plt.show()
