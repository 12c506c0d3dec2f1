"""Which input latents of a prompt vote, and with what weight: w of s = A^T w (METHOD section 4)."""

from typing import Any

import torch
from torch import Tensor

from dspa_nn import fitting
from dspa_nn.errors import MapError
from dspa_nn.shapes import PromptWeights

PROMPT_RULES = ("density", "gated", "centred")


def densest(counts: Tensor, k_prompt: int) -> PromptWeights:
    """S_prompt as weights: 1 for the k_prompt latents of most counts, ties to the lower index.

    >>> densest(torch.tensor([2, 5, 2, 0]), 2)
    tensor([1., 1., 0., 0.], dtype=torch.float64)

    `counts` [.., d_in]; a latent that did not fire never votes.
    """
    order = torch.sort(counts, dim=-1, descending=True, stable=True).indices[..., :k_prompt]
    chosen = torch.zeros(counts.shape, dtype=torch.float64).scatter_(-1, order, 1.0)
    return chosen * (counts > 0)


def gates(counts: Tensor, lengths: Tensor, tau: Tensor, gate: str) -> PromptWeights:
    """g(x) as weights: 1 where rho >= tau, and rho > 0 if the gate is "active".

    >>> gates(torch.tensor([1, 0]), torch.tensor(4), torch.tensor([0.25, 0.0]), "active")
    tensor([1., 0.], dtype=torch.float64)

    `counts` [.., d_in] and `lengths` [..]; a prompt of length 0 has no densities and no gates.
    """
    rho = counts.double() / lengths.double().clamp(min=1)[..., None]
    is_open = rho >= tau
    if gate == "active":
        is_open &= rho > 0
    return is_open.double() * (lengths > 0)[..., None]


def check_counts(counts: Any, d_in: int) -> Tensor:
    """Prompt counts [.., d_in] as a tensor on the CPU; `MapError` for any other shape or sign."""
    table = torch.as_tensor(counts).detach().cpu()
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
    fitting.check_choice("prompt_rule", rule, PROMPT_RULES)
    fitting.check_positive_int("k_prompt", k_prompt)
