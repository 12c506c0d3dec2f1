"""Whether a map belongs to the weights of a model that is steered in place of `dspa.model`."""

from dspa_nn.graph.origin import check_origin
from dspa_nn.graph.portable import as_portable, origins_of
from dspa_nn.steering.pair import ModelAndSAEs


def check_weights(dspa: ModelAndSAEs, map: object, model: object) -> None:
    """Refuse a map, or plans, of other weights than those of a model of the same kind.

    Example:
        >>> check_weights(dspa, map, hf_model)

    Raises:
        MapError: naming both.
    """
    here = dspa.identity(model)
    for origin in origins_of(as_portable(map)):
        check_origin(origin, here, "it is used with")
