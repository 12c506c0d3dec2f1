"""Decode one prompt in two styles at once, the model guided against itself (contrastive decoding).

    pairs = Contrast(model, tok).answer([warm_prefix, formal_prefix], ["I lost my cat.", ...])

All prompts of a batch share one prefix for each style (instruction and examples). Its keys and
values are computed once and attended to as one matrix for all rows, which is what makes several
hundred answers with long prefixes a matter of minutes on two cores.
"""

from typing import Any

import torch
from torch import Tensor

GUIDANCE = 0.5  # weight of log p(wanted style) - log p(other style)
PLAUSIBLE = 0.2  # tokens less likely than this share of the wanted style's best one are excluded
TEMPERATURE = 0.6
PENALTY = 0.4  # nats taken off a token that the answer holds already; punctuation is exempt
ANSWER_NGRAM = 4  # no answer repeats so many tokens in a row of what it has said
EXAMPLE_NGRAM = 6  # nor so many in a row of an example
NEW_TOKENS = 48

Chat = list[dict[str, str]]
Ngrams = dict[tuple[int, ...], set[int]]  # all tokens of an n-gram but the last -> the last


class Contrast:
    """A causal model that answers under two contexts, each answer guided away from the other's."""

    def __init__(self, model: Any, tok: Any) -> None:
        from transformers import AttentionInterface

        self.model, self.tok = model, tok
        self.prefix: list[tuple[Tensor, Tensor]] = []  # per layer [2, kv heads, P, head_dim]
        self.prefix_mask = torch.zeros(2, 0)  # [2, P], 0 or -inf
        AttentionInterface.register("shared_prefix", self._attend)

    @torch.no_grad()
    def answer(self, prefixes: list[Chat], messages: list[str]) -> list[tuple[str, str]]:
        """Return the answer in the first and in the second style to each message."""
        heads = [self.tok.apply_chat_template(chat, tokenize=False) for chat in prefixes]
        starts = self._read_prefixes(heads)
        banned = [_ngrams(self.tok(head, add_special_tokens=False).input_ids) for head in heads]
        whole = [
            self.tok.apply_chat_template(
                [*prefixes[0], {"role": "user", "content": text}],
                tokenize=False,
                add_generation_prompt=True,
            )
            for text in messages
        ]
        tails = self.tok(
            [text[len(heads[0]) :] for text in whole],
            return_tensors="pt",
            padding=True,
            add_special_tokens=False,
        )
        return self._decode(tails.input_ids, tails.attention_mask, starts, banned)

    def _read_prefixes(self, heads: list[str]) -> Tensor:
        batch = self.tok(heads, return_tensors="pt", padding=True, add_special_tokens=False)
        self.model.set_attn_implementation("sdpa")
        cache = self.model(
            **batch,
            use_cache=True,
            logits_to_keep=1,
            position_ids=_positions(batch.attention_mask),
        ).past_key_values
        self.prefix = [(layer.keys, layer.values) for layer in cache.layers]
        self.prefix_mask = torch.zeros(batch.attention_mask.shape)
        self.prefix_mask[batch.attention_mask == 0] = -torch.inf
        self.model.set_attn_implementation("shared_prefix")
        return batch.attention_mask.sum(1)

    def _decode(
        self, ids: Tensor, mask: Tensor, starts: Tensor, banned: list[Ngrams]
    ) -> list[tuple[str, str]]:
        # Rows: context 0 with the answers in its style, then with those in the other style; context
        # 1 likewise. The messages are the same for both, so they are read once per context.
        size, eos = len(ids), self.tok.eos_token_id
        fed, mask = ids.repeat(2, 1), mask.repeat(2, 1)
        start = starts.repeat_interleave(size)[:, None]
        twice = (
            torch.arange(size).repeat(4) + torch.tensor([0, 0, 1, 1]).repeat_interleave(size) * size
        )
        tokens = torch.zeros(2 * size, 0, dtype=torch.long)
        seen = [dict(banned[row // size]) for row in range(2 * size)]
        free = self.tok("! . , ?", add_special_tokens=False).input_ids
        free += self.tok("!.,?", add_special_tokens=False).input_ids
        cache: Any = None
        for _ in range(NEW_TOKENS):
            out = self.model(
                input_ids=fed,
                attention_mask=_causal(mask, fed.shape[1]),
                position_ids=_positions(mask)[:, -fed.shape[1] :] + start,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            logp = out.logits[:, -1].float().log_softmax(-1)
            if cache is None:
                cache = out.past_key_values
                cache.batch_select_indices(twice)
                logp, mask, start = logp[twice], mask[twice], start[twice]
            first, second_as_first, second, first_as_second = logp.split(size)
            token = _choose(
                torch.cat([first, second]), torch.cat([first_as_second, second_as_first]),
                tokens, seen, free,
            )  # fmt: skip
            token[(tokens == eos).any(1)] = eos
            tokens = torch.cat([tokens, token], 1)
            if bool((token == eos).all()):
                break
            a, b = token.split(size)
            fed = torch.cat([a, b, b, a])
            mask = torch.cat([mask, torch.ones_like(fed)], 1)
        texts = self.tok.batch_decode(tokens, skip_special_tokens=True)
        return list(zip(texts[:size], texts[size:], strict=True))

    def _attend(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, **kwargs: Any
    ) -> tuple[Tensor, None]:
        """Attend to the style's prefix (one matrix for all rows) and to the row's tokens."""
        rows, _, length, width = query.shape
        heads, (prefix_key, prefix_value) = key.shape[1], self.prefix[module.layer_idx]
        query = query.reshape(2, rows // 2, heads, -1, length, width) * module.scaling
        key, value = (t.reshape(2, rows // 2, heads, -1, width) for t in (key, value))
        to_prefix = torch.einsum("crhgqd,chpd->crhgqp", query, prefix_key)
        to_prefix = to_prefix.float() + self.prefix_mask[:, None, None, None, None]
        to_row = torch.einsum("crhgqd,crhsd->crhgqs", query, key)
        to_row = to_row + mask.reshape(2, rows // 2, 1, 1, length, -1)
        weights = torch.cat([to_prefix, to_row], -1).softmax(-1).to(value.dtype)
        on_prefix, on_row = weights.split([to_prefix.shape[-1], to_row.shape[-1]], -1)
        out = torch.einsum("crhgqp,chpd->crqhgd", on_prefix, prefix_value)
        out = out + torch.einsum("crhgqs,crhsd->crqhgd", on_row, value)
        return out.reshape(rows, length, -1, width), None


def _choose(
    wanted: Tensor, other: Tensor, tokens: Tensor, seen: list[Ngrams], free: list[int]
) -> Tensor:
    """Return each answer's next token [rows, 1], and add the n-gram that it completes to `seen`."""
    guided = wanted + GUIDANCE * (wanted - other)
    score = guided.clone()
    score.scatter_(1, tokens, score.gather(1, tokens) - PENALTY)
    score[:, free] = guided[:, free]
    floor = wanted.amax(1, keepdim=True) + torch.tensor(PLAUSIBLE).log()
    score[wanted < floor] -= 1e3  # not -inf: the ban below may leave nothing above the floor
    rows = [tuple(row) for row in tokens.tolist()]
    for row, written in enumerate(rows):
        for size in (ANSWER_NGRAM, EXAMPLE_NGRAM):
            score[row, list(seen[row].get(written[1 - size :], ()))] -= 1e6
    token = torch.multinomial((score / TEMPERATURE).softmax(-1), 1)
    for row, written in enumerate(rows):
        key = written[1 - ANSWER_NGRAM :]
        seen[row][key] = seen[row].get(key, set()) | {int(token[row])}
    return token


def _positions(mask: Tensor) -> Tensor:
    return (mask.cumsum(1) - 1).clamp(min=0)


def _causal(mask: Tensor, length: int) -> Tensor:
    """Return the additive mask [rows, 1, length, all] of the last `length` tokens."""
    total = mask.shape[1]
    allowed = torch.ones(total, total, dtype=torch.bool).tril()[-length:]
    allowed = allowed & (mask[:, None, None, :] > 0)
    return torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)


def _ngrams(ids: list[int]) -> Ngrams:
    table: Ngrams = {}
    for i in range(len(ids) - EXAMPLE_NGRAM + 1):
        table.setdefault(tuple(ids[i : i + EXAMPLE_NGRAM - 1]), set()).add(
            ids[i + EXAMPLE_NGRAM - 1]
        )
    return table
