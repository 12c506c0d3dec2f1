"""The demo from end to end: load, fit, match the controls, measure, print, write the report."""

import json
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from dspa_nn.demo import report, show
from dspa_nn.demo.measure import measure
from dspa_nn.demo.setup import matched_controls, tuned_and_paper
from dspa_nn.demo.verdict import differences, verdicts
from dspa_nn.evaluation import encode
from dspa_nn.files import as_path, write_atomically
from dspa_nn.progress import quiet_loaders
from dspa_nn.steering import DSPA, DSPAMethod
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
    console: Console | None = None,
    dspa: DSPA | None = None,
    rows: Sequence[DemoRow] | None = None,
) -> dict[str, Any]:
    """Fit a map on embedded triples, steer held-out prompts, and print the measured effect.

    Example:
        >>> report = run_demo(Path("demo"))  # doctest: +SKIP

    Args:
        out: folder for `report.json`.
        n_fit: triples to fit on.
        n_test: held-out prompts to steer.
        max_new_tokens: length of the answers.
        seed: of bootstraps and permutations.
        console: where it prints; None is standard output, at 80 columns or more.
        dspa: in place of the embedded model.
        rows: in place of the embedded triples.

    Returns:
        What `report.json` holds.
    """
    console = show.terminal() if console is None else console
    seconds: dict[str, float] = {}
    show.section(
        console,
        "DSPA demo",
        "Personal messages should be answered warmly, factual questions formally. A map is fitted "
        "on pairs of answers, and then steers the model on prompts that it has not seen.",
    )
    with clock(seconds, "load"):
        if dspa is None:
            show.note(console, "Loading the embedded model.")
            with quiet_loaders():
                dspa = DSPA.from_preset(PRESET)
        rows = read_demo_rows() if rows is None else rows
        fitting, test = take_demo_rows(rows, "fit", n_fit), take_demo_rows(rows, "test", n_test)
        development = take_demo_rows(rows, "dev")
        console.print(str(dspa), highlight=False)
    with clock(seconds, "fit"):
        show.note(console, f"Fitting on {len(fitting)} triples.")
        counts = dspa.count([row.triple for row in fitting])
        tuned, paper = tuned_and_paper(dspa, counts)
        console.print(str(tuned.map), highlight=False)
    with clock(seconds, "match controls"):
        show.note(console, f"Matching the controls on {len(development)} development triples.")
        codes = encode(dspa, [row.triple for row in development])
        controls, matches = matched_controls(codes, counts, tuned, seed)
        del codes  # the largest array of the demo
    few = min(CONTROL_ANSWERS, len(test))
    methods: list[tuple[DSPAMethod, int]] = [(tuned, len(test)), (paper, len(test))]
    methods += [(control, few) for control in controls.values()]
    with clock(seconds, "measure"):
        show.note(console, f"Measuring {len(methods)} ways to steer {len(test)} held-out prompts.")
        outcomes = measure(dspa, test, methods, max_new_tokens)
    of_controls = dict(zip(controls, outcomes[3:], strict=True))
    gaps = differences(outcomes[1], of_controls, seed)
    judged = verdicts(outcomes[1], of_controls, test, seed)
    latents = report.edits_by_kind(outcomes[1], test)
    memory = round(report.peak_memory(), 2)
    figures = {
        "schema": "dspa_nn.demo",
        "version": 1,
        "versions": report.versions(),
        "provenance": dspa.provenance(),
        "triples": {"fit": len(fitting), "dev": len(development), "test": len(test)},
        "max_new_tokens": max_new_tokens,
        "seed": seed,
        "settings": {method.name: report.settings(method) for method, _ in methods},
        "matched_on_dev": {controls[key].name: match.to_dict() for key, match in matches.items()},
        "conditions": {outcome.name: report.figures(outcome, test, seed) for outcome in outcomes},
        "map_less_control": {key: gap.to_dict() for key, gap in gaps.items()},
        "verdicts": [vars(verdict) for verdict in judged],
        "edited_latents": latents,
        "answers": report.answers(outcomes, test),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "peak_memory_gb": memory,
    }
    write_atomically(as_path(out) / "report.json", json.dumps(figures, indent=1, allow_nan=False))

    show.examples(console, test, outcomes[0], outcomes[1])
    show.latents(console, outcomes[1], latents)
    show.margins(console, outcomes, test, seed)
    show.strength(console, outcomes, test, seed)
    show.answers(console, outcomes, test, seed)
    show.matches(console, {controls[key].name: match for key, match in matches.items()})
    show.paired(console, gaps, {key: control.name for key, control in controls.items()})
    show.judged(console, judged)
    show.timings(console, seconds, memory)
    console.print(f"Every figure is in {as_path(out) / 'report.json'}", highlight=False)
    return figures


@contextmanager
def clock(seconds: dict[str, float], name: str) -> Generator[None]:
    """Note how long a stage takes."""
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start
