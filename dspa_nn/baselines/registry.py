"""All baselines by name: how each is fitted, steered with, saved and loaded."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from dspa_nn.baselines.caa import fit_caa
from dspa_nn.baselines.cast import fit_cast
from dspa_nn.baselines.dense import VectorMethod
from dspa_nn.baselines.global_difference import fit_global_difference, one_for_all
from dspa_nn.baselines.prefix import Instruction, PromptPrefix, fit_prefix
from dspa_nn.baselines.random_map import fit_random_map
from dspa_nn.baselines.repe import fit_repe
from dspa_nn.baselines.states import Activations
from dspa_nn.baselines.static_sae import fit_static_sae
from dspa_nn.baselines.subject import Subject
from dspa_nn.baselines.unsteered import Unsteered
from dspa_nn.baselines.vector import ControlVector
from dspa_nn.checks import check_choice, check_type
from dspa_nn.counts import ActivationCounts
from dspa_nn.errors import FileError, SteeringError
from dspa_nn.files import as_path
from dspa_nn.maps import ConditionalDifferenceMap
from dspa_nn.steering import DSPA, DSPAMethod, SteeringMethod


@dataclass(frozen=True)
class Baseline:
    """One method of the comparison.

    Attributes:
        title: a few words for a table.
        fitted_on: "counts" and "activations" name what may be given in place of triples, so that
            one pass of the model serves several methods; "nothing".
        fit: (dspa, triples) -> artefact, at the paper's settings where it names any.
        method: (title, dspa, artefact) -> method.
    """

    title: str
    fitted_on: str
    fit: Callable[..., Any]
    method: Callable[[str, DSPA, Any], SteeringMethod]


def _vector_method(title: str, dspa: DSPA, vector: ControlVector) -> SteeringMethod:
    return VectorMethod(title, Subject(dspa), vector)


def _prefix_method(title: str, dspa: DSPA, instruction: Instruction) -> SteeringMethod:
    check_type("artefact", instruction, Instruction, SteeringError)
    return PromptPrefix(title, Subject(dspa), instruction.text)


def _nothing(dspa: DSPA, source: object = None) -> None:
    return None


def _instruction(dspa: DSPA, source: object = None, **options: Any) -> Instruction:
    return fit_prefix(dspa, **options)


def _map(
    dspa: DSPA, source: ActivationCounts | Iterable[Any], **options: Any
) -> ConditionalDifferenceMap:
    if isinstance(source, ActivationCounts):
        return source.fit(**options)
    return dspa.fit(source, **options)


BASELINES: dict[str, Baseline] = {
    "unsteered": Baseline(
        "unsteered", "nothing", _nothing, lambda title, dspa, artefact: Unsteered(title)
    ),
    "prefix": Baseline("prompt prefix", "nothing", _instruction, _prefix_method),
    "repe": Baseline("RepE", "activations", fit_repe, _vector_method),
    "caa": Baseline("difference of means", "activations", fit_caa, _vector_method),
    "cast": Baseline("CAST", "activations", fit_cast, _vector_method),
    "static-sae": Baseline("Static-SAE", "counts", fit_static_sae, one_for_all),
    "random-map": Baseline("random map", "counts", fit_random_map, DSPAMethod),
    "global-difference": Baseline(
        "global difference", "counts", fit_global_difference, one_for_all
    ),
    "dspa": Baseline("DSPA", "counts", _map, DSPAMethod),
}
ARTEFACTS = ("vector.json", "map.json", "instruction.json")
# How a map on disk says what it is, and by which baseline it is steered with.
_MAPS = {
    "static-sae": "static-sae",
    "global difference": "global-difference",
    "random map": "random-map",
}


def fit_baseline(
    name: str,
    dspa: DSPA,
    source: ActivationCounts | Activations | Iterable[Any] = (),
    **options: Any,
) -> Any:
    """Fit a baseline by its name, and return its artefact.

    Example:
        >>> fit_baseline("caa", dspa, triples[:4]).kind
        'caa'
        >>> fit_baseline("static-sae", dspa, counts).defaults["alpha"]
        0.5

    Args:
        name: a key of `BASELINES`.
        dspa: the model and its SAEs.
        source: triples, or the counts or activations that were taken of them; what is fitted on
            nothing needs none.
        options: keywords of that baseline's fit.

    Raises:
        SteeringError: no such baseline.
    """
    check_choice("name", name, tuple(BASELINES), SteeringError)
    return BASELINES[name].fit(dspa, source, **options)


def baseline_method(name: str, dspa: DSPA, artefact: Any, title: str = "") -> SteeringMethod:
    """The method that steers with what a fit returned.

    Example:
        >>> fitted = fit_baseline("caa", dspa, triples[:4])
        >>> baseline_method("caa", dspa, fitted).name
        'difference of means'

    title: a few words for a table; without any, the baseline's own.

    Raises:
        SteeringError: no such baseline, or an artefact of another width.
    """
    check_choice("name", name, tuple(BASELINES), SteeringError)
    return BASELINES[name].method(title or BASELINES[name].title, dspa, artefact)


def load_baseline(folder: str | os.PathLike[str], dspa: DSPA, title: str = "") -> SteeringMethod:
    """A method from what `save` of its artefact wrote.

    Example:
        >>> fit_baseline("static-sae", dspa, counts).save("static")
        >>> load_baseline("static", dspa).name
        'Static-SAE'

    Raises:
        FileError: a folder that holds no artefact, several, or a damaged one.
        SteeringError: a vector of another width than the model's. That it is of this very model is
            checked when it is used, as for a map.
    """
    path = as_path(folder)
    files = [name for name in ARTEFACTS if (path / name).is_file()]
    if len(files) > 1:
        raise FileError(
            f"{path} holds {' and '.join(files)}, of which one was expected; save each artefact in "
            "a folder of its own"
        )
    if (path / "vector.json").is_file():
        vector = ControlVector.load(path)
        known = vector.kind if vector.kind in BASELINES else "caa"
        return baseline_method(known, dspa, vector, title)
    if (path / "map.json").is_file():
        map = ConditionalDifferenceMap.load(path)
        known = _MAPS.get(str(map.provenance.get("baseline")), "dspa")
        return baseline_method(known, dspa, map, title)
    if (path / "instruction.json").is_file():
        return baseline_method("prefix", dspa, Instruction.load(path), title)
    raise FileError(
        f"{path} holds no vector.json, map.json or instruction.json; give a folder that save of a "
        "baseline's artefact wrote"
    )
