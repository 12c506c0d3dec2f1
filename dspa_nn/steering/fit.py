"""From triples or from counted shards to a map; settings not given come from the preset."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dspa_nn.checks import check_names, check_type
from dspa_nn.counts import ActivationCounts, count_or_recall, merge_shards
from dspa_nn.errors import CountsError, MapError
from dspa_nn.graph.settings import FIT_SETTINGS
from dspa_nn.maps import FIT_OPTIONS, ConditionalDifferenceMap, check_fit
from dspa_nn.models import load_weights, preset_of
from dspa_nn.steering.counting import planned_run
from dspa_nn.steering.options import COUNTING, fill


def fit_triples(
    dspa: Any,
    triples: Iterable[Any],
    options: Mapping[str, Any],
) -> ConditionalDifferenceMap:
    """Count a whole source and fit: `DSPA.fit`; `options` are its keywords.

    Raises:
        MapError: a keyword that `fit` does not take.
        CountsError: shards were asked for, and one shard is not what a map is fitted on.
    """
    if options.get("shards", 1) != 1:
        raise CountsError(
            f"fit came with shards={options['shards']}, and a map is fitted on a whole source; "
            "count every shard with count(shards=, shard=), merge them and fit the result"
        )
    options = {name: value for name, value in options.items() if name not in ("shards", "shard")}
    check_names("fit", options, (*FIT_OPTIONS, *COUNTING, "cache"), MapError)
    cache = options.get("cache", True)
    check_type("cache", cache, bool, MapError)
    counting = {name: value for name, value in options.items() if name in COUNTING}
    fitting = {name: value for name, value in options.items() if name in FIT_OPTIONS}
    check_fit(filled_in(dspa.defaults, fitting))  # before the model is run
    counts = _kept(dspa, triples, counting) if cache else dspa.count(triples, **counting)
    return fit_counts(counts, dspa.defaults, fitting)


def _kept(dspa: Any, triples: Iterable[Any], options: dict[str, Any]) -> ActivationCounts:
    """The counts of a source, taken from the cache or counted and put there."""
    remote = options.pop("remote", False)
    check_type("remote", remote, bool, CountsError)
    if not remote:
        load_weights(dspa.model, "count")  # what is kept is known by its weights
    run, left = planned_run(dspa, triples, options)
    return count_or_recall(run, remote=remote, **left)


def fit_counts(
    counts: ActivationCounts, defaults: Mapping[str, Any], options: Mapping[str, Any]
) -> ConditionalDifferenceMap:
    """Fit with what was asked for, else with a preset's tuned values, else with the paper's.

    options: the keywords of `ActivationCounts.fit`; defaults: those of the preset.
    """
    fitted = counts.fit(**filled_in(defaults, options))
    fitted.defaults = {**defaults, **fitted.defaults}
    return fitted


def filled_in(defaults: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    """The keywords of a fit with a preset's values where none were given."""
    asked = {name: options.get(name) for name in FIT_SETTINGS}
    return {**options, **fill(asked, defaults)}


def fit_merged(folder: str | Path, options: Mapping[str, Any]) -> ConditionalDifferenceMap:
    """Merge the shards in a folder and fit: `dspa merge`, without a model.

    The preset, for its tuned values, is known from the counts: their model and layers.
    """
    counts = merge_shards(folder)
    preset = preset_of(counts.provenance)
    return fit_counts(counts, preset.defaults if preset else {}, options)
