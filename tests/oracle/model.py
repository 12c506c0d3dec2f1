"""The method's model passes with plain hooks: counting (3.1, 3.2, 5), steering (4.4, 5).

Hugging Face decoders with `model.model.layers` (Gemma 2, Qwen 3, Llama) and SAELens SAE objects.
Callers give token ids and masks; no tokenizer, nnsight or `dspa_nn` comes in.
"""

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.oracle.method import FittedMap, Ints, Plan, TripleCounts, edit, make_plan


@dataclass
class Edit:
    """One latent changed at one position (an index into the padded row)."""

    row: int
    position: int
    latent: int
    before: float
    after: float


@dataclass
class Steered:
    """What a steered run gives back."""

    logits: Tensor  # generate: [steps, batch, vocab]; forward: [batch, length, vocab]
    edits: list[Edit]  # by position, then row, then latent
    ids: Tensor  # generate: prompt and completion [batch, length + steps]; forward: the input


# -- which tokens (4b) -----------------------------------------------------------------------------


def counted_tokens(input_ids: Tensor, attention_mask: Tensor, bos_id: int | None) -> Tensor:
    """Boolean [batch, length]: real tokens, without a BOS at the first non-padding position."""
    counted = attention_mask.bool().clone()  # padding is known from the mask alone
    for row in range(len(counted)):
        if not counted[row].any():
            continue
        first = int(counted[row].nonzero()[0])
        if bos_id is not None and int(input_ids[row, first]) == bos_id:
            counted[row, first] = False  # later occurrences count
    return counted


def prompt_end(attention_mask: Tensor, prompt_length: Sequence[int] | None) -> list[int]:
    """Index of each row's last prompt token; prompt lengths are in real tokens, BOS included."""
    ends = []
    for row, mask in enumerate(attention_mask):
        real = mask.nonzero().flatten()
        length = len(real) if prompt_length is None else prompt_length[row]
        ends.append(int(real[length - 1]))
    return ends


# -- counting (3.1, 3.2) ---------------------------------------------------------------------------


@torch.no_grad()
def hidden_after(model: Any, layer: int, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Output of decoder block `layer`, 0-based: [batch, length, hidden]."""
    seen: list[Tensor] = []
    with _on_block(model, layer, lambda hidden: seen.append(hidden)):
        model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=_positions(attention_mask),
            use_cache=False,
        )
    return seen[0]


@torch.no_grad()
def fired(sae: Any, hidden: Tensor) -> Tensor:
    """Which latents are active, by SAELens' own inference-time encode (section 10, row 7)."""
    return sae.encode(hidden) > 0


def prompt_counts(
    model: Any,
    sae_in: Any,
    layer_in: int,
    input_ids: Tensor,
    attention_mask: Tensor,
    bos_id: int | None,
    *,
    content_mask: Tensor | None = None,
    prompt_length: Sequence[int] | None = None,
) -> list[tuple[Ints, int]]:
    """For each row: counts [d_in] over the prompt tokens that count, and how many those are.

    `content_mask` [batch, length] narrows to content tokens; without it all count ("all").
    `prompt_length` says where the prompt ends; without it the whole row is the prompt.
    """
    counted = counted_tokens(input_ids, attention_mask, bos_id)
    for row, end in enumerate(prompt_end(attention_mask, prompt_length)):
        counted[row, end + 1 :] = False
    if content_mask is not None:
        counted &= content_mask.bool()
    active = fired(sae_in, hidden_after(model, layer_in, input_ids, attention_mask))
    return [
        (active[row, counted[row]].sum(0).numpy().astype(np.int64), int(counted[row].sum()))
        for row in range(len(input_ids))
    ]


def count_triple(
    model: Any,
    sae_in: Any,
    sae_out: Any,
    layer_in: int,
    layer_out: int,
    prompt_ids: Sequence[int],
    chosen_ids: Sequence[int],
    rejected_ids: Sequence[int],
    content_mask: Sequence[bool] | None = None,
    bos_id: int | None = None,
) -> TripleCounts:
    """Counts of one triple, in three full passes without padding.

    The ids are joined as given (4b): the prompt's with its BOS if it has one, the responses'
    without special tokens. `content_mask` marks the prompt's content; None means all is content.
    """
    prompt = torch.tensor([list(prompt_ids)])
    content = [True] * len(prompt_ids) if content_mask is None else list(content_mask)
    is_content = torch.tensor([content])
    ones = torch.ones_like(prompt)

    def over(mask: Tensor) -> tuple[Ints, int]:
        return prompt_counts(model, sae_in, layer_in, prompt, ones, bos_id, content_mask=mask)[0]

    def response(ids: Sequence[int]) -> tuple[Ints, int]:
        joined = torch.tensor([list(prompt_ids) + list(ids)])
        hidden = hidden_after(model, layer_out, joined, torch.ones_like(joined))
        active = fired(sae_out, hidden)[0, len(prompt_ids) :]  # the response's own tokens
        return active.sum(0).numpy().astype(np.int64), len(ids)

    return TripleCounts(
        *over(is_content), *over(~is_content), *response(chosen_ids), *response(rejected_ids)
    )


def make_plans(
    fitted: FittedMap,
    model: Any,
    sae_in: Any,
    layer_in: int,
    input_ids: Tensor,
    attention_mask: Tensor,
    bos_id: int | None,
    *,
    content_mask: Tensor | None = None,
    prompt_length: Sequence[int] | None = None,
    **planning: Any,
) -> list[Plan]:
    """One plan a row: `prompt_counts`, then `method.make_plan` with the keywords in `planning`."""
    counted = prompt_counts(
        model,
        sae_in,
        layer_in,
        input_ids,
        attention_mask,
        bos_id,
        content_mask=content_mask,
        prompt_length=prompt_length,
    )
    return [make_plan(fitted, counts, length, **planning) for counts, length in counted]


# -- steering (4.3, 4.4, 4b) -----------------------------------------------------------------------


def in_float64(sae: Any) -> Any:
    """The same SAE in float64, so that a difference of two decodes is exact enough to judge by."""
    double = type(sae).from_dict({**sae.cfg.to_dict(), "dtype": "float64"})
    double.load_state_dict({k: v.double() for k, v in sae.state_dict().items()})
    return double


@torch.no_grad()
def edited_hidden(
    sae: Any, double: Any, h: Tensor, plan: Plan, alpha: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Sections 4.3 and 4.4 at one position: the new hidden state [hidden], f~ and f~' [d_out].

    Rounding: f~' is computed in float64 from the SAE's own f~ and rounded to its dtype; the change
    is decoded in float64 (`double` is the same SAE there), rounded to the hidden state's dtype, and
    added there.
    """
    f = sae.encode(h[None])[0]
    f_new = torch.from_numpy(edit(f.double().numpy(), plan, alpha)).to(f.dtype)
    if torch.equal(f, f_new):
        return h, f, f_new  # bit-identical: nothing is added, not even zero
    # SAELens forgets a token's normalisation after one decode: encode h again before each.
    wide = h[None].to(sae.dtype).double()
    double.encode(wide)
    after = double.decode(f_new[None].double())
    double.encode(wide)
    before = double.decode(f[None].double())
    return h + (after - before)[0].to(h.dtype), f, f_new


def steered_forward(
    model: Any,
    sae_out: Any,
    layer_out: int,
    plans: Sequence[Plan],
    input_ids: Tensor,
    attention_mask: Tensor,
    *,
    alpha: float,
    prompt_length: Sequence[int] | None = None,
    positions: str = "response",
    bos_id: int | None = None,
) -> Steered:
    """One teacher-forced forward, padded on either side.

    positions="response" steers from the last prompt token on, and needs `prompt_length` (real
    tokens, BOS included); "all" steers every real token but a leading BOS.
    """
    assert positions == "all" or prompt_length is not None
    steered = _steered_tokens(input_ids, attention_mask, bos_id, positions, prompt_length)
    run = _Run(model, sae_out, in_float64(sae_out), layer_out, plans, alpha, {})
    logits, _ = run.forward(input_ids, attention_mask, steered, None, use_cache=False)
    return Steered(logits, run.listed(), input_ids)


def steered_generate(
    model: Any,
    sae_out: Any,
    layer_out: int,
    plans: Sequence[Plan],
    input_ids: Tensor,
    attention_mask: Tensor,
    *,
    alpha: float,
    max_new_tokens: int,
    use_cache: bool = True,
    positions: str = "response",
    bos_id: int | None = None,
    eos_ids: Sequence[int] = (),
    pad_id: int = 0,
) -> Steered:
    """Greedy generation from left-padded prompts, steered from the last prompt token on.

    As Hugging Face has it: a row that has emitted one of `eos_ids` goes on with `pad_id`, and all
    stop when the last one has. Each position's edits are listed once, also without the cache, where
    every step makes them again.
    """
    assert bool(attention_mask[:, -1].all()), "generate takes left padding only"
    ids, mask = input_ids, attention_mask
    lengths = attention_mask.sum(1).tolist()
    run = _Run(model, sae_out, in_float64(sae_out), layer_out, plans, alpha, {})
    finished = torch.zeros(len(ids), dtype=torch.bool)
    every_step: list[Tensor] = []
    cache: Any = None
    for _ in range(max_new_tokens):
        steered = _steered_tokens(ids, mask, bos_id, positions, lengths)
        logits, cache = run.forward(ids, mask, steered, cache, use_cache=use_cache)
        every_step.append(logits[:, -1])
        new = logits[:, -1].argmax(-1)
        new[finished] = pad_id
        ids = torch.cat([ids, new[:, None]], 1)
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
        finished |= torch.isin(new, torch.tensor(list(eos_ids), dtype=new.dtype))
        if bool(finished.all()):
            break
    return Steered(torch.stack(every_step), run.listed(), ids)


@dataclass
class _Run:
    """A steered run: what edits with what, and the edits so far by (row, position)."""

    model: Any
    sae: Any
    double: Any
    layer: int
    plans: Sequence[Plan]
    alpha: float
    edits: dict[tuple[int, int], list[Edit]]

    @torch.no_grad()
    def forward(
        self, ids: Tensor, mask: Tensor, steered: Tensor, cache: Any, *, use_cache: bool
    ) -> tuple[Tensor, Any]:
        """Run the tokens that the cache has not seen, editing where `steered` says so."""
        start = 0 if cache is None else cache.get_seq_length()

        def change(hidden: Tensor) -> Tensor:
            changed = hidden.clone()
            for row in range(hidden.shape[0]):
                for offset in range(hidden.shape[1]):
                    if steered[row, start + offset]:
                        changed[row, offset] = self.edited(row, start + offset, hidden[row, offset])
            return changed

        with _on_block(self.model, self.layer, change):
            out = self.model(
                input_ids=ids[:, start:],
                attention_mask=mask,
                position_ids=_positions(mask)[:, start:],
                past_key_values=cache,
                use_cache=use_cache,
            )
        return out.logits, out.past_key_values if use_cache else None

    def edited(self, row: int, position: int, h: Tensor) -> Tensor:
        """Edit one hidden state and note what was changed."""
        h_new, f, f_new = edited_hidden(self.sae, self.double, h, self.plans[row], self.alpha)
        self.edits[row, position] = [
            Edit(row, position, j, float(f[j]), float(f_new[j]))
            for j in (f != f_new).nonzero().flatten().tolist()
        ]
        return h_new

    def listed(self) -> list[Edit]:
        """All edits, by position, then row, then latent."""
        places = sorted(self.edits, key=lambda place: (place[1], place[0]))
        return [one for place in places for one in self.edits[place]]


def _steered_tokens(
    ids: Tensor,
    mask: Tensor,
    bos_id: int | None,
    positions: str,
    prompt_length: Sequence[int] | None,
) -> Tensor:
    """4b: the last prompt token and what follows it; or with "all" every real token but the BOS."""
    if positions == "all":
        return counted_tokens(ids, mask, bos_id)
    assert positions == "response"
    steered = mask.bool().clone()
    for row, end in enumerate(prompt_end(mask, prompt_length)):
        steered[row, :end] = False
    return steered


def _positions(mask: Tensor) -> Tensor:
    """Position ids that count real tokens, as Hugging Face's generate derives them."""
    return (mask.long().cumsum(-1) - 1).clamp(min=0)


@contextmanager
def _on_block(model: Any, layer: int, act: Callable[[Tensor], Tensor | None]) -> Any:
    """While open, `act` sees the output of a decoder block and may return another in its place."""

    def hook(_module: Any, _inputs: Any, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        changed = act(hidden)
        if changed is None:
            return None
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    handle = model.model.layers[layer].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
