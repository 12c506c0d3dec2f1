"""What an edit log does not hold, worked out again with the model: logits, active prompt latents.

The texts of a log are run once unsteered and once under the log's own plans, token for token.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from dspa_nn.audit.gathering import LogitChange, Row
from dspa_nn.errors import DSPAWarning, SteeringError
from dspa_nn.extensions import rule_of
from dspa_nn.graph.blocks import hidden_states
from dspa_nn.models import as_local, evaluating, for_ndif
from dspa_nn.prompts import content_of
from dspa_nn.steering import DSPA, RunOptions

# Steered tokens of a row whose logits are looked at, and next tokens that are kept of each.
MOST_TOKENS, MOST_LOGITS = 1024, 4
# A next token is of interest where it is at least so likely, before or after.
LEAST_PROBABILITY = 1e-3
_CHUNK = 64


def can_replay(dspa: DSPA | None) -> bool:
    """Whether the model's weights are on this machine."""
    return dspa is not None and not for_ndif(dspa.model)


def replay(dspa: DSPA, rows: Sequence[Row], edit: Any = None) -> list[str]:
    """Fill in each row's `logits` and `voters`; return the edits that are needed and not given.

    edit: the extension that the runs were edited by, since a log holds its name alone. Rows of
    another one get no logits.

    Example:
        >>> with dspa.attach(hf_model, map) as edits:
        ...     ids = hf_model.generate(prompt.ids[None], max_new_tokens=4)
        >>> from dspa_nn.audit.gathering import rows_of
        >>> rows = rows_of([edits], tokenizer, set())
        >>> replay(dspa, rows)
        []
        >>> any(token.logits for token in rows[0].tokens)
        True
    """
    hf_model: Any = as_local(dspa.model)
    given = rule_of("edit", edit)
    missing: list[str] = []
    for row in rows:
        named = row.plan.settings.get("extensions", {}).get("edit", "paper")
        if given is not None and given.name != named:
            raise SteeringError(
                f"edit= is {given.name}, and the log is of the edit {named}; give the one that the "
                "run was given"
            )
        if given is None and named != "paper" and named not in missing:
            missing.append(named)
        ids = row.log.sequence(row.place).ids
        steered = [index for index, token in enumerate(row.tokens) if token.steered]
        with evaluating(hf_model), torch.no_grad():
            _voters(dspa, hf_model, row, ids)
            if steered and (given is not None or named == "paper"):
                _logits(dspa, hf_model, row, ids, steered[:MOST_TOKENS], edit)
    return missing


def answer_unsteered(dspa: DSPA, row: Row) -> str | None:
    """What the unsteered model answers, greedily, in as many tokens; None where none were made."""
    sequence = row.log.sequence(row.place)
    made = len(sequence.ids) - sequence.prompt
    if not row.log.generated or made <= 0:
        return None
    hf_model: Any = as_local(dspa.model)
    tokenizer, ends = dspa.facts.tokenizer, dspa.facts.eos_ids
    ids = sequence.ids[None, : sequence.prompt].to(hf_model.device)
    with evaluating(hf_model), torch.no_grad():
        result = hf_model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=made,
            do_sample=False, pad_token_id=ends[0] if ends else 0,
        )  # fmt: skip
    return tokenizer.decode(result[0, sequence.prompt :], skip_special_tokens=True).strip()


def _voters(dspa: DSPA, hf_model: Any, row: Row, ids: Int64[Tensor, " tokens"]) -> None:
    """Note at each prompt token that was counted which voting input latents are active on it."""
    voting = [latent for latent, _, _ in row.plan.prompt_latents]
    prompt = [index for index, token in enumerate(row.tokens) if token.prompt]
    counted = _counted(dspa, row, ids[: len(prompt)])
    if not voting or counted is None:
        return
    seen: list[Tensor] = []
    block = hf_model.get_submodule(dspa.paths[0])

    def see(_module: Any, _inputs: Any, output: Any) -> None:
        seen.append(hidden_states(output))

    handle = block.register_forward_hook(see)
    try:
        one = ids[None, prompt].to(hf_model.device)
        hf_model(input_ids=one, attention_mask=torch.ones_like(one), use_cache=False)
    finally:
        handle.remove()
    latents = dspa.encoders[0].encode(seen[-1][0])[0]
    active = (latents[:, voting] > 0).cpu() & counted[:, None]
    for index, here in zip(prompt, active, strict=True):
        row.tokens[index].voters = [voting[int(k)] for k in torch.nonzero(here)]


def _counted(dspa: DSPA, row: Row, ids: Int64[Tensor, " prompt"]) -> Bool[Tensor, " prompt"] | None:
    """Which prompt tokens the run counted; None where what is known does not come to its number."""
    known = torch.ones(len(ids), dtype=torch.bool)
    known[:1] = bool(len(ids)) and int(ids[0]) != dspa.facts.tokenizer.bos_token_id
    readings = [known]
    if row.plan.settings["prompt_tokens"] == "content":
        inside = content_of(dspa.facts.tokenizer, ids)
        readings = [known] if inside is None else [known & inside.cpu(), known]
    fits = [one for one in readings if int(one.sum()) == row.plan.counted_tokens]
    return fits[0] if fits and len(ids) else None


def _logits(
    dspa: DSPA,
    hf_model: Any,
    row: Row,
    ids: Int64[Tensor, " tokens"],
    steered: list[int],
    edit: Any,
) -> None:
    """Note which next tokens' logits moved most at each steered token."""
    first, last = steered[0], steered[-1]
    prompt = sum(token.prompt for token in row.tokens)
    one = ids[None, : max(last + 1, prompt)].to(hf_model.device)
    call = {
        "input_ids": one,
        "attention_mask": torch.ones_like(one),
        "use_cache": False,
        "logits_to_keep": torch.arange(first, last + 1, device=one.device),
    }
    settings = row.plan.settings
    options: RunOptions = {
        "alpha": settings["alpha"],
        "positions": settings["positions"],
        "prompt_length": prompt,
        "edit": edit,
    }
    before = hf_model(**call).logits[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DSPAWarning)  # the run itself has said it
        with dspa.attach(hf_model, row.plan, **options):
            after = hf_model(**call).logits[0]
    texts: dict[int, str] = {}
    for start in range(0, len(steered), _CHUNK):
        part = torch.tensor(steered[start : start + _CHUNK]) - first
        part = part.to(before.device)
        moved = _moved_most(before[part].float(), after[part].float())
        for index, changes in zip(steered[start : start + _CHUNK], moved, strict=True):
            row.tokens[index].logits = [
                LogitChange(_text(dspa.facts.tokenizer, token, texts), *values)
                for token, *values in changes
            ]


def _moved_most(
    before: Float[Tensor, "tokens vocabulary"], after: Float[Tensor, "tokens vocabulary"]
) -> list[list[tuple[int, float, float, float]]]:
    """For each token: next tokens, change of their logit, probability before and after.

    A shift of all logits alike changes no probability: changes are less their mean. Tokens that
    are hardly likely at any time are left out.
    """
    change = after - before
    change = change - change.mean(-1, keepdim=True)
    old, new = before.softmax(-1), after.softmax(-1)
    likely = torch.maximum(old, new) >= LEAST_PROBABILITY
    found: list[list[tuple[int, float, float, float]]] = []
    for row in range(len(change)):
        tokens = torch.nonzero(likely[row]).squeeze(-1)
        order = tokens[torch.sort(change[row][tokens], descending=True, stable=True).indices]
        up = [int(token) for token in order[:MOST_LOGITS] if change[row, token] > 0]
        down = [int(token) for token in order.flip(0)[:MOST_LOGITS] if change[row, token] < 0]
        found.append(
            [
                (token, float(change[row, token]), float(old[row, token]), float(new[row, token]))
                for token in [*up, *reversed(down)]
            ]
        )
    return found


def _text(tokenizer: Any, token: int, known: dict[int, str]) -> str:
    if token not in known:
        known[token] = tokenizer.decode([token])
    return known[token]
