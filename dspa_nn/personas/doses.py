"""Dose and response: how far a persona moves answers, strength by strength."""

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from dspa_nn.errors import DSPAError
from dspa_nn.evaluation import (
    Answers,
    Interval,
    Surprises,
    answer,
    bootstrap,
    loop,
    style_axes,
)
from dspa_nn.personas.persona import Persona
from dspa_nn.prompts import Rendered
from dspa_nn.steering import DSPA, DSPAMethod, SteeringOptions


@dataclass(frozen=True)
class Dose:
    """What a persona did at one strength, paired with the unsteered answers.

    Attributes:
        persona: its weights.
        options: alpha and whatever else was set.
        axes: axis -> mean change of the answers, in standard deviations of the unsteered answers
            that the effects were measured on.
        utility: the same of the weighted sum.
        log_perplexity: change of the answers' surprise under the unsteered model, nats per token.
        looped: change of the share of answers that end in a loop (`dspa_nn.evaluation.loop`):
            words over and over can pass for style.
        changed: share of the answers that came out otherwise.
        edits: edits a token of the answers.
        share: norm of the residual stream's change over that of the stream, the mean over the
            tokens of the answers.
    """

    persona: Mapping[str, float]
    options: Mapping[str, Any]
    axes: dict[str, Interval]
    utility: Interval
    log_perplexity: Interval
    looped: Interval
    changed: float
    edits: float
    share: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return {
            "persona": dict(self.persona),
            "options": dict(self.options),
            "axes": {axis: one.to_dict() for axis, one in self.axes.items()},
            "utility": self.utility.to_dict(),
            "log_perplexity": self.log_perplexity.to_dict(),
            "looped": self.looped.to_dict(),
            "changed": self.changed,
            "edits": self.edits,
            "share": self.share,
        }

    def __str__(self) -> str:
        asked = ", ".join(f"{axis} {weight:+g}" for axis, weight in self.persona.items())
        moved = ", ".join(f"{axis} {one.mean:+.2f}" for axis, one in self.axes.items())
        ratio = float(np.exp(self.log_perplexity.mean))
        return (
            f"{asked} at {', '.join(f'{k} {v}' for k, v in self.options.items())}: utility "
            f"{self.utility}; {moved}; the residual stream moved by {self.share:.1%}, "
            f"{self.changed:.0%} of answers changed, perplexity x "
            f"{ratio:.2f}, {self.looped.mean:+.0%} of answers loop"
        )


def dose_response(
    dspa: DSPA,
    prompts: Sequence[Rendered],
    personas: Sequence[Persona],
    doses: Sequence[SteeringOptions],
    *,
    max_new_tokens: int = 64,
    batch_size: int = 25,
    unsteered: Answers | None = None,
    seed: int = 0,
) -> list[Dose]:
    """Answer held-out prompts under each persona at each strength, and score their style.

    Example:
        >>> persona = Persona({"concise": 1.0}, effects)
        >>> doses = dose_response(dspa, [prompt] * 2, [persona], [{"alpha": 0.5}],
        ...                       max_new_tokens=4)
        >>> list(doses[0].axes)[0]
        'concise'

    Rows of the table of one dose, persona by persona, are the cross-talk: what else an axis moves.

    Args:
        dspa: the model and its SAEs.
        prompts: what `render` returned; others than the effects were measured on.
        personas: each of them at every dose.
        doses: keywords of `DSPA.apply`, alpha among them.
        max_new_tokens: length of the answers, which are greedy. batch_size: of them at once.
        unsteered: what `answer` returned without a method, where it is known.
        seed: of the bootstrap.

    Raises:
        DSPAError: no prompts, personas or doses, or what are none.
    """
    _check_each("prompts", prompts, Rendered)
    _check_each("personas", personas, Persona)
    _check_each("doses", doses, Mapping)
    said = unsteered or answer(dspa, prompts, max_new_tokens=max_new_tokens, batch_size=batch_size)
    surprises = Surprises(dspa, prompts)
    plain, base = surprises.of(said), style_axes(said.texts, _axes(personas))
    found: list[Dose] = []
    for persona in personas:
        spread = dict(zip(persona.effects.axes, persona.effects.spread, strict=True))
        for options in doses:
            method = DSPAMethod("persona", dspa, persona, options)
            steered = answer(
                dspa, prompts, method, max_new_tokens=max_new_tokens, batch_size=batch_size
            )
            scores = style_axes(steered.texts, _axes([persona]))
            moved = {axis: (scores[axis] - base[axis]) / spread[axis] for axis in spread}
            tokens = sum(len(ids) for ids in steered.ids)
            found.append(
                Dose(
                    persona=persona.axis_weights,
                    options=dict(options),
                    axes={axis: bootstrap(one, seed=seed) for axis, one in moved.items()},
                    utility=bootstrap(_weighted(persona, moved), seed=seed),
                    log_perplexity=bootstrap(surprises.of(steered) - plain, seed=seed),
                    looped=bootstrap(_loops(steered) - _loops(said), seed=seed),
                    changed=_share_changed(said, steered),
                    edits=sum(steered.by_latent().values()) / max(tokens, 1),
                    share=_share_moved(steered),
                )
            )
    return found


def _check_each(name: str, value: Any, kind: type) -> None:
    """Refuse what is no list of these, and an empty one."""
    each: list[Any] = [*value] if type(value) in (list, tuple) else [None]
    if not all(isinstance(one, kind) for one in each):
        raise DSPAError(
            f"{name} is {' '.join(reprlib.repr(value).split())}, of type {type(value).__name__}; "
            f"expected a list of {kind.__name__}"
        )
    if not each:
        raise DSPAError(f"{name} is empty; give one at least")


def _axes(personas: Sequence[Persona]) -> Any:
    """Every axis that the personas were measured on, in order."""
    return list(dict.fromkeys(axis for persona in personas for axis in persona.effects.axes))


def _weighted(
    persona: Persona, moved: Mapping[str, Float64[np.ndarray, " n"]]
) -> Float64[np.ndarray, " n"]:
    parts = [weight * moved[axis] for axis, weight in persona.axis_weights.items()]
    return np.sum(parts, axis=0)


def _loops(answers: Answers) -> Float64[np.ndarray, " n"]:
    """1 for each answer that ends in a loop."""
    return np.array([float(loop(ids) > 0) for ids in answers.ids])


def _share_moved(steered: Answers) -> float:
    """How far the residual stream was moved, relative to itself, on the mean token."""
    shares = [log.shares() for log in steered.logs]
    total, tokens = sum(float(one.sum()) for one in shares), sum(map(len, shares))
    return total / max(tokens, 1)


def _share_changed(said: Answers, steered: Answers) -> float:
    pairs = zip(said.texts, steered.texts, strict=True)
    return sum(one != other for one, other in pairs) / max(len(said.texts), 1)
