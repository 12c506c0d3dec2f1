"""Keywords of a conversation: settings of `apply`, and what transformers' `generate` takes."""

import reprlib
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import numpy as np
import torch

from dspa_nn.checks import check_names, check_type
from dspa_nn.errors import SteeringError
from dspa_nn.graph.settings import APPLY_SETTINGS
from dspa_nn.imports import late
from dspa_nn.steering.options import CHOICES

STEERING = (*APPLY_SETTINGS, *CHOICES)
# What `generate` takes beside the fields of its configuration.
_BESIDE = (
    "generation_config",
    "logits_processor",
    "prefix_allowed_tokens_fn",
    "stopping_criteria",
)
# What these keywords are, so that a wrong one is told at once and not by whatever it is met by.
_WHOLE = (
    "max_new_tokens", "min_new_tokens", "max_length", "min_length", "num_beams", "top_k",
    "no_repeat_ngram_size",
)  # fmt: skip
_NUMBERS = (
    "temperature", "top_p", "min_p", "typical_p", "repetition_penalty", "length_penalty", "max_time"
)  # fmt: skip
_AT_LEAST_ONE = ("max_new_tokens", "num_beams")


class Asked(NamedTuple):
    """What decides the answer of a turn, beside what was said.

    >>> asked = Asked.of("say", map, {"alpha": 0.5, "max_new_tokens": 3}, seed=None)
    >>> asked.steering, asked.generation
    ({'alpha': 0.5}, {'max_new_tokens': 3})

    Attributes:
        map: the map to steer by.
        steering: settings and choices of `apply`. generation: keywords of `generate`.
        seed: that sampling starts from, or None.
    """

    map: Any
    steering: dict[str, Any]
    generation: dict[str, Any]
    seed: int | None

    @classmethod
    def of(cls, call: str, map: Any, options: Mapping[str, Any], seed: int | None) -> "Asked":
        """Divide the keywords of a call between steering and `generate`.

        >>> Asked.of("say", map, {"alpa": 1}, seed=None)
        Traceback (most recent call last):
        dspa_nn.errors.SteeringError: say takes no alpa (did you mean 'alpha'?); it takes the \
settings of apply and the keywords of transformers' generate

        call: the name of what was called.

        Raises:
            SteeringError: no map, a keyword of neither, or one that a conversation sets itself.
        """
        if map is None and call != "say":  # a turn may go on with the conversation's
            raise SteeringError(
                "a conversation was given None for its map; give what fit or "
                "ConditionalDifferenceMap.load returned"
            )
        for name in ("prompt", "prompt_length"):
            if name in options:
                raise SteeringError(
                    f"{call} was given {name}=, and a conversation renders its own prompts; give "
                    "the text to say, and earlier messages to dspa.conversation(map, messages=...)"
                )
        config = cast(dict[str, Any], vars(late("transformers").GenerationConfig()))
        fields = [name for name in config if not name.startswith("_")]
        known = (*STEERING, *fields, *_BESIDE, "map", "seed", "stream")
        takes = "the settings of apply and the keywords of transformers' generate"
        check_names(call, options, known, SteeringError, takes)
        if (options.get("num_return_sequences") or 1) != 1:
            raise SteeringError(
                f"{call} was given num_return_sequences={options['num_return_sequences']}, and a "
                "turn has one answer; undo() the turn and say it again for another"
            )
        check_type("seed", seed, int | None, SteeringError)
        _check_generation(options)
        steering = {name: _kept(value) for name, value in options.items() if name in STEERING}
        return cls(
            map,
            steering,
            {name: value for name, value in options.items() if name not in STEERING},
            seed,
        )


def _check_generation(options: Mapping[str, Any]) -> None:
    """Refuse values that `generate` cannot take: where it meets them, it says something else."""
    kind: Any = late("transformers").GenerationConfig
    config = options.get("generation_config")
    if config is not None and not isinstance(config, kind):
        raise SteeringError(
            f"generation_config is a {type(config).__name__}; expected transformers' "
            "GenerationConfig, or give its fields as keywords, such as max_new_tokens=32"
        )
    for names, numbers, words in (
        (_WHOLE, (int, np.integer), "a whole number"),
        (_NUMBERS, (int, float, np.integer, np.floating), "a number"),
    ):
        for name in names:
            value: Any = options.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, numbers):
                raise SteeringError(f"{name} is {reprlib.repr(value)}; expected {words}, or None.")
            if name in _AT_LEAST_ONE and value < 1:
                raise SteeringError(f"{name} is {value}; expected at least 1, or None.")


def _kept(value: Any) -> Any:
    """A value that can be read in every turn: an iterator, as of latents, is read once alone."""
    return list(value) if isinstance(value, Iterable) and iter(value) is value else value  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


@contextmanager
def seeded(seed: int | None, device: torch.device) -> Generator[None]:
    """Sample from a seed, and leave the random state as it was; None samples as ever.

    >>> with seeded(0, torch.device("cpu")):
    ...     first = torch.rand(1)
    >>> with seeded(0, torch.device("cpu")):
    ...     torch.equal(torch.rand(1), first)
    True
    """
    if seed is None:
        yield
        return
    random: Any = torch.random
    with random.fork_rng([device] if device.type == "cuda" else []):
        random.manual_seed(seed)
        yield
