# ---
# title: What steering costs in knowledge
# summary: Run lm-evaluation-harness on questions of your own, with and without a map.
# group: evaluate
# order: 7
# tags: [lm-eval, multiple choice]
# minutes: 1
# memory: 1.8
# needs: [lm-eval]
# ---
# pyright: reportCallIssue=false, reportOptionalSubscript=false, reportTypedDictNotRequiredAccess=false

# %% [markdown]
# ## Questions on disk
# Any file with `query`, `choices` and `gold` becomes a task. Eight made-up questions keep this page
# quick, and are far too few to conclude anything; the paper's five tasks are the group
# `dspa_paper`.

# %%
import json
import tempfile
import warnings
from pathlib import Path

import dspa_nn as dn
from dspa_nn.harness import model_class, write_tasks
from dspa_nn.steering import DSPAMethod

warnings.filterwarnings("ignore")
questions = [
    ("What do bees make?", ["honey", "iron"], 0),
    ("What is frozen water called?", ["sand", "ice"], 1),
    ("Which animal barks?", ["a dog", "a trout"], 0),
    ("What falls from clouds?", ["rain", "bread"], 0),
    ("Where do fish live?", ["in trees", "in water"], 1),
    ("What shines at night?", ["the moon", "a spoon"], 0),
    ("What do we read?", ["soup", "books"], 1),
    ("Which is hot?", ["fire", "snow"], 0),
]
folder = tempfile.TemporaryDirectory()
root = Path(folder.name)
(root / "tiny.jsonl").write_text(
    "".join(
        json.dumps({"query": f"Question: {query}\nAnswer:", "choices": choices, "gold": gold})
        + "\n"
        for query, choices, gold in questions
    )
)
names = write_tasks(root / "tasks", {"tiny": root / "tiny.jsonl"})
print(names)

# %% [markdown]
# ## Measure the model, then the steered model
# The class is lm-eval's own `hf`, with steering from the border between context and continuation.

# %%
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

dspa = dn.DSPA.from_preset("smollm2-135m-instruct")
map = dspa.fit(dn.demo_triples()[:16], progress=False)
manager = TaskManager(include_path=str(root / "tasks"), include_defaults=False)
for name, method in (("unsteered", None), ("steered", DSPAMethod("steered", dspa, map))):
    lm = model_class()(dspa=dspa, method=method, batch_size=8, device="cpu")
    found = simple_evaluate(
        model=lm, tasks=["tiny"], task_manager=manager, bootstrap_iters=0, num_fewshot=0
    )
    print(f"{name}: accuracy {found['results']['tiny']['acc,none']:.2f}")
folder.cleanup()
