"""Margins of many settings on the same triples: only the blocks above the output layer run again.

An edit changes nothing below the output layer, so the hidden states there are taken once, and each
setting costs the upper blocks and the head. For models whose decoder takes `inputs_embeds` as they
are (Llama and its kind; not Gemma, which scales them).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from dspa_nn import DSPA, PreferenceTriple
from dspa_nn.evaluation.codes import Codes
from dspa_nn.evaluation.conditions import Condition
from dspa_nn.evaluation.forcing import compare, log_softmax, mean_by, plan_batches
from dspa_nn.model import as_local

_BUDGET = 2048


@dataclass(frozen=True)
class Figures:
    """One value a triple: change of the margin, KL to the unsteered model, both nats a token."""

    change: Float64[np.ndarray, " n"]
    kl: Float64[np.ndarray, " n"]
    edits: float
    norm: float


@dataclass(frozen=True)
class _Batch:
    places: list[int]
    hidden: Float[Tensor, "rows tokens d_model"]
    mask: Int64[Tensor, "rows tokens"]
    base: Float[Tensor, "positions vocabulary"]  # log-probabilities, float16


class UpperBlocks:
    """The hidden states of chosen and rejected responses at the output layer, and what is above."""

    def __init__(self, dspa: DSPA, triples: Sequence[PreferenceTriple], codes: Codes) -> None:
        self.codes = codes
        self.model = as_local(dspa.model)
        self.decoder = self.model.get_decoder()
        self.layer = dspa.output_layer
        self.sequences = []
        for triple in triples:
            prompt = dspa.render(triple.prompt)
            ends = (triple.chosen, triple.rejected)
            self.sequences += [dspa.render(prompt, text) for text in ends]
        counts = torch.bincount(codes.owner)
        self.start = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
        self.plain = np.zeros(len(self.sequences))
        self.batches = [
            self._take(places)
            for places in plan_batches([len(own.ids) for own in self.sequences], _BUDGET)
        ]

    def _take(self, places: list[int]) -> _Batch:
        batch = [self.sequences[place] for place in places]
        ids = torch.nn.utils.rnn.pad_sequence([own.ids for own in batch], batch_first=True)
        lengths = torch.tensor([len(own.ids) for own in batch])
        mask = (torch.arange(ids.shape[1]) < lengths.unsqueeze(-1)).long()
        with torch.no_grad(), self._only(slice(0, self.layer + 1)) as norm:
            hidden = norm.seen(lambda: self.decoder(ids, attention_mask=mask, use_cache=False))
            base = log_softmax(self._logits(places, hidden, mask))
        picked = base.gather(-1, self._targets(places).unsqueeze(-1))[:, 0]
        self.plain[places] = mean_by(self._owner(places), picked, len(places))
        return _Batch(places, hidden, mask, base.half())

    def measure(self, condition: Condition) -> Figures:
        """Steer by a condition and compare with the unsteered model."""
        options = self.codes.settings(condition)
        planned = self.codes.planned(condition)
        edits, change = self.codes.change(*planned, alpha=options["alpha"])
        log_prob, kl = np.zeros(len(self.sequences)), np.zeros(len(self.sequences))
        for batch in self.batches:
            hidden = batch.hidden.clone()
            for row, place in enumerate(batch.places):
                own = self.sequences[place]
                part = change[self.start[place] : self.start[place + 1]]
                hidden[row, own.prompt_length - 1 : len(own.ids)] += part
            with torch.no_grad():
                logits = self._logits(batch.places, hidden, batch.mask)
                found = compare(logits, batch.base.float(), self._targets(batch.places))
            owner = self._owner(batch.places)
            log_prob[batch.places], kl[batch.places] = (
                mean_by(owner, values, len(batch.places)) for values in found
            )
        moved = log_prob - self.plain
        rows = len(self.sequences)
        return Figures(
            change=moved[0::2] - moved[1::2],
            kl=(kl[0::2] + kl[1::2]) / 2,
            edits=float(mean_by(self.codes.owner, edits.float(), rows).mean()),
            norm=float(mean_by(self.codes.owner, change.norm(dim=-1), rows).mean()),
        )

    def _logits(
        self, places: list[int], hidden: Tensor, mask: Tensor
    ) -> Float[Tensor, "positions vocabulary"]:
        with self._only(slice(self.layer + 1, None)):
            out = self.decoder(inputs_embeds=hidden, attention_mask=mask, use_cache=False)
        rows = []
        for row, place in zip(out.last_hidden_state, places, strict=True):
            own = self.sequences[place]
            rows.append(row[own.prompt_length - 1 : len(own.ids) - 1])
        return self.model.get_output_embeddings()(torch.cat(rows)).float()

    def _targets(self, places: list[int]) -> Int64[Tensor, " positions"]:
        return torch.cat([self.sequences[place].response_ids for place in places])

    def _owner(self, places: list[int]) -> Int64[Tensor, " positions"]:
        sizes = torch.tensor([len(self.sequences[place].response_ids) for place in places])
        return torch.repeat_interleave(torch.arange(len(places)), sizes)

    @contextmanager
    def _only(self, blocks: slice) -> Iterator["_Last"]:
        """Within the block, the decoder has these of its blocks alone."""
        every = self.decoder.layers
        self.decoder.layers = every[blocks]
        try:
            yield _Last(self.decoder.layers)
        finally:
            self.decoder.layers = every


class _Last:
    """What the last of some blocks puts out, before the final norm."""

    def __init__(self, blocks: Any) -> None:
        self.block = blocks[-1]

    def seen(self, run: Any) -> Tensor:
        kept: list[Tensor] = []

        def keep(_module: Any, _inputs: Any, output: Any) -> None:
            kept.append(output[0] if isinstance(output, tuple) else output)

        handle = self.block.register_forward_hook(keep)
        try:
            run()
        finally:
            handle.remove()
        return kept[0]
