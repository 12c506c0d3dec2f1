# ---
# title: A conversation
# summary: Talk with a steered model, stream its answers, and see that no turn encodes all again.
# group: steer
# order: 2
# tags: [conversation, streaming, cache]
# minutes: 1
# memory: 1.4
# needs: [matplotlib]
# ---

# %% [markdown]
# ## A map to steer with
# Warm answers to personal messages, formal ones to questions: fitted from 24 triples, to be quick.

# %%
import matplotlib.pyplot as plt

import dspa_nn as dn
from dspa_nn.models import as_local

dspa = dn.DSPA.from_preset("smollm2-135m-instruct")
map = dspa.fit(dn.demo_triples(preference="register")[:24], percentile=50, progress=False)

# %% [markdown]
# ## Three turns
# Every answer is steered by a plan from all that was said so far. A hook on the first decoder
# block counts the tokens that pass through the model until the answer begins. A model of 135M
# parameters knows little: water does boil at less than 100 degrees on a mountain.

# %%
passed = []
block = as_local(dspa.model).model.layers[0]
hook = block.register_forward_hook(lambda _, inputs, __: passed.append(inputs[0].shape[1]))

conversation = dspa.conversation(map, max_new_tokens=24, do_sample=False)
run, whole = [], []
for text in (
    "What is the boiling point of water at sea level?",
    "Is it lower on a high mountain?",
    "Thank you! You helped my little daughter with her homework.",
):
    passed.clear()
    print(f"> {text}")
    print(conversation.say(text), "\n")
    run.append(passed[0] + passed[1])  # what is new, and the last prompt token
    whole.append(len(dspa.render(conversation.messages[:-1]).ids))
hook.remove()

# %%
turns = range(1, len(run) + 1)
fig, axes = plt.subplots()
axes.bar([turn - 0.2 for turn in turns], whole, 0.4, label="tokens of the whole conversation")
axes.bar([turn + 0.2 for turn in turns], run, 0.4, label="tokens that were run")
axes.set_xticks(list(turns))
axes.set_xlabel("turn")
axes.set_ylabel("prompt tokens")
axes.legend()
plt.show()

# %% [markdown]
# ## What was planned and edited
# Of the last turn. The plan is that of the whole conversation:

# %%
print(conversation.plan)
print(conversation.edits)
assert conversation.plan is not None
assert conversation.plan.latents == dspa.plan(map, conversation.messages[:-1]).latents

# %% [markdown]
# ## Another answer, as a stream
# `undo` takes a turn back. Settings given to `say` hold for one turn.

# %%
for piece in conversation.say(conversation.undo(), stream=True, alpha=0.5):
    print(piece, end="")
