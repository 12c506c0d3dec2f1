"""The model and SAEs that a command's options name: a preset's, or any others."""

from collections.abc import Sequence
from typing import Any

from dspa_nn.errors import SAEError, SteeringError
from dspa_nn.files import as_path
from dspa_nn.models import Weights, get_preset, load_model, load_named
from dspa_nn.ndif import remote_model
from dspa_nn.progress import quiet_loaders
from dspa_nn.saes import load_sae, repository_of
from dspa_nn.steering import DSPA, LayerSweep


def build(
    preset: str,
    model: str | None,
    input_sae: str | None,
    output_sae: str | None,
    layers: str | None,
    weights: Weights | None = None,
    remote: bool = False,
) -> DSPA:
    """Build from a preset, or from --model, --input-sae, --output-sae and --layers.

    remote: the model runs on NDIF, and none of its weights are loaded here.

    Example:
        >>> build("smollm2-135m-instruct", None, None, None, None)  # doctest: +SKIP

    Raises:
        DSPAError: one of the options without those that it needs, or what `DSPA` refuses.
    """
    pair = read_layers(layers)
    given = {"--model": model, "--input-sae": input_sae, "--output-sae": output_sae}
    chosen: dict[str, Any] = {} if weights is None else {"weights": weights}
    _check_remote(remote, weights)
    if not any(given.values()) and layers is None:
        with quiet_loaders():
            if remote:
                chosen = {"model": remote_model(get_preset(preset).model_id)}
            return DSPA.from_preset(preset, **chosen)
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
    for name in ("--input-sae", "--output-sae"):
        _check_source(name, str(given[name]))
    settings: dict[str, Any] = {"input_sae": input_sae, "output_sae": output_sae}
    with quiet_loaders():
        if model is None:
            own = get_preset(preset)
            loaded = remote_model(own.model_id) if remote else load_model(own, **chosen)
            settings["template"] = own.template
        else:
            loaded = remote_model(model) if remote else load_named(path_or_id(model))
        return DSPA(loaded, input_layer=pair[0], output_layer=pair[1], **settings)


def build_sweep(
    preset: str,
    model: str | None,
    input_saes: Sequence[str],
    output_saes: Sequence[str],
    weights: Weights | None = None,
    remote: bool = False,
) -> LayerSweep:
    """Build a sweep from repeated --input-sae and --output-sae, each "LAYER=SOURCE" or a source.

    Example:
        >>> build_sweep("smollm2-135m-instruct", None, ["9=early", "12=later"], [])
        ... # doctest: +SKIP

    A side that is left out takes the preset's SAE, beside the preset's model alone. remote: as for
    `build`.

    Raises:
        DSPAError: SAEs left out beside --model, two at one layer, or what `LayerSweep` refuses.
    """
    known = get_preset(preset)
    _check_remote(remote, weights)
    sides: list[dict[int, object]] = []
    for role, sources in (("input", input_saes), ("output", output_saes)):
        if not sources and model is not None:
            raise SteeringError(
                f"--{role}-sae must be given with --model, since SAEs and layers of a preset go "
                "with its model; name a folder or release/sae_id, as often as there are layers"
            )
        own: list[tuple[int, object]] = [read_sae(role, source) for source in sources]
        if not sources:
            own = [(getattr(known, f"{role}_layer"), getattr(known, f"{role}_sae"))]
        twice = [layer for layer, _ in own if [at for at, _ in own].count(layer) > 1]
        if twice:
            raise SteeringError(f"--{role}-sae came twice for layer {twice[0]}; give one a layer")
        for _, source in own:
            if isinstance(source, str):
                _check_source(f"--{role}-sae", source)
        sides.append(dict(own))
    preset_alone = not (input_saes or output_saes)
    with quiet_loaders():
        if model is None:
            loaded = remote_model(known.model_id) if remote else load_model(known, weights=weights)
        else:
            loaded = remote_model(model) if remote else load_named(path_or_id(model))
        return LayerSweep(
            loaded,
            input_saes=sides[0],
            output_saes=sides[1],
            defaults=known.settings()["defaults"] if preset_alone else None,
            template=known.template if model is None else None,
        )


def _check_source(name: str, source: str) -> None:
    """Refuse an SAE that is neither here nor of the hub while no model is loaded yet."""
    if source.startswith((".", "/", "~")) and not as_path(source).exists():
        raise SAEError(f"{name} is {source}, and no such folder is here; check the path")
    repository_of(source)


def _check_remote(remote: bool, weights: Weights | None) -> None:
    if remote and weights is not None:
        raise SteeringError(
            f"--weights {weights} came with --remote, where the server has the weights; leave one "
            "of them out"
        )


def read_sae(role: str, source: str) -> tuple[int, object]:
    """The layer and the source that "9=folder" names; without a layer, that of the SAE itself.

    Example:
        >>> read_sae("input", "9=saes/early")
        (9, 'saes/early')

    Raises:
        SAEError: an SAE that cannot be read, or that does not name its layer.
    """
    layer, equals, rest = source.partition("=")
    if equals and layer.strip().isdecimal():
        return int(layer), rest.strip()
    with quiet_loaders():
        sae = load_sae(source)
    if sae.layer is None:
        raise SAEError(
            f"the SAE {source} does not say which layer it reads; write --{role}-sae LAYER={source}"
        )
    return sae.layer, sae


def path_or_id(model: str) -> str:
    """A model's name with ~ as the home folder.

    Example:
        >>> path_or_id("google/gemma-2-2b")
        'google/gemma-2-2b'
    """
    return str(as_path(model)) if model.startswith("~") else model


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
