"""A tiny DSPA and demo rows, for the tests of what measures steering."""

from functools import cache
from typing import Any

import numpy as np

import dspa_nn as dn
from dspa_nn.evaluation import AXES
from dspa_nn.personas import AxisEffects
from dspa_nn.steering import SteeringOptions
from dspa_nn.triples import DemoRow
from tests import tiny
from tests.conftest import REPOSITORY as REPOSITORY

STEER: SteeringOptions = {
    "alpha": 0.4, "k_diff": 4, "mode": "ablate", "prompt_rule": "gated", "k_prompt": 8
}  # fmt: skip


def model(family: str = "llama") -> Any:
    """The very model that `dspa(family)` steers."""
    return dspa(family).model._module


def dspa(family: str = "llama") -> dn.DSPA:
    made = _dspa(family)
    made.model._module.eval()  # a trainer of another test may have left it in training mode
    return made


@cache
def _dspa(family: str) -> dn.DSPA:
    hf = tiny.model(family)
    tok = tiny.tokenizer("markup")
    sae_in, sae_out = tiny.saes(hf, "topk")
    return dn.DSPA(
        tiny.nnsight_model(hf, tok),
        input_sae=sae_in,
        output_sae=sae_out,
        input_layer=tiny.LAYER_IN,
        output_layer=tiny.LAYER_OUT,
        defaults={**STEER, "percentile": 50},
    )


@cache
def sae(layer: int) -> Any:
    """A random SAE at a layer of the model."""
    return tiny.saes(model(), "topk", layer_in=layer, layer_out=layer)[layer == tiny.LAYER_OUT]


def sweep() -> dn.LayerSweep:
    """Two input layers and one output layer of the same model."""
    return dn.LayerSweep(
        dspa().model,
        input_saes={0: sae(0), 1: sae(1)},
        output_saes={2: sae(2)},
        defaults=dspa().defaults,
    )


def triples(count: int, seed: int = 0) -> list[dn.PreferenceTriple]:
    return [dn.PreferenceTriple(**own) for own in tiny.triples(count, chat=True, seed=seed)]


@cache
def counts(count: int = 20, family: str = "llama") -> dn.ActivationCounts:
    return dspa(family).count(triples(count))


@cache
def effects() -> AxisEffects:
    """Effects on style that nobody measured, of every output latent of the tiny model."""
    random = np.random.default_rng(5)
    made, axes = dspa(), tuple(AXES)
    width = made.output_sae.width
    return AxisEffects(
        axes=axes,
        latents=np.arange(width),
        effect=random.normal(0, 0.1, (width, len(axes))).round(6),
        error=np.full((width, len(axes)), 0.05),
        fires=np.full(width, 3),
        spread=np.linspace(0.1, 0.8, len(axes)),
        prompts=9,
        settings={"alpha": 1.0, "mode": "ablate", "max_new_tokens": 4},
        shape=(made.input_sae.width, width),
        provenance=made.provenance(),
    )


def rows(count: int = 60) -> list[DemoRow]:
    """Demo rows of both kinds in turn, a third of them in each split."""
    kinds = (("personal", "warm"), ("factual", "formal"))
    made = []
    for place, triple in enumerate(triples(count)):
        prompt: Any = [dict(message) for message in triple.prompt][-1:]  # pyright: ignore
        kind, style = kinds[place % 2]
        split = ("fit", "dev", "test")[place // 2 % 3]
        made.append(
            DemoRow(kind, split, style, dn.PreferenceTriple(prompt, triple.chosen, triple.rejected))
        )
    return made
