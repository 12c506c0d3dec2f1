"""Pairs of layers compared: by held-out ranking, from counts alone, and by steered margins."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack

from dspa_nn.errors import CountsError
from dspa_nn.evaluation.effects import Effect
from dspa_nn.evaluation.margin import margins
from dspa_nn.evaluation.ranking import VotingRule, accuracy, global_accuracy
from dspa_nn.evaluation.statistics import Interval, bootstrap
from dspa_nn.maps import ConditionalDifferenceMap, FitOptions
from dspa_nn.steering import DSPAMethod, LayerSweep, SteeringOptions, SweepCounts
from dspa_nn.triples import as_triples


@dataclass(frozen=True)
class LayerPair:
    """One pair of layers: its map, and how well it does on triples that the map was not fitted on.

    Example:
        >>> best, *_ = rank_pairs(swept, range(15, 20), percentile=50)
        >>> print(best)
        layers ... -> 2: ranks ... of 5 held-out triples rightly; one difference for all, ...

    Attributes:
        map: fitted on the other triples.
        ranking: the share of held-out triples that the map ranks rightly (`accuracy`).
        of_one_difference: the same of one difference for all prompts (`global_accuracy`). It does
            not depend on the input layer.
        over_one_difference: `ranking` less that, paired triple by triple.
        effect: the change of the margin on triples that were steered; None where none were.
    """

    input_layer: int
    output_layer: int
    map: ConditionalDifferenceMap
    ranking: Interval
    of_one_difference: Interval
    over_one_difference: Interval
    effect: Effect | None = None

    @property
    def layers(self) -> tuple[int, int]:
        """Input and output layer."""
        return self.input_layer, self.output_layer

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file; the map is left out."""
        return {
            "input_layer": self.input_layer,
            "output_layer": self.output_layer,
            "ranking": self.ranking.to_dict(),
            "of_one_difference": self.of_one_difference.to_dict(),
            "over_one_difference": self.over_one_difference.to_dict(),
            "effect": None if self.effect is None else self.effect.to_dict(),
        }

    def __str__(self) -> str:
        steered = "" if self.effect is None else f"\n  steered margin {self.effect} nats a token"
        return (
            f"layers {self.input_layer} -> {self.output_layer}: ranks {self.ranking.mean:.3f} of "
            f"{self.ranking.n} held-out triples rightly; one difference for all, "
            f"{self.of_one_difference.mean:.3f}{steered}"
        )


def rank_pairs(
    swept: SweepCounts,
    held_out: Iterable[int],
    *,
    rule: VotingRule | None = None,
    **options: Unpack[FitOptions],
) -> list[LayerPair]:
    """Fit every pair of layers, and order them by how well they rank held-out triples.

    Example:
        >>> pairs = rank_pairs(swept, range(15, 20), percentile=50)
        >>> pairs[0].ranking.mean >= pairs[1].ranking.mean
        True

    No model is run: the counts of a sweep hold all of it. Where nine pairs are compared on the same
    triples, the best one's figure is too good by the choice; measure it again on others.

    Args:
        swept: the counts of a `LayerSweep`.
        held_out: indices of triples that are ranked; the maps are fitted on all others.
        rule: prompt_rule and k_prompt; None takes the map's own.
        options: those of `ActivationCounts.fit`.

    Raises:
        CountsError: no triples to fit on or to rank.
        MapError: options out of range.
    """
    ranked = sorted({int(index) for index in held_out})
    fitting = sorted({int(index) for index in swept.table.index} - {*ranked})
    if not ranked or not fitting:
        raise CountsError(
            f"{len(fitting)} triples are left to fit on and {len(ranked)} are held out; at least "
            "one of each is needed: hold out some of the triples that were counted"
        )
    parts = swept.subset(fitting), swept.subset(ranked)
    found: list[LayerPair] = []
    for pair in swept.pairs:
        fit, test = (part.counts(*pair) for part in parts)
        map = fit.fit(**options)
        own, one_for_all = accuracy(map, test, **(rule or {})), global_accuracy(fit, test)
        held = [bootstrap(values) for values in (own, one_for_all, own - one_for_all)]
        found.append(LayerPair(*pair, map, held[0], held[1], held[2]))
    return sorted(found, key=lambda pair: (-pair.ranking.mean, pair.layers))


def steer_pairs(
    sweep: LayerSweep,
    pairs: Sequence[LayerPair],
    triples: Iterable[Any],
    options: SteeringOptions | None = None,
    *,
    advance: Callable[[int], object] | None = None,
) -> list[LayerPair]:
    """Steer development triples with each pair's map, and order the pairs by the margin's change.

    Example:
        >>> pairs = rank_pairs(swept, range(15, 20), percentile=50)
        >>> best, *_ = steer_pairs(sweep, pairs, triples[15:], {"alpha": 0.5})
        >>> best.effect.margin.n
        5

    Both responses are teacher-forced after the prompt (`margins`), once under each pair and once
    unsteered for each output layer.

    Args:
        sweep: what the pairs were counted with.
        pairs: what `rank_pairs` returned, or some of it.
        triples: held-out triples, as `margins` takes them.
        options: settings of steering; what is left out takes the map's or the preset's value.
        advance: called with the responses that are done.

    Raises:
        DSPAError: what `margins` raises.
    """
    triples = as_triples(triples)
    found: list[LayerPair] = []
    for layer in sorted({pair.output_layer for pair in pairs}):
        # How far the residual stream moved is measured at the output layer.
        mine = [pair for pair in pairs if pair.output_layer == layer]
        methods = [
            DSPAMethod(str(pair.layers), sweep.dspa(*pair.layers), pair.map, options or {})
            for pair in mine
        ]
        _, *steered = margins(methods[0].dspa, triples, methods, advance=advance)
        found += [
            replace(pair, effect=one.effect()) for pair, one in zip(mine, steered, strict=True)
        ]

    def largest_first(pair: LayerPair) -> tuple[float, tuple[int, int]]:
        return -(pair.effect.margin.mean if pair.effect else 0.0), pair.layers

    return sorted(found, key=largest_first)
