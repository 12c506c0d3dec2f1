# ---
# title: Score text in a trace
# summary: Ask how likely two given responses are under the plain and under the steered model.
# group: evaluate
# order: 1
# tags: [trace, log-probability]
# minutes: 1
# memory: 1.9
# needs: [matplotlib]
# ---

# %% [markdown]
# In a trace the text is given rather than generated. That is how a response is scored: one
# forward pass, and the log-probability of each of its tokens.
#
# ## A map, and held-out triples
# The map is fitted from the first 32 triples; the next eight are scored.

# %%
import matplotlib.pyplot as plt
import torch

import dspa_nn as dn

dspa = dn.DSPA.from_preset("smollm2-135m-instruct")
triples = dn.demo_triples()[:40]
map = dspa.fit(triples[:32], progress=False)

# %% [markdown]
# ## Score one response
# `render` with a response gives the ids of both, tokenised apart as the fit does, and knows
# where the prompt ends; `prompt=` passes that on. `apply` is written before what needs the
# layers after it, as everything in an nnsight context stands in the order in which the model
# runs.


# %%
def score(prompt: object, response: str, alpha: float) -> float:
    """Mean log-probability of the response's tokens, in nats per token."""
    text = dspa.render(prompt, response)
    with torch.no_grad(), dspa.model.trace(text.ids):
        dspa.apply(map, prompt=text, alpha=alpha)
        logits = dspa.model.lm_head.output.save()
    length = text.prompt_length
    predicted = logits[0, length - 1 : -1].log_softmax(-1)
    return predicted.gather(-1, text.ids[length:, None]).mean().item()


triple = triples[32]
print("prompt: ", triple.prompt)
for alpha in (0, 1):
    print(f"alpha {alpha}: chosen {score(triple.prompt, triple.chosen, alpha):.3f}", end=", ")
    print(f"rejected {score(triple.prompt, triple.rejected, alpha):.3f} nats per token")

# %% [markdown]
# At `alpha=0` nothing is changed, bit for bit: it is the plain model.
#
# ## The margin
# How much more likely the chosen response is than the rejected one is its margin. Steering
# should raise it. Eight triples show how it is measured, not whether it works: for that, see
# [Results](../results.md).


# %%
def margin(triple: dn.PreferenceTriple, alpha: float) -> float:
    chosen = score(triple.prompt, triple.chosen, alpha)
    return chosen - score(triple.prompt, triple.rejected, alpha)


held_out = triples[32:40]
plain = [margin(triple, 0) for triple in held_out]
steered = [margin(triple, 1) for triple in held_out]
raised = sum(after > before for before, after in zip(plain, steered, strict=True))
print(f"the margin rose on {raised} of {len(plain)} held-out triples")

# %%
fig, axes = plt.subplots()
axes.axhline(0, color="grey", linewidth=0.8)
axes.bar([index - 0.2 for index in range(8)], plain, width=0.4, label="plain")
axes.bar([index + 0.2 for index in range(8)], steered, width=0.4, label="steered")
axes.set_xlabel("held-out triple")
axes.set_ylabel("margin (nats per token)")
axes.legend()
plt.show()
