"""What a search may choose from, and one choice of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import product
from typing import Any

from dspa_nn.errors import EvaluationError
from dspa_nn.graph.settings import DEFAULTS, FIT_SETTINGS, PLAN_SETTINGS, SETTINGS

_BY_NAME: dict[str, Any] = {setting.name: setting for setting in SETTINGS}
Layers = tuple[int, int]


@dataclass(frozen=True)
class Space:
    """The values that a search may choose from.

    Example:
        >>> space = Space(percentile=(50, 90), k_prompt=(32,), alpha=(0.1, 1.0))
        >>> len(list(space.votes([(9, 24)])))
        12

    Attributes:
        percentile, prompt_tokens, prompt_rule, k_prompt: how prompts are counted and how they vote;
            `k_prompt` matters to the rule "density" alone.
        k_diff, mode: what is steered.
        alpha: least and greatest; a number between them is drawn on a scale of logarithms.
    """

    percentile: tuple[int | float, ...] = (50, 75, 90, 95)
    prompt_tokens: tuple[str, ...] = ("content", "all")
    prompt_rule: tuple[str, ...] = ("density", "gated", "centred")
    k_prompt: tuple[int, ...] = (16, 32, 64)
    k_diff: tuple[int, ...] = (8, 16, 32)
    mode: tuple[str, ...] = ("ablate", "augment", "both")
    alpha: tuple[int | float, int | float] = (0.1, 1.0)

    def __post_init__(self) -> None:
        for name in (one.name for one in fields(self) if one.name != "alpha"):
            values: Sequence[Any] = getattr(self, name)
            if not values:
                raise EvaluationError(f"{name} has nothing to choose from; give at least one value")
            for value in values:
                _BY_NAME[name].check(value)
        low, high = self.alpha
        _BY_NAME["alpha"].check(high)
        if not 0 < low <= high:
            raise EvaluationError(
                f"alpha goes from {low} to {high}; give a least value above 0 and a greatest one "
                "that is not below it"
            )

    def votes(self, pairs: Sequence[Layers]) -> Iterator["Vote"]:
        """Every way of counting and voting, for every pair of layers."""
        for layers, percentile, tokens, rule in product(
            pairs, self.percentile, self.prompt_tokens, self.prompt_rule
        ):
            for k_prompt in self.k_prompt if rule == "density" else (int(DEFAULTS["k_prompt"]),):
                yield Vote(layers, percentile, tokens, rule, k_prompt)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: list(values) for name, values in vars(self).items()}


@dataclass(frozen=True)
class Vote:
    """How prompts are counted and vote, between which layers.

    >>> Vote((9, 24), 50, "content", "centred", 32).label
    '9->24 centred p50 content'
    """

    layers: Layers
    percentile: int | float
    prompt_tokens: str
    prompt_rule: str
    k_prompt: int

    @property
    def label(self) -> str:
        """Short, and different for every vote: what the study calls it."""
        latents = f" k{self.k_prompt}" if self.prompt_rule == "density" else ""
        where = f"{self.layers[0]}->{self.layers[1]}"
        return f"{where} {self.prompt_rule}{latents} p{self.percentile:g} {self.prompt_tokens}"


@dataclass(frozen=True)
class Choice:
    """All settings of a map and of its steering.

    Example:
        >>> choice = Choice(Vote((9, 24), 50, "content", "centred", 32), 16, "both", 0.4)
        >>> choice.fit, choice.steer["mode"]
        ({'k_diff': 16, 'prompt_tokens': 'content', 'percentile': 50}, 'both')
    """

    vote: Vote
    k_diff: int
    mode: str
    alpha: float

    @property
    def settings(self) -> dict[str, Any]:
        """By name, those of the fit and those of the run."""
        vote = {name: value for name, value in vars(self.vote).items() if name != "layers"}
        return {**vote, "k_diff": self.k_diff, "mode": self.mode, "alpha": self.alpha}

    @property
    def fit(self) -> dict[str, Any]:
        """Those of `ActivationCounts.fit`."""
        return {name: self.settings[name] for name in FIT_SETTINGS if name in self.settings}

    @property
    def steer(self) -> dict[str, Any]:
        """Those of a run."""
        return {name: self.settings[name] for name in PLAN_SETTINGS if name in self.settings}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"layers": list(self.vote.layers), "fit": self.fit, "steer": self.steer}

    def rounded(self) -> "Choice":
        """The same with alpha as a person would write it, to three digits."""
        return replace(self, alpha=float(f"{self.alpha:.3g}"))


@dataclass(frozen=True)
class Trial:
    """A choice that was measured, with one value per development triple.

    Attributes:
        choice: the settings.
        chosen, rejected: change of log p per token of either response, nats.
        kl: KL(unsteered || steered) per token, nats.
        edits, share: edits a token, and how far the stream moved, both means of means.
    """

    choice: Choice
    chosen: list[float]
    rejected: list[float]
    kl: list[float]
    edits: float
    share: float
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def margins(self) -> list[float]:
        """The change of the margin of each development triple, nats a token."""
        return [up - down for up, down in zip(self.chosen, self.rejected, strict=True)]

    @property
    def margin(self) -> float:
        """The mean change of the margin, nats a token."""
        return sum(self.chosen) / len(self.chosen) - sum(self.rejected) / len(self.rejected)

    @property
    def damage(self) -> float:
        """The mean KL, nats a token."""
        return sum(self.kl) / len(self.kl)
