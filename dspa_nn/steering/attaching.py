"""`DSPA.attach`: whether a model can be steered with plain hooks, and its hooks."""

from collections.abc import Sequence

from nnsight.modeling.transformers import TransformersModel
from torch import nn

from dspa_nn.errors import SteeringError
from dspa_nn.graph.calls import check_compiled, check_outside_blocks
from dspa_nn.maps import ConditionalDifferenceMap
from dspa_nn.models import as_local, read_facts, torch_module
from dspa_nn.steering.hooks import Attachment
from dspa_nn.steering.options import RunOptions
from dspa_nn.steering.pair import ModelAndSAEs
from dspa_nn.steering.plan import Plan
from dspa_nn.steering.weights import check_weights

_NO_MODEL = (
    "attach was given a {}, and steers models of transformers that generate; give what "
    "AutoModelForCausalLM.from_pretrained returned, or dspa.model"
)


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
    if not isinstance(torch_module(model), nn.Module):
        raise SteeringError(_NO_MODEL.format(type(model).__name__))
    module = as_local(model)
    # An adapter of PEFT wraps the model; its layers are changed in place, and so are the hooks'.
    module = getattr(module, "get_base_model", lambda: module)()
    if not hasattr(module, "config") or not hasattr(module, "generate"):
        raise SteeringError(_NO_MODEL.format(type(module).__name__))
    check_compiled(module, [])
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
