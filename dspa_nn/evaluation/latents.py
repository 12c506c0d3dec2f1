"""Output latents of teacher-forced responses, taken once.

How much any plan would edit is then arithmetic, without a further run of the model.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Unpack, cast

import torch
from jaxtyping import Float, Int, Int64
from nnsight import save
from torch import Tensor

from dspa_nn.errors import EvaluationError
from dspa_nn.evaluation.margin import chosen_and_rejected
from dspa_nn.evaluation.passes import norms
from dspa_nn.evaluation.teacher_forcing import mean_by
from dspa_nn.graph.active import count_active
from dspa_nn.graph.adapter import end_run
from dspa_nn.graph.apply import begin
from dspa_nn.graph.blocks import hidden_states
from dspa_nn.graph.calls import check_outside_blocks
from dspa_nn.graph.edit import edit_latents
from dspa_nn.graph.rules import choose
from dspa_nn.graph.steer import Steering
from dspa_nn.models import evaluating, torch_module
from dspa_nn.prompts import Rendered, batches_by_length, padded
from dspa_nn.steering import DSPA, DSPAMethod, SteeringOptions, run_settings

# Padded tokens to a pass: no logits are made, so more fit than where they are.
_BUDGET = 4096


@dataclass(frozen=True)
class Codes:
    """What the SAEs see of some triples; sequences are chosen, rejected, chosen, ...

    Attributes:
        dspa: the model and SAEs. prompts: each triple's prompt.
        counts: "content" and "all" -> int32 [triples, d_in], prompt tokens on which each input
            latent fires. lengths: the same keys -> int64 [triples], tokens counted.
        latents: float32 [positions, d_out] at every steered position: each sequence's last prompt
            token and its response. strongest: [positions, 1], the largest of each. scale:
            [positions, 1] of a decoded change, or None. stream: [positions], norm of the
            residual stream at the output layer.
        owner: int64 [positions], the sequence of each position, ascending.
        decoder: [d_out, d_model].
        last: the last map with its voting rule, and its scores: a search over k_diff needs them
            again and again.
    """

    dspa: DSPA
    prompts: list[Rendered]
    counts: dict[str, Int[Tensor, "triples d_in"]]
    lengths: dict[str, Int64[Tensor, " triples"]]
    latents: Float[Tensor, "positions d_out"]
    strongest: Float[Tensor, "positions 1"]
    scale: Float[Tensor, "positions 1"] | None
    stream: Float[Tensor, " positions"]
    owner: Int64[Tensor, " positions"]
    decoder: Float[Tensor, "d_out d_model"]
    last: dict[str, Any] = field(default_factory=dict[str, Any], repr=False)

    def settings(self, method: DSPAMethod, **changes: Unpack[SteeringOptions]) -> dict[str, Any]:
        """All settings of a method: its options, then the map's, the preset's, the defaults."""
        return cast(Any, self._steering(method, changes)).steerer.options

    def planned(
        self, method: DSPAMethod, **changes: Unpack[SteeringOptions]
    ) -> tuple[Int64[Tensor, "triples k"], Int[Tensor, "triples k"]]:
        """Planned output latents of each triple, padded with -1, and the sign of their edits.

        changes: options to use in place of the method's.
        """
        steering = cast(Any, self._steering(method, changes))  # `graph/` is without types
        record, options = steering.record, steering.steerer.options
        # Scores depend on the map and these settings alone: a search over k_diff reuses them.
        rules = [(own.gate, own.score) for own in steering.steerer.members]
        key = (options["prompt_rule"], options["k_prompt"], rules)
        known = self.last.get("key")
        if known is None or known[0] is not method.map or known[1] != key:
            steering.plan_from(self.counts[method.map.prompt_tokens])
            self.last.update(key=(method.map, key), scores=record.scores)
        else:
            record.counts = self.counts[method.map.prompt_tokens]
            record.lengths = self.lengths[method.map.prompt_tokens]
            record.scores = self.last["scores"]
            record.augment, record.ablate = choose(record, options, steering.steerer.select)
            steering.prepare()
        both = torch.cat([record.augment, record.ablate], -1).cpu()
        return both, steering.signs[:, 0].to("cpu", torch.int8)

    def _steering(self, method: DSPAMethod, changes: SteeringOptions) -> Steering:
        """A run over the prompts, as `apply` begins it."""
        given, chosen = run_settings("apply", {**method.options, **changes})
        steerer = self.dspa.steerer(method.map, given, **chosen)
        if chosen["edit"] is not None and steerer.edit.name != "paper":
            raise EvaluationError(
                f"{method.name or 'the method'} edits by {steerer.edit.name}, and what a plan "
                "would change is reckoned for the paper's edit alone; measure its margins instead"
            )
        inputs = padded([prompt.prompt_ids for prompt in self.prompts], "left")
        content = [(prompt.prompt_ids, prompt.content) for prompt in self.prompts]
        mask = inputs["attention_mask"].bool()
        return begin(steerer, inputs["input_ids"], mask, content, None, True)

    def strength(
        self, planned: Int64[Tensor, "triples k"], signs: Int[Tensor, "triples k"], alpha: float
    ) -> tuple[float, float]:
        """Edits per steered token, and norm of the stream's change over its norm.

        Both are means over sequences of the means over their steered tokens.
        """
        edits, change = self.change(planned, signs, alpha)
        return self._mean(edits), self._mean(norms(change) / self.stream)

    def share_of(self, norm: float) -> float:
        """A change of this norm at every steered position over the stream's, the same mean."""
        return self._mean(norm / self.stream)

    def change(
        self, planned: Int64[Tensor, "triples k"], signs: Int[Tensor, "triples k"], alpha: float
    ) -> tuple[Int64[Tensor, " positions"], Float[Tensor, "positions d_model"]]:
        """At every position, how many latents are edited, and what that adds to the stream."""
        edits: list[Tensor] = []
        changes: list[Tensor] = []
        for row, (chosen, delta) in enumerate(self._moved(planned, signs, alpha)):
            change = delta @ self.decoder[chosen]
            changes.append(
                change if self.scale is None else change * self.scale[self._positions(row)]
            )
            edits.append((delta != 0).sum(-1))
        return torch.cat(edits), torch.cat(changes)

    def edits(
        self, planned: Int64[Tensor, "triples k"], signs: Int[Tensor, "triples k"], alpha: float
    ) -> float:
        """Edits per steered token alone, which is quicker."""
        edits = [(delta != 0).sum(-1) for _, delta in self._moved(planned, signs, alpha)]
        return self._mean(torch.cat(edits))

    def _moved(
        self, planned: Tensor, signs: Tensor, alpha: float
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Each triple's planned latents, and by how much they move at its positions."""
        for row in range(len(planned)):
            real = planned[row] >= 0
            chosen, positions = planned[row][real], self._positions(row)
            before = self.latents[positions].index_select(1, chosen)
            after = edit_latents(before, self.strongest[positions], signs[row][real], alpha)
            yield chosen, after - before

    def _positions(self, row: int) -> slice:
        bounds = torch.searchsorted(self.owner, torch.tensor([2 * row, 2 * row + 2]))
        return slice(int(bounds[0]), int(bounds[1]))

    def _mean(self, values: Tensor) -> float:
        rows = int(self.owner[-1]) + 1
        return float(mean_by(self.owner, values.float(), rows).mean())


def encode(dspa: DSPA, triples: Iterable[Any]) -> Codes:
    """Run the model up to the output layer, once, and keep what planning and editing need.

    Example:
        >>> codes = encode(dspa, triples[:4])
        >>> plan = codes.planned(DSPAMethod("tuned", dspa, map))
        >>> edits, share = codes.strength(*plan, alpha=1.0)

    Memory: 4 bytes for each latent of each steered position (160 MB for 10,000 positions of 4096
    latents).

    Args:
        dspa: the model and its SAEs.
        triples: what `DSPA.count` takes: triples, or rows such as a list of dicts.

    Raises:
        DSPAError: what reading or rendering raises.
        SteeringError: inside a tracing context.
    """
    check_outside_blocks("encode", torch_module(dspa.model))
    rendered = chosen_and_rejected(dspa, triples)
    model: Any = dspa.model
    reads, edited = dspa.encoders
    blocks = [model.get(path) for path in dspa.paths]
    counts = {
        kind: torch.zeros(len(rendered) // 2, reads.width, dtype=torch.int32)
        for kind in ("content", "all")
    }
    kept: list[tuple[Tensor, Tensor | None]] = [(torch.zeros(0), None)] * len(rendered)
    streams: list[Tensor] = [torch.zeros(0)] * len(rendered)
    for indices in batches_by_length([len(sequence.ids) for sequence in rendered], _BUDGET):
        batch = [rendered[index] for index in indices]
        inputs = padded([sequence.ids for sequence in batch], "right")
        with evaluating(model), torch.no_grad(), model.trace(inputs, use_cache=False):
            early = save(hidden_states(blocks[0].output))
            late = (
                early if dspa.paths[0] == dspa.paths[1] else save(hidden_states(blocks[1].output))
            )
            end_run()
        with torch.no_grad():
            for row, (index, sequence) in enumerate(zip(indices, batch, strict=True)):
                steered = slice(sequence.prompt_length - 1, len(sequence.ids))
                kept[index] = edited.encode(late[row, steered])
                streams[index] = norms(late[row, steered])
                if index % 2:
                    continue  # the chosen sequence has shown the prompt
                for kind, table in counts.items():
                    target = torch.where(sequence.counted(kind), 0, -1)
                    seen = early[row : row + 1, : sequence.prompt_length]
                    table[index // 2] = count_active(reads, seen, target[None], 1)[0].cpu()
    sizes = torch.tensor([len(latents) for latents, _ in kept])
    scales = [scale for _, scale in kept if scale is not None]
    lengths = {
        kind: torch.tensor([int(sequence.counted(kind).sum()) for sequence in rendered[0::2]])
        for kind in counts
    }
    latents = torch.cat([latents for latents, _ in kept]).float().cpu()
    return Codes(
        dspa=dspa,
        prompts=rendered[0::2],
        counts=counts,
        lengths=lengths,
        latents=latents,
        strongest=latents.amax(-1, keepdim=True),
        scale=torch.cat(scales).float().cpu() if scales else None,
        stream=torch.cat(streams),
        owner=torch.repeat_interleave(torch.arange(len(kept)), sizes),
        decoder=dspa.output_sae.decoder.detach().float().cpu(),
    )
