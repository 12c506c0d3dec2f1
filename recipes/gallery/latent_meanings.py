# ---
# title: What does latent n mean?
# summary: Find a latent's places in texts, rank what a map steers, and compare with random ones.
# group: evaluate
# order: 3
# tags: [latents, audit, explain, judge]
# minutes: 1.5
# memory: 1.6
# needs: [matplotlib]
# ---

# %% [markdown]
# A plan says "latent 1846". What is that? Three things can be read off without asking anyone: where
# in texts the latent is strongest, which words are most often among those places, and which tokens
# its decoder row makes likelier. For the embedded SAEs, the package brings a table of all three.

# %%

import dspa_nn as dn
from dspa_nn.audit import (
    category_by_rule,
    category_table,
    coverage,
    explain,
    latents_to_compare,
    stability,
    steered_latents,
)
from dspa_nn.saes import meanings_of

dspa = dn.DSPA.from_preset("smollm2-135m-instruct")
table = meanings_of(dspa.output_sae.sha256)
for latent in (1846, 3132):
    meaning = table[latent]
    print(latent, "promotes", ", ".join(meaning.promotes))
    print("     strongest on", ", ".join(meaning.fires_on))
    for place in meaning.snippets:
        print("    ", place)

# %% [markdown]
# The token in double brackets is the one on which the latent is active.
#
# ## From your own texts
# `explain` does the same for any texts: strings, chats, or preference triples. Four sentences are
# enough to see it work, and far too few to know a latent by.

# %%
texts = [
    "I'm so glad you're doing well, and that you found a new job!",
    "The dog is back home, and they're all doing great.",
    "The keel on a sailing boat keeps it upright.",
    "The bridge was opened in 1932 and is 503 metres long.",
]
for latent, meaning in explain([1846, 3132], texts, dspa=dspa, most=2).items():
    print(latent, [str(place) for place in meaning.snippets])

# %% [markdown]
# ## With a judge
# A language model behind any OpenAI-compatible endpoint writes an explanation from the places, and
# puts the latent into one of six categories. Its answers are kept on disk, so that a run which was
# cut off goes on where it stopped. No judge is asked on this page:
#
# ```python
# from dspa_nn.judges import Endpoint, Judge, ReplyCache
#
# judge = Judge(Endpoint("http://127.0.0.1:8000/v1", "my-judge"), ReplyCache("replies.jsonl"))
# explain([1846, 3132], texts, dspa=dspa, judge=judge)
# ```
#
# ## What does a map steer?
# Columns of a map rank the output latents, rows the prompt latents that decide.

# %%
triples = dn.demo_triples()
counts = dspa.count(triples[:60], progress=False)
map = counts.fit()
steered = steered_latents(map, n=5)
print(steered)

# %%
steered_latents(map).plot()

# %% [markdown]
# Does the map act on prompts that it has not seen, and would other triples have given the same top
# latents?

# %%
print(coverage(map, dspa.count(triples[60:72], progress=False)))
print()
print(stability(counts, resamplings=6, n=10))

# %% [markdown]
# Halves of so few triples agree on little: a name in such a list is a hint. In these triples what
# is right for one kind of prompt is wrong for the other, so that column sums nearly cancel, and
# what is left of them is noise to a good part. Columns ranked by size ("either") are steadier.
# [The page on latents](../howto/latents.md) has the figures for 250 triples, and for a preference
# that cancels less.
#
# ## Steered against random latents
# The paper has a judge categorise the latents that a map steers most and as many random ones, and
# compares them by Fisher's exact test. In place of a judge, a crude rule stands here: is the word
# that a latent is most often strongest on a function word, a mark, or a word with a meaning of its
# own?

# %%
active = {latent: meaning for latent, meaning in table.items() if meaning.fires_on}
sets = latents_to_compare(map, active, n=50)
print(
    category_table(
        {
            name: {latent: category_by_rule(meaning) for latent, meaning in each.items()}
            for name, each in sets.items()
        }
    )
)

# %% [markdown]
# `compare_with_random(map, texts, judge, dspa=dspa)` does it with a judge and all six categories.
