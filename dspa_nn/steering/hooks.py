"""The same edit with plain PyTorch hooks, for `pipeline`, serving and evaluation harnesses.

What is planned and edited is decided by the same `Steering` that nnsight's workers feed; only the
way in which hidden states reach it is another.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import nn

from dspa_nn.errors import SteeringError
from dspa_nn.graph.apply import begin
from dspa_nn.graph.blocks import hidden_states, with_hidden_states
from dspa_nn.graph.calls import (
    check_compiled,
    check_outside_blocks,
    check_padding,
    check_settings,
    compiled_parts,
    note_settings,
    says_compile,
    setting_of,
    would_compile,
)
from dspa_nn.graph.record import Record
from dspa_nn.graph.steer import Steering
from dspa_nn.progress import warn
from dspa_nn.steering.calling import (
    Adapters,
    CallState,
    by_name,
    ways_of_calling,
)
from dspa_nn.steering.log import EditLog
from dspa_nn.steering.options import PromptLength, PromptOrPrompts
from dspa_nn.steering.rows import check_ids, prompts_of_rows
from dspa_nn.steering.warnings import warn_beforehand

# A log holds tensors as wide as the SAEs: a process that serves keeps the last ones alone.
KEPT_LOGS = 64


class Hooks:
    """Hooks on one model that hand its runs to a `Steering`; a subclass is an edit log as well.

    Args:
        model: what is hooked. paths: its input and its output block, which may be one.
        steerer: what every run needs; prompt_batch: renders what `prompt` is set to.
        given: `prompt` and `prompt_length` for all threads, where they were given.

    Attributes:
        logs: a log of each of the last 64 runs (a `generate` or a single forward), oldest first, in
            the order in which they began.
        runs: how many runs there were.
        steers: True: by it graph code knows the hooks of an attachment.
    """

    steers = True
    _record: Record

    def __init__(
        self,
        model: Any,
        paths: Sequence[str],
        steerer: Any,
        prompt_batch: Callable[[PromptOrPrompts], list[tuple[torch.Tensor, torch.Tensor]]],
        given: Mapping[str, Any],
    ) -> None:
        self._thread = threading.get_ident()
        self._shared: dict[str, Any] = {
            name: given.get(name) for name in ("prompt", "prompt_length")
        }
        self.logs: deque[EditLog] = deque(maxlen=KEPT_LOGS)
        self.runs = 0
        self._model, self._paths, self._steerer = model, list(paths), steerer
        self._prompt_batch = prompt_batch
        self._blocks = [model.get_submodule(path) for path in self._paths]
        self._handles: list[Any] = []
        self._before_us: Any = None
        self._ways: list[Any] = []
        self._adapters = Adapters(model)
        self._adapted = self._adapters.state()
        self._state = CallState()

    def _log_of(self, record: Record) -> EditLog:
        """The log of a run that begins."""
        raise NotImplementedError

    def _began(self, record: Record) -> None:
        """Warn of what is known of a run before the model is run."""
        warn_beforehand(record)

    def _ended(self, record: Record) -> None:
        """Warn of what went wrong in a run that is over."""
        raise NotImplementedError

    def _check_weights(self) -> None:
        """Refuse to go on where adapters were switched and the weights are not those of before."""

    @property
    def prompt(self) -> PromptOrPrompts | None:
        """What `render` returned for the next run (a list for a batch), or None.

        It holds for the thread that sets it; set where `attach` was called, for all that set none.
        """
        return self._choice("prompt")

    @prompt.setter
    def prompt(self, value: PromptOrPrompts | None) -> None:
        self._choose("prompt", value)

    @property
    def prompt_length(self) -> PromptLength | None:
        """For single forwards: tokens of the prompt, one number or one per row; as `prompt`."""
        return self._choice("prompt_length")

    @prompt_length.setter
    def prompt_length(self, value: PromptLength | None) -> None:
        self._choose("prompt_length", value)

    def _choice(self, name: str) -> Any:
        return self._state.chosen.get(name, self._shared[name])

    def _choose(self, name: str, value: object) -> None:
        shared = threading.get_ident() == self._thread
        (self._shared if shared else self._state.chosen)[name] = value

    def _hook(self) -> None:
        """Put the hooks on, as the context begins."""
        check_outside_blocks("attach")
        check_compiled(self._model, self._paths)
        self._ways = ways_of_calling(self._model, self._paths)
        read, write = self._blocks
        if any(other._blocks[1] is write for other in attachments_on(write)):
            raise SteeringError(
                "this model is steered by another attach already; leave that context first, or "
                "add the maps and attach once: two may steer one model where their output layers "
                "differ"
            )
        self._handles = [
            self._model.register_forward_pre_hook(self._before, with_kwargs=True),
            # Whatever else hooks the layers sees what the block itself put out.
            read.register_forward_hook(self._read),
            write.register_forward_hook(self._edit),
            self._model.register_forward_hook(self._after),
        ]
        # Another attachment, at another layer, or the user may have put one there.
        self._before_us = self._generate_of_model()
        self._model.generate = self._generate

    def __exit__(self, kind: object, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        if self._generate_of_model() == self._generate:
            del self._model.generate
            before = self._before_us
            while isinstance(owner := getattr(before, "__self__", None), Hooks):
                if owner._handles:
                    break
                before = owner._before_us  # it was left already
            if before is not None:
                self._model.generate = before
        if kind is None and compiled_parts(self._model, self._paths):
            warn(
                "the model was compiled while attach steered it, so that some runs may have gone "
                "unsteered; compile it after the context, or not at all"
            )

    @contextmanager
    def _beginning(self, ids: Any, mask: Any, generating: bool) -> Generator[Steering]:
        """A run that begins, and is the thread's current one if nothing is refused inside."""
        if ways_of_calling(self._model, self._paths) != self._ways:
            check_compiled(self._model, self._paths)
        if self._adapters.state() != self._adapted:
            self._check_weights()
        mask = torch.ones_like(ids) if mask is None else mask
        length = None if generating else self._choice("prompt_length")
        prompts = None if self.prompt is None else self._prompt_batch(self.prompt)
        if prompts is not None and len(prompts) > len(ids):
            prompts = prompts_of_rows(prompts, ids, mask.bool(), generating)
        run = begin(self._steerer, ids, mask.bool(), prompts, length, generating, self._ended)
        yield run
        self._began(run.record)
        self._state.run, self._record = run, run.record
        self.runs += 1
        self.logs.append(self._log_of(run.record))

    def _generate_of_model(self) -> Any:
        """The `generate` that was put on the model in place of its class's, or None."""
        return cast(dict[str, Any], vars(self._model)).get("generate")

    def _go_on(self, *args: Any, **kwargs: Any) -> Any:
        """`generate` as it was before this attachment."""
        if self._before_us is not None:
            return self._before_us(*args, **kwargs)
        kind: Any = self._model.__class__
        return kind.generate(self._model, *args, **kwargs)

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        if not self._handles:  # left before an attachment that was begun later
            return self._go_on(*args, **kwargs)
        kind: Any = self._model.__class__
        named = by_name(kind.generate, args, kwargs)
        ids = named.get("input_ids", named.get("inputs"))
        if ids is None:
            raise SteeringError(
                "generate was called without token ids; pass input_ids, so that the prompt's "
                "tokens can be told apart"
            )
        mask = named.get("attention_mask")
        check_ids(ids, mask)

        def setting(key: str) -> Any:
            return setting_of(key, named, self._model.generation_config)

        check_settings(setting, named.get("past_key_values"), True, self._steerer.earlier)
        if mask is None and len(ids) > 1:
            raise SteeringError(
                "a batch was generated from without attention_mask=, which alone says what is "
                "padding; pass the tokenizer's"
            )
        if mask is not None:
            check_padding(mask)
        state = self._state
        before = state.run, state.generating
        with self._beginning(ids, mask, True) as run:
            note_settings(run.record, setting)
            run.record.training = self._model.training
            if would_compile(setting, named.get("past_key_values")):
                run.record.uncompiled = says_compile(setting, ids.device)
                kwargs = {**kwargs, "disable_compile": True}
        state.generating = True
        try:
            result = self._go_on(*args, **kwargs)
        finally:
            state.run, state.generating = before if before[1] else (None, False)
        run.finish(getattr(result, "sequences", result))
        return result

    def _before(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._state.generating:
            return
        named = kwargs
        if len(args) > 1:  # a mask, perhaps, or a cache
            named = by_name(cast(Any, type(self._model)).forward, args, kwargs)
        ids = args[0] if args else named.get("input_ids")
        if ids is None:
            raise SteeringError("the model was called without token ids; pass input_ids")
        check_settings(dict[str, Any]().get, named.get("past_key_values"), False)
        mask = named.get("attention_mask")
        check_ids(ids, mask)
        with self._beginning(ids, mask, False):
            pass

    def _read(self, _: Any, __: Any, output: Any) -> None:
        run = self._state.run
        if run is not None and run.reads_prompt and not run.step:
            run.read_prompt(hidden_states(output))

    def _edit(self, _: Any, __: Any, output: Any) -> Any:
        run = self._state.run
        if run is None:
            raise SteeringError(
                "a steered layer was run by something other than the model's generate or forward, "
                "such as model.model(...) or DataParallel, where no prompt is known; call the "
                "model itself"
            )
        hidden = hidden_states(output)
        edited = run.edit(hidden)
        return None if edited is hidden else with_hidden_states(output, edited)

    def _after(self, *_: Any) -> None:
        state = self._state
        if not state.generating and state.run is not None:
            run, state.run = state.run, None
            run.record.made = 1
            run.finish()


def attachments_on(block: nn.Module) -> list[Hooks]:
    """The attachments that have a hook on a decoder block.

    Example:
        >>> with dspa.attach(hf_model, map) as edits:
        ...     attachments_on(hf_model.get_submodule(dspa.paths[1])) == [edits]
        True
    """
    hooks: Any = vars(block)["_forward_hooks"].values()
    owners = [getattr(hook, "__self__", None) for hook in hooks]
    return [owner for owner in owners if isinstance(owner, Hooks)]
