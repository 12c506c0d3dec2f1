# pyright: basic
"""One steered run: read the prompt's latents, plan, edit every steered position.

`Steering` knows nothing of how hidden states reach it: nnsight's workers (`graph/trace.py`) and
plain PyTorch hooks (`dspa_nn/steering/hooks.py`) carry them to the same two methods.
Written with torch alone: this is what runs on NDIF.
"""

from typing import Any

import torch

from dspa_nn.graph.edit import add_change, edit_latents
from dspa_nn.graph.refusals import SteeringRefusal, refuse
from dspa_nn.graph.select import prompt_weights, scores, select

# Latents encoded at a time, however wide the SAE and however many the tokens: 64 MiB in float32,
# of which an encoder's rule holds a few at once.
BLOCK = 1 << 24
NOT_FINITE = (
    "the residual stream{} holds NaN or infinity; load the model in a wider dtype "
    "(bfloat16 or float32)"
)


class Steerer:
    """What one `apply` needs, as plain tensors and values: encoders, decoder rows, map, options."""

    def __init__(self, encoders, decoder, editable, map_arrays, options, planner=None, plans=None):
        # decoder: [d_out, d_model], or the rows of the latents in `editable` (ascending) alone.
        self.input_encoder, self.output_encoder = encoders
        self.decoder = decoder
        self.editable = editable
        self.map = map_arrays
        self.options = options
        # planner(record, options) -> (augment, ablate), in place of `select`.
        self.planner = planner
        # Plans made before, one a prompt, in place of input encoder and map.
        self.plans = plans


class Record:
    """What was planned and what was edited, as tensors until somebody reads it."""

    def __init__(self, options):
        self.options = options
        self.ids: Any = None  # [rows, tokens], the prompt's (later the whole run's) token ids
        self.mask: Any = None  # bool [rows, tokens], real tokens of the prompt pass
        self.prompt_length: Any = None  # [rows], in real tokens
        self.counts: Any = None  # int32 [rows, d_in]
        self.lengths: Any = None  # int64 [rows], counted prompt tokens
        self.weights: Any = None  # float64 [rows, d_in]
        self.scores: Any = None  # float64 [rows, d_out]
        self.augment: Any = None  # int64 [rows, k], padded with -1
        self.ablate: Any = None
        self.steps = []  # a dict a forward: start, before, after, strongest, steered, fired
        self.markup: Any = None  # bool [rows]: special tokens were counted as content
        self.generating = False
        self.eos_ids = []  # ids after which `generate` feeds a row nothing of its own
        self.beams = False  # rows change places within a prompt
        self.finished = False


class Steering:
    """The state of one steered run over one batch.

    ids, mask: int64 and bool [rows, tokens] of the prompt pass; prompt_length: None in `generate`
    (the whole row is the prompt), else int64 [rows]; content: None, or one bool tensor a row over
    its prompt's real tokens. on_end is called once with the record when the run is over.
    """

    def __init__(self, steerer, ids, mask, prompt_length, content, generating, on_end=None):
        self.steerer = steerer
        self.width = ids.shape[1]
        self.on_end = on_end
        self.step = 0
        record = self.record = Record(steerer.options)
        record.generating = generating
        record.ids, record.mask = ids, mask
        real = mask.sum(-1)
        record.prompt_length = real if prompt_length is None else prompt_length
        # The index of each token among its row's real ones: right whichever side is padded.
        place = mask.long().cumsum(-1) - 1
        self.in_prompt = mask & (place < record.prompt_length.unsqueeze(-1))
        self.last = mask & (place == record.prompt_length.unsqueeze(-1) - 1)
        bos_id = steerer.options["bos_id"]
        self.bos = mask & (place == 0)
        self.bos = self.bos & (ids == bos_id) if bos_id is not None else self.bos & False
        self.counted = self.in_prompt & ~self.bos
        record.markup = torch.zeros(len(ids), dtype=torch.bool)
        if content is not None:
            for row, inside in enumerate(content):
                self.counted[row, self.in_prompt[row]] &= inside.to(mask.device)
        elif (
            steerer.plans is None  # else it was counted when the plans were made
            and steerer.options["prompt_tokens"] == "content"
            and steerer.options["markup_ids"]
        ):
            markup = torch.tensor(steerer.options["markup_ids"], device=ids.device)
            record.markup = (torch.isin(ids, markup) & self.counted).any(-1)
        self.planned: Any = None  # int64 [rows, k], clamped at 0
        self.signs: Any = None  # [rows, 1, k] in the SAE's dtype: 1, -1, or 0 for padding
        self.everywhere: Any = None  # bool [rows, 1], for passes of one token

    def expand(self, rows):
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

    def read_prompt(self, hidden):
        """Count the prompt's active latents and plan. hidden: [rows, tokens, d_model]."""
        self.meet(hidden)
        self.plan_from(read_counts(self.steerer.input_encoder, hidden, self.counted))

    def meet(self, hidden):
        """See the prompt pass for the first time: how often a row is repeated, and all of it."""
        self.expand(hidden.shape[0])
        if hidden.shape[1] != self.width:
            raise refuse(
                SteeringRefusal,
                f"the layer saw {hidden.shape[1]} of the prompt's {self.width} tokens; give "
                "the whole prompt in one pass, without a filled cache or chunked prefill",
            )

    def plan_from(self, counts):
        """Plan from the prompts' active tokens a latent, int32 [rows, d_in]."""
        steerer, record, options = self.steerer, self.record, self.steerer.options
        with torch.no_grad():
            record.counts = counts
            record.lengths = self.counted.sum(-1).to(record.counts.device)
            record.weights = prompt_weights(
                record.counts,
                record.lengths,
                options["prompt_rule"],
                options["k_prompt"],
                steerer.map["tau"],
                steerer.map["gate_mean"],
                steerer.map["gate"],
            )
            record.scores = scores(
                record.weights,
                steerer.map["rows"],
                steerer.map["indptr"],
                steerer.map["columns"],
                steerer.map["values"],
                steerer.map["d_out"],
            )
            self.plan()

    def plan(self):
        """Choose the latents to edit, from the scores of the record."""
        options, record, planner = self.steerer.options, self.record, self.steerer.planner
        if planner is None:
            record.augment, record.ablate = select(
                record.scores, options["k_diff"], options["mode"], options["allowed"]
            )
        else:
            record.augment, record.ablate = planner(record, options)
        self.prepare()

    def take_plans(self, hidden):
        """Use the plans that were made before. hidden: the prompt pass at the output layer."""
        self.meet(hidden)
        record, plans = self.record, self.steerer.plans
        times = len(hidden) // len(plans)
        device = self.steerer.output_encoder.device
        for name in ("counts", "lengths", "weights", "scores"):
            own = torch.stack([getattr(plan, name) for plan in plans]).to(device)
            setattr(record, name, own.repeat_interleave(times, 0))
        for name in ("augment", "ablate"):
            own = [getattr(plan, name)[getattr(plan, name) >= 0] for plan in plans]
            own = torch.nn.utils.rnn.pad_sequence(own, True, -1).to(device)
            setattr(record, name, own.repeat_interleave(times, 0))
        self.prepare()

    def prepare(self):
        """Gather what every step needs of the latents that were chosen."""
        record = self.record
        both = torch.cat([record.augment, record.ablate], -1)
        signs = torch.ones_like(both, dtype=torch.int8)
        signs[:, record.augment.shape[1] :] = -1
        signs[both < 0] = 0
        device, dtype = self.steerer.output_encoder.device, self.steerer.output_encoder.dtype
        self.planned = both.clamp(min=0).to(device)
        self.signs = signs.unsqueeze(1).to(device, dtype)
        self.everywhere = torch.ones((len(both), 1), dtype=torch.bool, device=device)
        # One gather of decoder rows a run; every step multiplies by these alone.
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
        self.rows = decoder[rows.to(decoder.device)]
        self.rows = self.rows.to(device, dtype)

    def steered(self, tokens, step):
        """Where a pass is steered: (first position, bool [rows, positions from there on] or None).

        None stands for everywhere.
        """
        mask = self.record.mask
        if step and tokens != self.width + step:
            # A cache: only what is new passes through the layer.
            return 0, None
        everywhere = self.steerer.options["positions"] == "all"
        where = mask & ~self.bos if everywhere else mask & self.last.cumsum(-1).bool()
        where = torch.nn.functional.pad(where, (0, tokens - self.width), value=True)
        some = torch.nonzero(where.any(0))
        start = int(some[0]) if len(some) else tokens
        return start, where[:, start:]

    def edit(self, hidden):
        """The output layer's hidden states after the edit; the same object where nothing changed.

        hidden: [rows, tokens, d_model], every pass of the run in turn.
        """
        step, self.step = self.step, self.step + 1
        if not step and self.steerer.plans is not None:
            self.take_plans(hidden)
        tokens = hidden.shape[1]
        start, where = self.steered(tokens, step)
        if start == tokens or not self.planned.shape[1]:
            self.record.steps.append(None)
            return hidden
        part = hidden[:, start:] if start else hidden
        if not step:
            # Of later passes the log would tell; looking costs a GPU a wait.
            check_finite(part, where, "output")
        latents, strongest, scale = planned_latents(self.steerer.output_encoder, part, self.planned)
        edited = edit_latents(latents, strongest, self.signs, self.steerer.options["alpha"])
        if where is None:
            where = self.everywhere.expand(-1, tokens)
        else:
            where = where.to(latents.device)
            edited = torch.where(where.unsqueeze(-1), edited, latents)
        delta = edited - latents
        change = torch.bmm(delta, self.rows)
        if scale is not None:
            change = change * scale
        out = add_change(part, change, (delta != 0).any(-1))
        kept = {
            "start": start,
            "before": latents,
            "after": edited,
            "strongest": strongest[..., 0],
            "norm": torch.linalg.vector_norm(change, dim=-1),
            "steered": where,
        }
        if step and 1 < tokens == self.width + step:
            # Without a cache a pass repeats all earlier positions: only the last is news.
            kept = {name: value[:, -1:] for name, value in kept.items() if name != "start"}
            kept["start"] = tokens - 1
        if change.requires_grad:
            kept = {
                name: value.detach() if torch.is_tensor(value) else value
                for name, value in kept.items()
            }
        self.record.steps.append(kept)
        return out if not start else torch.cat([hidden[:, :start], out], 1)

    def finish(self, ids=None):
        """The run is over; ids: the whole sequences [rows, tokens], where `generate` gave them."""
        record = self.record
        if record.finished:
            return
        record.finished = True
        if ids is not None and not record.beams and ids.shape[0] == record.mask.shape[0]:
            record.ids = ids
        if self.on_end is not None:
            self.on_end(record)


def read_counts(encoder, hidden, counted):
    """Counted tokens of each prompt on which a latent is active: int32 [rows, width].

    hidden: [rows, tokens, d_model] at the input layer; counted: bool [rows, tokens].
    """
    check_finite(hidden, counted, "input")
    with torch.no_grad():
        target = torch.arange(len(hidden), device=counted.device).unsqueeze(-1)
        target = torch.where(counted, target, -1)
        return count_active(encoder, hidden, target, len(hidden))


def finite(hidden, where):
    """Whether hidden states [rows, tokens, d_model] are finite where bool [rows, tokens] says.

    A comparison with NaN is never True, so without this check such a token would count as inactive.
    """
    return bool(torch.isfinite(hidden[where.to(hidden.device)]).all())


def check_finite(hidden, where, layer):
    """Refuse NaN and infinity in what is steered by; layer: "input" or "output"."""
    if not finite(hidden, where):
        raise refuse(SteeringRefusal, NOT_FINITE.format(f" at the {layer} layer"))


def count_active(encoder, hidden, target, size):
    """Tokens on which each latent is active: int32 [size, width].

    hidden: [rows, tokens, d_model]; target: int64 [rows, tokens], the row of the result that a
    token is counted in, or -1. Encoded in blocks, so that a wide SAE over a long prompt never
    makes an array larger than `BLOCK` latents.
    """
    target = target.to(hidden.device)
    counted = target >= 0
    tokens, target = hidden[counted], target[counted].to(encoder.device)
    total = torch.zeros((size, encoder.width), dtype=torch.int32, device=encoder.device)
    block = max(1, BLOCK // encoder.width)
    for first in range(0, len(tokens), block):
        latents, _ = encoder.encode(tokens[first : first + block])
        total.index_add_(0, target[first : first + block], (latents > 0).to(torch.int32))
    return total


def planned_latents(encoder, hidden, planned):
    """Planned latents, each token's strongest latent M_t, and the scale of a decoded change.

    hidden: [rows, positions, d_model]; planned: int64 [rows, k]. Returns [rows, positions, k],
    [rows, positions, 1] and [rows, positions, 1] or None. Encoded in blocks, as in `count_active`.
    """
    shape = hidden.shape[:2]
    tokens = hidden.reshape(-1, hidden.shape[-1])
    index = planned if shape[1] == 1 else planned.repeat_interleave(shape[1], 0)
    block = max(1, BLOCK // encoder.width)
    pieces = []
    for first in range(0, len(tokens), block):
        latents, scale = encoder.encode(tokens[first : first + block])
        own = latents.gather(-1, index[first : first + block])
        pieces.append((own, latents.amax(-1, keepdim=True), scale))
    own, strongest, scale = (
        pieces[0] if len(pieces) == 1 else map(joined, zip(*pieces, strict=True))
    )
    scale = None if scale is None else scale.reshape(*shape, 1)
    return own.reshape(*shape, planned.shape[1]), strongest.reshape(*shape, 1), scale


def joined(parts) -> Any:
    """Parts as one tensor, or None where they are None."""
    return None if parts[0] is None else torch.cat(parts)
