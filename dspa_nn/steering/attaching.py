"""`DSPA.attach`: the hooks that steer a Hugging Face model with a map or with plans."""

from collections.abc import Sequence
from typing import Any

from nnsight.modeling.transformers import TransformersModel
from torch import nn

from dspa_nn.errors import SteeringError
from dspa_nn.graph.calls import check_compiled, check_outside_blocks
from dspa_nn.graph.record import Earlier, Record
from dspa_nn.maps import ConditionalDifferenceMap
from dspa_nn.models import (
    ModelFacts,
    as_local,
    check_virtual_tokens,
    read_facts,
    torch_module,
)
from dspa_nn.shipping import Reduced
from dspa_nn.steering.hooks import Hooks
from dspa_nn.steering.log import EditLog
from dspa_nn.steering.options import RunOptions, run_settings
from dspa_nn.steering.pair import ModelAndSAEs
from dspa_nn.steering.plan import Plan
from dspa_nn.steering.warnings import warn_if_unsteered
from dspa_nn.steering.weights import check_weights

_NO_MODEL = (
    "attach was given a {}, and steers models of transformers that generate; give what "
    "AutoModelForCausalLM.from_pretrained returned, or dspa.model"
)


class Attachment(Hooks, EditLog):
    """Hooks on one model. It is the edit log of the last run under them, and holds those before.

    Several threads may run the model under it: each call has a state, a prompt and a log.

    Attributes:
        logs: an `EditLog` of each of the last 64 runs (a `generate` or a single forward), oldest
            first, in the order in which they began.
        runs: how many runs there were.
        steers: True: by it graph code knows the hooks of an attachment.
    """

    def __init__(
        self,
        dspa: ModelAndSAEs,
        model: Any,
        facts: ModelFacts,
        map: ConditionalDifferenceMap | Plan | Sequence[Plan],
        options: RunOptions,
        earlier: Earlier | None = None,
    ) -> None:
        self._dspa, self._fitted = dspa, map
        given, chosen = run_settings("attach", options)
        paths = [facts.block(layer) for layer in (dspa.input_layer, dspa.output_layer)]
        dspa.place_saes(model, paths)
        steerer = dspa.steerer(map, given, **chosen)
        steerer.earlier = earlier
        EditLog.__init__(self, Record(steerer.options), dspa.facts.tokenizer)
        Hooks.__init__(self, model, paths, steerer, dspa.prompt_batch, options)

    def __enter__(self) -> "Attachment":
        self._hook()
        return self

    def _log_of(self, record: Record) -> EditLog:
        return EditLog(record, self._tokenizer)

    def _ended(self, record: Record) -> None:
        warn_if_unsteered(record)

    def _check_weights(self) -> None:
        check_weights(self._dspa, self._fitted, self._model)

    def as_shipped(self) -> Reduced:
        """Return what is pickled in its place for NDIF: the last run's log."""
        return EditLog(self._record).as_shipped()

    def __reduce__(self) -> tuple[Any, ...]:
        return EditLog, (self._record,)  # hooks stay on their model


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
    check_outside_blocks("attach")
    module = hooked_module(model)
    given, known = read_facts(module, dspa.facts.tokenizer), dspa.facts
    if (given.n_layers, given.d_model) != (known.n_layers, known.d_model):
        raise SteeringError(
            f"attach was given a model of {given.n_layers} layers of width {given.d_model}, and "
            f"the DSPA is of {known.model_id} with {known.n_layers} of {known.d_model}; give a "
            "model of the same kind"
        )
    attachment = Attachment(dspa, module, given, map, options)
    check_weights(dspa, map, module)  # which need not be those of `dspa.model`
    return attachment


def hooked_module(model: Any) -> Any:
    """The Hugging Face model that hooks go on: loaded, not compiled, and under any adapter.

    >>> hooked_module(model) is hf_model
    True

    Raises:
        SteeringError: what is no model of transformers that generates, or has no weights here.
    """
    if not isinstance(torch_module(model), nn.Module):
        raise SteeringError(_NO_MODEL.format(type(model).__name__))
    module = as_local(model)
    check_virtual_tokens(module)
    # An adapter of PEFT wraps the model; its layers are changed in place, and so are the hooks'.
    module = getattr(module, "get_base_model", lambda: module)()
    if not hasattr(module, "config") or not hasattr(module, "generate"):
        raise SteeringError(_NO_MODEL.format(type(module).__name__))
    check_compiled(module, [])
    return module
