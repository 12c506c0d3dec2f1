"""The batch plan of a counting pass: made once from the whole source, and laid out for the model.

What a batch holds depends on the whole source alone, never on how the work was split, so that
shards, retries and resumed runs give the same table byte for byte.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, TypedDict, cast

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from dspa_nn.counts.tokenize import TokenisedTriple
from dspa_nn.errors import CountsError
from dspa_nn.prompts import Rendered, padded

# Padded tokens to a pass, cached ones included: fills two cores, and fits a laptop's memory.
TOKEN_BUDGET = 4096
# A row joins a pass if it costs no more padding than this share of the budget, about what a pass of
# its own would cost.
PADDING = 1 / 64
# Tokens of prompts and responses that share a batch, in budgets: more rows of like length, but also
# more work that an interruption loses.
BATCH_BUDGETS = 4


class PassTensors(TypedDict):
    """One pass of responses: whose prompts the rows go on from, and where each token counts."""

    triples: Int64[Tensor, " rows"]
    inputs: dict[str, Tensor]
    target: Int64[Tensor, "rows tokens"]


class BatchTensors(TypedDict):
    """One batch as `graph.count.Counter` takes it; see there."""

    prompt: dict[str, Tensor] | None
    prompt_target: Int64[Tensor, "triples tokens"]
    prompt_size: int
    shared: bool
    passes: list[PassTensors]
    response_size: int


def plan_batches(tokenised: Sequence[TokenisedTriple], token_budget: int) -> list[list[int]]:
    """Split the triples into batches of prompts of like length, each within `token_budget`.

    Returns positions in `tokenised`; longest first, so that memory runs out at once or not at all.

    Raises:
        CountsError: a budget below 1.
    """
    given = cast(Any, token_budget)  # whatever a user passed
    if isinstance(given, bool) or not isinstance(given, int | np.integer) or token_budget < 1:
        raise CountsError(f"token_budget is {token_budget!r}, and must be at least 1; try 4096")

    def length(position: int) -> int:
        return tokenised[position].prompt.prompt_length

    def longest_first(position: int) -> tuple[int, int]:
        return -length(position), tokenised[position].index

    batches: list[list[int]] = []
    tokens = 0  # of the batch that is being filled
    for position in sorted(range(len(tokenised)), key=longest_first):
        longest = length(batches[-1][0]) if batches else 0
        fits = (
            batches
            and longest * (len(batches[-1]) + 1) <= token_budget
            and longest - length(position) <= PADDING * token_budget
            and tokens + tokenised[position].tokens <= BATCH_BUDGETS * token_budget
        )
        if fits:
            batches[-1].append(position)
            tokens += tokenised[position].tokens
        else:
            batches.append([position])
            tokens = tokenised[position].tokens
    return batches


def plan_passes(batch: Sequence[TokenisedTriple], token_budget: int) -> list[list[int]]:
    """Split the 2n responses of a batch into passes of like length, longest first.

    Row k is the chosen response of triple k, row n + k the rejected one. Tokens in the cache count
    towards the budget: what attends to them is memory too.
    """
    lengths = [len(triple.chosen.response_ids) for triple in batch]
    lengths += [len(triple.rejected.response_ids) for triple in batch]
    cached = max(triple.prompt.prompt_length for triple in batch)
    passes: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        longest = lengths[passes[-1][0]] if passes else 0
        fits = (
            passes
            and (cached + longest) * (len(passes[-1]) + 1) <= token_budget
            and longest - lengths[row] <= PADDING * token_budget
        )
        if fits:
            passes[-1].append(row)
        else:
            passes.append([row])
    return passes


def hash_batch_plan(
    tokenised: Sequence[TokenisedTriple], batches: list[list[int]], token_budget: int
) -> str:
    """SHA-256 over what every pass will show the model, in order."""
    digest = hashlib.sha256()
    for positions in batches:
        batch = [tokenised[position] for position in positions]
        for triple in batch:
            for end in triple.ends:
                digest.update(end.ids.numpy().tobytes())
            digest.update(triple.prompt.content.numpy().tobytes())
            digest.update(str((triple.index, triple.prompt.prompt_length)).encode())
        digest.update(f"|{plan_passes(batch, token_budget)}|".encode())
    return digest.hexdigest()


def to_tensors(
    batch: Sequence[TokenisedTriple], token_budget: int, *, positions: bool, shared: bool = True
) -> BatchTensors:
    """Lay a batch out for `graph.count.Counter`: what goes in, and where each token is counted.

    Prompts that responses go on from are padded on the left and responses on the right, so that
    each row is one stretch of tokens, as a sliding window sees it. Row 2k of the prompts' table
    holds the content tokens of triple k, row 2k + 1 its markup; rows of the responses' table are
    chosen, then rejected.

    Args:
        batch: one batch of the plan.
        token_budget: the budget that the plan was made with.
        positions: give the model `position_ids`, which it then does not have to guess.
        shared: let both responses go on from their prompt's cache. Without it every row is a whole
            text, padded on the right, which no causal model can see: recurrent ones see padding on
            the left.
    """
    if not shared:
        return _whole_texts(batch, token_budget, positions)
    n = len(batch)
    prompts = [triple.prompt for triple in batch]
    targets = _prompt_targets(prompts)
    inputs = padded([prompt.prompt_ids for prompt in prompts], "left")
    mask = inputs["attention_mask"]
    if positions:
        inputs["position_ids"] = _padded_left(
            [torch.arange(prompt.prompt_length) for prompt in prompts], 0
        )
    ends = [triple.chosen for triple in batch] + [triple.rejected for triple in batch]
    return {
        "prompt": inputs if mask.shape[1] else None,
        "prompt_target": _padded_left(targets, -1),
        "prompt_size": 2 * n,
        "shared": True,
        "passes": [
            _response_pass(ends, rows, mask, positions) for rows in plan_passes(batch, token_budget)
        ],
        "response_size": 2 * n,
    }


def _whole_texts(
    batch: Sequence[TokenisedTriple], token_budget: int, positions: bool
) -> BatchTensors:
    """A batch in which each response runs behind its prompt, without a cache."""
    n = len(batch)
    prompts = [triple.prompt for triple in batch]
    targets = _prompt_targets(prompts)
    inputs = _from_the_first([prompt.prompt_ids for prompt in prompts], positions)
    ends = [triple.chosen for triple in batch] + [triple.rejected for triple in batch]
    passes: list[PassTensors] = []
    for rows in plan_passes(batch, token_budget):
        target = [torch.full_like(ends[row].ids, row) for row in rows]
        for one, row in zip(target, rows, strict=True):
            one[: ends[row].prompt_length] = -1
        passes.append(
            {
                "triples": torch.tensor(rows) % n,
                "inputs": _from_the_first([ends[row].ids for row in rows], positions),
                "target": _padded_right(target, -1),
            }
        )
    return {
        "prompt": inputs if inputs["input_ids"].shape[1] else None,
        "prompt_target": _padded_right(targets, -1),
        "prompt_size": 2 * n,
        "shared": False,
        "passes": passes,
        "response_size": 2 * n,
    }


def _prompt_targets(prompts: Sequence[Rendered]) -> list[Tensor]:
    """For each token of each prompt the row of the prompts' table that counts it, or -1."""
    return [
        torch.where(prompt.counted("all"), torch.where(prompt.content, 2 * row, 2 * row + 1), -1)
        for row, prompt in enumerate(prompts)
    ]


def _from_the_first(rows: list[Tensor], positions: bool) -> dict[str, Tensor]:
    """Keywords of the model for whole texts, padded on the right."""
    inputs = padded(rows, "right")
    if positions:
        longest = inputs["input_ids"].shape[1]
        inputs["position_ids"] = torch.arange(longest).repeat(len(rows), 1)
    return inputs


def _padded_left(rows: list[Tensor], value: int) -> Int64[Tensor, "rows tokens"]:
    return pad_sequence(rows, batch_first=True, padding_value=value, padding_side="left")


def _padded_right(rows: list[Tensor], value: int) -> Int64[Tensor, "rows tokens"]:
    return pad_sequence(rows, batch_first=True, padding_value=value)


def _response_pass(
    ends: Sequence[Rendered],
    rows: Sequence[int],
    prompt_mask: Int64[Tensor, "triples tokens"],
    positions: bool,
) -> PassTensors:
    responses = [ends[row].response_ids for row in rows]
    inputs = padded(responses, "right")
    triples = torch.tensor(rows) % len(prompt_mask)
    inputs["attention_mask"] = torch.cat([prompt_mask[triples], inputs["attention_mask"]], 1)
    if positions:
        first = torch.tensor([[ends[row].prompt_length] for row in rows])
        # Padding stays within the context that the model has positions for.
        last = torch.tensor([[len(ends[row].ids) - 1] for row in rows])
        longest = inputs["input_ids"].shape[1]
        inputs["position_ids"] = torch.minimum(first + torch.arange(longest), last)
    target = [torch.full_like(ids, row) for ids, row in zip(responses, rows, strict=True)]
    return {"triples": triples, "inputs": inputs, "target": _padded_right(target, -1)}
