"""Effects on style, measured: each latent ablated alone, answer by answer."""

import os
from collections.abc import Iterable, Sequence
from typing import Any

from dspa_nn.errors import DSPAError
from dspa_nn.evaluation import Answers, AxisName, axis_changes
from dspa_nn.personas.effects import AxisEffects
from dspa_nn.prompts import Rendered
from dspa_nn.steering import DSPA
from dspa_nn.triples import Prompt


def measure_effects(
    dspa: DSPA,
    prompts: Iterable[Prompt | Rendered],
    latents: Sequence[int] | None = None,
    *,
    axes: Sequence[AxisName] | None = None,
    alpha: float = 1.0,
    max_new_tokens: int = 64,
    batch_size: int = 25,
    unsteered: Answers | None = None,
    folder: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> AxisEffects:
    """Ablate each latent alone, and see how far answers move along each axis of style.

    Example:
        >>> effects = measure_effects(dspa, [prompt] * 3, max_new_tokens=4)
        >>> effects.axes[0], effects.prompts
        ('concise', 3)

    Take prompts that the persona is for, and others to test it on. A prompt costs one answer, and
    one more for each latent that fires in it: some hundreds.

    Args:
        dspa: the model and its SAEs.
        prompts: texts, lists of chat messages, or what `render` returned; three at least.
        latents: of the output SAE; None takes all that fire in any answer.
        axes: keys of `dspa_nn.evaluation.AXES`; None takes all that are measurable.
        alpha: size of the edit; from 1 on a latent falls to 0.
        max_new_tokens: length of an answer, at most.
        batch_size: answers that are generated at once.
        unsteered: what `answer` returned without a method, where it is known.
        folder: keeps what is done; a run that was cut off goes on from there.
        progress: show a bar; None shows it on a terminal.

    Raises:
        DSPAError: fewer than three prompts, or no such latent or axis.

    Source: docs/method.md 10.
    """
    if isinstance(prompts, str):
        raise DSPAError("one text came for prompts; give a list of them, three at least")
    rendered = [one if isinstance(one, Rendered) else dspa.render(one) for one in prompts]
    if len(rendered) < 3:
        raise DSPAError(
            f"{len(rendered)} prompts came to measure effects on; give three at least, and some "
            "hundred for effects that can be told from chance"
        )
    settings: dict[str, Any] = {"alpha": alpha, "mode": "ablate", "max_new_tokens": max_new_tokens}
    found = axis_changes(
        dspa, rendered, latents, axes=axes, alpha=alpha, max_new_tokens=max_new_tokens,
        batch_size=batch_size, unsteered=unsteered, folder=folder, progress=progress,
    )  # fmt: skip
    return AxisEffects.of(found, dspa, settings)
