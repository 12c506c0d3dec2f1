"""Extensions on a real server: from a notebook's cell, from a user's module, and shipped ones."""

import importlib
import json
import linecache
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import dspa_nn as dn
from dspa_nn.extensions import Demixed, norm_preserving, soft_gate
from dspa_nn.theory import shrunk_whitening
from tests.ndif.test_remote import OPTIONS, padded, prompts, triples

pytestmark = pytest.mark.ndif

CELL = '''
from jaxtyping import Float, Float64, Int64
import torch
from torch import Tensor
import dspa_nn as dn

KEPT = 40


def best(scores: Float64[Tensor, "batch d_out"], number: int) -> Int64[Tensor, "batch kept"]:
    return scores.argsort(dim=-1, descending=True, stable=True)[:, :number]


@dn.extension("select", name="cell's")
def chosen(
    scores: Float64[Tensor, "batch d_out"], mode: str
) -> tuple[Int64[Tensor, "batch up"], Int64[Tensor, "batch down"]]:
    """The KEPT lowest, whatever k_diff says."""
    return best(scores, 0), best(-scores, KEPT)


@dn.extension("edit", name="cell's")
class Faded:
    def __init__(self, share: Float[Tensor, "1"]) -> None:
        self.share = share

    def __call__(
        self, latents: Float[Tensor, "batch position k"], signs: Float[Tensor, "batch 1 k"]
    ) -> Float[Tensor, "batch position k"]:
        return torch.where(signs < 0, self.faded(latents), latents)

    def faded(self, latents: Float[Tensor, "b p k"]) -> Float[Tensor, "b p k"]:
        return latents * self.share.to(latents.dtype)
'''


def run_cell(source: str) -> dict[str, Any]:
    """Run a cell as a notebook does: in `__main__`, its source known to Python alone."""
    name = f"/ipykernel/{abs(hash(source))}.py"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(source, name, "exec"), names)
    return names


def generated(dspa: Any, map: Any, remote: bool, **options: Any) -> Any:
    rendered = prompts(dspa, "Tell me about volcanoes.", "Hi")
    inputs = padded(dspa, rendered)
    with dspa.model.generate(inputs, max_new_tokens=5, do_sample=False, remote=remote) as tracer:
        edits = dspa.apply(map, prompt=rendered, **options)
        ids = tracer.result.save()
    return ids, edits


def agree(remote: Any, local: Any, map: Any, **options: Any) -> Any:
    ids, edits = generated(remote, map, True, **options)
    own_ids, own_edits = generated(local, map, False, **options)
    assert torch.equal(ids, own_ids)
    assert edits.total > 0
    assert list(edits) == list(own_edits)
    assert [plan.settings["extensions"] for plan in edits.plans] == [
        plan.settings["extensions"] for plan in own_edits.plans
    ]
    return edits


def test_from_a_cell_of_a_notebook(remote: Any, local: Any, map: Any) -> None:
    names = run_cell(CELL)
    faded = names["Faded"](torch.tensor([0.25]))
    edits = agree(remote, local, map, select=names["chosen"], edit=faded, mode="ablate")
    assert len(edits.plans[0].ablate) == 40
    assert edits.plans[0].settings["extensions"] == {"select": "cell's", "edit": "cell's"}
    assert all(abs(one.after - 0.25 * one.before) < 1e-6 for one in edits)


def test_from_a_module_of_the_users(
    remote: Any, local: Any, map: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "users_rules.py").write_text(CELL.replace("cell's", "module's"))
    monkeypatch.syspath_prepend(here)
    monkeypatch.delitem(sys.modules, "users_rules", raising=False)
    rules = importlib.import_module("users_rules")
    edits = agree(
        remote, local, map, select=rules.chosen, edit=rules.Faded(torch.tensor([0.5])),
        mode="ablate",
    )  # fmt: skip
    assert edits.plans[0].settings["extensions"] == {"select": "module's", "edit": "module's"}


def test_those_that_come_with_the_package(remote: Any, local: Any, map: Any, server: Any) -> None:
    counts = local.count(triples()[:4], progress=False)
    fitted = counts.fit(percentile=50, sparsify="none", prompt_tokens="all")
    opened = counts.prompt("all")[0]
    gates = Demixed(
        torch.as_tensor(opened.indptr, dtype=torch.int64),
        torch.as_tensor(opened.indices, dtype=torch.int64),
    )
    given: dict[str, Any] = {"mode": "both", **OPTIONS, "k_diff": 16}
    agree(remote, local, fitted, gate=soft_gate, edit=norm_preserving, **given)
    agree(remote, local, fitted, score=gates, prompt_rule="gated", **given)
    agree(remote, local, fitted, score=shrunk_whitening(counts.differences(), 0.5), **given)
    log = [json.loads(line) for line in (server.work() / "imports.jsonl").read_text().splitlines()]
    requests = [line for line in log if line["event"] == "request"]
    assert all(line["present"] == [] and line["loaded"] == [] for line in requests)


def test_a_name_is_refused_there_and_so_is_nan(remote: Any, map: Any) -> None:
    with pytest.raises(dn.ExtensionError, match=r"select= came as .cell.s., and the server"):
        generated(remote, map, True, select="cell's")

    broken = CELL.replace("cell's", "broken").replace(
        "self.share.to", "(self.share / self.share).to"
    )
    names = run_cell(broken)
    hollow = names["Faded"](torch.zeros(1))
    with pytest.raises(dn.ExtensionError, match="the edit broken returned NaN or infinity for row"):
        generated(remote, map, True, edit=hollow, mode="ablate", **OPTIONS)
