"""What each row of the tables steers with: maps, vectors, an instruction, or what was trained."""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from dspa_nn.baselines import (
    AdapterMethod,
    ControlVector,
    Subject,
    WeightsMethod,
    baseline_method,
    fit_baseline,
)
from dspa_nn.counts import ActivationCounts
from dspa_nn.errors import EvaluationError
from dspa_nn.files import sha256_of_file, write_atomically
from dspa_nn.maps import ConditionalDifferenceMap
from dspa_nn.reproduce.settings import FITTED, Settings
from dspa_nn.reproduce.tables import Row
from dspa_nn.steering import DSPA, SteeringMethod
from dspa_nn.triples import PreferenceTriple, Triples


class Fits:
    """The artefacts of a run, each fitted when it is first asked for and kept in `folder`.

    The model runs over the triples once for all maps: that of 250 triples is of the same counts.
    """

    def __init__(
        self,
        dspa: DSPA,
        triples: Triples,
        settings: Settings,
        folder: Path,
        trained: Mapping[str, Path],
        progress: bool | None = None,
    ) -> None:
        self.dspa, self.triples, self.settings = dspa, triples, settings
        self.folder, self.trained, self.progress = folder, trained, progress
        self._counts: ActivationCounts | None = None
        self._weights: dict[str, list[str]] = {}

    @property
    def counts(self) -> ActivationCounts:
        """Counts of all triples: read where they are finished, else gone on with."""
        if self._counts is None:
            done = self.folder / "counts"
            if (done / "counts.json").is_file():
                self._counts = ActivationCounts.load(done)
            else:
                self._counts = self.dspa.count(
                    self.triples,
                    checkpoint=self.folder / "counts-run",
                    refused="skip",
                    progress=self.progress,
                )
                self._counts.save(done)
        return self._counts

    def few(self) -> list[int]:
        """The triples of the restricted setting, by their number: drawn from those counted."""
        index = self.counts.index
        if len(index) < self.settings.few:
            raise EvaluationError(
                f"{len(index)} triples were counted, and {self.settings.few} of them are to be "
                "drawn; give more, or a smaller --few"
            )
        drawn = np.random.default_rng(self.settings.seed).permutation(index)[: self.settings.few]
        return sorted(int(number) for number in drawn)

    def write_triples(self, folder: Path) -> None:
        """Write the triples of both tables as JSON Lines, which the training recipes take."""
        chosen = {"main": [int(index) for index in self.counts.index], "n250": self.few()}
        for table, numbers in chosen.items():
            path = folder / f"{table}.jsonl"
            if not path.is_file():
                rows = (self.triples[number] for number in numbers)
                write_atomically(path, "".join(f"{_as_json(row)}\n" for row in rows))

    def method(self, row: Row) -> SteeringMethod | None:
        """How a row is steered; None where it needs training and no folder was named."""
        if row.method not in FITTED:
            return self._trained(row)
        name = FITTED[row.method]
        return baseline_method(name, self.dspa, self._artefact(row, name), row.slug)

    def name_of(self, row: Row) -> str:
        """What a row's answers are kept under: its slug, and where it was trained its weights'.

        So answers of other weights, which the folder may hold, are not taken for these.
        """
        weights = self.weights_of(row)
        if not weights:
            return row.slug
        return f"{row.slug}-{sha256(''.join(weights).encode()).hexdigest()[:8]}"

    def weights_of(self, row: Row) -> list[str]:
        """SHA-256 of what a training recipe wrote for a row; empty where nothing is trained."""
        folder = self.trained.get(row.slug)
        if row.method in FITTED or folder is None:
            return []
        if row.slug not in self._weights:
            files = [*folder.glob("*model*.safe*"), *folder.glob("adapter_config.json")]
            self._weights[row.slug] = [sha256_of_file(path) for path in sorted(files)]
        return self._weights[row.slug]

    def _artefact(self, row: Row, name: str) -> Any:
        if name in ("unsteered", "prefix"):
            return fit_baseline(name, self.dspa)
        kept, few = self.folder / row.slug, row.table == "n250"
        if name == "repe":
            if (kept / "vector.json").is_file():
                return ControlVector.load(kept)
            chosen = [self.triples[index] for index in self.few()] if few else self.triples
            made = fit_baseline(name, self.dspa, chosen)
        else:
            if (kept / "map.json").is_file():
                return ConditionalDifferenceMap.load(kept)
            counts = self.counts.subset(self.few()) if few else self.counts
            given = {"percentile": self.settings.percentile} if name == "dspa" else {}
            made = fit_baseline(name, self.dspa, counts, **given)
        made.save(kept)
        return made

    def _trained(self, row: Row) -> SteeringMethod | None:
        folder = self.trained.get(row.slug)
        if folder is None:
            return None
        kind = AdapterMethod if (folder / "adapter_config.json").is_file() else WeightsMethod
        # Of the model as it was loaded: what was trained on an SFT of one's own names that.
        return kind(self.name_of(row), Subject(self.dspa.model), folder)


def _as_json(triple: PreferenceTriple) -> str:
    prompt = [dict(message) for message in triple.messages]
    return json.dumps({"prompt": prompt, "chosen": triple.chosen, "rejected": triple.rejected})


def training_commands(row: Row, folder: str, model: str) -> list[str]:
    """How to train what a row needs, on the triples that the run has written.

    >>> training_commands(Row("n250", "DPO"), "out", "google/gemma-2-2b")
    ['python recipes/train_dpo.py out/data/n250.jsonl --model google/gemma-2-2b --out n250-dpo']
    """
    source = f"{folder}/data/{row.table}.jsonl"
    if row.method == "DPO":
        return [f"python recipes/train_dpo.py {source} --model {model} --out {row.slug}"]
    rahf = f"python recipes/train_rahf.py {source}"
    return [
        f"{rahf} --step 1 --model {model} --out {row.slug}-1",
        f"{rahf} --step 2 --model {row.slug}-1 --out {row.slug}",
    ]
