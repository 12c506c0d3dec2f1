"""Persona: weights on axes of style as something that steers like a map."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import Any, cast

import numpy as np

from dspa_nn.checks import check_choice, check_positive_int, check_type
from dspa_nn.errors import MapError
from dspa_nn.graph.settings import ALWAYS
from dspa_nn.hub import CardFacts
from dspa_nn.maps import ConditionalDifferenceMap, PromptTokens, one_row
from dspa_nn.personas.effects import AxisEffects
from dspa_nn.personas.files import read_json, write_json
from dspa_nn.steering import Mode

SCHEMA, VERSION = "dspa_nn.persona", 1
FILE = "persona.json"  # in a repository on the hub
# Sizes of a weight: a score is a weight times an effect of 1e-6 or more, and is kept in float32.
_LEAST, _MOST = 1e-30, 1e30
_WORDS = "axes of style and their weights, as {'friendly': 1.0}"


class Persona(ConditionalDifferenceMap):
    """A weight for each axis of style, as a map that steers every prompt alike.

    Example:
        >>> persona = Persona({"concise": 1.0, "friendly": 0.5}, effects)
        >>> with dspa.attach(hf_model, persona) as edits:
        ...     ids = hf_model.generate(prompt.ids[None], max_new_tokens=4)
        >>> both = map + 0.1 * persona
        >>> print(persona)
        Persona: concise +1, friendly +0.5...

    The utility of an answer is the weighted sum of its scores on the axes, in standard deviations;
    a negative weight asks for the axis' other end. A persona ablates the latents whose ablation
    gained most of it when each was measured alone. It is used wherever a map is: by `apply`,
    `attach`, `plan` and on NDIF, and it is added to maps. Its scores are minus the gains, so that
    a coefficient weighs them against a map's. How far it moves answers is set by `alpha`.

    Args:
        axis_weights: axis -> weight, both signs; axes left out weigh nothing.
        effects: what `measure_effects` or `known_effects` returned.
        latents: how many are ablated at most, those of the largest gains; None takes every latent
            of a positive gain.
        mode: with "both" as many of the largest losses are augmented, which nothing was measured
            of; "augment" leaves these alone.
        prompt_tokens: as of the maps that it is added to; it counts none itself.

    Attributes:
        axis_weights: as given, without zeros.
        effects: those of its latents.

    Raises:
        MapError: an axis that was not measured, a weight that is no finite number or of no size
            that float32 holds, or no latent that serves these weights.

    Source: docs/method.md 10.
    """

    def __init__(
        self,
        axis_weights: Mapping[str, float | int],
        effects: AxisEffects,
        *,
        latents: int | None = 5,
        mode: Mode = "ablate",
        prompt_tokens: PromptTokens = "content",
    ) -> None:
        check_type("effects", effects, AxisEffects, MapError)
        self.axis_weights = _checked(axis_weights, effects.axes)
        if latents is not None:
            check_positive_int("latents", latents, MapError)
        check_choice("mode", mode, ("ablate", "augment", "both"), MapError)
        gains = effects.gains(self.axis_weights)
        chosen: dict[int, float] = {}
        if mode != "augment":
            chosen |= _largest(effects, gains, latents)
        if mode != "ablate":
            chosen |= {j: -gain for j, gain in _largest(effects, -gains, latents).items()}
        if not chosen:
            wanted = ", ".join(f"{axis} {weight:+g}" for axis, weight in self.axis_weights.items())
            raise MapError(
                f"no latent of {len(gains)} that were measured moves answers towards {wanted}; "
                "give other weights, or measure more latents."
            )
        self.latents = latents
        self.mode: Mode = mode
        kept = effects.only([*chosen])
        self._effects = kept.to_dict()
        columns, values = one_row({latent: -gain for latent, gain in chosen.items()})
        most = max(int((values < 0).sum()), int((values > 0).sum()))
        super().__init__(
            np.array([0]), np.array([0, len(columns)]), columns, values, effects.shape,
            gate=ALWAYS, prompt_tokens=prompt_tokens,
            provenance={**effects.provenance, "persona": self.axis_weights},
            defaults={"alpha": effects.settings.get("alpha", 1.0), "mode": mode, "k_diff": most},
        )  # fmt: skip

    @property
    def effects(self) -> AxisEffects:
        """What was measured of the latents that it edits."""
        return AxisEffects.from_dict(self._effects)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the persona as one JSON file: weights, its latents' effects, model and SAEs.

        Example:
            >>> Persona({"concise": 1.0}, effects).save("short.json")
            >>> Persona.load("short.json").axis_weights
            {'concise': 1.0}

        Raises:
            FileError: a full disk or a read-only folder.
        """
        about = {
            "axis_weights": self.axis_weights,
            "latents": self.latents,
            "mode": self.mode,
            "prompt_tokens": self.prompt_tokens,
            "effects": self._effects,
        }
        write_json(folder, SCHEMA, VERSION, about)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, verify: bool = True) -> "Persona":
        """Read what `save` wrote; `verify` is a map's, and everything is checked in any case.

        Raises:
            FileError: a file that is missing, damaged, of a newer schema or of another kind.
            MapError: weights that were changed by hand into none that can be used.
        """
        return read_json(folder, SCHEMA, VERSION, _made)

    hub_files = (FILE,)

    def to_folder(self, folder: Path) -> None:
        """Write it where a repository on the hub has it."""
        self.save(folder / FILE)

    @classmethod
    def from_folder(cls, folder: Path) -> "Persona":
        """Read what `to_folder` wrote."""
        return cls.load(folder / FILE)

    def card_facts(self) -> CardFacts:
        """What the card of a repository on the hub says of it."""
        wanted = ", ".join(f"{axis} {weight:+g}" for axis, weight in self.axis_weights.items())
        settings = {"weights": wanted, "latents": self.latents, "mode": self.mode}
        return replace(
            super().card_facts(),
            kind="persona",
            what=f"A persona: {wanted}. It steers every prompt alike, by the output latents whose "
            "ablation, measured one by one, moved answers that way.",
            use='from dspa_nn.personas import Persona\n\npersona = Persona.from_hub("{repo_id}")\n'
            "print(persona)",
            settings={**settings, "entries": len(self.values)},
        )

    def __repr__(self) -> str:
        wanted = ", ".join(f"{axis} {weight:+g}" for axis, weight in self.axis_weights.items())
        told: list[str] = []
        for place in self.values.argsort():
            score = float(self.values[place])
            verb = "ablate" if score < 0 else "augment"
            told.append(f"{verb} {int(self.columns[place])} ({abs(score):.3f})")
        expected = self.effects.effect.sum(0)
        sums = ", ".join(
            f"{axis} {moved:+.2f}" for axis, moved in zip(self.effects.axes, expected, strict=True)
        )
        return (
            f"Persona: {wanted}{self.origin_in_words()}\n"
            f"  {', '.join(told)}: gain, or loss, when ablated alone\n"
            f"  if effects added up: {sums} standard deviations"
        )


def _made(values: Mapping[str, Any]) -> Persona:
    effects = AxisEffects.from_dict(values["effects"])
    return Persona(
        _checked(values["axis_weights"], effects.axes),
        effects,
        latents=values["latents"],
        mode=values["mode"],
        prompt_tokens=values["prompt_tokens"],
    )


def _largest(effects: AxisEffects, gains: Any, most: int | None) -> dict[int, float]:
    """Latents of the largest positive gains, ties to the lower index."""
    order = np.argsort(-gains, kind="stable")
    order = order[gains[order] > 0][:most]
    return {int(effects.latents[i]): float(gains[i]) for i in order}


def _checked(weights: object, axes: tuple[str, ...]) -> dict[str, float]:
    """Weights by axis as plain floats, zeros left out."""
    if not isinstance(weights, Mapping) or not weights:
        raise MapError(f"the weights are {weights!r}; expected {_WORDS}.")
    given = cast(Mapping[Any, Any], weights)
    found: dict[str, float] = {}
    for axis, weight in given.items():
        check_choice("axis", axis, axes, MapError)
        number: Any = weight
        if type(number) is bool or not isinstance(number, Real) or not math.isfinite(number):
            raise MapError(f"the weight of {axis!r} is {weight!r}; expected a finite number.")
        if weight and not _LEAST <= abs(weight) <= _MOST:
            raise MapError(
                f"the weight of {axis!r} is {weight!r}, and scores of that size are no float32; "
                "give a weight near 1, and set the strength by alpha."
            )
        if weight:
            found[axis] = float(weight)
    if not found:
        raise MapError("every weight of the persona is 0; give one axis a weight at least.")
    return found


def read_weights(named: Sequence[str]) -> dict[str, float]:
    """The weights that "friendly=1" and the like say.

    Example:
        >>> read_weights(["friendly=1", "concise=-0.5"])
        {'friendly': 1.0, 'concise': -0.5}

    Raises:
        MapError: what is no AXIS=WEIGHT, or an axis that came twice.
    """
    found: dict[str, float] = {}
    for each in named:
        axis, equals, text = each.partition("=")
        try:
            weight = float(text)
        except ValueError:
            equals, weight = "", 0.0
        if not equals:
            raise MapError(f"{each!r} came for a weight; write AXIS=WEIGHT, as friendly=1")
        if axis in found:
            raise MapError(f"the axis {axis} came twice; give it one weight")
        found[axis] = weight
    return found
