# ---
# title: Score text in a trace
# summary: Ask how likely two given responses are under the plain and under the steered model.
# group: evaluate
# order: 1
# tags: [trace, log-probability]
# minutes: 2
# memory: 1.5
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
def score(prompt, response: str, steered: bool) -> float:
    """Mean log-probability of the response's tokens, in nats per token."""
    text = dspa.render(prompt, response)
    with torch.no_grad(), dspa.model.trace(text.ids):
        if steered:
            dspa.apply(map, prompt=text)
        logits = dspa.model.lm_head.output.save()
    length = text.prompt_length
    predicted = logits[0, length - 1 : -1].log_softmax(-1)
    return predicted.gather(-1, text.ids[length:, None]).mean().item()


triple = triples[32]
print("prompt:  ", triple.messages[0]["content"])
print("chosen:  ", triple.chosen)
print("rejected:", triple.rejected)
for steered in (False, True):
    chosen = score(triple.prompt, triple.chosen, steered)
    rejected = score(triple.prompt, triple.rejected, steered)
    print(f"steered {steered}: {chosen:.3f} and {rejected:.3f} nats per token")

# %% [markdown]
# ## The margin
# How much more likely the chosen response is than the rejected one is its margin. Steering
# should raise it. Eight triples show how it is measured, not whether it works: for that, see
# [Results](../results.md).


# %%
def margin(triple: dn.PreferenceTriple, steered: bool) -> float:
    chosen = score(triple.prompt, triple.chosen, steered)
    return chosen - score(triple.prompt, triple.rejected, steered)


held_out = triples[32:40]
plain = [margin(triple, False) for triple in held_out]
with_map = [margin(triple, True) for triple in held_out]
raised = sum(after > before for before, after in zip(plain, with_map, strict=True))
print(f"the margin rose on {raised} of {len(plain)} held-out triples")

# %%
fig, axes = plt.subplots()
axes.axhline(0, color="grey", linewidth=0.8)
axes.bar([index - 0.2 for index in range(8)], plain, width=0.4, label="plain")
axes.bar([index + 0.2 for index in range(8)], with_map, width=0.4, label="steered")
axes.set_xlabel("held-out triple")
axes.set_ylabel("margin (nats per token)")
axes.legend()
plt.show()
