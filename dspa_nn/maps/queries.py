"""What a map is asked with: prompt counts, lengths and rules, checked.

The weights themselves are `graph.select.prompt_weights`, for maps and for steering alike.
"""

from typing import Any

import torch
from torch import Tensor

from dspa_nn.checks import check_choice, check_positive_int
from dspa_nn.errors import MapError
from dspa_nn.graph.settings import PROMPT_RULES


def check_counts(counts: Any, d_in: int) -> Tensor:
    """Prompt counts [.., d_in] as a tensor on the CPU; `MapError` for any other shape or sign."""
    dense = counts.toarray() if hasattr(counts, "toarray") else counts  # scipy's sparse rows
    table = torch.as_tensor(dense).detach().cpu()
    if table.ndim < 1 or table.shape[-1] != d_in:
        raise MapError(
            f"prompt_counts has shape {tuple(table.shape)}; expected [.., {d_in}], one count for "
            "each input latent."
        )
    if bool((table < 0).any()):
        raise MapError("prompt_counts holds a negative number; expected counts of tokens.")
    return table


def check_lengths(lengths: Any, counts: Tensor, rule: str) -> Tensor:
    """Prompt lengths [..] that fit the counts [.., d_in]; `MapError` if they are None or do not."""
    if lengths is None:
        raise MapError(
            f"prompt_rule={rule!r} needs densities and prompt_lengths is None; pass the number "
            "of counted tokens of each prompt."
        )
    table = torch.as_tensor(lengths).detach().cpu()
    if tuple(table.shape) != tuple(counts.shape[:-1]):
        raise MapError(
            f"prompt_lengths has shape {tuple(table.shape)}; expected "
            f"{tuple(counts.shape[:-1])}, one length for each prompt."
        )
    if bool((counts > table[..., None]).any()):
        raise MapError(
            "prompt_counts holds a count above its prompt's length; count both over the same "
            "tokens."
        )
    return table


def check_rule(rule: object, k_prompt: object) -> None:
    """Refuse an unknown rule, or a k_prompt that is no positive whole number (`MapError`)."""
    check_choice("prompt_rule", rule, PROMPT_RULES, MapError)
    check_positive_int("k_prompt", k_prompt, MapError)
