"""What is tuned: one pair of layers or several, counted once, and maps fitted as needed."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

from dspa_nn.counts import ActivationCounts, CountRun, count_or_recall
from dspa_nn.errors import EvaluationError, FileError
from dspa_nn.files import as_path
from dspa_nn.maps import ConditionalDifferenceMap
from dspa_nn.progress import warnings_held
from dspa_nn.provenance import unequal
from dspa_nn.steering import DSPA, DSPAMethod, LayerSweep, SteeringOptions, SweepCounts
from dspa_nn.triples import PreferenceTriple, Triples
from dspa_nn.tuning.space import Choice, Layers, Vote


class Subject:
    """Counts of fitting and development triples for every pair of layers, and maps of them.

    Example:
        >>> subject = Subject(dspa, triples[:14], triples[14:], "tuning", progress=False)
        >>> subject.pairs == [(dspa.input_layer, dspa.output_layer)]
        True

    The model reads the triples once, whatever is tried afterwards. Counts of a `DSPA` are looked up
    among those that `fit` has kept; those of a `LayerSweep` are kept in `out`.
    """

    def __init__(
        self,
        built: DSPA | LayerSweep,
        fitting: Sequence[PreferenceTriple],
        development: Sequence[PreferenceTriple],
        out: str | os.PathLike[str],
        progress: bool | None = None,
    ) -> None:
        self.built = built
        self.development = list(development)
        self._maps: dict[str, ConditionalDifferenceMap] = {}
        self._dspas: dict[Layers, DSPA] = {}
        self.fitting: dict[Layers, ActivationCounts] = {}
        self.held_out: dict[Layers, ActivationCounts] = {}
        if isinstance(built, LayerSweep):
            for part, triples, into in (
                ("fit", fitting, self.fitting), ("dev", development, self.held_out)
            ):  # fmt: skip
                swept = _swept(built, triples, as_path(out) / "counts" / part, progress)
                into.update({pair: swept.counts(*pair) for pair in swept.pairs})
            self.pairs = [(int(a), int(b)) for a, b in built.pairs]
        else:
            pair = (built.input_layer, built.output_layer)
            self.pairs = [pair]
            self._dspas[pair] = built
            for triples, into in ((fitting, self.fitting), (development, self.held_out)):
                run = CountRun(built, Triples(triples))
                into[pair] = count_or_recall(run, progress=progress)

    @property
    def provenance(self) -> dict[str, Any]:
        """What identifies model and SAEs."""
        return self.built.provenance()

    def dspa(self, layers: Layers) -> DSPA:
        """The model with the SAEs of a pair."""
        if layers not in self._dspas:
            self._dspas[layers] = cast(LayerSweep, self.built).dspa(*layers)
        return self._dspas[layers]

    def map(self, vote: Vote, k_diff: int) -> ConditionalDifferenceMap:
        """The map of a vote, fitted once."""
        choice = Choice(vote, k_diff, "ablate", 1.0)
        key = f"{vote.layers} {choice.fit}"
        if key not in self._maps:
            options: Any = choice.fit
            with warnings_held():  # a fit warns of the preset's rule, which is not the one tried
                self._maps[key] = self.fitting[vote.layers].fit(**options)
        return self._maps[key]

    def method(self, choice: Choice) -> DSPAMethod:
        """Steer by a choice."""
        dspa, options = self.dspa(choice.vote.layers), cast(SteeringOptions, choice.steer)
        return DSPAMethod("", dspa, self.map(choice.vote, choice.k_diff), options)


def _swept(
    sweep: LayerSweep, triples: Sequence[PreferenceTriple], folder: Any, progress: bool | None
) -> SweepCounts:
    """Counts of an earlier run of the same triples, or counted now and kept."""
    triples = Triples(triples)
    if any(folder.glob("*.json")):
        try:
            kept = SweepCounts.load(folder)
        except (FileError, ValueError) as error:
            raise EvaluationError(
                f"the counts in {folder} cannot be used ({error}); remove the folder, or give "
                "another --out"
            ) from None
        wanted = {**sweep.provenance(), "data_sha256": triples.sha256}
        known = {name: kept.table.provenance.get(name) for name in wanted}
        if not unequal(known, wanted):
            return kept
    swept = sweep.count(triples, progress=progress)
    swept.save(folder)
    return swept


def hashes(subject: Subject) -> Mapping[str, Any]:
    """What a study's trials depend on, besides the space."""
    first = subject.pairs[0]
    return {
        "model": subject.provenance,
        "fit": subject.fitting[first].provenance.get("data_sha256"),
        "dev": subject.held_out[first].provenance.get("data_sha256"),
    }
