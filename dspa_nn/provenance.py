"""What counts and maps remember of their origin: agreement, contradiction, union.

Keys in use: model_id, model_revision, adapters, weights, every_weight, config, weights_unknown,
input_layer, output_layer, input_sae, output_sae, input_sae_sha256, output_sae_sha256, data_sha256,
prompts, template_sha256, package_version, dtype, batch_plan. A key that one side lacks, or holds as
None, is accepted, and so is a field of config (docs/method.md 5).
"""

import json
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple, cast

from dspa_nn.graph.origin import OF_MAPS, contradicting, differing_field

# Counts to be merged must also come from one source of triples, rendered in one way.
OF_COUNTS = OF_MAPS | {
    "data_sha256": "data with SHA-256",
    "template_sha256": "chat template with SHA-256",
}

# What figures depend on besides the model and the data.
PACKAGES = ("dspa-nn", "torch", "transformers", "nnsight", "sae-lens", "numpy", "scipy")

# Files of older versions do not hold these, and a model that is not loaded here has no fingerprint.
MAYBE_UNKNOWN = (
    "adapters", "weights", "every_weight", "config", "weights_unknown", "defaults", "prompts",
)  # fmt: skip


class Contradiction(NamedTuple):
    """Two values that differ: what they are of, and each of them as a person reads it."""

    name: str
    one: str
    other: str


def contradiction(
    one: Mapping[str, Any], other: Mapping[str, Any], keys: Mapping[str, str]
) -> Contradiction | None:
    """The first of the keys on which two provenances contradict each other, if any.

    >>> contradiction({"input_layer": 9}, {"input_layer": 12}, OF_MAPS)
    Contradiction(name='input layer', one='9', other='12')

    Where a side knows no hash of an SAE, the SAEs' names are compared instead.
    """
    differing = contradicting(one, other, keys)
    return None if differing is None else Contradiction(*differing)


def origin_in_words(provenance: Mapping[str, Any]) -> str:
    """Model and layers, as the `repr` of maps and counts says them; "" where they are not known.

    >>> origin_in_words({"model_id": "gpt2", "input_layer": 3, "output_layer": 9})
    ' of gpt2, layers 3 -> 9'
    """
    layers = (provenance.get("input_layer"), provenance.get("output_layer"))
    model = f" of {provenance['model_id']}" if provenance.get("model_id") else ""
    where = f", layers {layers[0]} -> {layers[1]}" if None not in layers else ""
    return f"{model}{where}"


def unequal(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The keys on which two provenances differ at all, ascending; `MAYBE_UNKNOWN` ones where known.

    >>> unequal({"dtype": "float32", "host": 1}, {"dtype": "bfloat16", "host": 1})
    ['dtype']
    """
    differing = {
        key
        for key in {*one, *other}
        if one.get(key) != other.get(key)
        and not (key in MAYBE_UNKNOWN and None in (one.get(key), other.get(key)))
        and not (key == "config" and differing_field(one[key], other[key]) is None)
    }
    if "weights" in differing:
        differing.discard("every_weight")  # which says the same more strictly
    return sorted(differing)


def together(sources: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Provenance of a union: what agrees as it is, what differs as {"merged": [all values]}.

    >>> together([{"dtype": "float32", "host": 1}, {"dtype": "float32", "host": 2}])
    {'dtype': 'float32', 'host': {'merged': [1, 2]}}

    The order of the sources does not matter, nor does merging in several steps.
    """
    values: dict[str, dict[str, Any]] = {}
    for source in sources:
        for key, value in source.items():
            merged = isinstance(value, dict) and set(cast(dict[str, Any], value)) == {"merged"}
            singles = cast(list[Any], value["merged"] if merged else [value])
            for single in singles:
                values.setdefault(key, {})
                if single is not None:
                    values[key][json.dumps(single, sort_keys=True)] = single
    result: dict[str, Any] = {}
    for key in sorted(values):
        listed = [values[key][text] for text in sorted(values[key])]
        result[key] = {"merged": listed} if len(listed) > 1 else (listed or [None])[0]
    return result


def package_versions() -> dict[str, str]:
    """The versions of Python and of the packages that figures depend on.

    >>> list(package_versions())[:3]
    ['python', 'dspa-nn', 'torch']
    """
    versions = {"python": sys.version.split()[0]}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # run from a checkout that is not installed
            versions[name] = "not installed"
    return versions
