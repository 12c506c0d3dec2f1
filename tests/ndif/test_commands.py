"""`--remote` of the commands, and personas, on a real server: they say what a run here says."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

import dspa_nn as dn
from dspa_nn.evaluation import AXES, accuracy, bootstrap
from dspa_nn.personas import AxisEffects, Persona
from tests import tiny
from tests.cli.command import app
from tests.ndif import server as ndif
from tests.ndif.conftest import WIDTH
from tests.ndif.test_remote import prompts, triples

pytestmark = [
    pytest.mark.ndif,
    pytest.mark.filterwarnings("ignore::dspa_nn.DSPAWarning"),
]
ASKED = "Tell me about volcanoes."


@pytest.fixture(scope="module")
def folder(server: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The SAEs of `build` and triples, as files."""
    made = tmp_path_factory.mktemp("commands")
    for layer, name in ((9, "in"), (24, "out")):
        sae = tiny.random_sae("topk", layer=layer, width=WIDTH, d_model=576, scale=5.0, seed=layer)
        sae.save_model(made / name)
    rows = [{"prompt": list(one.prompt), "chosen": one.chosen, "rejected": one.rejected}
            for one in triples()]  # fmt: skip
    (made / "triples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return made


def remotely(folder: Path, *arguments: object, typed: str | None = None, by: str = "") -> Result:
    saes = ("--input-sae", f"{by and '9='}{folder / 'in'}",
            "--output-sae", f"{by and '24='}{folder / 'out'}")  # fmt: skip
    given = [*arguments, "--remote", "--model", ndif.REPO_ID, *saes]
    return CliRunner().invoke(app, [str(one) for one in given], input=typed)


def effects(dspa: Any) -> AxisEffects:
    """Effects on style that nobody measured."""
    random = np.random.default_rng(5)
    return AxisEffects(
        axes=tuple(AXES), latents=np.arange(WIDTH),
        effect=random.normal(0, 0.1, (WIDTH, len(AXES))), error=np.full((WIDTH, len(AXES)), 0.05),
        fires=np.full(WIDTH, 3), spread=np.ones(len(AXES)), prompts=9, settings={"alpha": 1.0},
        shape=(WIDTH, WIDTH), provenance=dspa.provenance(),
    )  # fmt: skip


def test_fit_counts_there_what_a_fit_counts_here(folder: Path, local: Any) -> None:
    told = remotely(
        folder, "fit", folder / "triples.jsonl", "--out", folder / "map", "--percentile", 50,
        "--layers", "9,24",
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    made = dn.ConditionalDifferenceMap.load(folder / "map")
    here = local.fit(triples(), percentile=50, progress=False, cache=False)
    assert torch.equal(made.to_dense(), here.to_dense())


def test_sweep_ranks_there_as_it_does_here(folder: Path, local: Any) -> None:
    told = remotely(folder, "sweep", folder / "triples.jsonl", "--percentile", 50, "--json", by="=")
    assert told.exit_code == 0, told.output
    [pair] = json.loads(told.stdout)
    assert (pair["input_layer"], pair["output_layer"]) == (9, 24)
    counts = local.count(triples(), progress=False)
    fitting, held_out = counts.subset(range(13)), counts.subset(range(13, 16))
    here = bootstrap(accuracy(fitting.fit(percentile=50), held_out))
    assert pair["ranking"] == here.to_dict()


def test_chat_answers_there_as_a_conversation_does_here(folder: Path, local: Any, map: Any) -> None:
    map.save(folder / "dense")
    talk = remotely(
        folder, "chat", folder / "dense", "--max-new-tokens", 5, "--alpha", 0.5, "--k-diff", 256,
        "--layers", "9,24",
        typed=f"{ASKED}\n/why\nAnd lakes?\n/undo\n/save {folder / 'talk'}\n/quit\n",
    )  # fmt: skip
    assert talk.exit_code == 0, talk.output
    assert "edits; those edited most:" in talk.output, talk.output
    assert "taken back: And lakes?" in talk.output
    assert "--resume" not in talk.output
    given: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False, "k_diff": 256}
    for side, alpha in (("unsteered", 0.0), ("steered", 0.5)):
        kept = json.loads((folder / "talk" / side / "messages.json").read_text())["messages"]
        assert len(kept) == 2
        assert kept[1]["content"] == local.conversation(map, alpha=alpha, **given).say(ASKED)


def test_a_persona_steers_there_as_it_does_here(folder: Path, remote: Any, local: Any) -> None:
    persona = Persona({"concise": 1.0, "task": -0.5}, effects(local), latents=200)
    [prompt] = prompts(local, ASKED)
    runs: list[Any] = []
    for dspa, far in ((remote, True), (local, False)):
        with dspa.model.generate(
            prompt.ids, max_new_tokens=5, do_sample=False, remote=far
        ) as tracer:
            edits = dspa.apply(persona, prompt=prompt)
            ids = tracer.result.save()
        runs.append((ids, edits))
    assert torch.equal(runs[0][0], runs[1][0])
    assert runs[0][1].total > 0
    assert list(runs[0][1]) == list(runs[1][1])
    assert {edit.latent for edit in runs[0][1]} <= set(persona.columns.tolist())
    persona.save(folder / "short.json")
    steered = remotely(
        folder, "steer", folder / "short.json", ASKED, "--chat", "--max-new-tokens", 5, "--json",
        "--layers", "9,24",
    )  # fmt: skip
    assert steered.exit_code == 0, steered.output
    assert json.loads(steered.stdout)["edits"] == runs[0][1].total
