# pyright: basic
"""The settings of a fit and of a run: what each may be, and what it is where nobody says.

Every list of names and every default in the toolkit comes from this one table. It is part of the
code that travels, because a block that runs on NDIF fills in and checks its settings there.
"""

import math
from typing import Any

import torch

from dspa_nn.graph.refusals import SteeringRefusal, refuse
from dspa_nn.graph.spelling import did_you_mean

MODES = ("ablate", "augment", "both")
PROMPT_RULES = ("density", "gated", "centred")
POSITIONS = ("response", "all")
PROMPT_TOKENS = ("content", "all")
GATES = ("active", "literal")
# Of a map of one row that votes for every prompt, which no fit makes.
ALWAYS = "always"
MOST_ALPHA = 1e6
SPARSIFICATIONS = ("paper", "rows", "none")


class Setting:
    """One setting of a fit or of a run.

    Attributes:
        name: the keyword.
        text: what it decides, in one sentence.
        calls: the calls that take it: "fit", "plan", "apply", or "apply a plan", where the latents
            are chosen already.
        default: its value where neither the call, the map nor the preset gives one.
        published: whether the default is the paper's (arXiv 2603.21461) or ours.
        kind: "number", "count" (a whole number of at least 1) or "choice".
        choices: the words that a choice may be.
        limits: least and greatest value of a number.
        breaking: a number above this breaks any text, and may overflow; whoever exceeds it is told.
    """

    def __init__(
        self,
        name: str,
        text: str,
        calls: tuple[str, ...],
        default: Any,
        published: bool,
        kind: str,
        choices: tuple[str, ...] = (),
        limits: tuple[float, float] = (0, math.inf),
        breaking: float = math.inf,
    ):
        self.name = name
        self.text = text
        self.calls = calls
        self.default = default
        self.published = published
        self.kind = kind
        self.choices = choices
        self.limits = limits
        self.breaking = breaking

    def check(self, value) -> None:
        """Refuse a value out of range; the sentence names the setting, the value and the range."""
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        least, most = self.limits
        if self.kind == "choice":
            right = isinstance(value, str) and value in self.choices
            words = f"one of {', '.join(self.choices)}{did_you_mean(value, self.choices)}"
        elif self.kind == "count":
            right = number and isinstance(value, int) and value >= 1
            words = "a whole number of at least 1"
        elif most == math.inf:
            right = number and least <= value < math.inf
            words = f"a finite number of at least {least}"
            if right and value > self.breaking:
                right, words = False, f"a number of at most {self.breaking:,.0f}"
        else:
            right = number and least <= value <= most
            words = f"a number from {least} to {most}"
        if not right:
            raise refuse(SteeringRefusal, f"{self.name} is {value!r}, and must be {words}")


SETTINGS = (
    Setting(
        "alpha",
        "Size of an edit, in units of the largest latent of the token.",
        ("plan", "apply", "apply a plan"), 0.2, True, "number", breaking=MOST_ALPHA,
    ),
    Setting(
        "k_prompt",
        "How many of the prompt's densest latents vote, with prompt_rule='density'.",
        ("plan", "apply"), 32, True, "count",
    ),
    Setting(
        "k_diff",
        "In a run, the most latents that are planned in each direction; in a fit, how many of each "
        "row's largest and smallest entries decide what the map keeps.",
        ("fit", "plan", "apply"), 16, True, "count",
    ),
    Setting(
        "mode",
        "Whether latents are turned down (ablate), raised (augment), or both.",
        ("plan", "apply"), "ablate", True, "choice", MODES,
    ),
    Setting(
        "prompt_rule",
        "Which prompt latents vote: the densest (density), those whose gate is open (gated), or "
        "gates less their mean over the fitting prompts (centred).",
        ("plan", "apply"), "density", False, "choice", PROMPT_RULES,
    ),
    Setting(
        "prompt_tokens",
        "Which prompt tokens are counted: those of the messages (content), or the chat template's "
        "too (all).",
        ("fit",), "content", False, "choice", PROMPT_TOKENS,
    ),
    Setting(
        "positions",
        "Which tokens are steered: from the last prompt token on (response), or all but BOS (all).",
        ("apply", "apply a plan"), "response", False, "choice", POSITIONS,
    ),
    Setting(
        "percentile",
        "Percentile of a prompt latent's density over the fitting prompts, from which on its "
        "gate is open.",
        ("fit",), 90, False, "number", (), (0, 100),
    ),
    Setting(
        "gate",
        "Whether a gate is open only where its latent is active at all (active), or wherever its "
        "density reaches the threshold, which may be 0 (literal).",
        ("fit",), "active", False, "choice", GATES,
    ),
    Setting(
        "sparsify",
        "Which entries of the map are kept: those from one threshold on (paper), each row's "
        "largest and smallest (rows), or all (none).",
        ("fit",), "paper", False, "choice", SPARSIFICATIONS,
    ),
    Setting(
        "max_entries",
        "The most entries that a map keeps; there is no limit where it is left out.",
        ("fit",), None, False, "count",
    ),
)  # fmt: skip


def names_of(call: str) -> tuple[str, ...]:
    """Names of the settings that a call takes: "fit", "plan", "apply" or "apply a plan"."""
    return tuple(setting.name for setting in SETTINGS if call in setting.calls)


FIT_SETTINGS = names_of("fit")
PLAN_SETTINGS = names_of("plan")
APPLY_SETTINGS = names_of("apply")
APPLY_PLAN_SETTINGS = names_of("apply a plan")
# How a map votes. Each map of a sum has its own, unless one is given for all of them.
VOTING_SETTINGS = ("prompt_rule", "k_prompt")
# What a run was made with, the map's prompt_tokens included: shown by its log.
LOGGED_SETTINGS = tuple(
    setting.name
    for setting in SETTINGS
    if "apply" in setting.calls or setting.name == "prompt_tokens"
)
# What the paper published, and what everything falls back to.
PAPER: dict[str, Any] = {setting.name: setting.default for setting in SETTINGS if setting.published}
DEFAULTS: dict[str, Any] = {setting.name: setting.default for setting in SETTINGS}


def fill(given: Any, *fallbacks: Any) -> dict[str, Any]:
    """`given` with every None replaced from the first fallback that has the key, or `DEFAULTS`."""
    filled = {}
    for key, value in given.items():
        for fallback in (*fallbacks, DEFAULTS):
            if value is None:
                value = fallback.get(key)
        # numpy's and torch's scalars are numbers too.
        item = getattr(value, "item", None) if getattr(value, "ndim", None) == 0 else None
        filled[key] = value if item is None else item()
    return filled


def merged(own: list[dict[str, Any]]) -> dict[str, Any]:
    """The settings of a batch from those of each row: one value where all agree, else a list."""
    values = {name: [options.get(name) for options in own] for name in own[0]}
    return {
        name: each[0] if all(value == each[0] for value in each) else each
        for name, each in values.items()
    }


def check_names(call: str, given, known) -> None:
    """Refuse keywords that a call does not take; the sentence names the nearest right one."""
    unknown = sorted(name for name in given if name not in known)
    if unknown:
        near = "".join(did_you_mean(name, known) for name in unknown[:1])
        raise refuse(
            SteeringRefusal,
            f"{call} takes no {', '.join(unknown)}{near}; it takes {', '.join(known)}",
        )


def check_options(options: Any, names: Any = APPLY_SETTINGS) -> None:
    """Refuse settings of a run that are out of range; names: which of them are looked at."""
    for setting in SETTINGS:
        if setting.name in names:
            setting.check(options[setting.name])


def allowed_latents(only: Any, never: Any, d_out: int) -> Any:
    """A bool [d_out], True where a latent may be chosen, or None where every one may."""
    if only is None and never is None:
        return None
    allowed = torch.full((d_out,), only is None)
    for name, latents, value in (("only", only, True), ("never", never, False)):
        for latent in () if latents is None else listed(name, latents):
            if not 0 <= int(latent) < d_out:
                raise refuse(
                    SteeringRefusal,
                    f"{name}= names latent {int(latent)}, and the output SAE has latents 0 to "
                    f"{d_out - 1}",
                )
            allowed[int(latent)] = value
    return allowed


def listed(name: str, latents) -> list:
    """Latents as a list; a mask of booleans, or anything else that is no list, is refused."""
    single = isinstance(latents, str) or not hasattr(latents, "__iter__")
    single = single or getattr(latents, "ndim", 1) == 0
    values = [latents] if single else list(latents)
    if single or any("int" not in kind_of(latent) for latent in values):
        kinds = ", ".join(sorted({kind_of(latent) for latent in values}))
        raise refuse(
            SteeringRefusal,
            f"{name}= holds {kinds}, and must list output latents by number, as [3, 17]",
        )
    return values


def kind_of(value) -> str:
    """The name of a value's type, or of its dtype where it has one."""
    return str(getattr(value, "dtype", type(value).__name__))
