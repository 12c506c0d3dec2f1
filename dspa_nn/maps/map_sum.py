"""Sums of maps: scores add, each map with its own thresholds, gates and prompt rule."""

import math
import os
from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch

from dspa_nn.errors import MapError
from dspa_nn.files import write_pair
from dspa_nn.graph.origin import OF_MAPS
from dspa_nn.graph.portable import PortableSum
from dspa_nn.graph.settings import ALWAYS, VOTING_SETTINGS
from dspa_nn.maps.adding import added, alike, check_summable, in_common
from dspa_nn.maps.files import contents_of_sum, keywords
from dspa_nn.maps.map import SCHEMA_VERSION_OF_SUMS, ConditionalDifferenceMap
from dspa_nn.maps.operators import as_number
from dspa_nn.maps.options import FITTED_WITH, gate_name
from dspa_nn.maps.queries import PromptCounts
from dspa_nn.maps.restriction import Latents
from dspa_nn.maps.rows import Array, MapRows
from dspa_nn.shapes import OutputLatents, PromptWeights, Scores
from dspa_nn.shipping import Reduced, reduce_sum, sorted_latents

Term = tuple[float, ConditionalDifferenceMap]

_ENTRIES = ("rows", "indptr", "columns", "values")
# What an origin is compared by, and the names that stand in for hashes.
_IDENTITY = (*OF_MAPS, "input_sae", "output_sae")


class MapSum(ConditionalDifferenceMap):
    """Maps, each times a number, added: `map_a + 0.5 * map_b - map_c` (docs/method.md 4.5).

    >>> one = ConditionalDifferenceMap.from_dense([[0.5, 0.25], [0.0, 1.0]])
    >>> other = ConditionalDifferenceMap.from_dense([[0.0, 1.0], [0.5, 0.0]])
    >>> both = one + 0.5 * other
    >>> torch.equal(both.score([3, 1]), one.score([3, 1]) + 0.5 * other.score([3, 1]))
    True

    It is used wherever a map is. Its scores are the members' own, times their coefficients, added
    in float64 from the first to the last; each member votes with its own thresholds, gates and
    prompt rule. A sum of sums is one flat sum; equal members become one, whose coefficient is the
    sum of theirs, and members whose coefficient comes to 0 are left out.

    How to look at one: `terms` are the members, and the entries (`rows`, `columns`, `values`,
    `to_dense`, `top`, `column_sums`) those of the members added up, which is what a prompt latent
    adds that votes in every member alike. What the members were fitted with (`tau`, `percentile`,
    ...) and the settings of a run in `defaults` are here where all members agree, else None or left
    out.

    Args:
        terms: (coefficient, map) of each member, maps that are sums among them.

    Attributes:
        terms: (coefficient, map) of each member, in the order in which scores are added.

    Raises:
        MapError: no member; maps of other SAEs, weights or layers, or that count prompt tokens
            differently; a coefficient that is not finite, or what is no pair of a number and a map.
    """

    def __init__(self, terms: Iterable[tuple[float, ConditionalDifferenceMap]]) -> None:
        self.terms: tuple[Term, ...] = _merged(terms)
        maps = [map for _, map in self.terms]
        self.shape = maps[0].shape
        for name in ("tau", "gate_mean", *FITTED_WITH):
            setattr(self, name, in_common([getattr(map, name) for map in maps]))
        self.provenance = _origin(self.terms)
        settings = {name for map in maps for name in map.defaults} - set(VOTING_SETTINGS)
        self.defaults = {
            name: value
            for name in sorted(settings)
            if (value := in_common([map.defaults.get(name) for map in maps])) is not None
        }

    def __getattr__(self, name: str) -> Any:
        # Most sums are never looked at entry by entry, so that these are added up when asked for.
        if name not in _ENTRIES or "terms" not in vars(self):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        entries = MapRows(*added(self.terms, self.shape), self.shape)
        vars(self).update({name: getattr(entries, name) for name in _ENTRIES})
        return vars(self)[name]

    # Reading

    def weights(
        self,
        prompt_counts: PromptCounts,
        prompt_lengths: Array | None = None,
        *,
        prompt_rule: str | None = None,
        k_prompt: int | None = None,
    ) -> PromptWeights:
        """Refuse: every member of a sum has weights of its own (`MapError`).

        >>> one = ConditionalDifferenceMap.from_dense([[0.5], [0.25]])
        >>> [member.weights([3, 0]).tolist() for _, member in (2 * one).terms]
        [[1.0, 0.0]]
        """
        raise MapError(
            f"weights of a sum of {len(self.terms)} maps were asked for, and each of them votes "
            "with its own; ask the maps in its terms."
        )

    def score(
        self,
        prompt_counts: PromptCounts,
        prompt_lengths: Array | None = None,
        *,
        prompt_rule: str | None = None,
        k_prompt: int | None = None,
    ) -> Scores:
        """s(x), float64 [.., d_out]: the members' scores times their coefficients, in order.

        >>> one = ConditionalDifferenceMap.from_dense([[0.5, 0.25]])
        >>> (one + one).score([3])
        tensor([1.0000, 0.5000], dtype=torch.float64)

        `prompt_rule` and `k_prompt` hold for every member where they are given; else each has its
        own, as in `ConditionalDifferenceMap.score`, which says what the arguments are.
        """
        parts = [
            coefficient
            * map.score(prompt_counts, prompt_lengths, prompt_rule=prompt_rule, k_prompt=k_prompt)
            for coefficient, map in self.terms
        ]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total

    def columns_used(self) -> OutputLatents:
        """The output latents that any member can touch, ascending.

        >>> one = ConditionalDifferenceMap.from_dense([[0.5, 0.0]])
        >>> (one - 2 * ConditionalDifferenceMap.from_dense([[0.0, 1.0]])).columns_used()
        tensor([0, 1])
        """
        used = [map.columns_used() for coefficient, map in self.terms if coefficient]
        return sorted_latents(torch.cat([torch.zeros(0, dtype=torch.int64), *used]))

    # Other maps

    def restrict(
        self, rows: Latents | None = None, columns: Latents | None = None
    ) -> ConditionalDifferenceMap:
        """The sum of the members restricted to these latents, as `ConditionalDifferenceMap` says.

        >>> one = ConditionalDifferenceMap.from_dense([[0.25, 0.5]])
        >>> (2 * one).restrict(columns=[0]).to_dense()
        tensor([[0.5000, 0.0000]])
        """
        listed = [
            list(cast(Any, latents)) if isinstance(latents, Iterable) else latents
            for latents in (rows, columns)
        ]
        return MapSum((coefficient, map.restrict(*listed)) for coefficient, map in self.terms)

    def with_entries(
        self, rows: Array, indptr: Array, columns: Array, values: Array, **noted: Any
    ) -> ConditionalDifferenceMap:
        """Refuse: the entries of a sum are its members' (`MapError`)."""
        raise MapError(
            f"a sum of {len(self.terms)} maps was given entries, and has none of its own; make "
            "the maps in its terms anew, and add them."
        )

    # Identity, files

    def portable(self) -> PortableSum:
        """What travels to NDIF in its place: what does for each member."""
        terms = [(coefficient, map.portable()) for coefficient, map in self.terms]
        return PortableSum(terms, self.prompt_tokens, self.provenance, self.defaults)

    def as_shipped(self) -> Reduced:
        """Return what is pickled in its place for NDIF."""
        state = {name: value for name, value in vars(self).items() if name not in _ENTRIES}
        return reduce_sum(self, state)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write all members as one pair of files, which `load` makes the same sum of.

        >>> (map + 0.5 * map.restrict(columns=[1])).save("sum")
        >>> len(ConditionalDifferenceMap.load("sum").terms)
        2

        Raises `FileError` on a full disk or a read-only folder; what was there stays.
        """
        arrays, about = contents_of_sum(self.terms)
        write_pair(folder, "map", arrays, about, version=SCHEMA_VERSION_OF_SUMS)

    def __repr__(self) -> str:
        d_in, d_out = self.shape
        lines = [
            f"MapSum of {len(self.terms)} map{'s' * (len(self.terms) > 1)}: {d_in:,} x {d_out:,}, "
            f"{len(self.columns_used()):,} columns{self.origin_in_words()}"
        ]
        for coefficient, map in self.terms:
            weights = map.provenance.get("persona")
            if weights:
                wanted = ", ".join(f"{axis} {weight:+g}" for axis, weight in weights.items())
                lines.append(
                    f"  {coefficient:+g} x persona ({wanted}), {len(map.values):,} entries"
                )
                continue
            triples = "unknown" if map.n_triples is None else f"{map.n_triples:,}"
            gate, rule = gate_name(map.provenance, map.gate), map.defaults.get("prompt_rule")
            lines.append(
                f"  {coefficient:+g} x {triples} triples, {len(map.values):,} entries, percentile "
                f"{map.percentile}, gate {gate!r}" + (f", {rule!r}" if rule else "")
            )
        names = {name for _, map in self.terms for name in map.defaults}
        differing = sorted(names - set(self.defaults) - set(VOTING_SETTINGS))
        if differing:
            lines.append(f"  they differ in {', '.join(differing)}: left to the run")
        return "\n".join(lines)


def sum_from_files(
    arrays: Mapping[str, Any], about: Mapping[str, Any], check_entries: bool
) -> MapSum:
    """The sum that `MapSum.save` wrote."""
    terms: list[Term] = []
    for number, stored in enumerate(about["sum"]):
        given = keywords(arrays, stored, f"{number}.")
        map = ConditionalDifferenceMap(check_entries=check_entries, **given)
        terms.append((stored["coefficient"], map))
    return MapSum(terms)


def _merged(terms: Iterable[tuple[float, ConditionalDifferenceMap]]) -> tuple[Term, ...]:
    """Terms without sums among them, each map once, those times 0 left out but for the last one."""
    flat: list[Term] = []
    for term in terms:
        coefficient, map = _checked(term)
        inner = map.terms if isinstance(map, MapSum) else ((1.0, map),)
        flat += [(coefficient * own, member) for own, member in inner]
    merged: list[Term] = []
    for coefficient, map in flat:
        for place, (sum_so_far, other) in enumerate(merged):
            if alike(map, other):
                merged[place] = (sum_so_far + coefficient, other)
                break
            check_summable(other, map)
        else:
            merged.append((coefficient, map))
    if not merged:
        raise MapError("a sum of no maps was asked for; add at least one.")
    for coefficient, _ in merged:
        if not math.isfinite(coefficient):
            raise MapError(f"a map came to be multiplied by {coefficient}; use finite numbers.")
    return tuple(term for term in merged if term[0]) or tuple(merged[:1])


def _checked(term: Any) -> Term:
    """A pair of a number and a map, whatever a user passed as one."""
    pair: list[Any] = list(term) if isinstance(term, tuple | list) else []  # pyright: ignore[reportUnknownArgumentType]
    if len(pair) == 2 and isinstance(pair[1], ConditionalDifferenceMap):
        coefficient = as_number(pair[0])
        if coefficient is not None:
            return coefficient, pair[1]
    kind = type(cast(object, term)).__name__
    came = [type(part).__name__ for part in pair]
    raise MapError(
        f"a sum was given a {kind}{' of ' + ' and '.join(came) if came else ''}; "
        "expected pairs of a number and a map, as [(1, map_a), (0.5, map_b)], or write "
        "map_a + 0.5 * map_b."
    )


def _origin(terms: tuple[Term, ...]) -> dict[str, Any]:
    """What all members come from alike, and each member's own."""
    sources = [map.provenance for _, map in terms]
    names = dict.fromkeys(name for source in sources for name in source)
    shared: dict[str, Any] = {}
    for name in names:
        values = [source.get(name) for source in sources]
        if name in _IDENTITY:  # a member that does not know is accepted
            values = [value for value in values if value is not None] or [None]
        if in_common(values) is not None:
            shared[name] = values[0]
    each = [{"coefficient": number, "provenance": map.provenance} for number, map in terms]
    return shared | {"sum": each}


def same_for_every_prompt(map: ConditionalDifferenceMap) -> bool:
    """Whether a map scores every prompt alike, as a persona does: no prompt latent has a say.

    >>> same_for_every_prompt(map)
    False
    """
    if isinstance(map, MapSum):
        return all(term.gate == ALWAYS for _, term in map.terms)
    return map.gate == ALWAYS
