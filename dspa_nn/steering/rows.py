"""The rows that a model is called with, and which of the prompts that are known each one is."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from dspa_nn.errors import SteeringError

# Ids of a prompt, and which of them are content.
KnownPrompt = tuple[Tensor, Tensor]


def check_ids(ids: object, mask: object = None) -> None:
    """Refuse what the model is called with where it is no ids [rows, tokens] and a mask of them."""
    if not isinstance(ids, torch.Tensor):
        what = "what render returned" if hasattr(ids, "prompt_ids") else f"a {type(ids).__name__}"
        raise SteeringError(
            f"the model was called with {what}, and takes ids [rows, tokens]; pass "
            "prompt.ids.unsqueeze(0) of a rendered prompt, or what the tokenizer returned"
        )
    if ids.dim() != 2 or ids.is_floating_point():
        raise SteeringError(
            f"the model was called with {ids.dtype} of shape {list(ids.shape)}, and takes ids "
            "[rows, tokens]; pass ids.unsqueeze(0) of one row, or what the tokenizer returned"
        )
    if mask is not None and (not isinstance(mask, torch.Tensor) or mask.shape != ids.shape):
        given = list(mask.shape) if isinstance(mask, torch.Tensor) else type(mask).__name__
        raise SteeringError(
            f"the attention mask is {given} and the ids are {list(ids.shape)}; pass both as one "
            "call of the tokenizer returned them"
        )


def prompts_of_rows(
    prompts: Sequence[KnownPrompt],
    ids: Int64[Tensor, "rows tokens"],
    mask: Bool[Tensor, "rows tokens"],
    generating: bool,
) -> list[KnownPrompt]:
    """The prompt of each row, where a pipeline has divided a batch and runs some rows of it.

    >>> known = dspa.prompt_batch(["Hello", "Good day"])
    >>> row = known[1][0][None]
    >>> [found] = prompts_of_rows(known, row, torch.ones_like(row).bool(), True)
    >>> found[0].equal(known[1][0])
    True

    A row's prompt is known by its ids: in `generate` the whole row, else what the row begins with,
    the longest such prompt. Where one row finds none, or two that disagree about content, all
    prompts are returned, for their number to be refused.
    """
    found: list[KnownPrompt] = []
    for row, real in zip(ids, mask, strict=True):
        seen = row[real].cpu()
        fitting = [
            prompt
            for prompt in prompts
            if torch.equal(seen if generating else seen[: len(prompt[0])], prompt[0])
        ]
        longest = max((len(prompt[0]) for prompt in fitting), default=0)
        fitting = [prompt for prompt in fitting if len(prompt[0]) == longest]
        if not fitting or any(not torch.equal(one[1], fitting[0][1]) for one in fitting):
            return list(prompts)
        found.append(fitting[0])
    return found
