"""How far each output latent, edited alone, moves the style of answers along each axis."""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from dspa_nn.checks import check_latents
from dspa_nn.evaluation.alone import AnswersAlone, Direction, answers_alone, fired
from dspa_nn.evaluation.answers import Answers, answer
from dspa_nn.evaluation.axes import AxisName, style_axes
from dspa_nn.files import Parts, sha256_of_json
from dspa_nn.progress import show_progress
from dspa_nn.prompts import Rendered
from dspa_nn.steering import DSPA

# A part on disk holds so many batches: some minutes of work on a CPU.
_BATCHES = 4
# A prompt, and how much its answer moved along each axis.
Change = tuple[int, list[float]]


@dataclass(frozen=True)
class AxisChanges:
    """Changes of style under the edit of each latent alone, paired by prompt.

    Attributes:
        axes: keys of `AXES`, the last axis of the arrays.
        latents: the output latents, in order.
        unsteered: float64 [prompts, axes], scores of the unsteered answers.
        change: float64 [latents, prompts, axes], scores under the edit less those; 0 where the
            latent does not fire.
        fires: prompts in whose unsteered answer each latent is active.
        changed: prompts whose answer came out otherwise.
    """

    axes: tuple[str, ...]
    latents: Int64[np.ndarray, " latents"]
    unsteered: Float64[np.ndarray, "prompts axes"]
    change: Float64[np.ndarray, "latents prompts axes"]
    fires: Int64[np.ndarray, " latents"]
    changed: Int64[np.ndarray, " latents"]

    @property
    def spread(self) -> Float64[np.ndarray, " axes"]:
        """Standard deviation of the unsteered answers' scores on each axis, from prompt to prompt.

        Scores of different axes have different units; divided by these they can be compared.
        """
        return self.unsteered.std(0, ddof=1)


def axis_changes(
    dspa: DSPA,
    prompts: Sequence[Rendered],
    latents: Sequence[int] | None = None,
    *,
    axes: Sequence[AxisName] | None = None,
    alpha: float = 1.0,
    mode: Direction = "ablate",
    max_new_tokens: int = 64,
    batch_size: int = 25,
    unsteered: Answers | None = None,
    folder: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> AxisChanges:
    """Answer the prompts under the edit of each latent alone, and score the answers' style.

    Example:
        >>> found = axis_changes(dspa, [prompt] * 2, [3, 5], axes=["concise"], max_new_tokens=4)
        >>> found.change.shape
        (2, 2, 1)

    Greedy answers. A prompt is answered again only under latents that fire in its unsteered answer,
    so that all latents of an SAE cost some hundred answers for each prompt.

    Args:
        dspa: the model and its SAEs.
        prompts: what `render` returned, two at least.
        latents: of the output SAE; None takes all that fire in any unsteered answer, ascending.
        axes: keys of `AXES`; None takes all that are measurable.
        alpha: as in `edit_alone`.
        mode: as in `edit_alone`.
        max_new_tokens: length of an answer, at most.
        batch_size: answers that are generated at once.
        unsteered: what `answer` returned without a method, where it is known.
        folder: keeps what is done; a run that was cut off goes on from there.
        progress: show a bar; None shows it on a terminal.

    Raises:
        DSPAError: no such latent or axis.
        SteeringError: inside a tracing context.

    Source: docs/method.md 10.
    """
    if latents is not None:
        check_latents("output", latents, dspa.output_sae.width)
    said = unsteered or answer(dspa, prompts, max_new_tokens=max_new_tokens, batch_size=batch_size)
    scores = style_axes(said.texts, axes)
    names: list[Any] = list(scores)
    base = np.stack([scores[name] for name in names], 1)
    active = fired(dspa, prompts, said)
    chosen = [int(i) for i in np.flatnonzero(active.any(0))] if latents is None else list(latents)
    settings = {"alpha": alpha, "mode": mode, "max_new_tokens": max_new_tokens, "axes": names}
    key = {**settings, "of": _identity(dspa, prompts, said)}
    parts = None if folder is None else Parts(folder)
    measured: list[list[Change]] = []
    with show_progress("latents alone", int(active[:, chosen].sum()), "answers", progress) as bar:
        for group in _groups(chosen, active, _BATCHES * batch_size):
            own = {**key, "latents": group}
            found = None if parts is None else parts.get("axes", own)
            if found is None:
                start = time.perf_counter()
                found = {"changes": [
                    _scored(one, said, names, base)
                    for one in answers_alone(
                        dspa, prompts, group, active, alpha=alpha, mode=mode,
                        max_new_tokens=max_new_tokens, batch_size=batch_size,
                    )
                ]}  # fmt: skip
                if parts is not None:
                    parts.put("axes", own, found, time.perf_counter() - start)
            measured += found["changes"]
            bar(int(active[:, group].sum()))
    change = np.zeros((len(chosen), len(prompts), len(names)))
    for place, changes in enumerate(measured):
        for index, values in changes:
            change[place, index] = values
    return AxisChanges(
        tuple(names),
        np.array(chosen, dtype=np.int64),
        base,
        change,
        active[:, chosen].sum(0, dtype=np.int64),
        np.array([len(changes) for changes in measured], dtype=np.int64),
    )


def _scored(
    one: AnswersAlone, said: Answers, names: Any, base: Float64[np.ndarray, "prompts axes"]
) -> list[Change]:
    """What became of the answers that came out otherwise."""
    other = [
        (index, text)
        for index, text in zip(one.fires, one.texts, strict=True)
        if text != said.texts[index]
    ]
    scores = style_axes([text for _, text in other], names)
    return [
        (index, [float(scores[name][row] - base[index, i]) for i, name in enumerate(names)])
        for row, (index, _) in enumerate(other)
    ]


def _groups(
    latents: Sequence[int], active: Bool[np.ndarray, "prompts d_out"], answers: int
) -> Iterator[list[int]]:
    """Latents in groups that ask for about so many answers."""
    group: list[int] = []
    asked = 0
    for latent in latents:
        group.append(latent)
        asked += int(active[:, latent].sum())
        if asked >= answers:
            yield group
            group, asked = [], 0
    if group:
        yield group


def _identity(dspa: DSPA, prompts: Sequence[Rendered], said: Answers) -> str:
    """What a change was measured on: model, SAEs, prompts and unsteered answers."""
    origin = {key: value for key, value in dspa.provenance().items() if key != "package_version"}
    asked = [_numbers(prompt.prompt_ids) for prompt in prompts]
    answered = [_numbers(ids) for ids in said.ids]
    return sha256_of_json({"origin": origin, "prompts": asked, "answers": answered})


def _numbers(ids: Tensor) -> list[int]:
    return [int(token) for token in ids]
