"""A real server on loopback: the same code gives the same values, and little is sent."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import dspa_nn as dn
from dspa_nn.ndif import backend_factory

pytestmark = [
    pytest.mark.ndif,
    # Random SAEs, and settings that steer hard.
]
OPTIONS: dict[str, Any] = {"alpha": 0.5, "k_diff": 256}
QUESTIONS = ("Tell me about volcanoes.", "Hi")
# Two to a batch of 90 tokens and two batches to a chunk: four chunks.
WORDS = (
    "volcanoes rivers cats dogs trains stars boats seas lakes hills birds trees cars planes "
    "books songs"
).split()


def prompts(dspa: Any, *questions: str) -> list[Any]:
    return [dspa.render([{"role": "user", "content": question}]) for question in questions]


def triples() -> list[Any]:
    return [
        dn.PreferenceTriple(
            prompt=[{"role": "user", "content": f"Tell me about {word}, please."}],
            chosen=f"Of course! {word} are wonderful things.",
            rejected=f"{word}: see the dictionary.",
        )
        for word in WORDS
    ]


def padded(dspa: Any, rendered: list[Any]) -> dict[str, torch.Tensor]:
    return dspa.model.tokenizer.pad(
        {"input_ids": [own.prompt_ids.tolist() for own in rendered]}, return_tensors="pt"
    )


def generated(dspa: Any, map: Any, mode: str, rendered: list[Any], remote: bool) -> Any:
    inputs = padded(dspa, rendered)
    with dspa.model.generate(inputs, max_new_tokens=5, do_sample=False, remote=remote) as tracer:
        edits = dspa.apply(map, mode=mode, prompt=rendered, **OPTIONS)
        ids = tracer.result.save()
    return ids, edits


@pytest.mark.parametrize("mode", ["ablate", "augment", "both"])
@pytest.mark.parametrize("rows", [1, 2])
def test_remote_generation_equals_local(
    remote: Any, local: Any, map: Any, mode: str, rows: int
) -> None:
    rendered = prompts(local, *QUESTIONS[:rows])
    ids, edits = generated(remote, map, mode, rendered, True)
    own_ids, own_edits = generated(local, map, mode, rendered, False)
    assert torch.equal(ids, own_ids)
    assert isinstance(edits, dn.EditLog)
    assert edits.total > 0
    assert list(edits) == list(own_edits)
    assert [plan.ablate for plan in edits.plans] == [plan.ablate for plan in own_edits.plans]
    assert str(edits) == str(own_edits)


def test_a_sum_of_maps_steers_there_as_it_does_here(remote: Any, local: Any, map: Any) -> None:
    # Two halves of a map, one of them with thresholds and a rule of its own.
    other = dn.ConditionalDifferenceMap.from_dense(
        map.to_dense().flip(0), prompt_tokens="all", provenance=map.provenance,
        tau=torch.full((map.shape[0],), 0.1), defaults={"prompt_rule": "gated"},
    )  # fmt: skip
    total = map.restrict(columns=range(256)) - 0.5 * other.restrict(columns=range(200, 400))
    rendered = prompts(local, *QUESTIONS)
    ids, edits = generated(remote, total, "both", rendered, True)
    own_ids, own_edits = generated(local, total, "both", rendered, False)
    assert torch.equal(ids, own_ids)
    assert edits.total > 0
    assert list(edits) == list(own_edits)
    assert str(edits) == str(own_edits)
    assert [plan.contributions for plan in edits.plans] == [
        plan.contributions for plan in own_edits.plans
    ]
    assert remote.payload(total).parts[2].name == f"decoder, {len(total.columns_used())} rows"
    plan = remote.plan(total, rendered[0], remote=True, mode="both", **OPTIONS)
    wanted = local.plan(total, rendered[0], mode="both", **OPTIONS)
    assert plan.contributions == wanted.contributions


def test_remote_logits_equal_local_ones(remote: Any, local: Any, map: Any) -> None:
    ids = prompts(local, QUESTIONS[0])[0].prompt_ids.unsqueeze(0)
    found = []
    for dspa, there in ((remote, True), (local, False)):
        with dspa.model.trace(ids, remote=there):
            edits = dspa.apply(map, prompt_length=ids.shape[1] - 3, mode="both", **OPTIONS)
            logits = dspa.model.output.logits.save()
        assert edits.total > 0
        found.append(logits.detach())
    scale = float(found[1].abs().max())
    assert float((found[0] - found[1]).abs().max()) <= 1e-5 * scale


def test_a_session_ships_the_saes_once(remote: Any, map: Any) -> None:
    import nnsight

    rendered = prompts(remote, "Hello", "Good day", "Who are you?")
    sizes = []
    for batch in (rendered[:1], rendered):
        ids = [own.prompt_ids.unsqueeze(0) for own in batch]
        with remote.model.session(remote=True) as session:
            logs = nnsight.save([])
            for own, row in zip(batch, ids, strict=True):
                with remote.model.generate(row, max_new_tokens=2, do_sample=False):
                    edits = remote.apply(map, prompt=own, mode="both", **OPTIONS)
                logs.append(edits)
        assert [type(log) for log in logs] == [dn.EditLog] * len(batch)
        sizes.append(session.backend.sent)
    assert sizes[1] - sizes[0] < 20_000 < sizes[0] / 100


def test_the_payload_is_what_can_matter(remote: Any, map: Any) -> None:
    payload = remote.payload(map)
    rows = len(map.columns_used())
    assert rows <= 512
    assert payload.nbytes == sum(part.nbytes for part in payload.parts)
    assert payload.parts[2].nbytes == rows * 576 * 4
    assert payload.measured is not None
    assert payload.measured <= 1.15 * payload.nbytes
    generated(remote, map, "both", prompts(remote, "Hi"), True)
    last = backend_factory(remote.model).last
    assert last is not None
    assert last.sent <= 1.15 * payload.nbytes


@pytest.mark.parametrize("rows", [1, 2])
def test_planned_first_equals_one_request(remote: Any, map: Any, rows: int) -> None:
    rendered = prompts(remote, *QUESTIONS[:rows])
    factory: Any = backend_factory(remote.model)
    ids, edits = generated(remote, map, "both", rendered, True)
    whole = factory.last.sent
    options = {name: value for name, value in OPTIONS.items() if name != "alpha"}
    plans = remote.plan(map, rendered, remote=True, mode="both", **options)
    first = factory.last.sent
    with remote.model.generate(
        padded(remote, rendered), max_new_tokens=5, do_sample=False, remote=True
    ) as tracer:
        own = remote.apply(plans, alpha=OPTIONS["alpha"])
        own_ids = tracer.result.save()
    second = factory.last.sent
    assert torch.equal(own_ids, ids)
    assert list(own) == list(edits)
    assert str(own) == str(edits)
    assert edits.total > 0
    assert max(first, second) < 0.7 * whole
    for plan, there in zip(plans, edits.plans, strict=True):
        assert plan.prompt_latents == there.prompt_latents
        assert torch.equal(plan.scores, there.scores)


def test_plans_share_a_session(remote: Any, map: Any) -> None:
    import nnsight

    rendered = prompts(remote, *QUESTIONS)
    plans = remote.plan(map, rendered, remote=True, mode="both", **OPTIONS)
    rows = [own.prompt_ids.unsqueeze(0) for own in rendered]
    with remote.model.session(remote=True) as session:
        logs = nnsight.save([])
        for plan, row in zip(plans, rows, strict=True):
            with remote.model.generate(row, max_new_tokens=2, do_sample=False):
                edits = remote.apply(plan)
            logs.append(edits)
    assert [log.plans[0].latents for log in logs] == [plan.latents for plan in plans]
    assert session.backend.sent < remote.payload(map).compressed


def test_a_remote_fit_is_byte_identical_and_resumes(
    remote: Any, local: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dspa_nn.counts import checkpoints
    from dspa_nn.counts import remote as remote_counting

    monkeypatch.setattr(checkpoints, "BATCHES_PER_CHUNK", 2)
    submitted = []
    submit = remote_counting.submit

    def watched(*arguments: Any) -> Any:
        submitted.append(arguments)
        if len(submitted) == 3:
            raise KeyboardInterrupt
        return submit(*arguments)

    monkeypatch.setattr(remote_counting, "submit", watched)
    run = {"token_budget": 90, "checkpoint": here / "run", "remote": True, "progress": False}
    with pytest.raises(KeyboardInterrupt):
        remote.count(triples(), **run)
    again = len(submitted)
    assert len(list((here / "run").glob("chunk-*"))) >= 1
    with pytest.warns(dn.DSPAWarning, match="chunk 2 was being submitted when the earlier run"):
        counts = remote.count(triples(), **run)
    assert len(submitted) - again == len(list((here / "run").glob("chunk-*"))) - 2
    whole = local.count(triples(), token_budget=90, progress=False)
    # Only the machine that holds the weights knows their fingerprint; all else is the same bytes.
    assert counts.provenance["weights"] is None
    assert counts.provenance.pop("weights_unknown").startswith("counted on NDIF, which")
    assert set(whole.provenance) - set(counts.provenance) == {"every_weight", "config"}
    del whole.provenance["every_weight"], whole.provenance["config"]
    whole.provenance["weights"] = None
    for name, table in (("remote", counts), ("local", whole)):
        table.save(here / f"counts-{name}")
        table.fit(percentile=50).save(here / f"map-{name}")
    for kind in ("counts", "map"):
        one, other = here / f"{kind}-remote", here / f"{kind}-local"
        names = sorted(path.name for path in one.iterdir())
        assert names == sorted(path.name for path in other.iterdir())
        for name in names:
            assert (one / name).read_bytes() == (other / name).read_bytes()


def test_counts_of_a_remote_fit_are_kept(
    remote: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dspa_nn.counts import kept_counts
    from dspa_nn.counts import remote as remote_counting

    submitted = []
    submit = remote_counting.submit

    def watched(*arguments: Any) -> Any:
        submitted.append(arguments)
        return submit(*arguments)

    monkeypatch.setattr(remote_counting, "submit", watched)
    run: dict[str, Any] = {"token_budget": 90, "remote": True}
    first = remote.fit(triples()[:4], percentile=50, **run)
    assert submitted
    again = len(submitted)
    second = remote.fit(triples()[:4], percentile=50, **run)
    assert len(submitted) == again
    assert torch.equal(first.to_dense(), second.to_dense())
    [entry] = kept_counts()
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"counts of 4 triples are read again from {entry.folder} ({entry.size})"
    )


def test_a_job_is_collected_by_another_process(remote: Any, map: Any, here: Path) -> None:
    own = prompts(remote, "Hi")[0]
    ids = own.prompt_ids.unsqueeze(0)
    with remote.model.generate(
        ids, max_new_tokens=3, do_sample=False, remote=True, blocking=False
    ) as tracer:
        edits = remote.apply(map, prompt=own, mode="both", **OPTIONS)  # noqa: F841
    dn.Job.of(tracer).save(here / "job.json")
    code = (
        "import sys, dspa_nn; found = dspa_nn.Job.load(sys.argv[1]).result(120);"
        "print(type(found['edits']).__name__, found['edits'].total)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(here / "job.json")], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(Path(dn.__file__).parents[1])}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "EditLog"
    assert int(done.stdout.split()[1]) > 0


def test_nothing_of_the_toolkit_is_on_the_server(remote: Any, map: Any, server: Any) -> None:
    generated(remote, map, "both", prompts(remote, "Hi"), True)
    log = [json.loads(line) for line in (server.work() / "imports.jsonl").read_text().splitlines()]
    requests = [line for line in log if line["event"] == "request"]
    assert requests
    assert all(line["present"] == [] and line["loaded"] == [] for line in requests)
    assert all(line["loaded"] == [] for line in log if line["event"] == "done")
    ours = [line for line in log if line["event"] == "import" and "dspa_nn" in line["by"]]
    assert all(line["allowed"] for line in ours)


def test_the_import_hook_sees_shipped_code(remote: Any) -> None:
    ids = prompts(remote, "Hi")[0].prompt_ids.unsqueeze(0)

    def importing() -> None:
        with remote.model.generate(ids, max_new_tokens=1, remote=True):
            import colorsys

            found = colorsys.rgb_to_hls(0, 0, 0)  # noqa: F841

    with pytest.raises(dn.NDIFError, match="shipped code may not import colorsys"):
        importing()
