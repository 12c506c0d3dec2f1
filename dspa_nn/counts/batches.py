"""The batches of a counting pass: planned once from the whole source, and laid out for the model.

What a batch holds depends on the whole source alone, never on how the work was split, so that
shards, retries and resumed runs give the same table byte for byte.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from dspa_nn.errors import CountsError
from dspa_nn.prompts import Rendered

# Padded tokens to a pass, cached ones included: fills two cores, and fits a laptop's memory.
TOKEN_BUDGET = 4096
# A row joins a pass if it costs no more padding than this share of the budget, about what a pass of
# its own would cost.
PADDING = 1 / 64
# Tokens of prompts and responses that share a batch, in budgets: more rows of like length, but also
# more work that an interruption loses.
BATCH_BUDGETS = 4


@dataclass(frozen=True)
class Job:
    """One triple as token ids: the prompt once, and its two ends."""

    index: int
    prompt: Rendered
    chosen: Rendered
    rejected: Rendered

    @property
    def ends(self) -> tuple[Rendered, Rendered]:
        """Prompt and chosen, prompt and rejected."""
        return self.chosen, self.rejected

    @property
    def tokens(self) -> int:
        """Tokens that the model runs: the prompt once, and both responses."""
        return self.prompt.prompt_length + sum(len(end.response_ids) for end in self.ends)


def plan_batches(jobs: Sequence[Job], token_budget: int) -> list[list[int]]:
    """Split the jobs into batches of prompts of like length, each within `token_budget`.

    Returns positions in `jobs`; longest first, so that memory runs out at once or not at all.

    Raises:
        CountsError: a budget below 1.
    """
    if token_budget < 1:
        raise CountsError(f"token_budget is {token_budget}, and must be at least 1; try 4096")

    def length(place: int) -> int:
        return jobs[place].prompt.prompt_length

    batches: list[list[int]] = []
    held = 0
    for place in sorted(range(len(jobs)), key=lambda place: (-length(place), jobs[place].index)):
        longest = length(batches[-1][0]) if batches else 0
        fits = (
            batches
            and longest * (len(batches[-1]) + 1) <= token_budget
            and longest - length(place) <= PADDING * token_budget
            and held + jobs[place].tokens <= BATCH_BUDGETS * token_budget
        )
        if fits:
            batches[-1].append(place)
            held += jobs[place].tokens
        else:
            batches.append([place])
            held = jobs[place].tokens
    return batches


def plan_passes(batch: Sequence[Job], token_budget: int) -> list[list[int]]:
    """Split the 2n responses of a batch into passes of like length, longest first.

    Row k is the chosen response of triple k, row n + k the rejected one. Tokens in the cache count
    towards the budget: what attends to them is memory too.
    """
    lengths = [len(job.chosen.response_ids) for job in batch]
    lengths += [len(job.rejected.response_ids) for job in batch]
    cached = max(job.prompt.prompt_length for job in batch)
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


def plan_hash(jobs: Sequence[Job], batches: list[list[int]], token_budget: int) -> str:
    """Return a hash over what every pass will show the model, in order."""
    digest = hashlib.sha256()
    for places in batches:
        batch = [jobs[place] for place in places]
        for job in batch:
            for end in job.ends:
                digest.update(end.ids.numpy().tobytes())
            digest.update(job.prompt.content.numpy().tobytes())
            digest.update(str((job.index, job.prompt.prompt_length)).encode())
        digest.update(f"|{plan_passes(batch, token_budget)}|".encode())
    return digest.hexdigest()


def to_tensors(batch: Sequence[Job], token_budget: int, *, positions: bool) -> dict[str, Any]:
    """Lay a batch out for `graph.count.Counter`: what goes in, and where each token is counted.

    Prompts are padded on the left and responses on the right, so that each row is one stretch of
    tokens, as a sliding window sees it. Row 2k of the prompts' table holds the content tokens of
    triple k, row 2k + 1 its markup; rows of the responses' table are chosen, then rejected.

    Args:
        batch: one batch of the plan.
        token_budget: the plan's own.
        positions: give the model `position_ids`, which it then does not have to guess.
    """
    n, width = len(batch), max(job.prompt.prompt_length for job in batch)
    ids = torch.zeros(n, width, dtype=torch.int64)
    mask, place = torch.zeros_like(ids), torch.zeros_like(ids)
    prompt_target = torch.full_like(ids, -1)
    for row, job in enumerate(batch):
        length = job.prompt.prompt_length
        own = slice(width - length, width)
        ids[row, own] = job.prompt.prompt_ids
        mask[row, own] = 1
        place[row, own] = torch.arange(length)
        target = torch.where(job.prompt.content, 2 * row, 2 * row + 1)
        prompt_target[row, own] = torch.where(job.prompt.counted("all"), target, -1)
    prompt = {"input_ids": ids, "attention_mask": mask}
    if positions:
        prompt["position_ids"] = place
    ends = [job.chosen for job in batch] + [job.rejected for job in batch]
    return {
        "prompt": prompt if width else None,
        "prompt_target": prompt_target,
        "prompt_size": 2 * n,
        "passes": [
            _response_pass(ends, rows, mask, positions) for rows in plan_passes(batch, token_budget)
        ],
        "response_size": 2 * n,
    }


def _response_pass(
    ends: Sequence[Rendered], rows: Sequence[int], prompt_mask: torch.Tensor, positions: bool
) -> dict[str, Any]:
    width = max(len(ends[row].response_ids) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.int64)
    mask, place = torch.zeros_like(ids), torch.zeros_like(ids)
    target = torch.full_like(ids, -1)
    for number, row in enumerate(rows):
        end = ends[row]
        length = len(end.response_ids)
        ids[number, :length] = end.response_ids
        mask[number, :length] = 1
        place[number] = end.prompt_length + torch.arange(width)
        target[number, :length] = row
    triples = torch.tensor(rows) % len(prompt_mask)
    inputs = {"input_ids": ids, "attention_mask": torch.cat([prompt_mask[triples], mask], 1)}
    if positions:
        # Padding stays within the context that the model has positions for.
        last = torch.tensor([len(ends[row].ids) - 1 for row in rows]).unsqueeze(1)
        inputs["position_ids"] = torch.minimum(place, last)
    return {"triples": triples, "inputs": inputs, "target": target}
