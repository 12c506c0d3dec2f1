"""The demo from end to end: load, fit, match the controls, measure, print, write the report."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from dspa_nn.demo import report, show
from dspa_nn.demo.measure import measure
from dspa_nn.demo.setup import matched_controls, tuned_and_paper
from dspa_nn.demo.verdict import differences, verdicts
from dspa_nn.evaluation.latents import encode
from dspa_nn.files import write_atomically
from dspa_nn.steering.dspa import DSPA
from dspa_nn.triples import DemoRow, read_demo_rows, take_demo_rows

PRESET = "smollm2-135m-instruct"
CONTROL_ANSWERS = 20


def run_demo(
    out: Path,
    *,
    n_fit: int = 250,
    n_test: int = 50,
    max_new_tokens: int = 32,
    seed: int = 0,
    console: Any = None,
    dspa: DSPA | None = None,
    rows: Sequence[DemoRow] | None = None,
) -> dict[str, Any]:
    """Fit a map on embedded triples, steer held-out prompts, and print the measured effect.

        report = run_demo(Path("demo"))

    Args:
        out: folder for `report.json`. n_fit, n_test: triples to fit on and prompts to steer.
        max_new_tokens: length of the answers. seed: of bootstraps and permutations.
        console: a rich console. dspa, rows: in place of the embedded model and triples.

    Returns:
        What `report.json` holds.
    """
    console = console or Console()
    seconds: dict[str, float] = {}
    show.section(
        console,
        "DSPA demo",
        "Personal messages should be answered warmly, factual questions formally. A map is fitted "
        "on\npairs of answers, and then steers the model on prompts that it has not seen.",
    )
    with clock(seconds, "load"):
        dspa = DSPA.from_preset(PRESET) if dspa is None else dspa
        rows = read_demo_rows() if rows is None else rows
        fitting, test = take_demo_rows(rows, "fit", n_fit), take_demo_rows(rows, "test", n_test)
        development = take_demo_rows(rows, "dev")
        console.print(str(dspa), highlight=False)
    with clock(seconds, "fit"):
        counts = dspa.count([row.triple for row in fitting])
        tuned, paper = tuned_and_paper(dspa, counts)
        console.print(str(tuned.map), highlight=False)
    with clock(seconds, "match controls"):
        codes = encode(dspa, [row.triple for row in development])
        controls, matches = matched_controls(codes, counts, tuned, seed)
        del codes  # the largest array of the demo
    few = min(CONTROL_ANSWERS, len(test))
    conditions = [(tuned, len(test)), (paper, len(test))]
    conditions += [(control, few) for control in controls.values()]
    with clock(seconds, "measure"), bars(console, len(test), conditions) as advance:
        outcomes = measure(dspa, test, conditions, max_new_tokens, advance)
    of_controls = dict(zip(controls, outcomes[3:], strict=True))
    gaps = differences(outcomes[1], of_controls, seed)
    judged = verdicts(outcomes[1], of_controls, test, seed)
    latents = report.edits_by_kind(outcomes[1], test)
    found = {
        "schema": "dspa_nn.demo",
        "version": 1,
        "versions": report.versions(),
        "provenance": dspa.provenance(),
        "triples": {"fit": len(fitting), "dev": len(development), "test": len(test)},
        "max_new_tokens": max_new_tokens,
        "seed": seed,
        "settings": {condition.name: report.settings(condition) for condition, _ in conditions},
        "matched_on_dev": {controls[key].name: own.to_dict() for key, own in matches.items()},
        "conditions": {own.name: report.figures(own, test, seed) for own in outcomes},
        "map_less_control": {key: gap.to_dict() for key, gap in gaps.items()},
        "verdicts": [vars(own) for own in judged],
        "edited_latents": latents,
        "answers": report.answers(outcomes, test),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "peak_memory_gb": round(report.peak_memory(), 2),
    }
    write_atomically(Path(out) / "report.json", json.dumps(found, indent=1, allow_nan=False))

    show.examples(console, test, outcomes[0], outcomes[1])
    show.latents(console, outcomes[1], latents)
    show.tables(console, outcomes, test, seed)
    show.matches(console, {controls[key].name: own for key, own in matches.items()})
    show.paired(console, gaps, {key: own.name for key, own in controls.items()})
    show.judged(console, judged)
    show.timings(console, seconds, found["peak_memory_gb"])
    console.print(f"Every figure is in {Path(out) / 'report.json'}", highlight=False)
    return found


@contextmanager
def clock(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Note how long a stage takes."""
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


@contextmanager
def bars(
    console: Console, rows: int, conditions: Sequence[tuple[Any, int]]
) -> Iterator[Callable[[str, float], None]]:
    """Progress of the margin passes and of the answers; nothing where it is no terminal."""
    bar = Progress(
        TextColumn("{task.description:<9}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    tasks = {
        "margins": bar.add_task("margins", total=2 * rows * (1 + len(conditions))),
        "answers": bar.add_task("answers", total=rows + sum(few for _, few in conditions)),
    }
    with bar:
        yield lambda name, done: bar.update(tasks[name], advance=done)
