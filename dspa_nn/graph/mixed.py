# pyright: basic
"""One run whose rows are steered by different maps and settings, or not at all.

The prompts are read in one pass, as in every run; then each row is planned by its own map. From
there on a row is its planned latents, their signs and its alpha, whatever they come from.
"""

from typing import Any

import torch
from torch import Tensor

from dspa_nn.graph.record import Record, Steerer
from dspa_nn.graph.refusals import SteeringRefusal, refuse
from dspa_nn.graph.rules import choose
from dspa_nn.graph.select import padded
from dspa_nn.graph.settings import merged
from dspa_nn.graph.steer import Steering
from dspa_nn.graph.votes import parts_of_planned, vote


class MixedSteering(Steering):
    """The state of a run over a batch whose rows each have a `Steerer` of their own, or None."""

    def __init__(self, steerer, ids, mask, prompt_length, content, generating, on_end=None):
        if content is not None:
            content = [
                inside if own["prompt_tokens"] == "content" else None
                for inside, own in zip(content, steerer.own, strict=True)
            ]
        Steering.__init__(self, steerer, ids, mask, prompt_length, content, generating, on_end)

    def plan_from(self, counts: Tensor) -> None:
        """Plan each row by its own map from int32 [rows, d_in]; an unsteered row plans nothing."""
        record, rows = self.record, self.steerer.rows
        times = len(counts) // len(rows)
        with torch.no_grad():
            record.counts = counts
            record.lengths = self.counted.sum(-1).to(counts.device)
            size = len(counts), self.steerer.output_encoder.width
            record.scores = torch.zeros(size, dtype=torch.float64, device=counts.device)
            nothing = torch.zeros(counts.shape[1], dtype=torch.float64, device=counts.device)
            weights, parts = [nothing] * len(counts), [None] * len(counts)
            empty = torch.zeros(0, dtype=torch.int64, device=counts.device)
            raised, lowered = [empty] * len(counts), [empty] * len(counts)
            for steerer in {id(own): own for own in rows if own is not None}.values():
                same = [
                    row * times + copy
                    for row, own in enumerate(rows)
                    if own is steerer
                    for copy in range(times)
                ]
                plan = planned(steerer, counts[same], record.lengths[same])
                record.scores[same] = plan.scores.to(counts.device)
                for place, row in enumerate(same):
                    weights[row] = plan.weights[place]
                    raised[row], lowered[row] = plan.augment[place], plan.ablate[place]
                    parts[row] = None if plan.parts is None else plan.parts[place]
            record.augment, record.ablate = padded(raised), padded(lowered)
            record.weights = weights
            record.parts = parts if any(part is not None for part in parts) else None
            self.prepare()


def planned(steerer: Steerer, counts: Tensor, lengths: Tensor) -> Record:
    """What one map plans for its rows. counts: int32 [rows, d_in]; lengths: int64 [rows]."""
    record = Record(steerer.options)
    record.counts, record.lengths = counts, lengths
    record.weights, record.scores, parts = vote(steerer.members, counts, lengths)
    record.augment, record.ablate = choose(record, steerer.options, steerer.select)
    record.parts = parts_of_planned(parts, record.augment, record.ablate)
    return record


def mixed_steerer(rows: list[Any], idle: dict[str, Any]) -> Steerer:
    """What a run over a batch needs whose rows are steered by these; None leaves a row unsteered.

    rows: `Steerer`s of one model and pair of SAEs, at least one of them, with maps and not plans.
    A row's plan does not depend on the others. idle: what the settings of an unsteered row say.
    """
    first = next(own for own in rows if own is not None)
    own = [first.options | idle if row is None else row.options for row in rows]
    # Which latents a row may choose is looked up when it is planned.
    own = [{**options, "allowed": None} for options in own]
    steerer = Steerer(
        (first.input_encoder, first.output_encoder), first.decoder, first.editable, None,
        merged(own), edit=first.edit,
    )  # fmt: skip
    for row in rows:
        if row is not None and not row.edit.same_as(first.edit):
            raise refuse(
                SteeringRefusal,
                f"rows of one batch came with the edits {first.edit.name} and {row.edit.name}, and "
                "one edit moves the whole batch; run them in batches of their own",
            )
    steerer.rows = rows
    steerer.own = own
    steerer.content_of = first.content_of
    steerer.kind = MixedSteering
    return steerer
