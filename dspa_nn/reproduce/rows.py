"""The figures of every row, in parts that are kept: answers, ratings, multiple choice."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dspa_nn.files import Parts
from dspa_nn.progress import say
from dspa_nn.reproduce import measures
from dspa_nn.reproduce.fits import Fits
from dspa_nn.reproduce.settings import FITTED, Judges, Settings
from dspa_nn.reproduce.setup import Inputs
from dspa_nn.reproduce.tables import Row
from dspa_nn.steering import DSPA

_MEASURED = ("mt-bench", "alpaca-eval", "multiple-choice")


class Measuring:
    """Measures rows one after another; what is finished is read from the folder.

    Attributes:
        results: of each row's slug: figure -> interval, and the ratings by question.
        gpu_bytes: the most that torch had on a GPU while a row was answered, by slug.
    """

    def __init__(
        self,
        dspa: DSPA,
        inputs: Inputs,
        fits: Fits,
        judges: Judges,
        settings: Settings,
        folder: Path,
        key: Mapping[str, Any],
        progress: bool | None,
    ) -> None:
        self.dspa, self.inputs, self.fits = dspa, inputs, fits
        self.judges, self.settings, self.folder = judges, settings, folder
        self.key, self.progress = dict(key), progress
        self.parts = Parts(folder)
        self.results: dict[str, dict[str, Any]] = {}
        self.gpu_bytes: dict[str, int] = {}

    @property
    def seconds(self) -> dict[str, float]:
        """What the parts took when they were measured, by kind."""
        return {name: round(value, 1) for name, value in self.parts.seconds.items()}

    def measure(self, row: Row, steps: Sequence[str]) -> None:
        """Measure a row; one that needs training, and has none, is left out."""
        trained = self.fits.trained.get(row.slug)
        wanted = [step for step in _MEASURED if step in steps]
        if not wanted or (row.method not in FITTED and trained is None):
            return
        key: dict[str, Any] = {"row": row.slug}
        if trained is not None and row.method not in FITTED:
            key["trained"] = self.fits.weights_of(row)
        made: dict[str, Callable[[Row, dict[str, Any]], dict[str, Any]]] = {
            "mt-bench": self._mt_bench,
            "alpaca-eval": self._alpaca_eval,
            "multiple-choice": self._multiple_choice,
        }
        into = self.results.setdefault(row.slug, {})
        for step in wanted:
            into |= made[step](row, key)

    def _mt_bench(self, row: Row, key: dict[str, Any]) -> dict[str, Any]:
        folder, name = self.folder / "mt-bench", self.fits.name_of(row)

        def answers() -> dict[str, Any]:
            return {
                "answered": measures.answer_mt_bench(
                    self.dspa, self.inputs, self.settings, folder, self._method(row)
                )
            }

        self._part("mt-bench-answers", key, answers)
        judge = self.judges.mt_bench
        if judge is None:
            return {}
        bench = self.inputs.bench
        return self._part(
            "mt-bench",
            key | {"judge": judge.name},
            lambda: measures.rate_mt_bench(bench, folder, judge, name),
        )

    def _alpaca_eval(self, row: Row, key: dict[str, Any]) -> dict[str, Any]:
        folder, name = self.folder / "alpaca-eval", self.fits.name_of(row)
        reference = self.inputs.alpaca_eval

        def answers() -> dict[str, Any]:
            path = measures.answer_alpaca_eval(
                self.dspa, self.inputs, self.settings, folder, self._method(row)
            )
            return {"answers": path.name}

        self._part("alpaca-eval-answers", key, answers)
        judge = self.judges.alpaca_eval
        if judge is None:
            return {}
        return self._part(
            "alpaca-eval",
            key | {"judge": judge.name},
            lambda: measures.rate_alpaca_eval(folder / f"{name}.json", reference, judge),
        )

    def _multiple_choice(self, row: Row, key: dict[str, Any]) -> dict[str, Any]:
        return self._part(
            "multiple-choice",
            key,
            lambda: measures.measure_choices(
                self.dspa, self.inputs.tasks, self.settings, self._method(row)
            ),
        )

    def _method(self, row: Row) -> Any:
        return self.fits.method(row)

    def _part(
        self, what: str, key: dict[str, Any], make: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """A part that is kept, or that is made now and kept."""
        whole = {**self.key, **key}
        found = self.parts.get(what, whole)
        if found is None:
            say(f"{what}: {key['row']}", self.progress)
            started = time.perf_counter()
            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats()
            found = make()
            if torch.cuda.is_available():
                found["gpu_bytes"] = torch.cuda.max_memory_allocated()
            self.parts.put(what, whole, found, time.perf_counter() - started)
        most = int(found.get("gpu_bytes", 0))
        if most:
            slug = str(key["row"])
            self.gpu_bytes[slug] = max(most, self.gpu_bytes.get(slug, 0))
        return found
