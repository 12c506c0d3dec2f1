# ---
# title: Tune a map
# summary: Search percentile, rule, mode and alpha on development triples, within a limit on damage.
# group: evaluate
# order: 5
# tags: [tune, Optuna, KL]
# minutes: 2
# memory: 1.8
# needs: [matplotlib, tune]
# ---

# %% [markdown]
# ## Three sets of triples
# One fits the maps, one chooses settings, and one is left for the end: the best of many settings
# looks too good on the triples that chose it.

# %%
import tempfile

import matplotlib.pyplot as plt

import dspa_nn as dn
from dspa_nn.evaluation import margins
from dspa_nn.steering import DSPAMethod
from dspa_nn.tuning import Space, tune

dspa = dn.DSPA.from_preset("smollm2-135m-instruct")
triples = dn.demo_triples()
fitting, development, test = triples[:40], triples[40:52], triples[-8:]

# %% [markdown]
# ## Search
# Every way to vote is ranked from counts, without a run of the model. The best go into a search
# over mode and alpha. `kl` is the most that the steered model may differ from the unsteered one, in
# nats per token. Eight trials keep this page quick; give yours forty.

# %%
folder = tempfile.TemporaryDirectory()
found = tune(
    dspa,
    fitting,
    development,
    folder.name,
    space=Space(percentile=(50, 75), k_diff=(16,)),
    trials=8,
    keep=1,
    kl=0.2,
    perplexity=None,
    progress=False,
)
print(found)

# %% [markdown]
# ## What may be told apart
# The region holds every setting that is as good as the best within noise, and "gentlest" is the one
# of them with the least KL.

# %%
fig, axes = plt.subplots()
axes.scatter([trial.damage for trial in found.trials], [trial.margin for trial in found.trials])
axes.axvline(0.2, linewidth=0.5, color="gray")
axes.set_xlabel("KL(unsteered || steered), nats per token")
axes.set_ylabel("change of the margin on development triples")
plt.show()

# %% [markdown]
# ## Measure the choice on triples that chose nothing

# %%
settings = found.report["settings"]
print(settings)
if settings is not None:
    map = dspa.fit(fitting, progress=False, **settings["fit"])
    _, steered = margins(dspa, test, [DSPAMethod("tuned", dspa, map, settings["steer"])])
    print(f"on {len(test)} test triples: {steered.change.mean():+.3f} nats a token")
folder.cleanup()
