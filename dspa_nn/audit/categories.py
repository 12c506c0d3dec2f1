"""Latents by category, and how sets of them differ, by Fisher's exact test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dspa_nn.audit.asking import CATEGORIES, FOLDED, check_category
from dspa_nn.checks import check_type
from dspa_nn.errors import DSPAError, EvaluationError
from dspa_nn.imports import untyped
from dspa_nn.saes import LatentMeaning
from dspa_nn.shown import as_html, shown, table_html

if TYPE_CHECKING:
    import pandas

_RESAMPLES = 20_000
_FUNCTION_WORDS = frozenset(
    "a about after all also am an and any are as at be because been before being but by can could "
    "did do does for from get had has have he her here him his how i i'm if in into is it it's its "
    "just may me might more most must my no nor not of off on only or other our out over own shall "
    "she should so some such than that that's the their them then there these they this those to "
    "too under until up us very was we were what when where which while who whom whose why will "
    "with would you you're your".split()
)


class FisherTest(NamedTuple):
    """One category in one set of latents against the other set: Fisher's exact test.

    Attributes:
        share, other: of the latents that are in the category, in the set and in the other one.
        odds: the odds ratio of the two.
        p: two-sided. adjusted: by Holm's rule, over the categories of this set.
    """

    share: float
    other: float
    odds: float
    p: float
    adjusted: float


@dataclass(frozen=True)
class CategoryTable:
    """How many latents of each set are in each category, and how that differs from random ones.

    Example:
        >>> sets = {"ablate": {3: LatentMeaning(category="Discourse")},
        ...         "random": {7: LatentMeaning(category="Content")}}
        >>> print(category_table(sets))
        set                Discourse         Structure       Grammatical           Content  none
        ...

    Attributes:
        counts: set -> category -> latents in it.
        without: set -> latents that no category is known of; they are left out of the tests.
        tests: set -> category -> its test against the set `against`; none of that set itself.
        whole: set -> p of one test over all categories together, by Monte Carlo.
        against: the set that others are compared with.
        meanings: what the table was made from.
    """

    counts: Mapping[str, Mapping[str, int]]
    without: Mapping[str, int]
    tests: Mapping[str, Mapping[str, FisherTest]]
    whole: Mapping[str, float]
    against: str
    meanings: Mapping[str, Mapping[int, LatentMeaning]] = field(repr=False)

    def to_pandas(self) -> "pandas.DataFrame":
        """One line for each set and category, with its test.

        Example:
            >>> sets = {"ablate": {3: LatentMeaning(category="Discourse")},
            ...         "random": {7: LatentMeaning(category="Content")}}
            >>> category_table(sets).to_pandas().columns[:4].tolist()
            ['set', 'category', 'latents', 'share']
        """
        import pandas

        lines: list[dict[str, Any]] = []
        for name, counts in self.counts.items():
            for category, latents in counts.items():
                test = self.tests.get(name, {}).get(category)
                told = {} if test is None else test._asdict()
                lines.append({"set": name, "category": category, "latents": latents} | told)
        columns = ["set", "category", "latents", *FisherTest._fields]
        return pandas.DataFrame(lines, columns=columns)

    def _heads(self) -> list[str]:
        return ["set", *next(iter(self.counts.values())), "none"]

    def _cells(self) -> list[list[str]]:
        rows: list[list[str]] = []
        for name, counts in self.counts.items():
            cells = [name]
            for category, latents in counts.items():
                test = self.tests.get(name, {}).get(category)
                cells.append(str(latents) if test is None else f"{latents} (p {test.adjusted:.2g})")
            rows.append([*cells, str(self.without[name])])
        return rows

    def _notes(self) -> list[str]:
        tested = [f"{name} p {p:.2g}" for name, p in self.whole.items()]
        if not tested:
            return []
        return [
            f"p: Fisher's exact test of each category against {self.against}, Holm's over the "
            f"categories; over all categories together: {', '.join(tested)}"
        ]

    def _repr_html_(self) -> str:
        return shown(
            "Latents by category",
            table_html(self._heads(), self._cells()),
            *(f"<p>{as_html(note)}</p>" for note in self._notes()),
        )

    def __str__(self) -> str:
        lines = [
            f"{line[0]:<10}" + "".join(f"{cell:>18}" for cell in line[1:-1]) + f"  {line[-1]:>4}"
            for line in (self._heads(), *self._cells())
        ]
        return "\n".join([*lines, *self._notes()])


def category_table(
    sets: Mapping[str, Mapping[int, LatentMeaning]],
    *,
    against: str = "random",
    folded: bool = True,
    seed: int = 0,
) -> CategoryTable:
    """Count latents by category, and test each set against random ones (docs/method.md 10).

    Example:
        >>> ablated = {n: LatentMeaning(category="Discourse" if n < 34 else "Content")
        ...            for n in range(50)}
        >>> drawn = {n: LatentMeaning(category="Discourse" if n < 15 else "Content")
        ...          for n in range(50)}
        >>> found = category_table({"ablate": ablated, "random": drawn})
        >>> found.tests["ablate"]["Discourse"].p < 0.001
        True

    Args:
        sets: name -> meanings, such as "augment", "ablate" and "random".
        against: the set that the others are tested against; without it there are no tests.
        folded: count Safety with Content and Intent with Discourse, as the paper's table does.
        seed: of the test over all categories together.

    Raises:
        EvaluationError: no sets, or one in which no latent has a category.
        DSPAError: a category that is none of the six.
    """
    check_type("sets", sets, Mapping[str, Mapping[int, LatentMeaning]], EvaluationError)
    if not sets:
        raise EvaluationError("category_table was given no sets; give at least one")
    names = [name for name in CATEGORIES if not folded or name not in FOLDED]
    counts: dict[str, dict[str, int]] = {}
    without: dict[str, int] = {}
    for name, meanings in sets.items():
        found = [_category(one, folded) for one in meanings.values()]
        counts[name] = {category: found.count(category) for category in names}
        without[name] = found.count(None)
        if len(found) == without[name]:
            raise EvaluationError(
                f"none of the {len(found)} latents of {name!r} has a category; ask a judge "
                "(audit.judged_meanings), or set LatentMeaning.category yourself"
            )
    compared = [name for name in counts if name != against] if against in counts else []
    return CategoryTable(
        counts=counts,
        without=without,
        tests={name: _tests(counts[name], counts[against]) for name in compared},
        whole={name: _whole(counts[name], counts[against], seed) for name in compared},
        against=against,
        meanings=dict(sets),
    )


def category_by_rule(meaning: LatentMeaning) -> LatentMeaning:
    """A meaning with the category that its most typical word suggests: a crude rule, no judge.

    Example:
        >>> [category_by_rule(LatentMeaning(fires_on=(word,))).category
        ...  for word in ("because", "volcano", ",", "##")]
        ['Grammatical', 'Content', 'Grammatical', 'Structure']

    A function word, a part of a word or a mark of punctuation is Grammatical, any other word
    Content, white space and marks of lists and headings are Structure. Discourse, which the paper
    finds most often among steered latents, cannot be told so. Without typical words there is none.
    """
    check_type("meaning", meaning, LatentMeaning, DSPAError)
    if not meaning.fires_on:
        return meaning
    word = meaning.fires_on[0].strip().lower().replace("\u2019", "'")
    if not any(letter.isalnum() for letter in word):
        kind = "Structure" if not word.strip("-*#>|`=") else "Grammatical"
    else:
        short = len(word) < 2 and not word.isdigit()
        kind = "Grammatical" if short or word in _FUNCTION_WORDS else "Content"
    return replace(meaning, category=kind)


def _category(meaning: LatentMeaning, folded: bool) -> str | None:
    if meaning.category is None:
        return None
    name = check_category(meaning.category)
    return FOLDED.get(name, name) if folded else name


def _tests(counts: Mapping[str, int], others: Mapping[str, int]) -> dict[str, FisherTest]:
    fisher: Any = untyped("scipy.stats").fisher_exact
    total, other_total = sum(counts.values()), sum(others.values())
    found: dict[str, tuple[float, float]] = {}
    for category, here in counts.items():
        there = others[category]
        result: Any = fisher([[here, total - here], [there, other_total - there]])
        found[category] = float(result.statistic), float(result.pvalue)
    adjusted = _holm([p for _, p in found.values()])
    return {
        category: FisherTest(
            counts[category] / total, others[category] / other_total, odds, p, corrected
        )
        for (category, (odds, p)), corrected in zip(found.items(), adjusted, strict=True)
    }


def _holm(values: Sequence[float]) -> list[float]:
    """P values by Holm's step-down rule."""
    order = np.argsort(values, kind="stable")
    factors = np.arange(len(values), 0, -1)
    steps = np.minimum(1.0, np.maximum.accumulate(np.asarray(values)[order] * factors))
    adjusted = np.empty(len(values))
    adjusted[order] = steps
    return [float(one) for one in adjusted]


def _whole(counts: Mapping[str, int], others: Mapping[str, int], seed: int) -> float:
    """P of one test over all categories that any latent is in; 1 where there is only one."""
    stats: Any = untyped("scipy.stats")
    table = np.array([list(counts.values()), list(others.values())])
    table = table[:, table.sum(0) > 0]
    if table.shape[1] < 2:
        return 1.0
    if table.shape[1] == 2:
        return float(stats.fisher_exact(table).pvalue)
    method = stats.MonteCarloMethod(n_resamples=_RESAMPLES, rng=np.random.default_rng(seed))
    return float(stats.fisher_exact(table, method=method).pvalue)
