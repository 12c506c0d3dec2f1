"""Output latents in words that need no judge: the tokens that a decoder row makes likelier."""

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dspa_nn.checks import check_latents, check_positive_int
from dspa_nn.errors import DSPAError, SteeringError
from dspa_nn.models import as_local
from dspa_nn.steering import DSPA

# Rows of the unembedding that are taken at a time.
_CHUNK = 16_384
# What decoder-only models call the norm behind the last block.
_NORM = re.compile(r"(norm|ln|layernorm)(_?f)?$|^ln_f$", re.I)


def promoted_tokens(
    dspa: DSPA, latents: Iterable[int], *, most: int = 8, words_only: bool = True
) -> dict[int, list[str]]:
    """Tokens whose logits each output latent raises most, as compared with the SAE's other latents.

    Example:
        >>> found = promoted_tokens(dspa, [3, 7], most=5, words_only=False)
        >>> list(found), len(found[3])
        ([3, 7], 5)

    The latent's decoder row goes straight through the final norm and the unembedding ("logit
    lens"). What the blocks between the output layer and the end make of it is left out, so that
    this is a hint at what a latent says and not its meaning. To ablate a latent makes these tokens
    less likely where it is active. A token's logit is read in standard deviations over all latents:
    by the bare logit, a few rare tokens come out first for nearly every latent.

    Args:
        dspa: the model and its output SAE; the model's weights are needed.
        latents: output latents.
        most: tokens of each.
        words_only: leave out tokens that do not begin a word of three letters or more, and those
            that differ from a likelier one in case alone.

    Raises:
        DSPAError: a latent that the SAE does not have, or a model without an unembedding.
        SteeringError: `most` is not a whole number above 0.
    """
    wanted = check_latents("output", latents, len(dspa.output_sae.decoder))
    check_positive_int("most", most, SteeringError)
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
            elif re.fullmatch(r"\s*[^\W\d_]{3,}", text) and _begins(tokenizer, token):
                words.setdefault(text.strip().lower(), text.strip())
        found[latent] = list(words.values())
    return found


def raised_logits(dspa: DSPA, latents: list[int]) -> Float[Tensor, "latents vocabulary"]:
    """The logits along each latent's decoder row, in standard deviations over all latents.

    Example:
        >>> raised_logits(dspa, [3, 7]).shape[0]
        2

    Rows are taken at unit norm. Up to a scale, a final norm is linear (an RMS norm weighs
    dimensions, a layer norm takes off the mean as well): it is read off the unit vectors.
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
    weight = head.weight.detach()
    rows = dspa.output_sae.decoder.detach().to(weight.device, torch.float32)
    rows = torch.nn.functional.normalize(rows, dim=-1)
    if norms:
        units = torch.eye(rows.shape[1], device=weight.device, dtype=weight.dtype)
        with torch.no_grad():
            seen = norms[-1](units) - norms[-1](torch.zeros_like(units))
        rows = rows @ seen.float()
    rows = rows - rows.mean(0)
    spread = rows.T @ rows / len(rows)
    logits: list[Tensor] = []
    for part in torch.split(weight, _CHUNK):
        wide = part.float()
        deviation = ((wide @ spread) * wide).sum(-1).clamp(min=1e-12).sqrt()
        logits.append((rows[latents] @ wide.T / deviation).cpu())
    return torch.cat(logits, -1)


def _begins(tokenizer: Any, token: int) -> bool:
    """Whether a token begins a word, by the mark that byte-level BPE or SentencePiece gives it."""
    piece = str(tokenizer.convert_ids_to_tokens(token))
    return piece.startswith(("\u0120", "\u2581", " "))
