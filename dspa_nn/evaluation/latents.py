"""Output latents of teacher-forced responses, taken once.

How much any plan would edit is then arithmetic, without a further run of the model.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Float64, Int, Int64
from torch import Tensor

from dspa_nn.evaluation.methods import Condition
from dspa_nn.evaluation.teacher_forcing import mean_by, plan_batches
from dspa_nn.graph.active import count_active
from dspa_nn.graph.count import stop
from dspa_nn.graph.edit import edit_latents
from dspa_nn.graph.record import Record
from dspa_nn.graph.select import select
from dspa_nn.graph.trace import first
from dspa_nn.maps.map import ConditionalDifferenceMap
from dspa_nn.steering.dspa import DSPA
from dspa_nn.steering.options import allowed_latents, fill
from dspa_nn.triples import PreferenceTriple

# Padded tokens to a pass: no logits are made, so more fit than where they are.
_BUDGET = 4096


@dataclass(frozen=True)
class Codes:
    """What the SAEs see of some triples; sequences are chosen, rejected, chosen, ...

    Attributes:
        counts: "content" and "all" -> int32 [triples, d_in], prompt tokens on which each input
            latent fires. lengths: the same keys -> int64 [triples], tokens counted.
        latents: float32 [positions, d_out] at every steered position: each sequence's last prompt
            token and its response. strongest: [positions, 1], the largest of each. scale:
            [positions, 1] of a decoded change, or None.
        owner: int64 [positions], the sequence of each position, ascending.
        decoder: [d_out, d_model]. defaults: settings that neither condition nor map names.
    """

    counts: dict[str, Int[Tensor, "triples d_in"]]
    lengths: dict[str, Int64[Tensor, " triples"]]
    latents: Float[Tensor, "positions d_out"]
    strongest: Float[Tensor, "positions 1"]
    scale: Float[Tensor, "positions 1"] | None
    owner: Int64[Tensor, " positions"]
    decoder: Float[Tensor, "d_out d_model"]
    defaults: Mapping[str, Any]
    last: dict[str, Any] = field(default_factory=dict, repr=False)

    def settings(self, condition: Condition, **changes: Any) -> dict[str, Any]:
        """All settings of a condition: its own, the map's, the preset's, the paper's."""
        given = {**condition.options, **changes}
        names = ("alpha", "k_prompt", "k_diff", "mode", "prompt_rule")
        own = {name: given.get(name) for name in names}
        options = fill(own, condition.map.defaults, self.defaults)
        options["allowed"] = allowed_latents(
            given.get("only"), given.get("never"), condition.map.shape[1]
        )
        options["planner"] = given.get("planner")
        return options

    def planned(
        self, condition: Condition, **changes: Any
    ) -> tuple[Int64[Tensor, "triples k"], Int[Tensor, "triples k"]]:
        """Planned output latents of each triple, padded with -1, and the sign of their edits.

        changes: options to use in place of the condition's.
        """
        options = self.settings(condition, **changes)
        kind = condition.map.prompt_tokens
        record = Record(options)
        record.counts, record.lengths = self.counts[kind], self.lengths[kind]
        record.scores = self._scores(condition.map, options["prompt_rule"], options["k_prompt"])
        if options["planner"] is None:
            chosen = select(record.scores, options["k_diff"], options["mode"], options["allowed"])
        else:
            chosen = options["planner"](record, options)
        augment, ablate = chosen
        both = torch.cat([augment, ablate], -1)
        signs = torch.ones_like(both, dtype=torch.int8)
        signs[:, augment.shape[1] :] = -1
        return both, torch.where(both < 0, 0, signs)

    def _scores(
        self, map: ConditionalDifferenceMap, rule: str, k_prompt: int
    ) -> Float64[Tensor, "triples d_out"]:
        """s(x) of every triple; the last map's are kept, since a search asks for them again."""
        known = self.last.get("key")
        if known is None or known[0] is not map or known[1:] != (rule, k_prompt):
            kind = map.prompt_tokens
            self.last["scores"] = map.score(
                self.counts[kind], self.lengths[kind], prompt_rule=rule, k_prompt=k_prompt
            )
            self.last["key"] = (map, rule, k_prompt)
        return self.last["scores"]

    def strength(
        self, planned: Int64[Tensor, "triples k"], signs: Int[Tensor, "triples k"], alpha: float
    ) -> tuple[float, float]:
        """Edits and norm of the change, each a steered token, as the means over sequences."""
        edits, change = self.change(planned, signs, alpha)
        return self._mean(edits), self._mean(change.norm(dim=-1))

    def change(
        self, planned: Int64[Tensor, "triples k"], signs: Int[Tensor, "triples k"], alpha: float
    ) -> tuple[Int64[Tensor, " positions"], Float[Tensor, "positions d_model"]]:
        """At every position, how many latents are edited, and what that adds to the stream."""
        edits, changes = [], []
        for row, (chosen, delta) in enumerate(self._moved(planned, signs, alpha)):
            change = delta @ self.decoder[chosen]
            changes.append(change if self.scale is None else change * self.scale[self._own(row)])
            edits.append((delta != 0).sum(-1))
        return torch.cat(edits), torch.cat(changes)

    def edits(
        self, planned: Int64[Tensor, "triples k"], signs: Int[Tensor, "triples k"], alpha: float
    ) -> float:
        """Edits a steered token alone, which is quicker."""
        found = [(delta != 0).sum(-1) for _, delta in self._moved(planned, signs, alpha)]
        return self._mean(torch.cat(found))

    def _moved(
        self, planned: Tensor, signs: Tensor, alpha: float
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Each triple's planned latents, and by how much they move at its positions."""
        for row in range(len(planned)):
            real = planned[row] >= 0
            chosen, own = planned[row][real], self._own(row)
            before = self.latents[own].index_select(1, chosen)
            after = edit_latents(before, self.strongest[own], signs[row][real], alpha)
            yield chosen, after - before

    def _own(self, row: int) -> slice:
        bounds = torch.searchsorted(self.owner, torch.tensor([2 * row, 2 * row + 2]))
        return slice(int(bounds[0]), int(bounds[1]))

    def _mean(self, values: Tensor) -> float:
        rows = int(self.owner[-1]) + 1
        return float(mean_by(self.owner, values.float(), rows).mean())


def encode(dspa: DSPA, triples: Sequence[PreferenceTriple]) -> Codes:
    """Run the model up to the output layer, once, and keep what planning and editing need.

        codes = encode(dspa, development_triples)
        edits, norm = codes.strength(*codes.planned(condition), alpha=1.0)

    Memory: 4 bytes for each latent of each steered position (160 MB for 10,000 positions of 4096
    latents).
    """
    from nnsight import save

    rendered = []
    for triple in triples:
        prompt = dspa.render(triple.prompt)
        rendered += [dspa.render(prompt, text) for text in (triple.chosen, triple.rejected)]
    model, encoders = dspa.model, dspa.encoders
    blocks = [model.get(path) for path in dspa.paths]
    counts = {
        kind: torch.zeros(len(triples), encoders[0].width, dtype=torch.int32)
        for kind in ("content", "all")
    }
    kept: list[tuple[Tensor, Tensor | None]] = [(torch.zeros(0), None)] * len(rendered)
    for places in plan_batches([len(own.ids) for own in rendered], _BUDGET):
        batch = [rendered[place] for place in places]
        ids = torch.nn.utils.rnn.pad_sequence([own.ids for own in batch], batch_first=True)
        lengths = torch.tensor([len(own.ids) for own in batch])
        inputs = {
            "input_ids": ids,
            "attention_mask": (torch.arange(ids.shape[1]) < lengths.unsqueeze(-1)).long(),
        }
        with torch.no_grad(), model.trace(inputs, use_cache=False):
            early = save(first(blocks[0].output))
            late = early if dspa.paths[0] == dspa.paths[1] else save(first(blocks[1].output))
            stop()
        with torch.no_grad():
            for row, (place, own) in enumerate(zip(places, batch, strict=True)):
                steered = slice(own.prompt_length - 1, len(own.ids))
                kept[place] = encoders[1].encode(late[row, steered])
                if place % 2:
                    continue  # the chosen sequence has shown the prompt
                for kind, table in counts.items():
                    target = torch.where(own.counted(kind), 0, -1)
                    seen = early[row : row + 1, : own.prompt_length]
                    table[place // 2] = count_active(encoders[0], seen, target[None], 1)[0].cpu()
    sizes = torch.tensor([len(latents) for latents, _ in kept])
    scales = [scale for _, scale in kept if scale is not None]
    lengths = {
        kind: torch.tensor([int(own.counted(kind).sum()) for own in rendered[0::2]])
        for kind in counts
    }
    latents = torch.cat([latents for latents, _ in kept]).float().cpu()
    return Codes(
        counts=counts,
        lengths=lengths,
        latents=latents,
        strongest=latents.amax(-1, keepdim=True),
        scale=torch.cat(scales).float().cpu() if scales else None,
        owner=torch.repeat_interleave(torch.arange(len(kept)), sizes),
        decoder=dspa.output_sae.decoder.detach().float().cpu(),
        defaults=dspa.defaults,
    )
