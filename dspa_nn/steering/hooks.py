"""The same edit with plain PyTorch hooks, for `pipeline`, serving and evaluation harnesses.

What is planned and edited is decided by the same `Steering` that nnsight's workers feed; only the
way in which hidden states reach it is another.
"""

from collections.abc import Sequence
from typing import Any

import torch
from nnsight.modeling.transformers import TransformersModel
from torch import nn

from dspa_nn.errors import SteeringError
from dspa_nn.graph.apply import begin
from dspa_nn.graph.blocks import hidden_states, with_hidden_states
from dspa_nn.graph.calls import (
    check_padding,
    check_settings,
    note_settings,
    setting_of,
)
from dspa_nn.graph.record import Record
from dspa_nn.graph.steer import Steering
from dspa_nn.maps import ConditionalDifferenceMap
from dspa_nn.models import as_local, read_facts
from dspa_nn.shipping import Reduced
from dspa_nn.steering.log import EditLog, warn_if_unsteered
from dspa_nn.steering.options import PromptOrPrompts, RunOptions, run_settings
from dspa_nn.steering.pair import ModelAndSAEs
from dspa_nn.steering.plan import Plan


class Attachment(EditLog):
    """Hooks on one model. It is the edit log of the last run under them, and holds those before.

    Attributes:
        logs: one `EditLog` per run (a `generate` or a single forward), oldest first. All are
            kept; a process that steers many runs empties it with `edits.logs.clear()`.
        prompt: what `render` returned for the next run (a list for a batch), or None.
        prompt_length: for single forwards: tokens of the prompt, an int or one a row, or None.
    """

    def __init__(
        self,
        dspa: ModelAndSAEs,
        model: Any,
        map: ConditionalDifferenceMap | Plan | Sequence[Plan],
        options: RunOptions,
    ) -> None:
        given, chosen = run_settings("attach", options)
        self.prompt: PromptOrPrompts | None = options.get("prompt")
        self.prompt_length: int | Sequence[int] | torch.Tensor | None = options.get("prompt_length")
        self.logs: list[EditLog] = []
        self._dspa, self._model = dspa, as_local(model)
        dspa.place_saes(self._model)
        self._steerer = dspa.steerer(map, given, **chosen)
        super().__init__(Record(self._steerer.options))
        self._blocks = [self._model.get_submodule(path) for path in dspa.paths]
        self._handles: list[Any] = []
        self._run: Steering | None = None
        self._generating = False

    def __enter__(self) -> "Attachment":
        if "generate" in vars(self._model):
            raise SteeringError(
                "this model is steered by another attach already; leave that context first"
            )
        read, write = self._blocks
        self._handles = [
            self._model.register_forward_pre_hook(self._before, with_kwargs=True),
            # Whatever else hooks the layers sees what the block itself put out.
            read.register_forward_hook(self._read),
            write.register_forward_hook(self._edit),
            self._model.register_forward_hook(self._after),
        ]
        self._model.generate = self._generate
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        del self._model.generate

    def as_shipped(self) -> Reduced:
        """Return what is pickled in its place for NDIF: the last run's log."""
        return EditLog(self._record).as_shipped()

    def __reduce__(self) -> tuple[Any, ...]:
        return EditLog, (self._record,)  # hooks stay on their model

    def _begin(self, ids: Any, mask: Any, generating: bool) -> None:
        mask = torch.ones_like(ids) if mask is None else mask
        length = None if generating else self.prompt_length
        prompts = None if self.prompt is None else self._dspa.prompt_batch(self.prompt)
        self._run = begin(
            self._steerer, ids, mask.bool(), prompts, length, generating, warn_if_unsteered
        )
        self._record = self._run.record
        self.logs.append(EditLog(self._record))

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        ids = args[0] if args else kwargs.get("input_ids", kwargs.get("inputs"))
        if ids is None:
            raise SteeringError(
                "generate was called without token ids; pass input_ids, so that the prompt's "
                "tokens can be told apart"
            )

        def setting(key: str) -> Any:
            return setting_of(key, kwargs, self._model.generation_config)

        mask = kwargs.get("attention_mask")
        check_settings(setting, kwargs.get("past_key_values"), True)
        if mask is None and len(ids) > 1:
            raise SteeringError(
                "a batch was generated from without attention_mask=, which alone says what is "
                "padding; pass the tokenizer's"
            )
        if mask is not None:
            check_padding(mask)
        self._begin(ids, mask, True)
        assert self._run is not None
        note_settings(self._run.record, setting)
        self._generating = True
        try:
            kind: Any = self._model.__class__
            result = kind.generate(self._model, *args, **kwargs)
        finally:
            self._generating = False
            run, self._run = self._run, None
        assert run is not None
        run.finish(getattr(result, "sequences", result))
        return result

    def _before(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._generating:
            return
        ids = args[0] if args else kwargs.get("input_ids")
        if ids is None:
            raise SteeringError("the model was called without token ids; pass input_ids")
        check_settings(_unset, kwargs.get("past_key_values"), False)
        self._begin(ids, kwargs.get("attention_mask"), False)

    def _read(self, _: Any, __: Any, output: Any) -> None:
        run = self._run
        if run is not None and run.record.counts is None and run.steerer.plans is None:
            run.read_prompt(hidden_states(output))

    def _edit(self, _: Any, __: Any, output: Any) -> Any:
        if self._run is None:
            return None
        hidden = hidden_states(output)
        edited = self._run.edit(hidden)
        return None if edited is hidden else with_hidden_states(output, edited)

    def _after(self, *_: Any) -> None:
        if not self._generating and self._run is not None:
            run, self._run = self._run, None
            run.finish()


def _unset(_: str) -> None:
    """Stand for the settings of a single forward, which has none."""


def attach(
    dspa: ModelAndSAEs,
    model: nn.Module | TransformersModel,
    map: ConditionalDifferenceMap | Plan | Sequence[Plan],
    options: RunOptions,
) -> Attachment:
    """Steer a Hugging Face model with plain hooks for as long as the context lasts: `DSPA.attach`.

    Raises:
        SteeringError: another model than the DSPA's, or what `apply` refuses.
        MapError: a map of another model or SAE.
    """
    given, known = read_facts(model, dspa.facts.tokenizer), dspa.facts
    if (given.n_layers, given.d_model) != (known.n_layers, known.d_model):
        raise SteeringError(
            f"attach was given a model of {given.n_layers} layers of width {given.d_model}, and "
            f"the DSPA is of {known.model_id} with {known.n_layers} of {known.d_model}; give a "
            "model of the same kind"
        )
    attachment = Attachment(dspa, model, map, options)
    dspa.check_weights(map, model)  # those of this model, which need not be `dspa.model`
    return attachment
