"""Keywords of `DSPA`'s methods: their names and types, and what is refused at run time.

A type checker reads them from the `TypedDict`s (`**options: Unpack[SteeringOptions]`), and so tells
of a misspelt keyword or choice before anything runs. Defaults, limits and texts are those of one
table, `dspa_nn.graph.settings.SETTINGS`, which the tests hold equal to what is written here.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypedDict

from torch import Tensor

from dspa_nn.checks import check_names
from dspa_nn.counts import CountingOptions, CountOptions
from dspa_nn.errors import SteeringError
from dspa_nn.extensions import Extension
from dspa_nn.graph import settings
from dspa_nn.graph.rules import KINDS
from dspa_nn.graph.settings import APPLY_SETTINGS, DEFAULTS, PLAN_SETTINGS
from dspa_nn.maps import FitOptions
from dspa_nn.prompts import Rendered
from dspa_nn.triples import Prompt

Mode = Literal["ablate", "augment", "both"]
PromptRule = Literal["density", "gated", "centred"]
Positions = Literal["response", "all"]
# nnsight's remote=: True sends a request to NDIF, "local" packs one and runs it here.
Remote = bool | Literal["local"]
# Several prompts of one batch. A list of chat messages is one prompt, and none of these.
Prompts = (
    Sequence[Rendered | Sequence[Mapping[str, Any]]]
    | list[str]
    | tuple[str, ...]
    | list[str | Rendered]
)
PromptOrPrompts = Prompt | Rendered | Prompts
# Tokens of the prompt, BOS included: of every row, or one for each.
PromptLength = int | Sequence[int] | Tensor
# What @dspa_nn.extension registered: a function, an object of a class, or the name of either.
ExtensionOrName = str | Extension[Any, Any] | Callable[..., Any]


class PlanOptions(TypedDict, total=False):
    """Keywords of `DSPA.plan`; `apply` and `attach` take them too (docs/method.md 4).

    Example:
        >>> options: PlanOptions = {"alpha": 0.5, "mode": "both"}
        >>> plan = dspa.plan(map, "Tell me about volcanoes.", **options)

    A keyword that is left out, or None, takes the preset's value, else the paper's.

    Attributes:
        alpha: size of an edit, in units of the token's strongest latent M_t; at least 0.
        k_prompt: how many of the prompt's densest latents vote, with prompt_rule="density".
        k_diff: the most latents that are planned in each direction.
        mode: "ablate" turns latents down, "augment" raises them, "both" does both.
        prompt_rule: which prompt latents vote: the densest ("density"), those whose gate is open
            ("gated"), or gates less their mean over the fitting prompts ("centred").
        only: output latents allowed, before the k_diff are chosen.
        never: output latents barred.
        gate: an extension that weighs the prompt's latents, in place of the prompt rule.
        score: an extension that scores output latents, in place of A^T w.
        select: an extension that plans latents, in place of the k_diff best.
        edit: an extension that moves the planned latents, in place of alpha * M_t.
    """

    alpha: float | None
    k_prompt: int | None
    k_diff: int | None
    mode: Mode | None
    prompt_rule: PromptRule | None
    only: Iterable[int] | None
    never: Iterable[int] | None
    gate: ExtensionOrName | None
    score: ExtensionOrName | None
    select: ExtensionOrName | None
    edit: ExtensionOrName | None


class SteeringOptions(PlanOptions, total=False):
    """Settings of a steered run: those of `PlanOptions`, and where to steer.

    Example:
        >>> options: SteeringOptions = {"alpha": 0.5, "positions": "all"}
        >>> method = DSPAMethod("all tokens", dspa, map, options)

    Attributes:
        positions: "response" steers from the last prompt token on, "all" every token but BOS.
    """

    positions: Positions | None


class RunOptions(SteeringOptions, total=False):
    """Keywords of `DSPA.apply` and `DSPA.attach`: those of `SteeringOptions`, and the prompt.

    Attributes:
        prompt: what `render` returned, or what it takes (a list of them for a batch): tells
            content from markup in a chat prompt.
        prompt_length: in single forwards: tokens of the prompt, BOS included, an int or one per
            row.
    """

    prompt: PromptOrPrompts | None
    prompt_length: PromptLength | None


class FitKeywords(FitOptions, CountingOptions, total=False):
    """Keywords of `DSPA.fit`: those of `ActivationCounts.fit` and of a counting pass, and `cache`.

    Attributes:
        cache: whether counts are kept for a next equal fit, and those of an earlier one used.
    """

    cache: bool


# Keywords of a run beside its settings: which output latents it may plan, and extensions.
CHOICES = ("only", "never", *KINDS)
# Keywords of a counting pass: of any, those that plan its batches, and those of `count`.
COUNTING = tuple(CountingOptions.__annotations__)
PLANNED = ("token_budget", "overlong", "refused")
COUNT = tuple(CountOptions.__annotations__)


def plan_settings(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Divide the keywords of `plan` as `run_settings` does those of `apply`.

    Raises:
        SteeringError: a keyword that `plan` does not take.
    """
    check_names("plan", options, (*PLAN_SETTINGS, *CHOICES), SteeringError)
    return _divided(options)


def run_settings(call: str, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Divide the keywords of `apply` or `attach` into settings, and latents and extensions.

    Both by name, None where not given; the positions are filled in, since no map or preset has any.

    Raises:
        SteeringError: a keyword that the call does not take.
    """
    known = (*APPLY_SETTINGS, *CHOICES, "prompt", "prompt_length")
    takes = "" if call == "apply" else "what apply takes"
    check_names(call, options, known, SteeringError, takes)
    return _divided(options)


def _divided(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    given = {name: options.get(name) for name in APPLY_SETTINGS}
    if given["positions"] is None:
        given["positions"] = DEFAULTS["positions"]
    return given, {name: options.get(name) for name in CHOICES}


def fill(given: Mapping[str, Any], *fallbacks: Mapping[str, Any]) -> dict[str, Any]:
    """Replace every None of `given` from the first fallback that has the key, then the default.

    Example:
        >>> fill({"alpha": None, "k_diff": None}, {"alpha": 1.0})
        {'alpha': 1.0, 'k_diff': 16}
    """
    return settings.fill(given, *fallbacks)
