"""The options of a fit as types, and the check of their values.

Choices and defaults are those of the one table in `graph/settings.py`. A misspelt keyword is
refused by a strict type checker before anything runs (`FitOptions`), and at run time in one
sentence that names the nearest right one.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias, TypedDict

import numpy as np

from dspa_nn.checks import check_choice, check_names, check_positive_int, check_type
from dspa_nn.errors import MapError
from dspa_nn.extensions import Extension, names, rule_of
from dspa_nn.graph.settings import DEFAULTS, FIT_SETTINGS, GATES, PROMPT_TOKENS, SPARSIFICATIONS

Gate = Literal["active", "literal"]
# What a fit weighs prompt latents by: open gates, or what `dspa_nn.extension("gate")` registered.
FitGate: TypeAlias = Gate | Extension[Any, Any] | Callable[..., Any]
# "always": the map's one row, that of latent 0, votes for every prompt; see `unconditional`.
MapGate = Literal["active", "literal", "always"]
Sparsification = Literal["paper", "rows", "none"]
PromptTokens = Literal["content", "all"]


class FitOptions(TypedDict, total=False):
    """Keywords of `ActivationCounts.fit`; `DSPA.fit` takes them too (docs/method.md 3).

    >>> options: FitOptions = {"percentile": 95, "sparsify": "rows"}

    percentile: where each input latent's threshold tau lies among its densities, 0 to 100.
    k_diff: entries of largest and of smallest value that each row names as worth keeping.
    gate: "active" opens where rho >= tau and rho > 0, "literal" where rho >= tau alone; or an
    extension, whose weights of the fitting prompts stand in their place.
    sparsify: "paper" (one threshold for all rows), "rows" (k_diff of either end of each row) or
    "none". max_entries: a budget of stored entries. prompt_tokens: count "content" tokens of the
    prompt or "all" of them. strict: refuse prompts in which no token counts instead of skipping.
    """

    percentile: float | int | None
    k_diff: int | None
    gate: FitGate
    sparsify: Sparsification
    max_entries: int | None
    prompt_tokens: PromptTokens | None
    strict: bool


class FittedWith(TypedDict, total=False):
    """What a map remembers of how it was fitted; its files hold it, and maps made from it keep it.

    Options are those of `FitOptions`; `threshold` is the smallest |value| that was kept and
    `n_triples` the number of triples in the mean.
    """

    gate: MapGate
    percentile: float | int | None
    k_diff: int | None
    sparsify: Sparsification
    max_entries: int | None
    threshold: float
    prompt_tokens: PromptTokens
    n_triples: int | None


FIT_OPTIONS = tuple(FitOptions.__annotations__)
FITTED_WITH = tuple(FittedWith.__annotations__)


def gate_name(provenance: Mapping[str, Any], gate: str) -> str:
    """What a map was fitted with: the name of an extension, as its provenance holds it, or `gate`.

    >>> gate_name({}, "active"), gate_name({"fitted_gate": "soft_gate"}, "active")
    ('active', 'soft_gate')
    """
    return provenance.get("fitted_gate") or gate


class FitSettings(NamedTuple):
    """All options of a fit, filled in and checked.

    >>> check_fit({}).k_diff
    16
    """

    percentile: Any
    k_diff: Any
    gate: Any
    sparsify: Any
    max_entries: Any
    prompt_tokens: Any


def check_fit(options: Mapping[str, Any]) -> FitSettings:
    """Fill in the options of a fit and refuse those out of range, without any counts.

    >>> check_fit({"percentile": 75}).percentile, check_fit({}).percentile
    (75, 90)

    Raises:
        MapError: an option that there is none of, or one out of range.
        ExtensionError: a gate that is no extension.
    """
    check_names("fit", options, FIT_OPTIONS, MapError)
    check_type("strict", options.get("strict", False), bool, MapError)
    filled: dict[str, Any] = {name: options.get(name, DEFAULTS[name]) for name in FIT_SETTINGS}
    for name, value in filled.items():
        # gate= and sparsify= take no None; elsewhere it means that nothing was given.
        if value is None and name not in ("gate", "sparsify"):
            filled[name] = DEFAULTS[name]
    chosen = FitSettings(**filled)
    check_options(*chosen)
    return chosen


def check_options(
    percentile: Any,
    k_diff: object,
    gate: object,
    sparsify: object,
    max_entries: object,
    tokens: object,
) -> None:
    """Refuse options of a fit that are out of range, each with one sentence (`MapError`).

    >>> check_options(90, 16, "active", "paper", None, "content")
    >>> check_options(90, 16, "actve", "paper", None, "content")
    Traceback (most recent call last):
    dspa_nn.errors.MapError: gate is 'actve'; expected one of 'active', 'literal' (did you mean \
'active'?).
    """
    number = isinstance(percentile, int | float | np.number) and not isinstance(percentile, bool)
    if not number or not 0 <= percentile <= 100:
        raise MapError(f"percentile is {percentile!r}; expected a number from 0 to 100.")
    check_positive_int("k_diff", k_diff, MapError)
    if max_entries is not None:
        check_positive_int("max_entries", max_entries, MapError)
    _check_gate(gate)
    check_choice("sparsify", sparsify, SPARSIFICATIONS, MapError)
    check_choice("prompt_tokens", tokens, PROMPT_TOKENS, MapError)


def _check_gate(gate: Any) -> None:
    if callable(gate):
        rule_of("gate", gate)
        return
    if isinstance(gate, str) and gate in names("gate"):
        raise MapError(
            f"gate is {gate!r}, a name that a run knows; a fit takes 'active', 'literal', or what "
            "@dspa_nn.extension('gate') made, itself and not its name."
        )
    check_choice("gate", gate, GATES, MapError)
