"""The table of categories: the paper's own counts, and Fisher's test written out."""

from math import comb
from typing import Any

import pytest

from dspa_nn import DSPAError, EvaluationError
from dspa_nn.audit import LatentMeaning, category_by_rule, category_table, random_latents

# Content, discourse, grammatical, structure, of 50 each (the paper's audit of Gemma-2-9B).
PAPER = {"ablate": (5, 34, 10, 1), "augment": (7, 28, 10, 5), "random": (18, 15, 11, 6)}
NAMES = ("Content", "Discourse", "Grammatical", "Structure")


def as_set(numbers: tuple[int, ...]) -> dict[int, LatentMeaning]:
    names = [name for name, times in zip(NAMES, numbers, strict=True) for _ in range(times)]
    return {n: LatentMeaning(category=name) for n, name in enumerate(names)}


def fisher(here: int, total: int, there: int, other: int) -> float:
    """Two-sided: all tables of the same margins that are no likelier than this one."""
    inside = here + there

    def chance(k: int) -> float:
        return comb(total, k) * comb(other, inside - k) / comb(total + other, inside)

    least, most = max(0, inside - other), min(total, inside)
    return sum(chance(k) for k in range(least, most + 1) if chance(k) <= chance(here) * (1 + 1e-7))


def test_the_papers_counts_are_tested_as_written_out() -> None:
    table = category_table({name: as_set(numbers) for name, numbers in PAPER.items()})
    for name in ("ablate", "augment"):
        tests = table.tests[name]
        plain = [fisher(PAPER[name][at], 50, PAPER["random"][at], 50) for at in range(len(NAMES))]
        assert [tests[each].p for each in NAMES] == pytest.approx(plain, rel=1e-9)
        ordered = sorted(range(4), key=lambda at: plain[at])
        running = 0.0
        for rank, at in enumerate(ordered):
            running = max(running, min(1.0, plain[at] * (4 - rank)))
            assert tests[NAMES[at]].adjusted == pytest.approx(running)
    assert table.tests["ablate"]["Discourse"].share == 0.68
    assert table.tests["ablate"]["Discourse"].adjusted < 0.002
    assert table.whole["ablate"] < 0.001
    assert table.whole["augment"] < 0.05
    assert "random" not in table.tests
    assert table.counts["ablate"] == {
        "Discourse": 34, "Structure": 1, "Grammatical": 10, "Content": 5,
    }  # fmt: skip


def test_six_fold_into_four_and_names_have_any_case() -> None:
    sets = {"ablate": {1: LatentMeaning(category="safety"), 2: LatentMeaning(category="Intent"),
                       3: LatentMeaning()}}  # fmt: skip
    folded = category_table(sets)
    assert (folded.counts["ablate"]["Content"], folded.counts["ablate"]["Discourse"]) == (1, 1)
    assert folded.without == {"ablate": 1}
    assert folded.tests == {}
    whole = category_table(sets, folded=False)
    assert whole.counts["ablate"]["Safety"] == whole.counts["ablate"]["Intent"] == 1
    assert len(whole.counts["ablate"]) == 6


def test_it_shows_itself() -> None:
    table = category_table({name: as_set(numbers) for name, numbers in PAPER.items()})
    lines = str(table).splitlines()
    assert lines[0].split() == ["set", "Discourse", "Structure", "Grammatical", "Content", "none"]
    assert lines[1].startswith("ablate")
    assert "34 (p " in lines[1]
    assert "Fisher's exact test of each category against random" in lines[-1]
    assert "<script" not in table._repr_html_()
    frame = table.to_pandas()
    assert len(frame) == 12
    assert frame.loc[frame["set"] == "random", "p"].isna().all()


def test_random_latents_are_drawn_from_the_others_and_by_seed() -> None:
    drawn = random_latents(range(100), 10, leave_out=range(50), seed=1)
    assert drawn == random_latents(reversed(range(100)), 10, leave_out=range(50), seed=1)
    assert drawn != random_latents(range(100), 10, leave_out=range(50), seed=2)
    assert min(drawn) >= 50
    assert len(set(drawn)) == 10


def test_what_is_refused(unchecked: None) -> None:
    wrong: Any = {"a": {1: "x"}}
    with pytest.raises(EvaluationError, match="expected Mapping"):
        category_table(wrong)
    with pytest.raises(DSPAError, match="meaning is 'x', of type str; expected LatentMeaning"):
        category_by_rule(wrong["a"][1])
    with pytest.raises(EvaluationError, match="given no sets"):
        category_table({})
    with pytest.raises(EvaluationError, match="none of the 2 latents of 'ablate' has a category"):
        category_table({"ablate": {1: LatentMeaning(), 2: LatentMeaning()}})
    with pytest.raises(DSPAError, match="category is 'Weather'; expected one of Safety"):
        category_table({"ablate": {1: LatentMeaning(category="Weather")}})
    with pytest.raises(DSPAError, match="60 random latents were asked for, and there are 50"):
        random_latents(range(50), 60)
