"""The demo from end to end: load, fit, match the controls, measure, print, write the report."""

import json
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from dspa_nn.demo import examples, forest, report, show, tables
from dspa_nn.demo.measure import measure
from dspa_nn.demo.sets import SHOWN, DemoSet, find_set
from dspa_nn.demo.setup import tuned_and_paper
from dspa_nn.demo.verdict import judged, verdicts
from dspa_nn.evaluation import Match, Outcome, encode, matched_controls, promoted_tokens
from dspa_nn.files import as_path, require_folder, write_atomically
from dspa_nn.progress import quiet_loaders
from dspa_nn.provenance import package_versions
from dspa_nn.receipt import Verdict
from dspa_nn.saes import meanings_of
from dspa_nn.steering import DSPA, DSPAMethod
from dspa_nn.triples import DemoRow, take_demo_rows

PRESET = "smollm2-135m-instruct"
# Latents that are shown with their words, and words of each.
_LATENTS, _WORDS = 10, 6


class Measured(NamedTuple):
    """One set of triples, measured: what is printed and what goes into the report."""

    shown: DemoSet
    rows: list[DemoRow]
    triples: dict[str, int]
    methods: list[DSPAMethod]
    matches: dict[str, Match]
    outcomes: list[Outcome]
    verdicts: list[Verdict]


def run_demo(
    out: Path,
    *,
    sets: Sequence[str | DemoSet] = SHOWN,
    n_fit: int = 250,
    n_test: int = 50,
    max_new_tokens: int = 32,
    seed: int = 0,
    console: Console | None = None,
    dspa: DSPA | None = None,
    words: Mapping[int, str] | None = None,
) -> dict[str, Any]:
    """Fit a map on embedded triples, steer held-out prompts, and print the measured effect.

    Example:
        >>> report = run_demo(Path("demo"))  # doctest: +SKIP

    Args:
        out: folder for `report.json`, and for a picture of each set.
        sets: which sets of triples to show, by name (`demo/sets.py`).
        n_fit: triples to fit on.
        n_test: held-out prompts to steer.
        max_new_tokens: length of the answers.
        seed: of bootstraps and permutations.
        console: where it prints; None is standard output, at 80 columns or more.
        dspa: in place of the embedded model.
        words: what output latents mean, to be printed beside them; None prints the tokens that
            each makes likelier by itself (`evaluation.promoted_tokens`).

    Returns:
        What `report.json` holds; docs/demo.md lists its keys.

    Raises:
        DSPAError: no such set, or an empty split.
    """
    require_folder("out", as_path(out))
    wanted = [find_set(one) if isinstance(one, str) else one for one in sets]
    console = show.terminal() if console is None else console
    seconds: dict[str, float] = {}
    show.section(
        console,
        "DSPA demo",
        "A map is fitted on pairs of answers, a preferred and a rejected one, and then steers the "
        "model on prompts that it has not seen.",
    )
    with clock(seconds, "load"):
        if dspa is None:
            show.note(console, "Loading the embedded model.")
            with quiet_loaders():
                dspa = DSPA.from_preset(PRESET)
        console.print(str(dspa), highlight=False)
    by_set: dict[str, Any] = {}
    for shown in wanted:
        done = measure_set(dspa, shown, (n_fit, n_test, max_new_tokens), seed, console, seconds)
        by_set[shown.name] = report.of_set(*done, seed=seed)
        told = latents_in_words(dspa, done) if words is None else words
        by_set[shown.name]["words"] = {str(latent): text for latent, text in told.items()}
        picture = as_path(out) / f"{shown.name}.png"
        print_set(console, done, told, picture, seed)
    memory = round(report.peak_memory(), 2)
    figures = {
        "schema": report.SCHEMA,
        "version": report.VERSION,
        "versions": package_versions(),
        "provenance": dspa.provenance(),
        "max_new_tokens": max_new_tokens,
        "seed": seed,
        "sets": by_set,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "peak_memory_gb": memory,
    }
    path = as_path(out) / "report.json"
    write_atomically(path, json.dumps(figures, indent=1, allow_nan=False))
    show.timings(console, seconds, memory)
    console.print(f"Every figure is in {path}", highlight=False)
    return figures


def measure_set(
    dspa: DSPA,
    shown: DemoSet,
    sizes: tuple[int, int, int],
    seed: int,
    console: Console,
    seconds: dict[str, float],
) -> Measured:
    """Fit the maps of one set, match the controls, and measure all of them.

    sizes: triples to fit on, held-out prompts, and tokens of an answer.
    """
    n_fit, n_test, max_new_tokens = sizes
    show.section(console, shown.name.capitalize(), shown.about)
    rows = shown.read()
    fitting, test = take_demo_rows(rows, "fit", n_fit), take_demo_rows(rows, "test", n_test)
    development = take_demo_rows(rows, "dev")
    with clock(seconds, "fit"):
        show.note(console, f"Fitting on {len(fitting)} triples.")
        counts = dspa.count([row.triple for row in fitting])
        tuned, paper = tuned_and_paper(dspa, counts, shown)
        console.print(str(tuned.map), highlight=False)
    with clock(seconds, "match controls"):
        show.note(console, f"Matching the controls on {len(development)} development triples.")
        codes = encode(dspa, [row.triple for row in development])
        controls = matched_controls(codes, counts, tuned, seed).values()
        del codes  # the largest array of the demo
    methods = [tuned, paper, *(control.method for control in controls)]
    with clock(seconds, "measure"):
        show.note(console, f"Measuring {len(methods)} ways to steer {len(test)} held-out prompts.")
        outcomes = measure(dspa, shown, test, methods, max_new_tokens)
    return Measured(
        shown,
        test,
        {"fit": len(fitting), "dev": len(development), "test": len(test)},
        methods,
        {control.method.name: control.match for control in controls},
        outcomes,
        verdicts(outcomes, test, shown, seed),
    )


def latents_in_words(dspa: DSPA, done: Measured) -> dict[int, str]:
    """The latents that were edited most often, by the tokens that each makes likelier."""
    answers = done.outcomes[1].answers
    often = [] if answers is None else list(answers.by_latent())[:_LATENTS]
    table = meanings_of(dspa.output_sae.sha256)
    tokens = promoted_tokens(dspa, [one for one in often if one not in table], most=_WORDS)
    known = {latent: table[latent].promotes if latent in table else tokens[latent]
             for latent in often}  # fmt: skip
    return {latent: ", ".join(words[:_WORDS]) for latent, words in known.items() if words}


def print_set(
    console: Console, done: Measured, words: Mapping[int, str], picture: Path, seed: int
) -> None:
    """Examples, tables, the plot and the verdicts of one set."""
    score, rows, outcomes = done.shown.score, done.rows, done.outcomes
    unsteered, map, *others = outcomes
    examples.texts(console, rows, map)
    examples.answers(console, rows, unsteered, map, score)
    tables.latents(console, map, report.edits_by_kind(map, rows), words, _LATENTS)
    tables.margins(console, outcomes, rows, seed)
    tables.strength(console, outcomes, seed)
    tables.answers(console, outcomes, rows, score, seed)
    tables.matches(console, done.matches)
    tables.paired(console, map, others, score, seed)
    lines = forest.lines_of(outcomes[1:], seed)
    forest.printed(console, lines)
    if forest.pictured(console, lines, picture):
        show.note(console, f"The same as a picture: {picture}")
    judged(console, done.verdicts)


@contextmanager
def clock(seconds: dict[str, float], name: str) -> Generator[None]:
    """Note how long a stage takes, over all sets."""
    start = time.perf_counter()
    yield
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start
