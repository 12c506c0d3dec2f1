"""The recipe that says what maps steer: how many planned latents its ranked sets hold."""

import importlib

import pytest

from dspa_nn.audit import steered_latents
from tests import eval_zoo
from tests.conftest import REPOSITORY


def test_the_share_of_planned_latents_in_the_ranked_sets(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "recipes"))
    recipe = importlib.import_module("what_maps_steer")
    dspa, map = eval_zoo.dspa(), eval_zoo.counts().fit(percentile=50)
    plans = [dspa.plan(map, text, mode="both") for text in ("sun and moon", "tea")]
    told = recipe.held(map, plans)
    planned = [latent for plan in plans for latent, _ in plan.ablate]
    top = {one.latent for one in steered_latents(map, 50).ablate}
    share = sum(latent in top for latent in planned) / len(planned)
    assert told["ablate"].startswith(f"{share:.2f} in the top 50 by sum, 1.00 in the top 100")
    assert told["ablate"].endswith(f"{len(set(planned))} different ones")


@pytest.mark.slow
def test_it_runs_on_the_embedded_model(monkeypatch, capsys, embedded):
    monkeypatch.syspath_prepend(str(REPOSITORY / "recipes"))
    recipe = importlib.import_module("what_maps_steer")
    arguments = ["what_maps_steer", "--triples", "10", "--new", "2", "--resamplings", "2"]
    monkeypatch.setattr("sys.argv", arguments)
    monkeypatch.setattr(recipe, "SETS", ("news", "plans"))
    recipe.main()
    out = capsys.readouterr().out
    assert "# news" in out
    assert "top 50 of maps fitted on halves of 10 triples" in out
    assert "Fisher's exact test of each category against random" in out
