"""What is sent runs where the toolkit is not installed, and gives the same tokens and counts."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dspa_nn.counts import plan_batches, prepare, run_traces, to_tensors
from dspa_nn.graph.count import Counter
from dspa_nn.shipping import registered
from tests import steer_zoo
from tests.conftest import REPOSITORY
from tests.elsewhere import run_elsewhere
from tests.steer_zoo import SETTINGS, Lab

CALL = {"max_new_tokens": 5, "do_sample": False}

# In an interpreter that cannot import the toolkit: steer, and count one batch.
THERE = """
import json
import torch
from tests import tiny
torch.set_num_threads(1)
dspa, map, plan, prompt, counter, batch = sent
model = tiny.nnsight_model(tiny.model('llama'), tiny.tokenizer('add'))
steered = []
for by in (map, plan):
    given = {'prompt': prompt, **json.loads(sys.argv[2])} if by is map else {}
    with model.generate(prompt.prompt_ids.unsqueeze(0), **json.loads(sys.argv[3])) as tracer:
        edits = dspa.apply(by, **given)
        ids = tracer.result.save()
    changed = sum(int((s['before'] != s['after']).sum()) for s in edits.record.steps if s)
    steered.append([ids[0].tolist(), changed])
with torch.no_grad():
    counter.begin(batch)
    with model.trace(batch['prompt'], use_cache=True):
        counter.prompt(batch)
    for one in batch['passes']:
        cache = counter.resume(one['triples'])
        with model.trace(one['inputs'], past_key_values=cache, use_cache=True):
            counter.response(one['target'])
print(json.dumps([steered, [table.tolist() for table in counter.finish()]]))
"""


@pytest.fixture(scope="module")
def lab() -> Lab:
    return steer_zoo.lab("llama", "add")


@pytest.mark.slow
def test_what_is_sent_steers_and_counts_as_it_does_here(lab: Lab, tmp_path: Path) -> None:
    prompt = lab.dspa.render("sun moon red")
    plan = lab.dspa.plan(lab.map, prompt, **SETTINGS)
    steered = []
    for by, given in ((lab.map, {"prompt": prompt, **SETTINGS}), (plan, {})):
        with lab.nn.generate(prompt.ids.unsqueeze(0), **CALL) as tracer:
            log = lab.dspa.apply(by, **given)
            ids = tracer.result.save()
        assert log.total
        steered.append([ids[0].tolist(), log.total])

    tokenised, _ = prepare(lab.triples, lab.tok, 512, "truncate")
    batch = to_tensors(
        [tokenised[index] for index in plan_batches(tokenised, 256)[0]], 256, positions=True
    )
    paths = [f"{lab.nn.path}.{path}" for path in lab.dspa.paths]
    readers = [[reader] for reader in zip(lab.dspa.encoders, paths, strict=True)]
    counter: Any = Counter(*readers, follow=True)
    run_traces(lab.nn, counter, batch)
    counts = [table.tolist() for table in counter.finish()]
    assert torch.tensor(counts[0]).sum()

    sent = (
        lab.dspa,
        lab.map,
        plan,
        prompt,
        registered(Counter(readers[0], readers[1], True)),
        batch,
    )
    given = json.dumps(SETTINGS), json.dumps(CALL)
    done = run_elsewhere(THERE, sent, tmp_path, *given, path=str(REPOSITORY))
    assert done.returncode == 0, done.stderr
    there = json.loads(done.stdout)
    assert there == [steered, counts]
