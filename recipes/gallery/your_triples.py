# ---
# title: Your own triples
# summary: Read preference data in any of four layouts, and keep the map on disk.
# group: start
# order: 2
# tags: [triples, fit, files]
# minutes: 0.5
# memory: 1
# needs: []
# ---

# %% [markdown]
# ## Four layouts, one reader
# `load_triples` takes a path (JSON Lines, JSON, Parquet), a `datasets` object, the name of a
# data set on the hub, or any iterable of rows. Rows may be laid out in four ways, also mixed in
# one source:

# %%
import json
import tempfile
from pathlib import Path

import dspa_nn as dn

strings = {
    "prompt": "How do I boil an egg?",
    "chosen": "Put it in boiling water for eight minutes.",
    "rejected": "Eggs come from chickens.",
}
messages = {  # as TRL writes it
    "prompt": [{"role": "user", "content": "Name a tree."}],
    "chosen": [{"role": "assistant", "content": "The oak."}],
    "rejected": [{"role": "assistant", "content": "I would rather not."}],
}
whole_chats = {  # as in UltraFeedback: both lists open with the prompt
    "chosen": [
        {"role": "user", "content": "Is it raining?"},
        {"role": "assistant", "content": "I cannot see outside, but a forecast can tell you."},
    ],
    "rejected": [
        {"role": "user", "content": "Is it raining?"},
        {"role": "assistant", "content": "Yes."},
    ],
}
dialogues = {  # as in HH-RLHF
    "chosen": "\n\nHuman: Who wrote Emma?\n\nAssistant: Jane Austen, in 1815.",
    "rejected": "\n\nHuman: Who wrote Emma?\n\nAssistant: A novelist.",
}

# %% [markdown]
# A pair whose two responses are equal cannot teach anything: it is left out, and counted.

# %%
useless = {"prompt": "Hi!", "chosen": "Hello.", "rejected": "Hello."}
folder = Path(tempfile.mkdtemp())
source = folder / "preferences.jsonl"
rows = [strings, messages, whole_chats, dialogues, useless]
source.write_text("".join(json.dumps(row) + "\n" for row in rows))

triples = dn.load_triples(source, chat=True)
print(triples)
for triple in triples:
    print(triple.prompt, "->", repr(triple.chosen))

# %% [markdown]
# `chat=True` lifts plain strings and dialogues to messages, so that the model's chat template
# is used. `render` shows what the model will read:

# %%
dspa = dn.DSPA.from_preset("smollm2-135m-instruct")
print(dspa.facts.tokenizer.decode(dspa.render(triples[0].prompt).ids))

# %% [markdown]
# ## Fit, and keep
# Four triples are enough to show the steps, and far too few to steer with. The counts are worth
# keeping beside the map: another percentile, or a subset, is then fitted without the model.

# %%
counts = dspa.count(triples, progress=False)
counts.save(folder / "counts")
counts.fit(percentile=90).save(folder / "map")

map = dn.ConditionalDifferenceMap.load(folder / "map")
print(map)

again = dn.ActivationCounts.load(folder / "counts")
print(again.fit(percentile=50))

# %% [markdown]
# A saved map knows which model, SAEs, layers and triples it came from, and refuses any other
# model. See [Files and provenance](../howto/files.md).
