"""What a receipt compares: the map, four controls at its strength, and an instruction."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dspa_nn.baselines import PromptPrefix, Subject
from dspa_nn.counts import CountRun, count_or_recall
from dspa_nn.evaluation import Control, Match, calibrated, encode, from_counts, raw_controls
from dspa_nn.files import Parts, sha256_of_json
from dspa_nn.graph.origin import check_origin
from dspa_nn.graph.rules import KINDS
from dspa_nn.graph.settings import APPLY_SETTINGS
from dspa_nn.maps import ConditionalDifferenceMap, identity_of
from dspa_nn.receipt.inputs import Inputs
from dspa_nn.steering import DSPA, DSPAMethod, SteeringMethod, SteeringOptions, fill
from dspa_nn.triples import PreferenceTriple, Triples

MAP, PREFIX = "the map", "instruction"


@dataclass(frozen=True)
class Compared:
    """A method with what its figures depend on, by which finished parts are found again.

    Attributes:
        method: None is the unsteered model.
        identity: plain values for JSON.
    """

    method: SteeringMethod | None
    identity: Mapping[str, Any]

    @property
    def name(self) -> str:
        """A few words for a table."""
        return "unsteered" if self.method is None else self.method.name


UNSTEERED = Compared(None, {"method": "unsteered"})


def target(
    dspa: DSPA, map: ConditionalDifferenceMap, options: SteeringOptions | None = None
) -> DSPAMethod:
    """The map with every setting filled in, after it was held against the model.

    Example:
        >>> target(dspa, map, {"alpha": 0.5}).options["alpha"]
        0.5

    Raises:
        MapError: a map of another model, layer or SAE.
        SteeringError: settings out of range.
    """
    check_origin(map.provenance, dspa.provenance(), "it is evaluated with")
    given: dict[str, Any] = {name: (options or {}).get(name) for name in APPLY_SETTINGS}
    kept: Any = {name: value for name, value in (options or {}).items() if name not in given}
    filled: Any = {**fill(given, map.defaults, dspa.defaults), **kept}
    return DSPAMethod(MAP, dspa, map, filled)


def data_hash(triples: list[PreferenceTriple]) -> str:
    """Of triples in their order.

    >>> len(data_hash([PreferenceTriple("Hail?", "Yes.", "no")]))
    64
    """
    return Triples(triples).sha256


def compared(
    dspa: DSPA,
    tuned: DSPAMethod,
    inputs: Inputs,
    instruction: str,
    parts: Parts,
    seed: int,
    progress: bool | None = None,
) -> tuple[list[Compared], dict[str, Match]]:
    """The map, controls (a) to (d) matched in strength on development triples, the instruction.

    Densities of control (b) and the difference of control (d) are those of the triples that the
    map was fitted on where they were given, else of the development triples. Counts are looked up
    among those that `fit` has kept. What was matched in an earlier run is not matched again.

    Returns:
        The methods, and how near each control came to the map's strength.
    """
    source = inputs.fitted or inputs.dev
    counts = count_or_recall(CountRun(dspa, Triples(source)), progress=progress)
    density, difference = from_counts(counts)
    raw = raw_controls(tuned, density, difference, seed)
    known = {"map": identity_of(tuned.map), "options": _plain(tuned.options)}
    vectors = {
        "b": hashlib.sha256(np.ascontiguousarray(density).tobytes()).hexdigest(),
        "d": hashlib.sha256(np.ascontiguousarray(difference).tobytes()).hexdigest(),
    }
    keys = {
        letter: {
            "control": letter, "of": known, "dev": data_hash(inputs.dev),
            "model": dspa.provenance(), "vector": vectors.get(letter),
            **({"seed": seed} if letter == "a" else {}),
        }
        for letter in raw
    }  # fmt: skip
    controls = {
        letter: _as_before(raw[letter], stored)
        for letter, key in keys.items()
        if (stored := parts.get("matched", key)) is not None
    }
    missing = {letter: raw[letter] for letter in raw if letter not in controls}
    if missing:
        start = time.perf_counter()
        found = calibrated(encode(dspa, inputs.dev), tuned, missing)
        seconds = (time.perf_counter() - start) / len(missing)
        for letter, control in found.items():
            parts.put("matched", keys[letter], _plain_match(control.match), seconds)
        controls |= found
    methods = [Compared(tuned, known)]
    for letter in raw:
        control = controls[letter]
        settings = {"k_diff": control.match.k_diff, "alpha": control.match.alpha}
        methods.append(Compared(control.method, {**keys[letter], "settings": settings}))
    if instruction:
        prefix = PromptPrefix(PREFIX, Subject(dspa), instruction)
        methods.append(Compared(prefix, {"instruction": instruction}))
    return methods, {controls[letter].method.name: controls[letter].match for letter in raw}


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON holds them; latents allowed or barred as lists."""
    plain = {name: value for name, value in options.items() if name not in KINDS}
    return {
        name: sorted(map(int, value)) if name in ("only", "never") and value is not None else value
        for name, value in plain.items()
    }


def _plain_match(match: Match) -> dict[str, Any]:
    return {name: value for name, value in match.to_dict().items() if name != "within_10_percent"}


def _as_before(control: DSPAMethod, stored: Mapping[str, Any]) -> Control:
    match = Match(**stored)
    options: SteeringOptions = {**control.options, "k_diff": match.k_diff, "alpha": match.alpha}
    return Control(replace(control, options=options), match)


def settings_of(method: DSPAMethod) -> dict[str, Any]:
    """How a map was fitted and how it steers, as plain values for JSON.

    Example:
        >>> sorted(settings_of(target(dspa, map)))[:2]
        ['entries', 'fit']
    """
    map = method.map
    fitted = {name: value for name, value in map.fitted.items() if name != "threshold"}
    return {
        "fit": fitted,
        "steer": _plain(method.options),
        "entries": len(map.values),
        "sha256": sha256_of_json(identity_of(map)),
    }
