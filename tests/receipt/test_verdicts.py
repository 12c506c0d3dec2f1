"""A receipt's verdicts on figures made up for them: each turns out on the side that it should."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dspa_nn import PreferenceTriple
from dspa_nn.evaluation import Outcome, bootstrap, effect, from_counts, proportion
from dspa_nn.files import Parts
from dspa_nn.receipt import methods
from dspa_nn.receipt.figures import CLEARLY, Measured, Under, map_less, of_method, outcome_of, under
from dspa_nn.receipt.inputs import Inputs
from dspa_nn.receipt.parts import Said
from dspa_nn.receipt.rewrites import Rewrite
from dspa_nn.receipt.scores import APART, SCORES, separation, telling
from dspa_nn.receipt.verdicts import in_short, verdicts
from tests import eval_zoo

N = 12
# Differences from triple to triple, with a mean of 0.
SPREAD = 0.01 * np.linspace(-1, 1, N)


def outcome(name: str, **means: float) -> Outcome:
    """Figures with these means: chosen, rejected, ppl (a logarithm), pairs, mood, kl."""
    given = {"chosen": 0.0, "rejected": 0.0, "ppl": 0.0, "pairs": 0.0, "mood": 0.0, "kl": 0.1}
    given |= means
    chosen, rejected = given["chosen"] + SPREAD, given["rejected"] - SPREAD
    values = {
        "chosen": chosen,
        "rejected": rejected,
        "change": chosen - rejected,
        "kl": given["kl"] + SPREAD,
        "log_perplexity_change": given["ppl"] + SPREAD,
        "distinct_2_change": given["pairs"] + SPREAD,
        **{f"{score}_toward": given["mood"] + SPREAD for score in SCORES},
    }
    return Outcome(name, values)


def right(count: int) -> dict[str, np.ndarray]:
    """So many of 100 questions are right per character, and one more by the whole."""
    by_length, whole = ((np.arange(100) < number).astype(float) for number in (count, count + 1))
    return {"right_by_length": by_length, "right": whole}


def measured(
    map: Outcome,
    other: Outcome | None = None,
    sampled: Outcome | None = None,
    *,
    questions: tuple[int, int, int] = (50, 50, 50),
    lengths: Any = (9, 9),
    rewritten: float = 0.2,
) -> Measured:
    """A receipt's figures: questions are right unsteered, under the map, under the other."""
    other = outcome("other") if other is None else other
    rows = [PreferenceTriple("a?", "b", "c")] * N
    moved = effect(rewritten + SPREAD, 0 * SPREAD)
    asked = Under(Rewrite("longer prompt", "", rows, [*range(N)]), moved, moved, proportion([0]))
    return Measured(
        inputs=Inputs(rows, [], [], [], []),
        outcomes=[map, other],
        texts={},
        plain={},
        sampled=outcome("the map") if sampled is None else sampled,
        entropies={"unsteered": np.full(N, 1.0), "the map": np.full(N, 1.5)},
        choices={
            name: right(count)
            for name, count in zip(("unsteered", "the map", "other"), questions, strict=True)
        },
        under=[asked],
        matches={},
        lengths=np.broadcast_to(np.asarray(lengths, dtype=np.float64), (N, 2)).copy(),
        scores=["mood"],
        temperature=0.7,
        seed=0,
    )


def judged(found: Measured) -> dict[str, bool | None]:
    return {verdict.claim: verdict.holds for verdict in verdicts(found)}


GOOD = outcome("the map", chosen=0.2, rejected=-0.1, mood=0.3)
BAD = outcome("the map", chosen=-0.2, rejected=0.1, ppl=0.5, pairs=-0.2, mood=-0.3)


def test_all_holds_of_a_map_that_does_what_it_should_and_nothing_of_its_opposite() -> None:
    good = judged(measured(GOOD, sampled=GOOD))
    assert set(good.values()) == {True} | {good["multiple choice"]}
    bad = judged(measured(BAD, sampled=BAD, questions=(50, 20, 50), rewritten=-0.2))
    assert set(bad) == set(good)
    assert set(bad.values()) == {False}


@pytest.mark.parametrize(
    ("changes", "claim", "holds"),
    [
        ({"chosen": 0.1, "rejected": 0.1}, "margin", None),
        ({"chosen": 0.1, "rejected": 0.3}, "chosen", True),
        ({"chosen": -0.1, "rejected": -0.3}, "chosen", False),
        ({"chosen": 0.1, "rejected": 0.3}, "few worse", False),
        # Worse than before, by less than the limit.
        ({"ppl": np.log(1.2)}, "fluent", True),
        ({"ppl": np.log(1.4)}, "fluent", False),
        ({"ppl": np.log(1.3)}, "fluent", None),
        ({"pairs": -0.03}, "no loops", True),
        ({"pairs": -0.05}, "no loops", None),
        ({"pairs": -0.08}, "no loops", False),
        ({"mood": 0.0}, "score", None),
    ],
)
def test_a_verdict_is_held_against_its_own_limit(
    changes: dict[str, float], claim: str, holds: bool | None
) -> None:
    assert judged(measured(outcome("the map", **changes)))[claim] is holds


def test_the_map_is_held_against_the_other_and_not_the_other_way_about() -> None:
    other = outcome("other", chosen=0.4, rejected=-0.1, mood=0.5, kl=0.4, ppl=0.3)
    found = measured(GOOD, other, questions=(50, 60, 75))
    verdict = next(one for one in verdicts(found) if one.claim == "beats")
    assert verdict.holds is False
    assert verdict.text.startswith("The map moves the margin less than other: the difference is -")
    assert judged(found)["better score"] is False
    assert "It is not shown to move it more than other." in in_short(found, verdicts(found))
    gaps = map_less(found, other)
    assert gaps["margin"]["mean"] == pytest.approx(0.3 - 0.5)
    assert gaps["kl"]["mean"] == pytest.approx(0.1 - 0.4)
    assert gaps["log_perplexity"]["mean"] == pytest.approx(-0.3)
    assert gaps["mood_toward"]["mean"] == pytest.approx(0.3 - 0.5)
    assert gaps["multiple_choice"]["mean"] == pytest.approx(0.6 - 0.75)
    # More prompts are worse under the map: its share comes first.
    worse = measured(outcome("the map", chosen=-0.3), other)
    assert map_less(worse, other)["worse"]["mean"] == 1.0


def test_multiple_choice_is_the_change_from_the_unsteered_model() -> None:
    found = measured(GOOD, questions=(50, 80, 50))
    assert judged(found)["multiple choice"] is True
    assert found.right_change("the map").mean == pytest.approx(0.3)
    assert found.right("the map").mean == pytest.approx(0.8)
    assert found.right("the map", "right").mean == pytest.approx(0.81)
    assert judged(measured(GOOD, questions=(80, 50, 80)))["multiple choice"] is False
    # A loss of one in a hundred is within the limit in the mean, but not to its interval's end.
    assert judged(measured(GOOD, questions=(50, 49, 50)))["multiple choice"] is None
    same = measured(GOOD).right_change("the map")
    assert (same.mean, same.low, same.high, same.n) == (0.0, -0.03, 0.03, 100)


@pytest.mark.parametrize(("n", "holds"), [(5, None), (6, True)])
def test_few_values_bear_out_nothing(n: int, holds: bool | None) -> None:
    found = measured(GOOD)
    values = {name: np.full(n, 0.2) for name in ("chosen", "rejected", "change")}
    few = effect(values["chosen"], np.zeros(n))
    rewrite = Rewrite("paraphrased", "", [], list(range(n)))
    robust = Under(rewrite, few, few, few.margin)
    (verdict,) = (one for one in verdicts(replace(found, under=[robust])) if one.claim == "robust")
    assert verdict.holds is holds
    assert ("(5 prompts are too few to tell)" in verdict.text) == (holds is None)


def test_two_questions_that_stay_as_they_are_may_both_change() -> None:
    same = {"right": np.ones(2), "right_by_length": np.ones(2)}
    other = outcome("other")
    found = replace(
        measured(GOOD, other), choices=dict.fromkeys(("unsteered", "the map", "other"), same)
    )
    change = found.right_change("the map")
    assert (change.mean, change.low, change.high) == (0.0, -1.0, 1.0)
    assert map_less(found, other)["multiple_choice"] == change.to_dict()
    text = next(one.text for one in verdicts(found) if one.claim == "multiple choice")
    assert "(2 questions are too few to tell)" in text


def test_figures_of_a_method_are_counted_at_their_limits() -> None:
    map = outcome("the map", chosen=-0.1, ppl=np.log(1.1))
    found = of_method(measured(_whole(map)), _whole(map))
    assert found["worse"]["mean"] == 1.0
    clearly = (map.values["change"] < -CLEARLY).mean()
    assert found["clearly_worse"]["mean"] == pytest.approx(clearly)
    assert 0 < clearly < 1
    assert found["perplexity_ratio"]["mean"] == pytest.approx(1.1)
    ratio = measured(map).branching()["ratio"]
    assert ratio.mean == pytest.approx(np.exp(0.5))


def _whole(one: Outcome) -> Outcome:
    """With figures of answers beside those that verdicts need."""
    names = ("tokens", "distinct_1", "distinct_2", "repetition", "loops", "answer_changed",
             "chosen_edits", "rejected_edits", "chosen_share", "rejected_share", "tokens_change",
             "repetition_change", "loops_change")  # fmt: skip
    return replace(one, values={**dict.fromkeys(names, SPREAD), **one.values})


def test_changes_of_answers_are_from_the_unsteered_ones_to_the_steered() -> None:
    asked = [PreferenceTriple("I won!", "Congratulations!", "I am so sorry.")] * 2
    figures = ("tokens", "distinct_1", "distinct_2", "repetition", "loops", "log_perplexity")
    plain = Said(["Oh no, terrible.", "Fine."], dict.fromkeys(figures, np.array([1.0, 2.0])))
    said = Said(["Oh, wonderful!", "Fine."], dict.fromkeys(figures, np.array([4.0, 2.5])))
    inputs = Inputs(asked, [], [], [], [])
    values = outcome_of("m", inputs, {}, said, plain).values
    for figure in figures:
        assert values[f"{figure}_change"].tolist() == [3.0, 0.5]
        assert values[figure].tolist() == [4.0, 2.5]
    assert values["mood_toward"].tolist() == [2.0, 0.0]
    assert values["answer_changed"].tolist() == [1.0, 0.0]


def test_a_rewritten_prompt_is_compared_with_the_same_one_as_it_was_given() -> None:
    as_given = Outcome("m", {"chosen": np.array([9.0, 0.1, 0.2]), "rejected": np.zeros(3)})
    rewrite = Rewrite("paraphrased", "", [], [1, 2])
    figures = {"chosen": np.array([0.3, 0.3]), "rejected": np.array([0.0, 0.4]),
               "change": np.array([0.3, -0.1])}  # fmt: skip
    found = under(rewrite, figures, as_given, 0)
    assert found.effect.margin.mean == pytest.approx(0.1)
    assert found.less.chosen.mean == pytest.approx(0.15)
    assert found.less.rejected == bootstrap([0.0, 0.4])
    assert found.worse.mean == 0.5


class StopError(Exception):
    pass


@pytest.mark.parametrize("given", [True, False])
def test_controls_are_of_the_fitting_triples_where_they_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: bool
) -> None:
    dspa, triples = eval_zoo.dspa(), eval_zoo.triples(18)
    fitted, dev = triples[:12], triples[12:]
    tuned = methods.target(dspa, eval_zoo.counts(12).fit(percentile=50))
    inputs = Inputs(dev, dev, fitted if given else [], [], [])
    taken: list[np.ndarray] = []

    def stop(_: Any, density: Any, difference: Any, __: int) -> None:
        taken.extend([density, difference])
        raise StopError

    monkeypatch.setattr(methods, "raw_controls", stop)
    with pytest.raises(StopError):
        methods.compared(dspa, tuned, inputs, "", Parts(tmp_path), 0, False)
    wanted = from_counts(dspa.count(fitted if given else dev))
    for one, other in zip(taken, wanted, strict=True):
        assert one == pytest.approx(other)


def test_two_scores_at_most_are_judged_and_none_on_too_few_prompts() -> None:
    triple = PreferenceTriple("I won!", "Congratulations, how wonderful!", "I am sorry. It is sad.")
    apart = [name for name, score in SCORES.items() if separation([triple], score) >= APART]
    assert len(apart) > 2
    assert telling([triple] * 10) == apart[:2]
    assert telling([triple] * 9) == []
    same = PreferenceTriple("I won!", "Congratulations!", "Congratulations!")
    assert telling([triple] * 9 + [same] * 9) == []
