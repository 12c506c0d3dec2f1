"""The search on a tiny model: what it reads, resumes, reports and refuses."""

import json
import re
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dspa_nn import demo_triples
from dspa_nn.errors import EvaluationError
from dspa_nn.evaluation import accuracy, bootstrap, margins
from dspa_nn.tuning import Choice, Space, Trial, Vote, commands, front_of, region_of, run, tune
from dspa_nn.tuning.plot import drawn
from dspa_nn.tuning.study import Study, alone
from dspa_nn.tuning.subject import Subject
from tests import eval_zoo
from tests.conftest import REPOSITORY

SPACE = Space(percentile=(50, 90), k_prompt=(8,), k_diff=(2, 4), mode=("ablate", "both"))
TRIPLES = eval_zoo.triples(24)
FIT, DEV = TRIPLES[:14], TRIPLES[14:]
VOTE = Vote((1, 2), 50, "content", "centred", 32)


def tuned(folder, **changes: Any):
    given: dict[str, Any] = {
        "space": SPACE, "trials": 10, "keep": 1, "kl": 9.0, "perplexity": None, "progress": False
    }  # fmt: skip
    built = changes.pop("built", eval_zoo.dspa())
    fit, dev = changes.pop("fit", FIT), changes.pop("dev", DEV)
    return tune(built, fit, dev, folder, **{**given, **changes})


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return tuned(tmp_path_factory.mktemp("tuning"))


@pytest.mark.slow
def test_trials_are_what_the_measures_say(found):
    trial = found.region.best
    method = Subject(eval_zoo.dspa(), FIT, DEV, "", progress=False).method(trial.choice)
    _, steered = margins(eval_zoo.dspa(), DEV, [method])
    assert trial.chosen == pytest.approx(steered.chosen.change, abs=1e-5)
    assert trial.kl == pytest.approx(steered.kl, abs=1e-5)
    assert trial.margin == pytest.approx(steered.change.mean(), abs=1e-5)
    assert len(found.trials) == len({str(one.choice) for one in found.trials}) == 10


@pytest.mark.slow
def test_the_screening_keeps_the_best_of_each_rule_by_ranking(found):
    shares = [share for _, share in found.screened]
    assert shares == sorted(shares, reverse=True)
    vote, share = found.screened[0]
    subject = Subject(eval_zoo.dspa(), FIT, DEV, "", progress=False)
    rule: Any = {"prompt_rule": vote.prompt_rule, "k_prompt": vote.k_prompt}
    own = accuracy(subject.map(vote, 2), subject.held_out[vote.layers], **rule)
    assert share == pytest.approx(own.mean())
    assert len({one.choice.vote for one in found.trials}) <= 3


@pytest.mark.slow
def test_a_run_that_was_cut_off_asks_for_the_same(tmp_path, found, monkeypatch):
    whole, calls = run.margins, []

    def stops(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(*given)

    monkeypatch.setattr(run, "margins", stops)
    with pytest.raises(KeyboardInterrupt):
        tuned(tmp_path)
    monkeypatch.setattr(run, "margins", whole)
    again = tuned(tmp_path)
    assert [one.choice for one in again.trials] == [one.choice for one in found.trials]
    monkeypatch.setattr(run, "margins", None)  # nothing is left to measure
    assert tuned(tmp_path).report["settings"] == found.report["settings"]


@pytest.mark.slow
def test_the_lock_of_a_killed_run_holds_nobody_up(tmp_path, monkeypatch):
    """Optuna's own lock is a link, which a killed process leaves behind."""
    tuned(tmp_path, trials=1)
    monkeypatch.chdir(tmp_path.parent)
    (tmp_path / "study.log.lock").symlink_to(f"{tmp_path.name}/study.log")
    started = time.perf_counter()
    assert len(tuned(tmp_path.name, trials=2).trials) == 2
    assert time.perf_counter() - started < 25
    assert not (tmp_path / "study.log.lock").is_symlink()


def test_a_folder_that_another_run_writes_to_is_refused(tmp_path):
    with alone(tmp_path), pytest.raises(EvaluationError, match="another run is searching in"):
        tuned(tmp_path, trials=1)
    assert not (tmp_path / "study.log").exists()


@pytest.mark.slow
def test_a_study_of_something_else_is_refused(tmp_path, found):
    tuned(tmp_path, trials=1)
    before = (tmp_path / "study.log").read_bytes()
    with pytest.raises(EvaluationError, match="holds a study of other triples, another model or"):
        tuned(tmp_path, trials=1, dev=DEV[:5])
    assert (tmp_path / "study.log").read_bytes() == before
    with pytest.raises(
        EvaluationError, match="or with another --kl, --keep or --seed; give another"
    ):
        tuned(tmp_path, trials=1, kl=8.0)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "study.log").write_text("nonsense\n")
    with pytest.raises(EvaluationError, match="is no study of Optuna's, or a damaged one"):
        tuned(tmp_path / "other", trials=1)


@pytest.mark.slow
def test_the_report_and_its_page_name_the_same_keys(found):
    report = json.loads(found.json.read_text())
    assert (report["schema"], report["version"]) == ("dspa_nn.tuning", 1)
    page = (REPOSITORY / "docs" / "howto" / "tune.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", page, re.M) == list(report)
    assert report["settings"] == found.region.best.choice.to_dict()
    assert len(report["trials"]) == 10
    assert found.picture.read_bytes().startswith(b"\x89PNG")
    assert "best:" in str(found)
    fit, steer = commands(found.region, "fit.jsonl")
    assert fit.startswith("dspa fit fit.jsonl --out my_map --k-diff ")
    assert f"--alpha {found.region.best.choice.alpha}" in steer


@pytest.mark.slow
def test_layers_are_searched_and_counted_once(tmp_path, monkeypatch):
    sweep = eval_zoo.sweep()
    first = tuned(tmp_path, built=sweep, trials=3)
    assert {vote.layers for vote, _ in first.screened} == {(0, 2), (1, 2)}
    monkeypatch.setattr(type(sweep), "count", None)
    assert tuned(tmp_path, built=sweep, trials=3).report["trials"] == first.report["trials"]


@pytest.mark.slow
def test_answers_that_lose_their_fluency_are_passed_over(tmp_path, monkeypatch):
    """The best setting fails, and the gentlest of those that are as good as the next one."""
    logs = iter([0.0, 5.0, 0.1, 4.0, 0.2])  # log perplexities: unsteered first
    looked: list[Any] = []

    def answered(dspa, prompts, method=None, **_):
        looked.append(method)

    monkeypatch.setattr(run, "surprise", lambda *_: np.full(4, next(logs)))
    monkeypatch.setattr(run, "answer", answered)
    found = tuned(tmp_path, perplexity=1.3, answers=4)
    ranked = sorted(found.trials, key=lambda trial: -trial.margin)
    region = found.region
    assert region is not None
    assert region.best.choice == ranked[1].choice
    assert region.best.extra["perplexity_ratio"] == pytest.approx(np.exp(0.1))
    assert region.gentlest.extra["perplexity_ratio"] == pytest.approx(np.exp(0.2))
    assert looked[4].options["alpha"] == region.gentlest.choice.alpha
    alike = region_of(ranked[1:], 9.0)
    assert alike is not None
    failed = [trial.choice for trial in found.trials if trial.extra.get("perplexity_ratio", 0) > 2]
    assert set(map(str, failed)) == {str(ranked[0].choice), str(alike.gentlest.choice)}
    members = [str(trial.choice) for trial, _ in region.members]
    assert not {*members} & {*map(str, failed)}
    told = json.loads(found.json.read_text())
    assert sum("perplexity_ratio" in trial for trial in told["trials"]) == 4
    assert told["region"]["gentlest"]["perplexity_ratio"] == pytest.approx(np.exp(0.2))


def test_where_no_answers_stay_fluent_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "answer", lambda *_, **__: None)
    ratios = iter([0.0, *[5.0] * 3])
    monkeypatch.setattr(run, "surprise", lambda *_: np.full(4, next(ratios)))
    found = tuned(tmp_path, trials=3, perplexity=1.3, answers=4)
    assert found.region is None
    assert "None of 3 settings is within the limits" in str(found)


def test_where_nothing_is_within_the_limit_it_says_so(tmp_path):
    found = tuned(tmp_path, trials=2, kl=1e-9)
    assert found.region is None
    assert found.report["settings"] is None
    assert "None of 2 settings is within the limits" in str(found)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"dev": TRIPLES[12:]}, "2 of 12 development triples are fitting triples too, the first "
         "of them number 0; leave them out of one of the two"),
        ({"dev": DEV[:1]}, "14 fitting and 1 development triples came; give at least one to fit "
         "on and two to compare settings on"),
        ({"dev": [*DEV[:3], demo_triples("test", "plans")[0]]}, "1 of 4 development triples are "
         "test triples of the package's set 'plans', the first of them number 3; leave them out, "
         "since what settings were chosen on cannot measure them"),
        ({"kl": 0.0}, "the limits are 0.0 nats of KL and a perplexity ratio of None; give more "
         "than 0 nats and a ratio of at least 1, or None for none"),
        ({"trials": 0}, "trials is 0; expected a whole number of at least 1."),
    ],
)  # fmt: skip
def test_bad_input_gets_one_sentence(tmp_path, changes, sentence):
    with pytest.raises(EvaluationError) as caught:
        tuned(tmp_path, **changes)
    assert str(caught.value) == sentence


def test_a_space_is_checked():
    with pytest.raises(EvaluationError, match="alpha goes from 0 to 1"):
        Space(alpha=(0, 1))
    with pytest.raises(EvaluationError, match="mode has nothing to choose from"):
        Space(mode=())
    with pytest.raises(Exception, match="mode is 'ablte', and must be one of"):
        Space(mode=("ablte",))


def trial(margins: list[float], kl: float, alpha: float = 0.1) -> Trial:
    choice = Choice(VOTE, 16, "both", alpha)
    return Trial(choice, margins, [0.0] * len(margins), [kl] * len(margins), 1.0, 0.1)


def test_the_region_holds_what_cannot_be_told_from_the_best():
    noise = np.random.default_rng(0).normal(0, 0.02, 40)
    best = trial([0.30 + v for v in noise], 0.14, 0.3)
    alike = trial([0.30 + v for v in np.roll(noise, 7)], 0.05, 0.2)
    worse = trial([0.1 + v for v in noise], 0.01, 0.1)
    wild = trial([0.9] * 40, 0.5, 1.0)
    region = region_of([worse, alike, wild, best], kl=0.15)
    assert region is not None
    ours = {one.choice.alpha for one, _ in region.members}
    assert ours == {0.2, 0.3}
    assert region.gentlest is alike
    assert region.values()["alpha"] == [0.2, 0.3]
    gap = bootstrap(np.subtract(region.best.margins, worse.margins))
    assert gap.above_zero
    assert front_of([worse, alike, wild, best])[0] is worse
    assert front_of([worse, alike, wild, best])[-1] is wild


@pytest.mark.filterwarnings("ignore:.* was cut short in its last line")
def test_a_study_that_was_cut_short_goes_on_and_measures_its_last_trial_again(tmp_path):
    given: Any = {"key": {"data": "5f"}, "kl": 0.15, "seed": 0}
    votes = {VOTE.label: VOTE}
    study = Study(tmp_path, SPACE, votes, **given)
    for number, choice in study.ask(3):
        study.tell(number, Trial(choice, [0.1 * number], [0.0], [0.01], 1.0, 0.02))
    told = [str(one) for one in study.trials]
    path = tmp_path / "study.log"
    whole = path.read_bytes()
    for length in (len(whole) - 2, len(whole) // 2, len(whole)):
        path.write_bytes(whole[:length])
        again = Study(tmp_path, SPACE, votes, **given)
        known = [str(one) for one in again.trials]
        assert known == told[: len(known)]
        assert len(known) == 3 or length < len(whole)
        for number, choice in again.ask(2):
            again.tell(number, Trial(choice, [0.0], [0.0], [0.01], 1.0, 0.02))
        assert len(Study(tmp_path, SPACE, votes, **given).trials) == len(known) + 2
    # Somebody else's file is left as it is.
    for content in (b"not ours", b"[" * 100_000 + b"\n", whole[:40]):
        path.write_bytes(content)
        with pytest.raises(EvaluationError, match=r"study\.log is no study of Optuna's, or a dama"):
            Study(tmp_path, SPACE, votes, **given)
        assert path.read_bytes() == content


def test_the_study_looks_for_a_larger_margin_within_the_limit(tmp_path):
    votes = {VOTE.label: VOTE}
    study = Study(tmp_path, Space(), votes, key={}, kl=0.15, seed=0)
    told = ((0.1, 0.1), (0.3, 0.14), (0.2, 0.05), (0.9, 0.16))
    for (number, choice), (margin, kl) in zip(study.ask(4), told, strict=True):
        study.tell(number, replace(trial([margin], kl), choice=choice))
    assert study.study.best_trial.value == pytest.approx(0.3)
    assert [one.margin for one in study.trials] == pytest.approx([0.1, 0.3, 0.2, 0.9])


def test_the_first_of_each_rule_are_kept():
    screened = [
        (Vote((1, 2), percentile, "content", rule, 32), share)
        for percentile, rule, share in (
            (50, "gated", 0.9), (75, "gated", 0.8), (50, "density", 0.7), (90, "gated", 0.6),
            (75, "density", 0.5), (90, "density", 0.4),
        )
    ]  # fmt: skip
    kept = [(vote.percentile, vote.prompt_rule) for vote in run._kept(screened, 2)]
    assert kept == [(50, "gated"), (75, "gated"), (50, "density"), (75, "density")]


def test_the_plot_fits_and_marks_the_best():
    trials = [trial([0.1], 0.02), trial([0.3], 0.1, 0.3), trial([-0.2], 0.2, 0.9)]
    text = drawn(trials, region_of(trials, 0.15), 0.15)
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("#") == 1
    assert text.count(":") >= 10
    lines = text.splitlines()
    assert lines[1].startswith(" +0.30")
    assert lines[16].startswith(" -0.20")
