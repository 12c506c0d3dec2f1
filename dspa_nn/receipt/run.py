"""A receipt from end to end: read and check, match controls, measure, judge, write."""

import datetime
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dspa_nn.baselines import INSTRUCTION
from dspa_nn.checks import check_positive_int, check_temperature
from dspa_nn.errors import EvaluationError
from dspa_nn.files import Parts, as_path, write_atomically
from dspa_nn.maps import ConditionalDifferenceMap
from dspa_nn.provenance import package_versions
from dspa_nn.receipt.claims import Verdict
from dspa_nn.receipt.figures import Measured, map_less, of_method, plain
from dspa_nn.receipt.inputs import Source, read_inputs
from dspa_nn.receipt.measuring import measure_all
from dspa_nn.receipt.methods import compared, settings_of, target
from dspa_nn.receipt.page import page_of
from dspa_nn.receipt.scores import ABOUT, SCORES
from dspa_nn.receipt.verdicts import in_short, verdicts
from dspa_nn.steering import DSPA, DSPAMethod, SteeringOptions
from dspa_nn.triples import PreferenceTriple

SCHEMA, VERSION = "dspa_nn.receipt", 1


@dataclass(frozen=True)
class Receipt:
    """What a map does, what it damages, and whether anything simpler does the same.

    Attributes:
        report: every figure, as plain values: what `receipt.json` holds.
        verdicts: claims in words, each with whether it holds.
        page, json: the files that were written.
    """

    report: dict[str, Any]
    verdicts: list[Verdict]
    page: Path
    json: Path

    def __str__(self) -> str:
        words = {True: " yes", False: "  no", None: "open"}
        lines = [f"{words[verdict.holds]}  {verdict.text}" for verdict in self.verdicts]
        return "\n".join([self.report["in_short"], "", *lines])


def evaluate(
    dspa: DSPA,
    map: ConditionalDifferenceMap,
    triples: Source,
    out: str | os.PathLike[str],
    *,
    name: str = "a map",
    dev: Source | None = None,
    dev_share: float = 0.3,
    fitted_on: Source | None = None,
    options: SteeringOptions | None = None,
    instruction: str = INSTRUCTION,
    paraphrases: str | os.PathLike[str] | None = None,
    multiple_choice: str | os.PathLike[str] | None = None,
    max_new_tokens: int = 32,
    temperature: float = 0.7,
    limit: int | None = None,
    questions: int | None = None,
    chat: bool = False,
    seed: int = 0,
    progress: bool | None = None,
) -> Receipt:
    """Measure a map on held-out triples, and write `receipt.html` and `receipt.json`.

    Example:
        >>> receipt = evaluate(dspa, map, triples[:12], "receipt", dev=triples[12:],
        ...                    max_new_tokens=3, progress=False)
        >>> sorted(path.name for path in Path("receipt").iterdir())
        ['parts', 'receipt.html', 'receipt.json']
        >>> receipt.verdicts[0].claim
        'margin'

    Finished parts are kept in `out/parts`, each under a hash of all that it depends on, so that a
    run that was cut off goes on, and one that is repeated with a further file measures that alone.

    Args:
        dspa: the model and its SAEs. map: fitted with them.
        triples: held-out preferences, which alone are reported on: whatever `load_triples` takes.
        out: folder for the page, the JSON and the parts.
        name: the map's, on the page.
        dev: development triples, on which the controls are matched in strength. Without any, a
            `dev_share` of the held-out ones, drawn by the seed, is taken for it.
        fitted_on: the triples that the map was fitted on: held-out ones among them are refused, and
            control (b)'s densities and control (d)'s difference are theirs, else those of `dev`.
        options: settings of the steering; those left out take the map's or the preset's values.
        instruction: what the prompt prefix says; "" leaves it out.
        paraphrases: JSON Lines of `prompt` and `paraphrase`.
        multiple_choice: JSON Lines of questions (`evaluation.load_choices`).
        max_new_tokens: length of an answer.
        temperature: of the sampled answers.
        limit: held-out triples at most.
        questions: questions at most.
        chat: lift string prompts to chat messages.
        seed: of bootstraps, permutations and samples.
        progress: as for `DSPA.count`.

    Raises:
        EvaluationError: triples in two of the sets or among the map's own, none that fit the
            context, files in another layout, or a folder with the receipt of another map.
        MapError: a map of another model or SAE.
        FileError: `out` is a file, or cannot be written.
    """
    check_positive_int("max_new_tokens", max_new_tokens, EvaluationError)
    check_temperature(temperature, EvaluationError)
    if not temperature:
        raise EvaluationError(
            f"temperature is {temperature!r}; give a number above 0, since greedy answers are "
            "measured in any case"
        )
    started = time.perf_counter()
    parts = Parts(out)
    tuned = target(dspa, map, options)
    _check_same_map(as_path(out) / "receipt.json", tuned)
    inputs = read_inputs(
        dspa, map, triples, dev=dev, dev_share=dev_share, fitted_on=fitted_on,
        paraphrases=paraphrases, multiple_choice=multiple_choice, limit=limit,
        items_limit=questions, chat=chat, spare=instruction, seed=seed,
    )  # fmt: skip
    methods, matches = compared(dspa, tuned, inputs, instruction, parts, seed, progress)
    measured = measure_all(
        dspa, inputs, methods, matches, parts, max_new_tokens, temperature, seed, progress
    )
    judged = verdicts(measured)
    settings = {
        "seed": seed, "max_new_tokens": max_new_tokens, "temperature": temperature,
        "instruction": instruction,
    }  # fmt: skip
    report = report_of(name, dspa, tuned, measured, judged, settings)
    report["seconds"] = {
        **{what: round(seconds, 1) for what, seconds in parts.seconds.items()},
        "this run": round(time.perf_counter() - started, 1),
    }
    folder = as_path(out)
    write_atomically(
        folder / "receipt.json", json.dumps(report, indent=1, allow_nan=False, ensure_ascii=False)
    )
    write_atomically(folder / "receipt.html", page_of(measured, report, judged))
    return Receipt(report, judged, folder / "receipt.html", folder / "receipt.json")


def _check_same_map(path: Path, tuned: DSPAMethod) -> None:
    """Refuse to write over the receipt of another map, or over something else."""
    if not path.exists():
        return
    try:
        known: Any = json.loads(path.read_text(encoding="utf-8"))
        name, before = known["name"], known["map"]["settings"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        raise EvaluationError(
            f"{path} is no receipt, or a damaged one; remove it, or give another folder"
        ) from None
    if before != settings_of(tuned)["sha256"]:
        raise EvaluationError(
            f"{path.parent} holds the receipt of another map, {name!r}; give another folder"
        )


def report_of(
    name: str,
    dspa: DSPA,
    tuned: DSPAMethod,
    measured: Measured,
    judged: list[Verdict],
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Every figure as plain values; docs/howto/evaluate.md lists the keys."""
    sampled = measured.sampled
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "name": name,
        "in_short": in_short(measured, judged),
        "verdicts": [verdict.to_dict() for verdict in judged],
        "map": {"settings": settings_of(tuned), "provenance": tuned.map.provenance},
        "model": dspa.provenance(),
        "data": {**measured.inputs.about, "notes": measured.inputs.notes},
        "settings": settings,
        "scores": {
            name: {"about": ABOUT[name], "judged": name in measured.scores} for name in SCORES
        },
        "matched_on_dev": {one: match.to_dict() for one, match in measured.matches.items()},
        "methods": {one.name: of_method(measured, one) for one in measured.outcomes},
        "unsteered": {
            "values": {figure: plain(values) for figure, values in measured.plain.items()},
            **(
                {"multiple_choice": measured.right("unsteered").to_dict()}
                if measured.choices
                else {}
            ),
        },
        "map_less": {one.name: map_less(measured, one) for one in measured.others},
        "rewritten": {
            one.rewrite.name: {
                "about": one.rewrite.about,
                "n": len(one.rewrite.rows),
                "margin": one.effect.to_dict(),
                "less_as_given": one.less.to_dict(),
                "worse": one.worse.to_dict(),
            }
            for one in measured.under
        },
        "sampled": {
            "perplexity_ratio": sampled.interval("log_perplexity_change", measured.seed)
            .exp()
            .to_dict(),
            "distinct_2_change": sampled.interval("distinct_2_change", measured.seed).to_dict(),
            "loops_change": sampled.interval("loops_change", measured.seed).to_dict(),
            "toward_preferred": {
                score: interval.to_dict() for score, interval in measured.moved(sampled).items()
            },
            "branching_factor": {
                what: interval.to_dict() for what, interval in measured.branching().items()
            },
        },
        "answers": [
            {"prompt": _asked(triple), **{one: texts[at] for one, texts in measured.texts.items()}}
            for at, triple in enumerate(measured.inputs.test)
        ],
        "versions": package_versions(),
        "written": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _asked(triple: PreferenceTriple) -> Any:
    prompt = triple.prompt
    return prompt if isinstance(prompt, str) else [dict(message) for message in prompt]
