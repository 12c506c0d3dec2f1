# ---
# title: A selection rule of your own
# summary: Plan by another rule than the paper's k highest and lowest scores, and compare the two.
# group: evaluate
# order: 8
# tags: [extensions, margin]
# minutes: 2
# memory: 1.8
# needs: []
# ---

# %% [markdown]
# The paper plans a fixed number of latents for every prompt. The rule below plans those that score
# at least a quarter of the strongest: few where one stands out, more where many are alike.
# [Write your own](../howto/extend.md) says what a rule may ask for; it is checked when it is
# registered, before any model runs.
#
# ## The rule, and the comparison

# %%
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

import dspa_nn as dn
from dspa_nn.evaluation import bootstrap, margins
from dspa_nn.steering import DSPAMethod


@dn.extension("select")
def a_quarter_of_the_strongest(
    scores: Float64[Tensor, "batch d_out"], k_diff: int
) -> tuple[Int64[Tensor, "batch none"], Int64[Tensor, "batch k"]]:
    ordered = scores.sort(dim=-1, stable=True)
    keep = (ordered.values < 0) & (ordered.values <= ordered.values[:, :1] / 4)
    planned = torch.where(keep, ordered.indices, -1)[:, : 4 * k_diff]
    return planned[:, :0], planned


dspa = dn.DSPA.from_preset("smollm2-135m-instruct")
triples = dn.demo_triples()
map = dspa.fit(triples[:48], progress=False)
options = [{}, {"select": a_quarter_of_the_strongest}]
methods = [DSPAMethod("", dspa, map, {"mode": "ablate"} | own) for own in options]
_, paper, mine = margins(dspa, triples[-16:], methods)

# %% [markdown]
# ## What came out
# The change of the margin in nats a token, and the difference of the two, triple by triple, with
# its bootstrap interval. The new rule plans more latents, so that part of what it gains is
# strength: `calibrate` of `dspa_nn.evaluation` brings a method to another's strength. Sixteen
# triples show how it is done; a claim needs more, held out from whatever the rule was chosen on.

# %%
print("the paper's rule:", bootstrap(paper.change))
print("this one:        ", bootstrap(mine.change))
print("difference:      ", bootstrap(mine.change - paper.change))
for name, method in zip(("the paper's rule", "this one"), methods, strict=True):
    prompts = [dspa.render(triple.prompt) for triple in triples[-16:]]
    plans = dspa.plan(map, prompts, **method.options)
    print(f"{name} plans {[len(plan.ablate) for plan in plans]} latents")
