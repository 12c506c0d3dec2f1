"""Output latents in words that need no judge: the tokens that a decoder row makes likelier."""

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dspa_nn.checks import check_positive_int
from dspa_nn.errors import DSPAError, SteeringError
from dspa_nn.models import as_local
from dspa_nn.steering import DSPA

# What decoder-only models call the norm behind the last block.
_NORM = re.compile(r"(norm|ln|layernorm)(_?f)?$|^ln_f$", re.I)


def promoted_tokens(
    dspa: DSPA, latents: Iterable[int], *, most: int = 8, words_only: bool = True
) -> dict[int, list[str]]:
    """Tokens whose logits each output latent raises most, by its decoder row alone.

    Example:
        >>> found = promoted_tokens(dspa, [3, 7], most=5, words_only=False)
        >>> list(found), len(found[3])
        ([3, 7], 5)

    The row goes straight through the final norm and the unembedding ("logit lens"); what the
    blocks between the output layer and the end make of it is left out, so that this is a hint at
    what a latent says and not its meaning. To ablate a latent makes these tokens less likely where
    it is active.

    Args:
        dspa: the model and its output SAE; the model's weights are needed.
        latents: output latents.
        most: tokens of each.
        words_only: leave out tokens that hold no word of two letters or more, and those that
            differ from a likelier one in case or spaces alone.

    Raises:
        DSPAError: a latent that the SAE does not have, or a model without an unembedding.
        SteeringError: `most` is not a whole number above 0.
    """
    wanted = [int(latent) for latent in latents]
    check_positive_int("most", most, SteeringError)
    width = len(dspa.output_sae.decoder)
    for latent in wanted:
        if not 0 <= latent < width:
            raise DSPAError(
                f"output latent {latent} came, and the SAE has {width}; give one from 0 to "
                f"{width - 1}"
            )
    if not wanted:
        return {}
    tokenizer = dspa.facts.tokenizer
    special = set(dspa.facts.special_ids)
    found: dict[int, list[str]] = {}
    for latent, row in zip(wanted, raised_logits(dspa, wanted), strict=True):
        words: dict[str, str] = {}
        for token in map(int, np.argsort(-row.numpy(), kind="stable")):
            if len(words) == most:
                break
            text = "" if token in special else tokenizer.decode([token])
            if not words_only:
                words[str(token)] = text
            elif re.fullmatch(r"\s*[^\W\d_]{2,}\s*", text):
                words.setdefault(text.strip().lower(), text.strip())
        found[latent] = list(words.values())
    return found


def raised_logits(dspa: DSPA, latents: list[int]) -> Float[Tensor, "latents vocabulary"]:
    """The logits' change along each latent's decoder row, up to a scale of each row's own.

    Example:
        >>> raised_logits(dspa, [3, 7]).shape[0]
        2

    An RMS norm keeps a row's direction; of a layer norm and of an unembedding with a bias, what
    they put out for 0 is taken off.
    """
    hf_model: Any = as_local(dspa.model)
    head = hf_model.get_output_embeddings()
    if head is None:
        raise DSPAError(
            f"{type(hf_model).__name__} has no unembedding, and one was expected; use a model that "
            "predicts tokens"
        )
    trunk = hf_model.get_submodule(dspa.facts.blocks.rpartition(".")[0])
    norms = [child for name, child in trunk.named_children() if _NORM.search(name)]
    weight = head.weight
    rows = dspa.output_sae.decoder[latents].to(weight.device, weight.dtype)
    both = torch.stack([rows, torch.zeros_like(rows)])
    with torch.no_grad():
        ahead, zero = head(norms[-1](both) if norms else both).float()
    return (ahead - zero).cpu()
