"""A reproduction from end to end: pins, inputs, fits, figures, report; each step kept on disk."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dspa_nn.costs import cost_table, preset_costs
from dspa_nn.errors import EvaluationError
from dspa_nn.files import as_path, require_folder
from dspa_nn.judges import Endpoint, Judge, ReplyCache
from dspa_nn.models import Preset, get_preset, torch_module
from dspa_nn.progress import say
from dspa_nn.provenance import package_versions
from dspa_nn.reproduce.fits import Fits, training_commands
from dspa_nn.reproduce.judge_stub import NAME, judge_stub
from dspa_nn.reproduce.pins import pins_of, resolve
from dspa_nn.reproduce.record import SCHEMA, VERSION, Record
from dspa_nn.reproduce.report import write_report
from dspa_nn.reproduce.rows import Measuring
from dspa_nn.reproduce.settings import FITTED, Judges, Settings, Sources, rows_of, steps_of
from dspa_nn.reproduce.setup import load_dspa, load_inputs
from dspa_nn.reproduce.stand_in import SETTINGS, stand_in_dspa, stand_in_sources
from dspa_nn.reproduce.tables import Row, published
from dspa_nn.steering import DSPA

_RUNS_OPTIONS = "the options of that run"


@dataclass(frozen=True)
class Reproduction:
    """What came out of a run.

    Attributes:
        figures: every figure beside the published one, as plain values: what the JSON holds.
        page, json: the files that were written.
    """

    figures: dict[str, Any]
    page: Path
    json: Path

    @property
    def measured(self) -> int:
        """How many figures stand beside a published one."""
        return sum(
            figure["ours"] is not None
            for row in self.figures["rows"]
            for figure in row["figures"].values()
        )

    def __str__(self) -> str:
        notes = "".join(f"\n  {note}" for note in self.figures["notes"])
        return f"{self.measured} figures beside the published ones{notes}"


def reproduce(
    preset: str,
    out: str | os.PathLike[str],
    *,
    rows: Sequence[str] = (),
    steps: Sequence[str] = (),
    settings: Settings | None = None,
    sources: Sources | None = None,
    judges: Judges | None = None,
    stand_in: bool = False,
    progress: bool | None = None,
) -> Reproduction:
    """Measure rows of the paper's tables on one model, and write them beside the published ones.

    Example:
        >>> done = reproduce("gemma-2-2b", "out", rows=["main-dspa"], steps=["maps"],
        ...                  stand_in=True, progress=False)
        >>> done.page.as_posix(), done.measured
        ('out/report.html', 0)

    Every step leaves whole files in `out`; a run that was cut off goes on from there when the same
    call is made again, and one without judges is rated by a later call that names them.

    Args:
        preset: of a model that the paper reports on.
        out: the run's folder.
        rows: slugs of rows, such as "main-dspa"; none takes all. Rows that need training are left
            out, with the commands that train them, unless `sources.trained` names a folder.
        steps: of `STEPS`; none takes all.
        settings: what is measured, and how. sources: where inputs are. judges: who rates.
        stand_in: a tiny random model of the same architecture, a few questions of our own, and a
            judge that rates by a hash: all of the path, and figures that mean nothing.
        progress: as for `DSPA.count`.

    Raises:
        EvaluationError: no such row or step, a folder of another run, or inputs that are not to be
            had.
        DSPAError: what loading, counting, judging or writing raises.
    """
    chosen = get_preset(preset)
    wanted, asked = rows_of(preset, tuple(rows)), steps_of(tuple(steps))
    folder = as_path(out)
    require_folder("out", folder)
    if not stand_in:
        plan = _Plan(chosen, folder, wanted, asked, settings or Settings(), False)
        return _go(plan, sources or Sources(), judges or Judges(), progress)
    if sources is not None:
        raise EvaluationError("sources came with stand_in=True, which has its own; leave one out")
    plan = _Plan(chosen, folder, wanted, asked, settings or SETTINGS, True)
    trained = [row.slug for row in wanted if row.method not in FITTED]
    own = stand_in_sources(folder / "stand-in", chosen, trained)
    with judge_stub() as url:
        judge = Judge(Endpoint(url, NAME), ReplyCache(folder / "stand-in" / "replies.jsonl"))
        return _go(plan, own, judges or Judges(judge, judge), progress)


@dataclass(frozen=True)
class _Plan:
    """What was asked for."""

    preset: Preset
    folder: Path
    rows: list[Row]
    steps: tuple[str, ...]
    settings: Settings
    stand_in: bool


def _go(plan: _Plan, sources: Sources, judges: Judges, progress: bool | None) -> Reproduction:
    notes = _notes(plan, sources, judges)
    record = Record(plan.folder)
    record.agree(_identity(plan, sources), _RUNS_OPTIONS)
    commits: dict[str, str] = {}
    if not plan.stand_in:
        commits = resolve(pins_of(plan.preset, sources, plan.steps), record.get("commits") or {})
        record.note({"commits": {**(record.get("commits") or {}), **commits}})
    say(f"loading {plan.preset.name}{', a stand-in' if plan.stand_in else ''}", progress)
    own = plan.preset
    dspa = stand_in_dspa(own) if plan.stand_in else load_dspa(own, sources, commits)
    inputs = load_inputs(sources, plan.settings, plan.folder, commits)
    origin = dspa.provenance()
    names = ("weights", "input_sae_sha256", "output_sae_sha256", "template_sha256")
    seen = {name: origin.get(name) for name in names} | {"triples": inputs.triples.sha256}
    record.agree({"seen": seen}, "the model, SAEs and triples of that run")
    fits = Fits(
        dspa, inputs.triples, plan.settings, plan.folder / "fits", sources.trained, progress
    )
    if "maps" in plan.steps:
        fits.write_triples(plan.folder / "data")
        for row in plan.rows:
            if row.method in FITTED:
                say(f"fitting {row.slug}", progress)
                fits.method(row)
    measuring = Measuring(
        dspa, inputs, fits, judges, plan.settings, plan.folder,
        {"seen": seen, "settings": plan.settings.to_dict()}, progress,
    )  # fmt: skip

    costs = _costs(plan, dspa, measuring) if "cost" in plan.steps else None

    def report() -> Reproduction:
        told = {"notes": notes, "commits": commits, "origin": origin, "costs": costs}
        return _report(plan, judges, measuring, told)

    for row in plan.rows:
        measuring.measure(row, plan.steps)
        report()
    return report()


def _identity(plan: _Plan, sources: Sources) -> dict[str, Any]:
    """What a later call into the same folder must agree on; rows, steps and judges may change."""
    named = ("model", "input_sae", "output_sae", "triples", "mt_bench", "alpaca_eval")
    return {
        "preset": plan.preset.name,
        "stand_in": plan.stand_in,
        "settings": plan.settings.to_dict(),
        "sources": {
            name: None if getattr(sources, name) is None else str(getattr(sources, name))
            for name in named
        },
    }


def _costs(plan: _Plan, dspa: DSPA, measuring: Measuring) -> dict[str, Any]:
    """The table of `dspa bench`: of the preset's model, or of the tiny one in its place."""
    key = {"preset": plan.preset.name, "stand_in": plan.stand_in}
    found = measuring.parts.get("cost", key)
    if found is None:
        started = time.perf_counter()
        if plan.stand_in:
            found = cost_table(
                torch_module(dspa.model).config, [(20, 30, 30)], name=dspa.facts.model_id,
                input_layer=dspa.input_layer, output_layer=dspa.output_layer,
                d_in=dspa.input_sae.width, d_out=dspa.output_sae.width,
            ).to_dict()  # fmt: skip
        else:
            found = preset_costs(plan.preset.name).to_dict()
        measuring.parts.put("cost", key, found, time.perf_counter() - started)
    return found


def _notes(plan: _Plan, sources: Sources, judges: Judges) -> list[str]:
    """Sentences on rows that cannot be measured, and on answers that nobody rates."""
    notes: list[str] = []
    model = sources.model or plan.preset.model_id
    for row in plan.rows:
        if row.method not in FITTED and row.slug not in sources.trained:
            commands = "; ".join(training_commands(row, str(plan.folder), model))
            notes.append(
                f"{row.slug} needs training, and was left out: {commands}; then --trained "
                f"{row.slug}={row.slug}"
            )
    for step, judge in (("mt-bench", judges.mt_bench), ("alpaca-eval", judges.alpaca_eval)):
        if step in plan.steps and judge is None:
            notes.append(f"{step}: answers alone, since no judge was named")
    if plan.settings.questions is not None or plan.settings.triples is not None:
        notes.append("a trial: only some of the triples or questions were taken")
    return notes


def _report(
    plan: _Plan, judges: Judges, measuring: Measuring, told: Mapping[str, Any]
) -> Reproduction:
    body = {
        "schema": SCHEMA, "version": VERSION, "preset": plan.preset.name,
        "stand_in": plan.stand_in, "settings": plan.settings.to_dict(), **told,
        "judges": {name: judge.name for name, judge in vars(judges).items() if judge is not None},
        "seconds": measuring.seconds, "gpu_bytes": measuring.gpu_bytes,
        "versions": package_versions(),
    }  # fmt: skip
    known = published(plan.preset.name)
    results = {row.slug: measuring.results.get(row.slug, {}) for row in plan.rows}
    return Reproduction(*write_report(body, results, known, plan.folder))
