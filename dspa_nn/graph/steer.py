# pyright: basic
"""One steered run: read the prompt's latents, plan, edit every steered position.

`Steering` does not know how hidden states reach it: nnsight's workers (`graph/workers.py`) and
plain PyTorch hooks (`dspa_nn/steering/hooks.py`) hand them to the same two methods, `read_prompt`
and `edit`. Written with torch alone: this is what runs on NDIF.
"""

from typing import Any

import torch
from torch import Tensor

from dspa_nn.graph.active import check_finite, planned_latents, read_counts
from dspa_nn.graph.edit import add_change
from dspa_nn.graph.record import Record
from dspa_nn.graph.refusals import SteeringRefusal, refuse
from dspa_nn.graph.rules import Decode, choose, moved
from dspa_nn.graph.select import padded, with_signs
from dspa_nn.graph.settings import merged
from dspa_nn.graph.votes import parts_of_planned, vote


class Steering:
    """The state of one steered run over one batch.

    Args:
        steerer: what the run needs.
        ids, mask: int64 and bool [rows, tokens] of the prompt pass.
        prompt_length: None in `generate`, where the whole row is the prompt; else int64 [rows].
        content: for each row a bool tensor over its prompt's real tokens, or None where every token
            counts; or None for all rows.
        generating: whether this is `generate`, not a single forward.
        on_end: called once with the record when the run is over, or None.
    """

    def __init__(
        self,
        steerer: Any,
        ids: Tensor,
        mask: Tensor,
        prompt_length: Any,
        content: Any,
        generating: bool,
        on_end: Any = None,
    ):
        self.steerer = steerer
        # Whether the prompt is read at the input layer, before the first edit.
        self.reads_prompt = steerer.plans is None
        self.width = ids.shape[1]
        # Tokens of the prompt that are in the cache already, and pass through no layer.
        self.cached = 0 if steerer.earlier is None else steerer.earlier.tokens
        self.on_end = on_end
        self.step = 0
        record = self.record = Record(steerer.options)
        record.own = steerer.own
        record.generating = generating
        record.ids, record.mask = ids, mask
        record.prompt_length = mask.sum(-1) if prompt_length is None else prompt_length
        # The index of each token among its row's real ones: right whichever side is padded.
        index = mask.long().cumsum(-1) - 1
        self.in_prompt = mask & (index < record.prompt_length.unsqueeze(-1))
        self.last = mask & (index == record.prompt_length.unsqueeze(-1) - 1)
        bos_id = steerer.options["bos_id"]
        self.bos = mask & (index == 0)
        self.bos = self.bos & (ids == bos_id) if bos_id is not None else self.bos & False
        self.counted = self.in_prompt & ~self.bos
        record.markup = torch.zeros(len(ids), dtype=torch.bool)
        if (
            steerer.plans is None  # else it was counted when the plans were made
            and steerer.options["prompt_tokens"] == "content"
            and steerer.options["markup_ids"]
        ):
            markup = torch.tensor(steerer.options["markup_ids"], device=ids.device)
            record.markup = (torch.isin(ids, markup) & self.counted).any(-1)
        for row, inside in enumerate(content or []):
            if inside is not None:
                self.counted[row, self.in_prompt[row]] &= inside.to(mask.device)
                record.markup[row] = False
        self.planned: Any = None  # int64 [rows, k], clamped at 0
        self.signs: Any = None  # [rows, 1, k] in the SAE's dtype: 1, -1, or 0 for padding
        self.everywhere: Any = None  # bool [rows, 1], for passes of one token
        self.decoder_rows: Any = None  # [rows, k, d_model] of the planned latents
        self.alpha: Any = None  # a number, or [rows, 1, 1]
        self.rule: Any = None  # what moves the planned latents, its tensors beside them

    def read_prompt(self, hidden: Tensor) -> None:
        """Count the prompt's active latents and plan. hidden: [rows, tokens, d_model]."""
        self.check_prompt_pass(hidden)
        counted, earlier = self.counted[:, self.cached :], self.steerer.earlier
        counts = read_counts(self.steerer.input_encoder, hidden, counted)
        # Counts add up over tokens, whichever pass they were read in.
        self.plan_from(counts if earlier is None else counts + earlier.counts.to(counts.device))

    def check_prompt_pass(self, hidden: Tensor) -> None:
        """Repeat rows as the model does, and refuse a pass that does not hold the whole prompt."""
        self.expand(hidden.shape[0])
        expected = self.width - self.cached
        if hidden.shape[1] != expected:
            raise refuse(
                SteeringRefusal,
                f"the layer saw {hidden.shape[1]} of the prompt's {expected} tokens; give "
                "the whole prompt in one pass, without a filled cache or chunked prefill",
            )

    def expand(self, rows: int) -> None:
        """Repeat every prompt's row as `generate` does for beams and several returned sequences."""
        times, rest = divmod(rows, self.counted.shape[0])
        if rest or not times:
            raise refuse(
                SteeringRefusal,
                f"the layer was given {rows} rows for {self.counted.shape[0]} prompts; steer whole "
                "batches, or one prompt at a time",
            )
        if times > 1:
            record = self.record
            for name in ("in_prompt", "last", "bos", "counted"):
                setattr(self, name, getattr(self, name).repeat_interleave(times, 0))
            for name in ("ids", "mask", "prompt_length", "markup"):
                setattr(record, name, getattr(record, name).repeat_interleave(times, 0))
            if record.own is not None:
                record.own = [own for own in record.own for _ in range(times)]
                record.options = merged(record.own)

    def plan_from(self, counts: Tensor) -> None:
        """Plan from int32 [rows, d_in], the prompt tokens on which each latent is active."""
        steerer, record, options = self.steerer, self.record, self.steerer.options
        with torch.no_grad():
            record.counts = counts
            record.lengths = self.counted.sum(-1).to(record.counts.device)
            record.weights, record.scores, parts = vote(
                steerer.members, record.counts, record.lengths
            )
            record.augment, record.ablate = choose(record, options, steerer.select)
            record.parts = parts_of_planned(parts, record.augment, record.ablate)
            self.prepare()

    def use_plans(self, hidden: Tensor) -> None:
        """Use the plans that were made before. hidden: the prompt pass at the output layer."""
        self.check_prompt_pass(hidden)
        record, plans = self.record, self.steerer.plans
        times = len(hidden) // len(plans)
        device = self.steerer.output_encoder.device
        for name in ("counts", "lengths", "scores"):
            values = torch.stack([getattr(plan, name) for plan in plans]).to(device)
            setattr(record, name, values.repeat_interleave(times, 0))
        record.weights = [plan.weights.to(device) for plan in plans for _ in range(times)]
        if len({weights.shape for weights in record.weights}) == 1:
            record.weights = torch.stack(record.weights)
        for name in ("augment", "ablate"):
            latents = padded([getattr(plan, name) for plan in plans]).to(device)
            setattr(record, name, latents.repeat_interleave(times, 0))
        if any(plan.parts is not None for plan in plans):
            record.parts = [plan.parts for plan in plans for _ in range(times)]
        self.prepare()

    def prepare(self) -> None:
        """Gather, once per run, what every step needs of the planned latents."""
        both, signs = with_signs(self.record.augment, self.record.ablate)
        device, dtype = self.steerer.output_encoder.device, self.steerer.output_encoder.dtype
        self.planned = both.clamp(min=0).to(device)
        self.signs = signs.unsqueeze(1).to(device, dtype)
        self.everywhere = torch.ones((len(both), 1), dtype=torch.bool, device=device)
        decoder, rows = self.steerer.decoder, self.planned
        editable = self.steerer.editable
        if editable is not None:
            wanted = both[both >= 0].to(editable.device)
            missing = wanted[~torch.isin(wanted, editable)]
            if len(missing):
                raise refuse(
                    SteeringRefusal,
                    f"output latent {int(missing[0])} was planned, and only the decoder rows that "
                    "the map can edit were sent; plan latents among map.columns_used()",
                )
            rows = torch.searchsorted(editable, rows.to(editable.device))
            rows = rows.clamp(max=max(len(editable) - 1, 0))
        self.decoder_rows = decoder[rows.to(decoder.device)].to(device, dtype)
        self.rule = self.steerer.edit.on(device)
        alpha = self.record.options["alpha"]
        if isinstance(alpha, list):
            # As wide as what a plain number is multiplied with, so that rows are edited alike.
            wide = torch.promote_types(dtype, torch.float32)
            alphas = [float(one) for one in alpha]
            self.alpha = torch.tensor(alphas, dtype=wide, device=device).reshape(-1, 1, 1)
        else:
            self.alpha = float(alpha)  # an int may be too long for a tensor

    def steered(self, tokens: int, step: int) -> tuple[int, Any]:
        """Where a pass of so many tokens is steered.

        Returns the first steered position, and bool [rows, positions from there on], or None for
        everywhere.
        """
        mask = self.record.mask
        if step and tokens != self.width + step:
            # With a cache only the new tokens pass through the layer.
            return 0, None
        positions = self.record.options["positions"]
        where = mask & ~self.bos if positions == "all" else mask & self.last.cumsum(-1).bool()
        if isinstance(positions, list):
            everywhere = torch.tensor([own == "all" for own in positions], device=mask.device)
            where = torch.where(everywhere.unsqueeze(-1), mask & ~self.bos, where)
        where = where[:, self.cached :]
        where = torch.nn.functional.pad(where, (0, tokens - where.shape[1]), value=True)
        columns = torch.nonzero(where.any(0))
        start = int(columns[0]) if len(columns) else tokens
        return start, where[:, start:]

    def edit(self, hidden: Tensor) -> Tensor:
        """The output layer's hidden states after the edit; the same object where nothing changed.

        hidden: [rows, tokens, d_model], every pass of the run in turn.
        """
        step, self.step = self.step, self.step + 1
        if not step and self.steerer.plans is not None:
            self.use_plans(hidden)
        tokens = hidden.shape[1]
        if self.planned is None:
            raise refuse(
                SteeringRefusal,
                "the output layer was passed before the prompt was read at the input layer; steer "
                "a model whose layers run one after another, as it was loaded",
            )
        start, where = self.steered(tokens, step)
        if start == tokens or not self.planned.shape[1]:
            self.record.steps.append(None)
            return hidden
        part = hidden[:, start:] if start else hidden
        if not step:
            # Later passes are not checked: it would make a GPU wait, and NaN shows in the log.
            check_finite(part, where, "output")
        latents, strongest, scale = planned_latents(self.steerer.output_encoder, part, self.planned)
        decode = Decode(self.decoder_rows, scale)
        edited, change = moved(
            self.rule,
            {
                "latents": latents, "strongest": strongest, "signs": self.signs,
                "alpha": self.alpha, "hidden": part.to(latents.device), "decode": decode,
            },
            not step,
        )  # fmt: skip
        if where is None:
            where = self.everywhere.expand(-1, tokens)
        else:
            where = where.to(latents.device)
            edited = torch.where(where.unsqueeze(-1), edited, latents)
        delta = edited - latents
        changed = (delta != 0).any(-1)
        change = decode(delta) if change is None else torch.where(changed[..., None], change, 0)
        out = add_change(part, change, changed)
        kept = {
            "start": start if step else start + self.cached,
            "before": latents,
            "after": edited,
            "strongest": strongest[..., 0],
            "norm": torch.linalg.vector_norm(change, dim=-1),
            "stream": torch.linalg.vector_norm(part, dim=-1, dtype=torch.float32),
            "steered": where,
        }
        self.note(kept, step, tokens)
        return out if not start else torch.cat([hidden[:, :start], out], 1)

    def note(self, kept: dict, step: int, tokens: int) -> None:
        """Add what a pass of so many tokens changed to the record."""
        if step and 1 < tokens == self.width + step:
            # Without a cache a pass repeats all earlier positions, and only the last one is new.
            kept = {name: value[:, -1:] for name, value in kept.items() if name != "start"}
            kept["start"] = tokens - 1
        if kept["norm"].requires_grad or kept["stream"].requires_grad:
            kept = {
                name: value.detach() if torch.is_tensor(value) else value
                for name, value in kept.items()
            }
        self.record.steps.append(kept)

    def finish(self, ids: Any = None) -> None:
        """The run is over; ids: the whole sequences [rows, tokens], where `generate` gave them."""
        record = self.record
        if record.finished:
            return
        record.finished = True
        if torch.is_tensor(ids) and ids.dim() == 2:
            record.made = ids.shape[1] - self.width
        if ids is not None and not record.beams and ids.shape[0] == record.mask.shape[0]:
            record.ids = ids
        if self.on_end is not None:
            self.on_end(record)
