"""Tuning from end to end: count once, screen by ranking, search by steered margin, report."""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from dspa_nn.checks import check_positive_int
from dspa_nn.errors import EvaluationError
from dspa_nn.evaluation import accuracy, answer, margins, surprise
from dspa_nn.files import as_path, require_folder, write_atomically
from dspa_nn.progress import say, show_progress
from dspa_nn.steering import DSPA, LayerSweep
from dspa_nn.triples import Preference, PreferenceTriple, as_triples, demo_triples, shared
from dspa_nn.tuning.plot import drawn, png
from dspa_nn.tuning.region import Region, region_of
from dspa_nn.tuning.report import report_of, told
from dspa_nn.tuning.space import Space, Trial, Vote
from dspa_nn.tuning.study import Study, alone
from dspa_nn.tuning.subject import Subject, hashes

# Settings that are measured together: the model runs up to the output layer once for all of them.
BATCH = 8


@dataclass(frozen=True)
class Tuning:
    """What a search found.

    Attributes:
        region: settings as good as the best; None where none was within the limits.
        trials: everything that was measured.
        screened: ways to vote by the share of development triples that they rank rightly.
        report: all of it as plain values: what `tuning.json` holds.
        json: that file. picture: `front.png`, or None where matplotlib is missing.
        drawing: the plot as text.
    """

    region: Region | None
    trials: list[Trial]
    screened: list[tuple[Vote, float]]
    report: dict[str, Any]
    json: Path
    picture: Path | None
    drawing: str

    def __str__(self) -> str:
        return "\n".join([self.drawing, "", *told(self.region, len(self.trials))])


def tune(
    built: DSPA | LayerSweep,
    fitting: Sequence[PreferenceTriple],
    development: Sequence[PreferenceTriple],
    out: str | os.PathLike[str],
    *,
    space: Space | None = None,
    trials: int = 64,
    keep: int = 2,
    kl: float = 0.15,
    perplexity: float | None = 1.3,
    answers: int = 30,
    max_new_tokens: int = 32,
    seed: int = 0,
    progress: bool | None = None,
) -> Tuning:
    """Choose settings by what steers best on development triples, within limits on damage.

    Example:
        >>> found = tune(dspa, triples[:14], triples[14:], "tuning", trials=4, kl=9.0,
        ...              perplexity=None, space=Space(percentile=(50,)), progress=False)
        >>> found.region.best.damage <= 9.0
        True
        >>> sorted(found.report["settings"])
        ['fit', 'layers', 'steer']

    The model counts both sets once. First every way of counting and voting, for every pair of
    layers, is ranked by the share of development triples that its map ranks rightly, which costs
    no run of the model; the best `keep` of each prompt rule go on. Then a tree-structured Parzen
    estimator searches these with k_diff, mode and alpha for the largest mean change of the margin
    whose KL is within the limit. Trials are kept in a journal, so that a run goes on where it was
    cut off, and more `trials` add to it.

    Args:
        built: the model with its SAEs, or with SAEs at several layers.
        fitting: triples that maps are fitted on. development: others, on which settings are
            compared. Triples for a test have no place here.
        out: folder for the study, `tuning.json` and `front.png`.
        space: what may be chosen; None, everything usual.
        trials: settings that are measured by steering, in all runs together.
        keep: ways to vote that go on, of each prompt rule.
        kl: the most nats of KL(unsteered || steered) per token.
        perplexity: the highest ratio of the perplexity of greedy answers, under the unsteered
            model, to that of its own. The best setting and the gentlest that is as good are looked
            at; one that fails is left out, and the next is looked at. None does without.
        answers: how many answers are looked at for that.
        max_new_tokens: their length.
        seed: of the search and of bootstraps.
        progress: as for `DSPA.count`.

    Raises:
        EvaluationError: a triple in both sets, a test triple of the package's own sets, limits
            that are none, or a folder that holds the
            search of something else or is being written to by another run.
    """
    started = time.perf_counter()
    space = Space() if space is None else space
    fitting, development = check_search(
        fitting, development, trials=trials, keep=keep, kl=kl, perplexity=perplexity
    )
    require_folder("out", as_path(out))
    with alone(as_path(out)):
        subject = Subject(built, fitting, development, out, progress)
        screened = _screen(subject, space)
        votes = _kept(screened, keep)
        key = {**hashes(subject), "keep": keep, "seed": seed, "kl": kl}
        study = Study(out, space, {vote.label: vote for vote in votes}, key=key, kl=kl, seed=seed)
        _search(subject, study, trials, progress)
        measured = study.trials
        region = region_of(measured, kl, seed)
        if region is not None and perplexity is not None:
            region = _fluent_region(
                subject, measured, kl, perplexity, answers, max_new_tokens, seed
            )
    drawing = drawn(measured, region, kl)
    folder = as_path(out)
    image = png(measured, region, kl)
    if image is not None:
        write_atomically(folder / "front.png", image)
    limits = {"kl": kl, "perplexity": perplexity}
    sizes = {"fit": len(fitting), "dev": len(development)}
    report = report_of(subject, space, screened, measured, region, limits, sizes, seed)
    report["seconds"] = round(time.perf_counter() - started, 1)
    path = folder / "tuning.json"
    write_atomically(path, json.dumps(report, indent=1, allow_nan=False))
    picture = None if image is None else folder / "front.png"
    return Tuning(region, measured, screened, report, path, picture, drawing)


def check_search(
    fitting: Sequence[PreferenceTriple],
    development: Sequence[PreferenceTriple],
    *,
    trials: int,
    keep: int,
    kl: float,
    perplexity: float | None,
) -> tuple[Sequence[PreferenceTriple], Sequence[PreferenceTriple]]:
    """Refuse what `tune` would, before a model is loaded; both sets as triples.

    >>> limits = {"trials": 4, "keep": 2, "kl": 0.15, "perplexity": 1.3}
    >>> fitting, development = check_search(triples[:14], triples[14:], **limits)
    >>> len(fitting)
    14

    Raises:
        EvaluationError: as of `tune`.
    """
    for name, value in (("trials", trials), ("keep", keep)):
        check_positive_int(name, value, EvaluationError)
    if not kl > 0 or (perplexity is not None and not perplexity >= 1):
        raise EvaluationError(
            f"the limits are {kl} nats of KL and a perplexity ratio of {perplexity}; give more "
            "than 0 nats and a ratio of at least 1, or None for none"
        )
    fitting, development = as_triples(fitting), as_triples(development)
    if len(development) < 2 or not fitting:
        raise EvaluationError(
            f"{len(fitting)} fitting and {len(development)} development triples came; give at "
            "least one to fit on and two to compare settings on"
        )
    same, _ = shared(development, fitting)
    if same:
        raise EvaluationError(
            f"{len(same)} of {len(development)} development triples are fitting triples too, the "
            f"first of them number {same[0]}; leave them out of one of the two"
        )
    for what, triples in (("fitting", fitting), ("development", development)):
        for name in get_args(Preference):
            same, _ = shared(triples, demo_triples("test", name))
            if same:
                raise EvaluationError(
                    f"{len(same)} of {len(triples)} {what} triples are test triples of the "
                    f"package's set {name!r}, the first of them number {same[0]}; leave them out, "
                    "since what settings were chosen on cannot measure them"
                )
    return fitting, development


def _screen(subject: Subject, space: Space) -> list[tuple[Vote, float]]:
    """Every way to vote by the share of development triples that its map ranks rightly."""
    found: list[tuple[Vote, float]] = []
    for vote in space.votes(subject.pairs):
        map, held_out = subject.map(vote, space.k_diff[0]), subject.held_out[vote.layers]
        rule: Any = {"prompt_rule": vote.prompt_rule, "k_prompt": vote.k_prompt}
        found.append((vote, float(accuracy(map, held_out, **rule).mean())))
    return sorted(found, key=lambda pair: -pair[1])


def _kept(screened: Sequence[tuple[Vote, float]], keep: int) -> list[Vote]:
    """The best of each prompt rule."""
    kept: list[Vote] = []
    for vote, _ in screened:
        if sum(one.prompt_rule == vote.prompt_rule for one in kept) < keep:
            kept.append(vote)
    return kept


def _search(subject: Subject, study: Study, trials: int, progress: bool | None) -> None:
    done = len(study.trials)
    if done:
        say(f"{done} settings were measured before", progress)
    with show_progress("settings", trials, "", progress) as advance:
        advance(min(done, trials))
        while done < trials:
            asked = study.ask(min(BATCH, trials - done))
            if not asked:
                say(f"the space is used up after {done} settings", progress)
                return
            for layers in sorted({choice.vote.layers for _, choice in asked}):
                mine = [(n, choice) for n, choice in asked if choice.vote.layers == layers]
                methods = [subject.method(choice) for _, choice in mine]
                _, *found = margins(subject.dspa(layers), subject.development, methods)
                for (number, choice), one in zip(mine, found, strict=True):
                    measured = Trial(
                        choice, one.chosen.change.tolist(), one.rejected.change.tolist(),
                        one.kl.tolist(), float(one.edits.mean()), float(one.share.mean()),
                    )  # fmt: skip
                    study.tell(number, measured)
            done += len(asked)
            advance(len(asked))


def _fluent_region(
    subject: Subject,
    trials: list[Trial],
    kl: float,
    limit: float,
    count: int,
    max_new_tokens: int,
    seed: int,
) -> Region | None:
    """The region of the trials whose answers stay fluent; None where it has none.

    Of every region its best and its gentlest trial are looked at, until both stay fluent; what was
    looked at keeps its ratio, in `trials` too.
    """
    dspa = subject.dspa(subject.pairs[0])
    prompts = [dspa.render(one.prompt) for one in subject.development[:count]]
    plain = surprise(dspa, prompts, answer(dspa, prompts, max_new_tokens=max_new_tokens))
    left = list(range(len(trials)))
    while (region := region_of([trials[place] for place in left], kl, seed)) is not None:
        found = [
            one for one in (region.best, region.gentlest) if "perplexity_ratio" not in one.extra
        ]
        if not found:
            return region
        place = next(place for place in left if trials[place] is found[0])
        method = subject.method(found[0].choice)
        said = answer(dspa, prompts, method, max_new_tokens=max_new_tokens)
        ratio = float(np.exp(np.nanmean(surprise(dspa, prompts, said) - plain)))
        known = {"perplexity_ratio": ratio if np.isfinite(ratio) else None}
        trials[place] = replace(found[0], extra=known)
        if not ratio <= limit:
            left.remove(place)
    return None
