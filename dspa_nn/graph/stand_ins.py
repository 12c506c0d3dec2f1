# pyright: basic
"""What a `DSPA`, a map and a rendered prompt become on the way to NDIF.

The block that calls `dspa.apply(map)` runs on the server with these in the places of the user's
objects: the same names and keywords, plain tensors inside.
"""

import torch
from nnsight import save
from nnsight.util import from_import_path

from dspa_nn.graph.apply import apply
from dspa_nn.graph.origin import check_map, check_origin
from dspa_nn.graph.record import Steerer
from dspa_nn.graph.refusals import SteeringRefusal, refuse
from dspa_nn.graph.settings import (
    APPLY_PLAN_SETTINGS,
    APPLY_SETTINGS,
    DEFAULTS,
    allowed_latents,
    check_names,
    check_options,
    fill,
)
from dspa_nn.graph.trace import current_call


class PortableMap:
    """A conditional-difference map as its arrays: see `ConditionalDifferenceMap`."""

    def __init__(self, arrays, prompt_tokens, origin, defaults):
        self.arrays = arrays
        self.prompt_tokens = prompt_tokens
        self.origin = origin
        self.defaults = defaults


class PortablePlan:
    """What was counted, scored and chosen for one prompt, and with which settings: see `Plan`.

    ids: int64 [tokens], the prompt's; counts: int32 [d_in]; lengths: int64 [], counted tokens;
    weights: float64 [d_in]; scores: float64 [d_out]; augment, ablate: int64 [k], padded with -1.
    """

    def __init__(self, ids, counts, lengths, weights, scores, augment, ablate, options):
        self.ids = ids
        self.counts = counts
        self.lengths = lengths
        self.weights = weights
        self.scores = scores
        self.augment = augment
        self.ablate = ablate
        self.options = options  # with the map's origin among them


def as_portable(value):
    """A map as a `PortableMap`, or plans (one, or one a row) as a list of `PortablePlan`."""
    batch = value if isinstance(value, (list, tuple)) else [value]
    batch = [own.portable() if hasattr(own, "portable") else own for own in batch]
    if batch and all(isinstance(own, PortablePlan) for own in batch):
        return batch
    if isinstance(value, (list, tuple)) or not isinstance(batch[0], PortableMap):
        raise refuse(
            SteeringRefusal,
            f"apply was given a {type(value).__name__} for its map; pass what fit or "
            "ConditionalDifferenceMap.load returned, or what dspa.plan made",
        )
    return batch[0]


class PortablePrompt:
    """A rendered prompt as its ids and what of them is content: int64 and bool, one a token."""

    def __init__(self, prompt_ids, content):
        self.prompt_ids = prompt_ids
        self.content = content


class PortableDSPA:
    """A `DSPA` as its tensors: what a steered run needs of the two SAEs, and who they are."""

    def __init__(self, paths, encoders, decoder, editable, identity, defaults, tokens, model=None):
        self.paths = paths
        self.encoders = encoders
        # [d_out, d_model], or the rows of the latents in `editable` (ascending) alone.
        self.decoder = decoder
        self.editable = editable
        self.identity = identity
        self.defaults = defaults
        self.tokens = tokens  # bos_id, markup_ids
        self.model = model  # the server's own, for blocks that say `dspa.model`

    def steerer(self, map, given, only, never, planner):
        """The steerer of one `apply`, its settings filled in and checked.

        map: a `PortableMap`, or plans, which were made with one.
        """
        if isinstance(map, list):
            chosen = {"only": only, "never": never, "planner": planner}
            return self.planned_steerer(map, {**given, **chosen})
        check_origin(map.origin, self.identity, "it is used with")
        options = fill(given, map.defaults, self.defaults)
        check_options(options)
        widths = self.encoders[0].width, self.encoders[1].width
        check_map(map.arrays, widths, options["prompt_rule"])
        options["allowed"] = allowed_latents(only, never, widths[1])
        options["prompt_tokens"] = map.prompt_tokens
        options["origin"] = map.origin
        options.update(self.tokens)
        return Steerer(self.encoders, self.decoder, self.editable, map.arrays, options, planner)

    def planned_steerer(self, plans, given):
        """The steerer of a run whose plans are made; given: as in `apply`, None where not given."""
        options = dict(plans[0].options)
        for plan in plans:
            check_origin(plan.options["origin"], self.identity, "it is used with")
            for name in APPLY_SETTINGS:
                if plan.options[name] != options[name]:
                    raise refuse(
                        SteeringRefusal,
                        f"plans of one batch were made with {name} {options[name]!r} and "
                        f"{plan.options[name]!r}; plan the batch with the same settings",
                    )
        for name, value in given.items():
            if value is not None and name not in APPLY_PLAN_SETTINGS:
                raise refuse(
                    SteeringRefusal,
                    f"{name}= came with a plan, which is already made; give it to dspa.plan "
                    f"instead ({' and '.join(APPLY_PLAN_SETTINGS)} may be given here)",
                )
        options.update(
            {name: given[name] for name in APPLY_PLAN_SETTINGS if given[name] is not None}
        )
        options["allowed"] = None
        check_options(options)
        return Steerer(self.encoders, self.decoder, self.editable, None, options, plans=plans)

    def apply(self, map, *, prompt=None, prompt_length=None, only=None, never=None, **given):
        """`DSPA.apply`, on the server; the log is read where the toolkit is installed."""
        planner = given.pop("planner", None)
        check_names("apply", given, APPLY_SETTINGS)
        given = {"positions": DEFAULTS["positions"], **given}
        given = {name: given.get(name) for name in APPLY_SETTINGS}
        map = as_portable(map)
        envoy = current_call()[1].envoy
        config = getattr(envoy._module, "config", None)
        served = {"model_revision": getattr(config, "_commit_hash", None)}
        origins = [own.options["origin"] for own in map] if isinstance(map, list) else [map.origin]
        for origin in origins:
            check_origin(origin, served, "the server runs")
        self.move(envoy._module)
        steerer = self.steerer(map, given, only, never, planner)
        record = apply(steerer, self.paths, self.prompts(prompt), prompt_length)
        return save(Returned(record))

    def move(self, module):
        """Put the tensors beside the model: the user's machine does not know its devices."""
        device = next(module.parameters()).device
        if device != self.decoder.device:
            self.decoder = self.decoder.to(device)
            for encoder in self.encoders:
                if encoder is not None:  # the input encoder stays at home where plans are made
                    encoder.to(device)

    def prompts(self, prompt):
        """(ids, content) of each prompt of a batch, or None."""
        if prompt is None:
            return None
        batch = [prompt] if hasattr(prompt, "prompt_ids") else prompt
        if not isinstance(batch, (list, tuple)) or not all(
            hasattr(own, "prompt_ids") for own in batch
        ):
            raise refuse(
                SteeringRefusal,
                "prompt= came unrendered, and the server has no template to render it with; write "
                "prompt = dspa.render(messages) before the block and pass that",
            )
        return [(own.prompt_ids, own.content) for own in batch]


def arrive(home, state, stand_in, parts):
    """The object itself where its class can be imported, else what stands in for it."""
    try:
        kind = from_import_path(home)
    except ImportError:
        return stand_in(**parts)
    own = kind.__new__(kind)
    vars(own).update(state)
    return own


class Returned:
    """An edit log on its way home: it arrives as an `EditLog`."""

    def __init__(self, record):
        self.record = record

    def __getattr__(self, name):
        raise AttributeError(f"{name} was read on the server; read the edit log after the block")

    def __reduce__(self):
        return Named("dspa_nn.steering.log.received"), (portable(vars(self.record)),)


class Named:
    """A function that is only known by name here: pickled, it is looked up where it arrives."""

    def __init__(self, path):
        self.path = path

    def __call__(self, *args):
        """Look the function up and call it: possible only where it exists."""
        return from_import_path(self.path)(*args)

    def __reduce__(self):
        return from_import_path, (self.path,)


def portable(value):
    """The same value with every tensor on the CPU, in memory of its own."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, dict):
        return {key: portable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(portable(item) for item in value)
    return value
