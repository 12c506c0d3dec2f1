"""Dense baselines with plain hooks and numpy (docs/method.md 8): fits, gates, steered generation.

One sequence at a time, without padding or a cache, so that nothing about batches can be shared
with the code that is tested.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.oracle.model import _on_block, hidden_after

Ids = Sequence[int]


def states(model: Any, layer: int, ids: Ids) -> np.ndarray:
    """Outputs of decoder block `layer`: float64 [tokens, hidden]."""
    row = torch.tensor([list(ids)])
    return hidden_after(model, layer, row, torch.ones_like(row))[0].double().numpy()


def response_mean(model: Any, layer: int, prompt: Ids, response: Ids) -> np.ndarray:
    """Mean over the response's own tokens."""
    return states(model, layer, [*prompt, *response])[len(prompt) :].mean(0)


def differences(model: Any, layer: int, triples: Sequence[tuple[Ids, Ids, Ids]]) -> np.ndarray:
    """Chosen less rejected, [n, hidden]; triples are (prompt, chosen, rejected) ids."""
    return np.stack(
        [
            response_mean(model, layer, prompt, chosen)
            - response_mean(model, layer, prompt, rejected)
            for prompt, chosen, rejected in triples
        ]
    )


def difference_of_means(rows: np.ndarray) -> np.ndarray:
    """8.3."""
    return rows.mean(0)


def control_direction(rows: np.ndarray, directions: int, weights: str) -> np.ndarray:
    """8.2, by a singular value decomposition of the differences themselves."""
    _, _, right = np.linalg.svd(rows, full_matrices=False)
    total = np.zeros(rows.shape[1])
    for unit in right[:directions]:
        along = rows @ unit
        if weights == "projection":
            total += along.mean() * unit
        else:
            votes = np.sign(along).sum()
            total += np.sign(votes if votes else along.mean()) * unit
    return total


def similarity(h: np.ndarray, c: np.ndarray, tanh: bool) -> float:
    """8.4: cosine of h with its projection on c, or with that through tanh."""
    projected = np.outer(c, c) / (c @ c) @ h
    if tanh:
        projected = np.tanh(projected)
    return float(h @ projected / np.linalg.norm(h) / np.linalg.norm(projected))


def condition_direction(prompts: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """8.4: the first principal direction about the mean of the two sets' means."""
    centre = (prompts[labelled].mean(0) + prompts[~labelled].mean(0)) / 2
    return np.linalg.svd(prompts - centre, full_matrices=False)[2][0]


def best_f1(alike: np.ndarray, labelled: np.ndarray) -> float:
    """The best F1 of any threshold in either direction."""
    best = 0.0
    for threshold in [*alike, alike.min() - 1, alike.max() + 1]:
        for opened in (alike > threshold, alike < threshold, alike >= threshold):
            right = (opened & labelled).sum()
            if right:
                precision, recall = right / opened.sum(), right / labelled.sum()
                best = max(best, 2 * precision * recall / (precision + recall))
    return float(best)


@torch.no_grad()
def forward(model: Any, layer: int, ids: Ids, change: Tensor, steered: Sequence[bool]) -> Tensor:
    """Logits [tokens, vocabulary] with `change` added at the steered tokens of block `layer`."""
    row = torch.tensor([list(ids)])
    where = torch.tensor(list(steered))

    def add(hidden: Tensor) -> Tensor:
        changed = hidden.clone()
        changed[0, where] += change
        return changed

    with _on_block(model, layer, add):
        return model(input_ids=row, attention_mask=torch.ones_like(row), use_cache=False).logits[0]


def generate(
    model: Any, layer: int, prompt: Ids, change: Tensor, steps: int, *, everywhere: bool = False,
    bos_id: int | None = None,
) -> tuple[list[int], Tensor]:  # fmt: skip
    """Greedy ids and logits [steps, vocabulary]; from the last prompt token on, or every token."""
    ids, logits = list(prompt), []
    for _ in range(steps):
        steered = [everywhere or place >= len(prompt) - 1 for place in range(len(ids))]
        if everywhere and ids[0] == bos_id:
            steered[0] = False
        logits.append(forward(model, layer, ids, change, steered)[-1])
        ids.append(int(logits[-1].argmax()))
    return ids, torch.stack(logits)
