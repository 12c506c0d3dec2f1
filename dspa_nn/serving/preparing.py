"""From a request that can be read to an answer that can be queued, or a refusal in one sentence."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

from dspa_nn.errors import MapError, ServingError, SteeringError, TripleError
from dspa_nn.graph.record import Steerer
from dspa_nn.graph.settings import PLAN_SETTINGS, SETTINGS
from dspa_nn.maps import ConditionalDifferenceMap
from dspa_nn.models import as_local, context_length
from dspa_nn.serving.answer import Answer, Event
from dspa_nn.serving.request import ChatRequest
from dspa_nn.serving.sampling import Sampling
from dspa_nn.serving.text import TextStream
from dspa_nn.steering import DSPA, SteeringOptions, row_steerer

UNSTEERED = "unsteered"
# Steerers that are kept: of each map with each choice of settings that requests come with.
_KEPT = 64


def check_name(name: str) -> None:
    """Refuse a name by which requests could not ask for a map.

    Example:
        >>> check_name("unsteered")
        Traceback (most recent call last):
        dspa_nn.errors.ServingError: a map is named 'unsteered'; give it another name, since ...

    Raises:
        ServingError: the name of answers without a map, or one that is empty or has blanks around
            it.
    """
    if name == UNSTEERED:
        raise ServingError(
            f"a map is named {name!r}; give it another name, since {UNSTEERED!r} asks for answers "
            "without a map"
        )
    if not name or name != name.strip():
        raise ServingError(
            f"a map is named {name!r}; expected a name without blanks around it, such as warm"
        )


class Preparation:
    """What is needed to answer requests with one model and its maps, made ready as they come.

    Example:
        >>> ready = Preparation(dspa, {"warm": map}, max_tokens=4)
        >>> request = ChatRequest(model="warm", messages=[{"role": "user", "content": "hail"}])
        >>> ready.answer(request, print).max_tokens
        4

    Threads may share it.

    Args:
        dspa: the model and its two SAEs.
        maps: maps, sums of maps among them, by the name that requests give.
        max_tokens: length of answers whose request names none.

    Raises:
        ServingError: no usable name, or a tokenizer without a chat template.
        MapError: a map of another model or SAE.
    """

    def __init__(
        self, dspa: DSPA, maps: Mapping[str, ConditionalDifferenceMap], max_tokens: int
    ) -> None:
        self.dspa, self.maps, self.max_tokens = dspa, dict(maps), max_tokens
        for name in self.maps:
            check_name(name)
        if getattr(dspa.facts.tokenizer, "chat_template", None) is None:
            raise ServingError(
                f"the tokenizer of {dspa.facts.model_id} has no chat template, which says how "
                "messages become a prompt; serve a model that was tuned to chat, or set "
                "tokenizer.chat_template"
            )
        self.context = context_length(as_local(dspa.model))
        self._steerers: dict[tuple[object, ...], Steerer] = {}
        self._lock = threading.Lock()
        for name in self.maps:
            self.steerer(name, {})

    @property
    def names(self) -> list[str]:
        """What a request may name as its model."""
        return [*self.maps, UNSTEERED]

    def answer(self, request: ChatRequest, deliver: Callable[[Event], None]) -> Answer:
        """The answer to a request, with its prompt, what steers it and its length.

        Raises:
            ServingError: what cannot be answered, with the field at fault.
        """
        name = None if request.unsteered else request.map or request.model
        for param, given in (("model", request.model), ("map", request.map)):
            if given is not None and given not in self.names:
                raise ServingError(
                    f"{param} is {given!r}, and this server has {', '.join(self.names)}; name one "
                    "of them",
                    status=404,
                    param=param,
                    code="model_not_found",
                )
        name = None if name == UNSTEERED else name
        useless = [field for field in request.of_steering if field != "map"]
        if name is None and useless:
            by = "model" if request.map is None else "map"
            raise ServingError(
                f"{useless[0]} came with the {by} {UNSTEERED!r}, which has no use for it; name a "
                "map, or leave it out",
                param=useless[0],
            )
        chosen = {key: getattr(request, key) for key in PLAN_SETTINGS}
        chosen = {key: value for key, value in chosen.items() if value is not None}
        with self._lock:
            steerer = None if name is None else self.steerer(name, chosen, request.percentile)
            try:
                prompt = self.dspa.render(
                    [{"role": _role(one.role), "content": one.text} for one in request.messages]
                )
            except TripleError as error:
                raise ServingError(str(error), param="messages") from None
        return Answer(
            prompt,
            steerer,
            name,
            Sampling(
                1.0 if request.temperature is None else request.temperature,
                1.0 if request.top_p is None else request.top_p,
                request.seed,
            ),
            TextStream(self.dspa.facts.tokenizer, request.stops),
            self._length(request, len(prompt.prompt_ids)),
            bool(request.plan),
            bool(request.edits),
            deliver,
        )

    def _length(self, request: ChatRequest, prompt_tokens: int) -> int:
        """The tokens that an answer may have."""
        room = self.context - prompt_tokens
        asked = request.max_completion_tokens or request.max_tokens
        if room < 1 or (asked is not None and asked > room):
            wanted = "" if asked is None else f" and an answer of up to {asked}"
            raise ServingError(
                f"the prompt of {prompt_tokens} tokens{wanted} does not fit the model's context of "
                f"{self.context}; send fewer or shorter messages, or ask for a shorter answer",
                param="messages",
                code="context_length_exceeded",
            )
        return min(room, self.max_tokens) if asked is None else asked

    def steerer(
        self, name: str, chosen: Mapping[str, Any], percentile: float | None = None
    ) -> Steerer:
        """What steers by a map with the settings that a request names, kept for the next one."""
        map = self.maps[name]
        settings: Any = SETTINGS
        for setting in settings:
            if setting.name in chosen:
                try:
                    setting.check(chosen[setting.name])
                except SteeringError as error:
                    raise ServingError(str(error), param=setting.name) from None
        fitted = getattr(map, "percentile", None)
        if percentile is not None and percentile != fitted:
            raise ServingError(
                f"percentile is {percentile:g}, and the map {name} "
                + ("is a sum" if fitted is None else f"was fitted with {fitted:g}")
                + "; it is chosen when a map is fitted, so load a map of that percentile",
                param="percentile",
            )
        key = (name, *sorted(chosen.items()))
        if key not in self._steerers:
            options: Any = dict(chosen)
            try:
                steerer = row_steerer(self.dspa, map, SteeringOptions(**options))
            except SteeringError as error:
                raise ServingError(str(error)) from None
            except MapError as error:
                raise MapError(f"map {name}: {error}") from None
            while len(self._steerers) >= _KEPT:
                del self._steerers[next(iter(self._steerers))]
            self._steerers[key] = steerer
        return self._steerers[key]


def _role(role: str) -> str:
    """`developer` is the newer name of a system message."""
    return "system" if role == "developer" else role
