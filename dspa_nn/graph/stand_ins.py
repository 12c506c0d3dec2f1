# pyright: basic
"""What a `DSPA` and a rendered prompt become on the way to NDIF; `portable.py` has maps and plans.

A block that calls `dspa.apply(map)` runs on the server with these in place of the user's objects:
the same methods and keywords, plain tensors inside.
"""

from typing import Any

from nnsight import save
from torch import Tensor

from dspa_nn.graph.apply import apply
from dspa_nn.graph.arriving import Returned
from dspa_nn.graph.calls import current_call
from dspa_nn.graph.origin import check_map, check_origin, origin_served
from dspa_nn.graph.portable import as_portable, origins_of, terms_of
from dspa_nn.graph.record import Steerer
from dspa_nn.graph.refusals import ExtensionRefusal, SteeringRefusal, refuse
from dspa_nn.graph.rules import EDIT, KINDS, Rule
from dspa_nn.graph.settings import (
    ALWAYS,
    APPLY_PLAN_SETTINGS,
    APPLY_SETTINGS,
    DEFAULTS,
    VOTING_SETTINGS,
    allowed_latents,
    check_names,
    check_options,
    fill,
    merged,
)
from dspa_nn.graph.votes import Member

RENDERED_AS_TEXT = (
    "the model was given what render returned where it takes text or ids; pass prompt.ids to it, "
    "and the prompt itself to apply"
)


class PortablePrompt:
    """A rendered prompt as its ids and which of them are content: int64 and bool, both [tokens]."""

    def __init__(self, prompt_ids: Tensor, content: Tensor):
        self.prompt_ids = prompt_ids
        self.content = content

    def __radd__(self, _):
        """What nnsight does with a prompt that it takes for text."""
        raise refuse(SteeringRefusal, RENDERED_AS_TEXT)


class PortableDSPA:
    """A `DSPA` as its tensors: what a steered run needs of the two SAEs, and what they are.

    Attributes:
        paths: dotted paths of the input and output block, seen from the model.
        encoders: the input `Encoder` (None where plans alone are applied) and the output `Encoder`.
        decoder: [d_out, d_model], or the rows of the latents in `editable` alone.
        editable: int64, ascending: the output latents whose decoder rows are here; None for all.
        identity: the model, layers and SAEs, as maps note their origin.
        defaults: the preset's settings of a run.
        tokens: bos_id and markup_ids of the tokenizer.
        model: the server's model, for blocks that say `dspa.model`.
    """

    def __init__(self, paths, encoders, decoder, editable, identity, defaults, tokens, model=None):
        self.paths = paths
        self.encoders = encoders
        self.decoder = decoder
        self.editable = editable
        self.identity = identity
        self.defaults = defaults
        self.tokens = tokens
        self.model = model

    def steerer(self, map: Any, given: Any, only: Any, never: Any, rules: Any = None) -> Steerer:
        """What one `apply` needs, its settings filled in and checked.

        map: a `PortableMap` or `PortableSum`, or a list of `PortablePlan`. given: the settings of a
        run, each None where it was not given. only, never: output latents, or None. rules: `Rule`s
        by kind; the paper's decides where there is none.
        """
        rules = dict.fromkeys(KINDS) | (rules or {})
        if isinstance(map, list):
            return self.planned_steerer(map, {**given, "only": only, "never": never, **rules})
        for origin in origins_of(map):
            check_origin(origin, self.identity, "it is used with")
        options = fill(given, map.defaults, self.defaults)
        check_options(options)
        widths = self.encoders[0].width, self.encoders[1].width
        members = self.members(map, given, rules)
        for member in members:
            check_map(member.arrays, widths, member.gate.name)
        for name in VOTING_SETTINGS:
            values = tuple(getattr(member, name) for member in members)
            options[name] = values[0] if len(set(values)) == 1 else values
        options["alike"] = [member.arrays["gate"] == ALWAYS for member in members]
        options["allowed"] = allowed_latents(only, never, widths[1])
        options["prompt_tokens"] = map.prompt_tokens
        options["origin"] = map.origin
        options["extensions"] = named(rules)
        options.update(self.tokens)
        return Steerer(
            self.encoders, self.decoder, self.editable, members, options,
            rules["select"], rules["edit"],
        )  # fmt: skip

    def members(self, map: Any, given: Any, rules: Any) -> list[Member]:
        """The map, or the maps of a sum, each with the prompt rule that it votes by.

        What was given holds for all of them; else each has its own, else the preset's.
        """
        members = []
        for coefficient, term in terms_of(map):
            asked = {name: given[name] for name in VOTING_SETTINGS}
            rule = fill(asked, term.defaults, self.defaults)
            check_options(rule, VOTING_SETTINGS)
            own = {"gate": rules["gate"], "score": rules["score"], "coefficient": coefficient}
            members.append(Member(term.arrays, **rule, **own))
        return members

    def planned_steerer(self, plans: list, given: dict) -> Steerer:
        """The same for plans that are made; given: with only, never and rules among them."""
        for origin in origins_of(plans):
            check_origin(origin, self.identity, "it is used with")
        for name, value in given.items():
            if value is not None and name not in (*APPLY_PLAN_SETTINGS, "edit"):
                raise refuse(
                    SteeringRefusal,
                    f"{name}= came with a plan, which is already made; give it to dspa.plan "
                    f"instead ({', '.join(APPLY_PLAN_SETTINGS)} and edit may be given here)",
                )
        edit = given["edit"]
        for plan in plans:
            name = plan.options.get("extensions", {}).get("edit")
            if edit is None and name not in (None, EDIT.name):
                raise refuse(
                    SteeringRefusal,
                    f"the plan was made with the edit {name}, which a plan does not hold; give "
                    "edit= to apply as well",
                )
        asked = {name: given[name] for name in APPLY_PLAN_SETTINGS if given[name] is not None}
        own = [{**plan.options, **asked, "allowed": None} for plan in plans]
        for options in own:
            check_options(options, APPLY_PLAN_SETTINGS)
            if edit is not None:
                options["extensions"] = {**options.get("extensions", {}), **named({"edit": edit})}
        steerer = Steerer(
            self.encoders, self.decoder, self.editable, None, merged(own), edit=edit, plans=plans
        )
        if any(options != own[0] for options in own):
            steerer.own = own
        return steerer

    def apply(self, map, *, prompt=None, prompt_length=None, only=None, never=None, **given):
        """`DSPA.apply`, on the server; the log is read where the toolkit is installed."""
        rules = {kind: travelled(kind, given.pop(kind, None)) for kind in KINDS}
        check_names("apply", given, APPLY_SETTINGS)
        given = {"positions": DEFAULTS["positions"], **given}
        given = {name: given.get(name) for name in APPLY_SETTINGS}
        map = as_portable(map)
        module = current_call().module
        for origin in origins_of(map):
            check_origin(origin, origin_served(module), "the server runs")
        self.move(module)
        steerer = self.steerer(map, given, only, never, rules)
        record = apply(steerer, self.paths, rendered_prompts(prompt), prompt_length)
        return save(Returned(record))

    def move(self, module) -> None:
        """Put the tensors beside the model, whose device the user's machine does not know."""
        device = next(module.parameters()).device
        if device != self.decoder.device:
            self.decoder = self.decoder.to(device)
            for encoder in self.encoders:
                if encoder is not None:
                    encoder.to(device)


def named(rules: dict) -> dict[str, str]:
    """What a log calls the rules that were given in place of the paper's, by kind."""
    return {kind: rule.name for kind, rule in rules.items() if rule is not None}


def travelled(kind: str, rule: Any) -> Any:
    """A rule that came with a block, or None; anything else is refused."""
    if rule is None or (isinstance(rule, Rule) and rule.kind == kind):
        return rule
    if isinstance(rule, Rule):
        found = f"the {rule.kind} {rule.name}"
    else:
        found = repr(rule) if isinstance(rule, str) else f"a {type(rule).__name__}"
    raise refuse(
        ExtensionRefusal,
        f"{kind}= came as {found}, and the server knows no names; pass what "
        f"@dspa_nn.extension({kind!r}) made",
    )


class PortableMethod:
    """A `DSPAMethod` on the server: a `DSPA`, a map and the settings of `apply`."""

    def __init__(self, dspa, map, options):
        self.dspa = dspa
        self.map = map
        self.options = options

    def apply(self, *, prompt=None, prompt_length=None):
        """`DSPAMethod.apply`, with what stands in for the `DSPA` and the map."""
        lengths = {"prompt": prompt, "prompt_length": prompt_length}
        return self.dspa.apply(self.map, **lengths, **self.options)


def rendered_prompts(prompt) -> Any:
    """(ids, content) of each prompt of a batch, or None."""
    if prompt is None:
        return None
    batch = [prompt] if hasattr(prompt, "prompt_ids") else prompt
    rendered = isinstance(batch, (list, tuple))
    if not rendered or not all(hasattr(item, "prompt_ids") for item in batch):
        raise refuse(
            SteeringRefusal,
            "prompt= came unrendered, and the server has no template to render it with; write "
            "prompt = dspa.render(messages) before the block and pass that",
        )
    return [(item.prompt_ids, item.content) for item in batch]
