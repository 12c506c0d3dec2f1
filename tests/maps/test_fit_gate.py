"""A fit whose prompt latents are weighed by an extension, in the place of open gates."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Float64, Int32
from torch import Tensor

from dspa_nn import ConditionalDifferenceMap, ExtensionError, extension
from dspa_nn.errors import MapError
from dspa_nn.extensions import Extension, soft_gate
from dspa_nn.hub import identify
from dspa_nn.maps import difference_sums, prompt_gates
from tests.count_zoo import random_counts

Weights = Float64[Tensor, "batch d_in"]


@extension("gate")
def opened_again(densities: Weights, tau: Float64[Tensor, " d_in"]) -> Weights:
    """The gates of a fit."""
    return ((densities >= tau) & (densities > 0)).double()


@extension("gate")
class Doubled:
    """Counts, times a number for each latent."""

    def __init__(self, by: Float64[Tensor, " d_in"]) -> None:
        self.by = by

    def __call__(self, counts: Int32[Tensor, "batch d_in"]) -> Weights:
        return counts * self.by


@extension("gate", name="densest by hand")
def by_k(densities: Weights, k_prompt: int, gate_mean: Float64[Tensor, " d_in"]) -> Weights:
    """The k_prompt densest latents, less what is open anyway."""
    last = min(k_prompt, densities.shape[1])
    kept = densities >= densities.sort(-1, descending=True).values[:, last - 1 : last]
    return kept.double() - gate_mean


@pytest.mark.parametrize("sparsify", ["paper", "none"])
@pytest.mark.parametrize("percentile", [0, 50, 90])
def test_the_gates_written_by_a_user_fit_the_same_map(percentile: int, sparsify: Any) -> None:
    counts = random_counts(3, 12)
    theirs = counts.fit(percentile=percentile, sparsify=sparsify)
    ours = counts.fit(percentile=percentile, sparsify=sparsify, gate=opened_again)
    for name in ("rows", "indptr", "columns", "values", "tau", "gate_mean"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name))
    assert ours.threshold == theirs.threshold
    found = ours.provenance["prompt_dependence"]
    assert found == theirs.provenance["prompt_dependence"]


@pytest.mark.parametrize("dense", [0, 10_000])  # columns looked up one by one, and all kept dense
@pytest.mark.parametrize("tokens", ["content", "all"])
def test_entries_are_the_mean_of_weighed_differences(
    monkeypatch: pytest.MonkeyPatch, dense: int, tokens: Any
) -> None:
    monkeypatch.setattr(difference_sums, "_DENSE_ABOVE_ONE_IN", dense)
    monkeypatch.setattr(prompt_gates, "_PIECE", 20)  # a few prompts at a time
    counts = random_counts(5, 11)
    preset = {"defaults": {"k_prompt": 3}}
    counts.provenance |= preset
    by = torch.linspace(-1, 2, counts.d_in, dtype=torch.float64)
    table, lengths = counts.prompt(tokens)
    rho = torch.as_tensor(table.toarray() / lengths[:, None])
    plain = counts.fit(percentile=50, sparsify="none", prompt_tokens=tokens)
    assert plain.tau is not None
    assert plain.gate_mean is not None
    weights = {
        "soft": (soft_gate, soft_gate(rho, plain.tau)),
        "doubled": (Doubled(by), torch.as_tensor(table.toarray()) * by),
        "densest": (by_k, by_k(rho, 3, plain.gate_mean)),
    }
    drho = counts.differences().toarray()
    for gate, weight in weights.values():
        map = counts.fit(percentile=50, sparsify="none", prompt_tokens=tokens, gate=gate)
        expected = (weight.numpy().T @ drho / len(counts)).astype(np.float32)
        assert np.allclose(map.to_dense().numpy(), expected, atol=1e-6)
        assert len(map.values) > 0
        # Thresholds and prompt rules are those of the plain gates.
        assert torch.equal(torch.as_tensor(map.tau), plain.tau)
        assert torch.equal(torch.as_tensor(map.gate_mean), plain.gate_mean)
        assert map.gate == "active"
        rule: Any = {"prompt_rule": "gated"}
        one = torch.as_tensor(table.toarray()[0]), torch.as_tensor(lengths[0])
        assert torch.equal(map.weights(*one, **rule), plain.weights(*one, **rule))


def test_a_map_remembers_the_gate_by_name(tmp_path: Path) -> None:
    counts = random_counts(3, 12)
    map = counts.fit(percentile=50, gate=by_k)
    map.save(tmp_path)
    again = ConditionalDifferenceMap.load(tmp_path)
    for one in (map, again, again.restrict(columns=[0, 1]), 2 * again):
        assert "gate 'densest by hand'" in repr(one)
    assert again.card_facts().settings["fitted with the gate"] == "densest by hand"
    assert identify(tmp_path)[0].facts["fitted with the gate"] == "densest by hand"
    assert "fitted_gate" not in counts.fit(percentile=50).provenance


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("dependence", [False, True])
def test_gates_that_a_fit_refuses(dependence: bool) -> None:
    counts = random_counts(0, 12)

    def run(gate: Any) -> object:
        return (counts.prompt_dependence if dependence else counts.fit)(percentile=50, gate=gate)

    for name in ("soft_gate", "gated"):
        with pytest.raises(MapError, match=f"gate is '{name}', a name that a run knows; a fit .*"):
            run(name)
    with pytest.raises(MapError, match=r"gate is 3; expected one of 'active', 'literal'"):
        run(3)
    with pytest.raises(ExtensionError, match=r"gate= is .*, which is not registered; put @dspa"):
        run(lambda densities: densities)
    with pytest.raises(ExtensionError, match=r"came where an object of it is needed; give Doubled"):
        run(Doubled)


def test_nan_is_refused() -> None:
    @extension("gate")
    def rooted(densities: Weights, k_prompt: int) -> Weights:
        return torch.where(torch.tensor(k_prompt == 32), densities.sub(2).sqrt(), densities)

    assert isinstance(rooted, Extension)
    with pytest.raises(ExtensionError, match=r"rooted returned NaN or infinity for row 0"):
        random_counts(0, 12).fit(percentile=50, gate=rooted)
