"""Output latents edited one at a time: what each of them does by itself."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from dspa_nn.checks import check_choice, check_latents
from dspa_nn.errors import DSPAError
from dspa_nn.evaluation.answers import Answers, answer
from dspa_nn.evaluation.passes import Pass
from dspa_nn.evaluation.teacher_forcing import TOKEN_BUDGET, join
from dspa_nn.extensions import declared
from dspa_nn.maps import unconditional
from dspa_nn.prompts import Rendered, batches_by_length
from dspa_nn.steering import DSPA, DSPAMethod

Direction = Literal["ablate", "augment"]


def edit_alone(
    dspa: DSPA, latent: int, *, alpha: float = 1.0, mode: Direction = "ablate"
) -> DSPAMethod:
    """A method that edits one output latent, for every prompt, wherever it is active.

    Example:
        >>> from dspa_nn.evaluation import margins
        >>> _, ablated = margins(dspa, triples[:2], [edit_alone(dspa, 3)])
        >>> set(ablated.by_latent) <= {3}
        True

    Args:
        dspa: the model and its SAEs.
        latent: of the output SAE.
        alpha: size of the edit in units of the token's strongest latent; from 1 on an ablated
            latent falls to 0.
        mode: turn it down or up.

    Raises:
        DSPAError: no such latent.
    """
    check_latents("output", [latent], dspa.output_sae.width)
    check_choice("mode", mode, ("ablate", "augment"), DSPAError)
    score = -1.0 if mode == "ablate" else 1.0
    widths = dspa.input_sae.width, dspa.output_sae.width
    map = unconditional({latent: score}, widths, provenance=dspa.provenance())
    return DSPAMethod(
        f"{mode} latent {latent}", dspa, map, {"alpha": alpha, "k_diff": 1, "mode": mode}
    )


@declared("select", name="one each")
class OneEach:
    """A selection of one output latent in each row of a batch, in the order of the rows.

    Example:
        >>> plans = dspa.plan(map, [prompt] * 2, select=OneEach([3, 5]))
        >>> [plan.latents for plan in plans]
        [[3], [5]]

    `mode` says whether they are turned down or, with "augment", up.
    """

    def __init__(self, latents: Sequence[int]) -> None:
        self.latents = torch.tensor(latents, dtype=torch.int64)

    def __call__(
        self, scores: Float64[Tensor, "batch d_out"], mode: str
    ) -> tuple[Int64[Tensor, "batch raised"], Int64[Tensor, "batch lowered"]]:
        """(augment, ablate), int64 [rows, 1] and [rows, 0], or the other way about."""
        chosen = self.latents.unsqueeze(-1).to(scores.device)
        none = chosen[:, :0]
        return (chosen, none) if mode == "augment" else (none, chosen)


@dataclass(frozen=True)
class AnswersAlone:
    """Answers under the edit of one output latent.

    Attributes:
        latent: which.
        fires: the prompts in whose unsteered answer it is active, ascending; no other answer can
            come out otherwise.
        texts: the answers to those prompts.
    """

    latent: int
    fires: list[int]
    texts: list[str]


def fired(
    dspa: DSPA, prompts: Sequence[Rendered], answers: Answers, *, token_budget: int = TOKEN_BUDGET
) -> Bool[np.ndarray, "prompts d_out"]:
    """Which output latents are active where an unsteered answer would have been steered.

    Example:
        >>> answers = answer(dspa, [prompt], max_new_tokens=4)
        >>> fired(dspa, [prompt], answers).shape
        (1, 40)

    These are the prompt's last token and the tokens of the answer (docs/method.md 5).
    """
    found = np.zeros((len(prompts), dspa.output_sae.width), dtype=bool)
    whole = [join(one, ids) for one, ids in zip(prompts, answers.ids, strict=True)]
    encoder = dspa.output_sae.encoder
    for indices in batches_by_length([len(sequence.ids) for sequence in whole], token_budget):
        batch = [whole[index] for index in indices]
        late = Pass(dspa, batch).outputs[1]
        for row, (index, sequence) in enumerate(zip(indices, batch, strict=True)):
            steered = late[row, sequence.prompt_length - 1 : len(sequence.ids)]
            found[index] = (encoder.encode(steered)[0] > 0).any(0).cpu().numpy()
    return found


def answers_alone(
    dspa: DSPA,
    prompts: Sequence[Rendered],
    latents: Sequence[int],
    active: Bool[np.ndarray, "prompts d_out"],
    *,
    alpha: float = 1.0,
    mode: Direction = "ablate",
    max_new_tokens: int = 32,
    batch_size: int = 25,
    advance: Callable[[int], object] | None = None,
) -> Iterator[AnswersAlone]:
    """Answer every prompt once under the edit of each latent, where the latent fires at all.

    Example:
        >>> active = fired(dspa, [prompt], answer(dspa, [prompt], max_new_tokens=4))
        >>> [one] = answers_alone(dspa, [prompt], [3], active, max_new_tokens=4)
        >>> one.latent, len(one.texts) == len(one.fires)
        (3, True)

    An answer in which a latent is never active is the unsteered answer, token by token, and is not
    generated again: of 4096 latents some hundreds fire in a short answer.

    Args:
        dspa: the model and its SAEs.
        prompts: what `render` returned.
        latents: of the output SAE; results come in this order.
        active: what `fired` returned for the prompts' unsteered answers of the same length.
        alpha: as in `edit_alone`.
        mode: as in `edit_alone`.
        max_new_tokens: length of an answer, at most.
        batch_size: answers that are generated at once, of different latents among them.
        advance: called with the answers that are done.

    Raises:
        DSPAError: no such latent.
        SteeringError: inside a tracing context.
    """
    check_latents("output", latents, dspa.output_sae.width)
    fires = {latent: [int(i) for i in np.flatnonzero(active[:, latent])] for latent in latents}
    todo = [(latent, index) for latent in latents for index in fires[latent]]
    widths = dspa.input_sae.width, dspa.output_sae.width
    nothing = unconditional({}, widths, provenance=dspa.provenance())
    texts: list[str] = []
    waiting = list(latents)
    for start in range(0, len(todo) + 1, batch_size):
        some = todo[start : start + batch_size]
        if some:
            select = OneEach([latent for latent, _ in some])
            method = DSPAMethod(
                "one each", dspa, nothing, {"alpha": alpha, "mode": mode, "select": select}
            )
            batch = [prompts[index] for _, index in some]
            texts += answer(
                dspa, batch, method, max_new_tokens=max_new_tokens, batch_size=len(batch)
            ).texts
            if advance is not None:
                advance(len(batch))
        while waiting and len(fires[waiting[0]]) <= len(texts):
            latent = waiting.pop(0)
            mine = len(fires[latent])
            yield AnswersAlone(latent, fires[latent], texts[:mine])
            texts = texts[mine:]
