"""The model and SAEs that a command's options name: a preset's, or any others."""

from typing import Any

from dspa_nn.errors import SteeringError
from dspa_nn.files import as_path
from dspa_nn.models import Weights, get_preset, load_model, load_named
from dspa_nn.progress import quiet_loaders
from dspa_nn.steering import DSPA


def build(
    preset: str,
    model: str | None,
    input_sae: str | None,
    output_sae: str | None,
    layers: str | None,
    weights: Weights | None = None,
) -> DSPA:
    """Build from a preset, or from --model, --input-sae, --output-sae and --layers.

    Example:
        >>> build("smollm2-135m-instruct", None, None, None, None)  # doctest: +SKIP

    Raises:
        DSPAError: one of the options without those that it needs, or what `DSPA` refuses.
    """
    pair = read_layers(layers)
    given = {"--model": model, "--input-sae": input_sae, "--output-sae": output_sae}
    if not any(given.values()) and layers is None:
        with quiet_loaders():
            return DSPA.from_preset(preset, weights=weights)
    if weights is not None and model is not None:
        raise SteeringError(
            f"--weights {weights} came with --model, which has its own; leave one of them out"
        )
    missing = [name for name in ("--input-sae", "--output-sae") if given[name] is None]
    if missing:
        raise SteeringError(
            f"{' and '.join(missing)} must be given with --model, --layers or another SAE, since "
            "SAEs and layers of a preset go with its model; name a folder or release/sae_id"
        )
    settings: dict[str, Any] = {"input_sae": input_sae, "output_sae": output_sae}
    with quiet_loaders():
        if model is None:
            loaded = load_model(get_preset(preset), weights=weights)
        else:
            loaded = load_named(str(as_path(model)) if model.startswith("~") else model)
        return DSPA(loaded, input_layer=pair[0], output_layer=pair[1], **settings)


def read_layers(layers: str | None) -> tuple[int | None, int | None]:
    """What --layers names: "9,24", or None, which leaves both to the SAEs' metadata.

    Example:
        >>> read_layers("9,24"), read_layers(None)
        ((9, 24), (None, None))

    Raises:
        SteeringError: anything but two whole numbers.
    """
    if layers is None:
        return None, None
    parts = [part.strip() for part in layers.split(",")]
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise SteeringError(
            f"--layers is {layers!r}; expected the input and the output layer, such as 9,24"
        )
    return int(parts[0]), int(parts[1])
