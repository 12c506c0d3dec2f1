"""A layer sweep on a real server on loopback: the counts of every pair are those of a run here."""

from pathlib import Path
from typing import Any

import pytest

import dspa_nn as dn
from tests import tiny

pytestmark = pytest.mark.ndif
INPUTS, OUTPUTS = (6, 9), (9, 24)
WORDS = "volcanoes rivers cats dogs trains stars boats seas".split()


def triples() -> list[dn.PreferenceTriple]:
    return [
        dn.PreferenceTriple(
            prompt=[{"role": "user", "content": f"Tell me about {word}, please."}],
            chosen=f"Of course! {word} are wonderful things.",
            rejected=f"{word}: see the dictionary.",
        )
        for word in WORDS
    ]


def sae(layer: int, role: int) -> Any:
    seed = 10 * layer + role
    width = 128 + layer
    return tiny.random_sae("topk", layer=layer, width=width, d_model=576, scale=5.0, seed=seed)


def test_a_remote_sweep_is_byte_identical_and_resumes(
    remote: Any, local: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dspa_nn.counts import remote as remote_counting

    saes: dict[str, Any] = {
        "input_saes": {layer: sae(layer, 0) for layer in INPUTS},
        "output_saes": {layer: sae(layer, 1) for layer in OUTPUTS},
    }
    submitted: list[Any] = []
    submit = remote_counting.submit

    def watched(*arguments: Any) -> Any:
        submitted.append(arguments)
        if len(submitted) == 2:
            raise KeyboardInterrupt
        return submit(*arguments)

    run = {"token_budget": 90, "checkpoint": here / "run", "remote": True, "progress": False}
    there = dn.LayerSweep(remote.model, **saes)
    with monkeypatch.context() as patch:
        patch.setattr(remote_counting, "submit", watched)
        with pytest.raises(KeyboardInterrupt):
            there.count(triples(), **run)
    with pytest.warns(dn.DSPAWarning, match="chunk 1 was being submitted when the earlier run"):
        swept = there.count(triples(), **run)
    assert swept.pairs == [(6, 9), (6, 24), (9, 9), (9, 24)]
    for pair in swept.pairs:
        alone = dn.DSPA(
            local.model, input_sae=saes["input_saes"][pair[0]],
            output_sae=saes["output_saes"][pair[1]], input_layer=pair[0], output_layer=pair[1],
        ).count(triples(), token_budget=90, progress=False)  # fmt: skip
        # Only the machine that holds the weights knows their fingerprint.
        del alone.provenance["every_weight"], alone.provenance["config"]
        reason = swept.counts(*pair).provenance["weights_unknown"]
        alone.provenance |= {"weights": None, "weights_unknown": reason}
        for name, table in (("swept", swept.counts(*pair)), ("alone", alone)):
            table.save(here / f"{name}-{pair}")
        files = [sorted((here / f"{name}-{pair}").iterdir()) for name in ("swept", "alone")]
        assert [path.name for path in files[0]] == [path.name for path in files[1]]
        for one, other in zip(*files, strict=True):
            assert one.read_bytes() == other.read_bytes()
