"""How far ablating each output latent moves answers along each axis of style."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from dspa_nn.checks import check_choice
from dspa_nn.errors import FileError, MapError
from dspa_nn.evaluation import AxisChanges
from dspa_nn.files import ASSETS
from dspa_nn.personas.files import read_json, write_json
from dspa_nn.steering import DSPA

SCHEMA, VERSION = "dspa_nn.axis_effects", 1
_FOLDER = ASSETS / "personas"


@dataclass(frozen=True)
class AxisEffects:
    """Effects of latents, each ablated alone, on the style of a model's answers.

    Example:
        >>> effects.effect.shape == (len(effects.latents), len(effects.axes))
        True

    Attributes:
        axes: keys of `dspa_nn.evaluation.AXES`.
        latents: output latents, ascending.
        effect: float64 [latents, axes], mean change of the answers' score under the latent's
            ablation, in standard deviations of the unsteered answers' scores.
        error: the standard error of each of these means.
        fires: prompts in whose unsteered answer each latent is active.
        spread: those standard deviations, in the units of each axis.
        prompts: how many were answered.
        settings: alpha, mode and max_new_tokens of the measurement.
        shape: latents of the input SAE and of the output SAE.
        provenance: the model and the SAEs, as maps note them.
    """

    axes: tuple[str, ...]
    latents: Int64[np.ndarray, " latents"]
    effect: Float64[np.ndarray, "latents axes"]
    error: Float64[np.ndarray, "latents axes"]
    fires: Int64[np.ndarray, " latents"]
    spread: Float64[np.ndarray, " axes"]
    prompts: int
    settings: Mapping[str, Any]
    shape: tuple[int, int]
    provenance: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, found: AxisChanges, dspa: DSPA, settings: Mapping[str, Any]) -> "AxisEffects":
        """Take means of changes that `axis_changes` measured.

        Example:
            >>> from dspa_nn.evaluation import axis_changes
            >>> found = axis_changes(dspa, [prompt] * 3, [3, 5], max_new_tokens=4)
            >>> AxisEffects.of(found, dspa, {"alpha": 1.0}).latents
            array([3, 5])
        """
        spread = np.where(found.spread > 0, found.spread, 1.0)
        order = np.argsort(found.latents)
        change = found.change[order] / spread
        prompts = change.shape[1]
        return cls(
            axes=found.axes,
            latents=found.latents[order],
            effect=change.mean(1).round(6),
            error=(change.std(1, ddof=1) / np.sqrt(prompts)).round(6),
            fires=found.fires[order],
            spread=spread,
            prompts=prompts,
            settings=dict(settings),
            shape=(dspa.input_sae.width, dspa.output_sae.width),
            provenance=dspa.provenance(),
        )

    def gains(self, weights: Mapping[str, float]) -> Float64[np.ndarray, " latents"]:
        """Estimated gain in utility of ablating each latent: its effects times the axes' weights.

        Example:
            >>> bool((effects.gains({"concise": 2.0}) == 2 * effects.effect[:, 0]).all())
            True

        The utility of an answer is the weighted sum of its scores, each in standard deviations.

        Raises:
            MapError: an axis that was not measured.
        """
        for axis in weights:
            check_choice("axis", axis, self.axes, MapError)
        vector = np.array([float(weights.get(axis, 0.0)) for axis in self.axes])
        return self.effect @ vector

    def only(self, latents: Sequence[int]) -> "AxisEffects":
        """The effects of some of the latents.

        Example:
            >>> effects.only([5]).latents
            array([5])
        """
        keep = np.isin(self.latents, np.asarray(latents, dtype=np.int64))
        arrays = {
            name: getattr(self, name)[keep] for name in ("latents", "effect", "error", "fires")
        }
        return AxisEffects(**{**vars(self), **arrays})

    def furthest(self, axis: str, n: int = 5) -> list[tuple[int, float, float]]:
        """(latent, effect, standard error) of those that move an axis furthest either way.

        Example:
            >>> [latent for latent, _, _ in effects.furthest("concise", 2)]
            [...]

        Raises:
            MapError: an axis that was not measured.
        """
        check_choice("axis", axis, self.axes, MapError)
        place = self.axes.index(axis)
        order = np.argsort(-np.abs(self.effect[:, place]), kind="stable")[:n]
        return [
            (int(self.latents[i]), float(self.effect[i, place]), float(self.error[i, place]))
            for i in order
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return {
            "axes": list(self.axes),
            "latents": self.latents.tolist(),
            "effect": self.effect.tolist(),
            "error": self.error.tolist(),
            "fires": self.fires.tolist(),
            "spread": self.spread.tolist(),
            "prompts": self.prompts,
            "settings": dict(self.settings),
            "shape": list(self.shape),
            "provenance": dict(self.provenance),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "AxisEffects":
        """Make what `to_dict` described again.

        Example:
            >>> AxisEffects.from_dict(effects.to_dict()).axes == effects.axes
            True
        """
        axes = tuple(values["axes"])
        shape = (int(values["shape"][0]), int(values["shape"][1]))
        latents = _latents(values["latents"], shape[1])
        table = (len(latents), len(axes))
        return cls(
            axes=axes,
            latents=latents,
            effect=_numbers(values, "effect").reshape(table),
            error=_numbers(values, "error").reshape(table),
            fires=np.array(values["fires"], dtype=np.int64),
            spread=np.array(values["spread"], dtype=np.float64),
            prompts=int(values["prompts"]),
            settings=dict(values["settings"]),
            shape=shape,
            provenance=dict(values["provenance"]),
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the effects as one JSON file.

        Example:
            >>> effects.only([3]).save("effects.json")
            >>> AxisEffects.load("effects.json").latents
            array([3])

        Raises:
            FileError: a full disk or a read-only folder.
        """
        write_json(path, SCHEMA, VERSION, self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "AxisEffects":
        """Read what `save` wrote.

        Raises:
            FileError: a file that is missing, damaged, of a newer schema or of another kind.
        """
        return read_json(path, SCHEMA, VERSION, cls.from_dict)

    def __str__(self) -> str:
        settings = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        lines = [
            f"AxisEffects of {len(self.latents)} output latents on {len(self.axes)} axes, from "
            f"{self.prompts} prompts ({settings}); in standard deviations of unsteered answers:"
        ]
        for axis in self.axes:
            told = ", ".join(f"{j} ({e:+.2f} +- {s:.2f})" for j, e, s in self.furthest(axis, 4))
            lines.append(f"  {axis}: {told}")
        return "\n".join(lines)


def _latents(values: Any, width: int) -> Int64[np.ndarray, " latents"]:
    """Latents of a file; `FileError` where they are none, or not ascending."""
    whole = all(type(latent) is int and 0 <= latent < width for latent in values)
    if not whole or any(one >= next_ for one, next_ in pairwise(values)):
        raise FileError(f"its latents are no ascending whole numbers from 0 to {width - 1}")
    return np.array(values, dtype=np.int64)


def _numbers(values: Mapping[str, Any], name: str) -> Float64[np.ndarray, "..."]:
    """A table of a file; `FileError` where a cell is no finite number."""
    found = np.array(values[name], dtype=np.float64)
    if not np.isfinite(found).all():
        raise FileError(f"its {name} holds what is no finite number")
    return found


def known_effects(dspa: DSPA) -> AxisEffects:
    """The effects that the package brings along for an output SAE.

    Example:
        >>> known_effects(DSPA.from_preset("smollm2-135m-instruct")).axes[:2]
        ('concise', 'friendly')

    Raises:
        MapError: there are none.
    """
    sha = dspa.output_sae.sha256
    path = _FOLDER / f"{sha[:16]}.json" if sha else None
    if path is None or not path.is_file():
        raise MapError(
            f"no effects on style are known for the output SAE {dspa.output_sae.id}; measure them "
            "with personas.measure_effects, or `dspa persona measure`."
        )
    return AxisEffects.load(path)
