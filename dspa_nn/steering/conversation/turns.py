"""One turn of a conversation: what of it is run, and from which cache."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jaxtyping import Int64
from torch import Tensor

from dspa_nn.errors import SteeringError, TripleError
from dspa_nn.graph.calls import attached, check_compiled, check_outside_blocks, setting_of
from dspa_nn.graph.portable import as_portable
from dspa_nn.graph.record import Earlier
from dspa_nn.imports import late
from dspa_nn.models import as_local, context_length, evaluating, for_ndif, read_facts
from dspa_nn.progress import warn
from dspa_nn.prompts import TRUNCATED, Fitted, Rendered, as_written, render_to_fit
from dspa_nn.steering.conversation.answering import Task, Way, answered, stopped_by
from dspa_nn.steering.conversation.kept import KeptPrompt, why_not_kept
from dspa_nn.steering.conversation.keywords import Asked, seeded
from dspa_nn.steering.log import EditLog
from dspa_nn.steering.pair import ModelAndSAEs
from dspa_nn.triples import Message

# Tokens of an answer where neither the call nor the model's configuration says how many.
MAX_NEW_TOKENS = 256


class Answer(NamedTuple):
    """An answer as text, its ids, and the edits of its run."""

    text: str
    ids: Int64[Tensor, " new"]
    edits: EditLog


class Stopped(Exception):
    """A turn was stopped before its end, by whoever read its stream."""


class Turns:
    """Answers the turns of one conversation, and keeps the model's plain cache between them.

    >>> turns = Turns(dspa, "attach")
    >>> asked = Asked.of("say", map, {"max_new_tokens": 3}, seed=None)
    >>> turns.answer([Message("user", "Hello")], asked).edits.steps
    3

    Attributes:
        way: by plain hooks ("attach") or in nnsight ("apply").
        kept: what is kept of the last turn's prompt, or None.
    """

    def __init__(self, dspa: ModelAndSAEs, way: Way) -> None:
        self._dspa = dspa
        self.way: Way = way
        self.kept: KeptPrompt | None = None
        self._stamp: object = None
        self._told: set[str] = set()

    def answer(
        self,
        messages: Sequence[Message],
        asked: Asked,
        streamer: object = None,
        stop: Callable[[], bool] | None = None,
    ) -> Answer:
        """Answer a conversation that ends in a message of the user's.

        streamer: of transformers' kind, or None. stop: asked after every token; where it says True
        the turn ends without an answer.

        Raises:
            SteeringError: what cannot be run here, or does not fit the context.
            Stopped: `stop` said so.
        """
        check_outside_blocks("say")
        dspa = self._dspa
        if for_ndif(dspa.model):
            raise SteeringError(
                f"{dspa.facts.model_id} is not loaded on this machine, and a conversation keeps "
                "its cache here; build the model with dispatch=True, or run each turn with "
                "model.generate(..., remote=True) and dspa.apply"
            )
        model = as_local(dspa.model)
        model = getattr(model, "get_base_model", lambda: model)()
        facts = read_facts(model, dspa.facts.tokenizer)
        if attached(model):
            raise SteeringError(
                "the model is steered by attach already, and a conversation reads plain text with "
                "it; leave the context of attach before say"
            )
        check_compiled(model, [facts.block(dspa.input_layer), facts.block(dspa.output_layer)])
        generation = dict(asked.generation)
        if streamer is not None:
            generation["streamer"] = streamer
        if stop is not None:
            given: list[Any] = list(generation.get("stopping_criteria") or [])
            criteria = late("transformers").StoppingCriteriaList([*given, stopped_by(stop)])
            generation["stopping_criteria"] = criteria
        prompt = self._fitted(model, messages, generation)
        if generation.get("stop_strings") is not None:
            generation["tokenizer"] = facts.tokenizer
        if setting_of("pad_token_id", generation, model.generation_config) is None:
            generation["pad_token_id"] = next(iter(facts.eos_ids), 0)
        task = Task(prompt, asked.map, asked.steering, generation)
        kept = self._ready(model, asked, prompt, generation)
        with evaluating(model), seeded(asked.seed, model.device):
            if kept is None:
                ids, log = answered(dspa, model, facts, task, self.way)
            else:
                ids, log = self._from_cache(kept, model, facts, task, stop)
        if stop is not None and stop():
            raise Stopped
        return Answer(facts.tokenizer.decode(ids, skip_special_tokens=True), ids, log)

    def _from_cache(
        self, kept: KeptPrompt, model: Any, facts: Any, task: Task, stop: Callable[[], bool] | None
    ) -> tuple[Int64[Tensor, " new"], EditLog]:
        """Read what is new of a prompt but for its last token, and generate from there."""
        dspa, plain, before = self._dspa, task.prompt.prompt_ids[:-1], kept.mark()
        done, self.kept = False, None  # until it is known to be plain again
        try:
            dspa.place_saes()
            kept.read(model, facts.block(dspa.input_layer), dspa.encoders[0], plain)
            counted = task.prompt.counted(as_portable(task.map).prompt_tokens)[:-1]
            earlier = Earlier(len(plain), kept.counts(counted, dspa.encoders[0].width))
            task = task._replace(cache=kept.cache, earlier=earlier)
            made = answered(dspa, model, facts, task, self.way)
            done = stop is None or not stop()
            return made
        finally:
            # Keys and values of the answer are steered ones, and so are the last prompt token's.
            kept.back_to(kept.mark() if done else before)
            self.kept = kept

    def _ready(
        self, model: Any, asked: Asked, prompt: Rendered, generation: dict[str, Any]
    ) -> KeptPrompt | None:
        """What is kept of this prompt, or None where the whole is to be run: said once each."""
        cache = setting_of("cache_implementation", generation, model.generation_config)
        reason = why_not_kept(model)
        if asked.steering.get("positions") == "all":
            reason = "positions='all' steers earlier messages too, by the plan of each turn"
        elif cache not in (None, "hybrid"):  # transformers takes "hybrid" for none
            reason = f"cache_implementation={cache!r} makes a new cache in every run"
        if reason is not None:
            self._tell(f"{reason}, so that every turn encodes the whole conversation again")
        if reason is not None or generation.get("use_cache") is False:
            return None
        stamp = self._state_of(model)
        kept = self.kept if stamp == self._stamp else None
        self._stamp = stamp
        if kept is not None:
            shared = min(kept.shared(prompt.prompt_ids), len(prompt.prompt_ids) - 1)
            if kept.rewind(shared):
                return kept
            self._tell(
                "sliding windows have let go of what earlier tokens left in the cache, so that a "
                "turn which changes what was said before encodes the whole conversation again"
            )
        return KeptPrompt(model)

    def _state_of(self, model: Any) -> object:
        """What a cache depends on beside the tokens: weights, hooks, adapters, the input SAE."""
        tensors = [*model.parameters(), *model.buffers()]
        weights = [(tensor.data_ptr(), tensor._version) for tensor in tensors]
        hooks: list[Any] = []
        for module in model.modules():
            hooks += [*module._forward_pre_hooks.items(), *module._forward_hooks.items()]
        return self._dspa.identity(), weights, hooks, self._dspa.input_sae.sha256

    def _fitted(
        self, model: Any, messages: Sequence[Message], generation: dict[str, Any]
    ) -> Rendered:
        """The conversation as the model sees it, its oldest messages left out where it is long.

        Sets `max_new_tokens` where nobody has.
        """
        context = context_length(model)
        asked = setting_of("max_new_tokens", generation, model.generation_config)
        room = context - int(min(MAX_NEW_TOKENS, context // 4) if asked is None else asked)
        fitted = self._render(messages, max(room, 1))
        if fitted.prompt is None:
            raise SteeringError(
                f"the last message and an answer of {context - room} tokens do not fit the context "
                f"of {context}; say less, or give a smaller max_new_tokens"
            )
        if fitted.reason == TRUNCATED:
            gone = len(messages) - len(fitted.item or ())  # pyright: ignore[reportArgumentType]
            warn(
                f"the conversation is longer than the context of {context} tokens, so that this "
                f"turn was answered without its {gone} oldest messages"
            )
        if asked is None and generation.get("max_length") is None:
            generation["max_new_tokens"] = min(MAX_NEW_TOKENS, context - len(fitted.prompt.ids))
        return fitted.prompt

    def _render(self, messages: Sequence[Message], room: int) -> Fitted:
        tokenizer, given = self._dspa.facts.tokenizer, tuple(messages)
        try:
            return render_to_fit(tokenizer, given, room, "truncate")
        except TripleError:
            # Templates rewrite earlier answers: what they leave out of them is no content.
            written = as_written(tokenizer, given)
            if written == given:
                raise
            return render_to_fit(tokenizer, written, room, "truncate")

    def _tell(self, text: str) -> None:
        """Warn of something once in a conversation."""
        if text not in self._told:
            self._told.add(text)
            warn(text)
