"""MT-Bench scores: means by turn and by category, as FastChat's `show_result` gives them."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from dspa_nn.errors import EvaluationError
from dspa_nn.evaluation import bootstrap
from dspa_nn.imports import untyped

# Texts are left out: pandas reads none that holds half a surrogate pair.
COLUMNS = ("question_id", "model", "turn", "score")

if TYPE_CHECKING:
    import pandas

    from dspa_nn.mt_bench.data import MTBench


def score_judgments(
    rows: Iterable[Mapping[str, Any]], bench: "MTBench | None" = None
) -> "pandas.DataFrame":
    """Mean ratings of each model, over all judged turns, by turn, and by category.

    Example:
        >>> rows = [
        ...     {"question_id": 81, "model": "a", "turn": 1, "score": 7},
        ...     {"question_id": 81, "model": "a", "turn": 2, "score": 4},
        ... ]
        >>> score_judgments(rows).loc["a", ["turn 1", "turn 2", "mean"]].tolist()
        [7.0, 4.0, 5.5]

    Judgments without a rating (score -1) are left out, as in FastChat: "mean" is the mean over
    judgments, and not of the two turns' means. `low` and `high` are its 95 % bootstrap interval
    over questions, which FastChat doesn't give. A model without any rating has no means, and 0
    under "judged".

    Args:
        rows: what `load_judgments` returned, of one judge.
        bench: tells the questions' categories, for a column each.

    Raises:
        EvaluationError: no judgment has a rating, a question that `bench` doesn't have, or ratings
            of two judges, whose mean would be neither's.
    """
    pd: Any = untyped("pandas")
    rows = list(rows)
    judges = sorted({row["judge"][0] for row in rows if row.get("judge")})
    if len(judges) > 1:
        raise EvaluationError(
            f"the judgments are of {len(judges)} judges, {judges[0]!r} and {judges[1]!r} among "
            'them; give those of one at a time: [row for row in rows if row["judge"][0] == NAME].'
        )
    every: Any = pd.DataFrame([{name: row[name] for name in COLUMNS} for row in rows])
    rated: Any = every[every["score"] != -1] if len(every) else every
    if not len(rated):
        raise EvaluationError(
            f"none of {len(every)} judgments has a rating; see their texts for what the judge said"
        )
    models: Any = rated.groupby("model")["score"]
    table: Any = rated.pivot_table(values="score", index="model", columns="turn", aggfunc="mean")
    table.columns = [f"turn {turn}" for turn in table.columns]
    table["mean"] = models.mean()
    by_question: Any = rated.groupby(["model", "question_id"])["score"].mean()
    for model in table.index:
        interval = bootstrap(by_question[model].to_numpy())
        table.loc[model, ["low", "high"]] = interval.low, interval.high
    # A model without any rating has its row, too.
    table = table.reindex(every["model"].unique())
    table["judged"] = models.size().reindex(table.index, fill_value=0)
    table["without a rating"] = every.groupby("model").size() - table["judged"]
    if bench is not None:
        unknown = [number for number in every["question_id"] if number not in bench.questions]
        if unknown:
            raise EvaluationError(
                f"question {unknown[0]} was judged and is not among the questions; give judgments "
                "of the same question set."
            )
        category = rated["question_id"].map(
            {number: question["category"] for number, question in bench.questions.items()}
        )
        table = table.join(
            rated.assign(category=category).pivot_table(
                values="score", index="model", columns="category", aggfunc="mean"
            )
        )
    return table.sort_values("mean", ascending=False)
