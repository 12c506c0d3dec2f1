# pyright: basic
"""What goes into one steered run (`Steerer`) and what comes out of it (`Record`)."""

from typing import Any

from torch import Tensor

from dspa_nn.graph.rules import EDIT, SELECT


class Steerer:
    """What one `apply` needs, as plain tensors and values.

    Attributes:
        input_encoder, output_encoder: the two `Encoder`s; no input encoder where plans are made.
        decoder: [d_out, d_model], or the rows of the latents in `editable` alone.
        editable: int64, ascending: the output latents whose decoder rows are here; None for all.
        members: the map, or the maps of a sum, as `Member`s; None where plans are made.
        options: the settings in force.
        select, edit: the `Rule`s that plan latents and that move them; gate and score are those of
            each member.
        plans: plans that were made before, one per prompt, in place of input encoder and map.
        content_of: content_of(ids of a prompt) -> bool over them, or None where that is unknown; or
            None where nothing can read content from ids, as on a server.
        earlier: an `Earlier`, where the run goes on from a filled cache; or None.
        own: for each row the settings in force, where they differ between rows (`options` then
            holds a list of each setting that differs); None where one choice holds for all.
        rows: for each row a `Steerer` or None, where they are planned by different maps.
        kind: the class of a run in place of `Steering`, or None.
    """

    kind: Any = None
    own: Any = None
    rows: Any = None

    def __init__(
        self, encoders: Any, decoder: Tensor, editable: Any, members: Any,
        options: dict[str, Any], select: Any = None, edit: Any = None, plans: Any = None,
    ):  # fmt: skip
        self.input_encoder, self.output_encoder = encoders
        self.decoder = decoder
        self.editable = editable
        self.members = members
        self.options = options
        self.select = SELECT if select is None else select
        self.edit = EDIT if edit is None else edit
        self.plans = plans
        self.content_of: Any = None
        self.earlier: Any = None


class Earlier:
    """What is known of the prompt's first tokens, which are in the model's cache already.

    Attributes:
        tokens: how many they are.
        counts: int32 [rows or 1, d_in], counted ones on which each input latent is active.
    """

    def __init__(self, tokens: int, counts: Tensor):
        self.tokens = tokens
        self.counts = counts


class Record:
    """What was planned and what was edited, as tensors until somebody reads it.

    Attributes:
        options: the settings in force.
        own: for each row the settings in force, where they differ between rows: see `Steerer`.
        ids: int64 [rows, tokens], of the prompt; of the whole run once `generate` has ended.
        mask: bool [rows, tokens], real tokens of the prompt pass.
        prompt_length: int64 [rows], in real tokens.
        counts: int32 [rows, d_in], prompt tokens on which each input latent is active.
        lengths: int64 [rows], counted prompt tokens.
        weights: float64 [rows, d_in], or [rows, members, d_in] of a sum of maps; a list of one a
            row where rows differ in how many maps vote.
        scores: float64 [rows, d_out].
        augment, ablate: int64 [rows, k] each, padded with -1.
        parts: for each row what each map of a sum adds to the planned scores, float64 [members, k],
            raised latents first, or None for a map alone; None where no row has a sum.
        steps: a dict per pass of the model, or None where nothing was planned or steered: `start`,
            the first position that it tells of; `before` and `after`, the planned latents [rows,
            positions, k]; `strongest` and `norm` [rows, positions], the token's largest latent and
            the norm of the change; `stream` [rows, positions], the norm of what was changed;
            `steered`, bool [rows, positions].
        similarity, opened: float64 and bool [rows], a vector's gate: how like the condition each
            prompt is, and whether it is steered; None where no vector is added.
        markup: bool [rows], whether special tokens were counted as content.
        generating: whether this is `generate`, not a single forward.
        eos_ids: token ids after which `generate` feeds padding to a row.
        beams: whether rows change places within a prompt.
        uncompiled: whether `generate` was kept from compiling the model, as it was asked to.
        training: whether `generate` runs the model in training mode.
        empty: rows whose plan, made before, holds no latent.
        made: tokens that `generate` made of each row, one in a pass; None where that is not known.
        finished: whether the run is over.
    """

    def __init__(self, options: dict[str, Any]):
        self.options = options
        self.own: Any = None
        self.ids: Any = None
        self.mask: Any = None
        self.prompt_length: Any = None
        self.counts: Any = None
        self.lengths: Any = None
        self.weights: Any = None
        self.scores: Any = None
        self.augment: Any = None
        self.ablate: Any = None
        self.parts: Any = None
        self.steps: list[Any] = []
        self.similarity: Any = None
        self.opened: Any = None
        self.markup: Any = None
        self.generating = False
        self.eos_ids: list[int] = []
        self.beams = False
        self.uncompiled = False
        self.training = False
        self.empty: list[int] = []
        self.made: Any = None
        self.finished = False


def of_rows(record: Record, name: str) -> list[Any]:
    """The values of one setting in a run: one where it holds for all rows, else each row's."""
    settings = [record.options] if record.own is None else record.own
    return [own[name] for own in settings]
