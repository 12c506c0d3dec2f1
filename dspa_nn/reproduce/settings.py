"""What a reproduction runs: rows of the paper's tables, steps, settings, and where inputs are."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dspa_nn.checks import check_choice, check_positive_int
from dspa_nn.errors import EvaluationError
from dspa_nn.judges import Judge
from dspa_nn.reproduce.tables import Row, published

STEPS = ("maps", "mt-bench", "alpaca-eval", "multiple-choice", "cost")
# The paper's restricted setting, whose triples it does not name: these are drawn by the seed.
FEW = 250
# Rows of the paper -> the baseline that is fitted for them; DPO and RAHF-SCIT are trained.
FITTED = {
    "DSPA": "dspa",
    "RepE": "repe",
    "Static-SAE": "static-sae",
    "Prompt Eng": "prefix",
    "Base": "unsteered",
}


@dataclass(frozen=True)
class Settings:
    """Everything that changes a figure, beside the inputs themselves.

    Attributes:
        percentile: of the gates, which the paper does not give.
        few: triples of the restricted setting, drawn by `seed`, which sampling starts from too.
        max_new_tokens: of an answer.
        batch_size: AlpacaEval's instructions, and sequences of multiple choice, at once.
        stop: where an answer ends, beside the end-of-text token: models that were not fine-tuned
            on conversations go on with the next turn.
        triples, questions: at most, for a trial; None takes all.
    """

    percentile: float | int = 90
    few: int = FEW
    seed: int = 0
    max_new_tokens: int = 1024
    batch_size: int = 8
    stop: str = "\n\nHuman:"
    triples: int | None = None
    questions: int | None = None

    def __post_init__(self) -> None:
        for name in ("few", "max_new_tokens", "batch_size", "triples", "questions"):
            if getattr(self, name) is not None:
                check_positive_int(name, getattr(self, name), EvaluationError)
        if not 0 <= self.percentile <= 100:
            raise EvaluationError(f"percentile is {self.percentile}; give a number from 0 to 100")
        if self.triples is not None and self.triples < self.few:
            raise EvaluationError(
                f"{self.triples} triples are to be read, and {self.few} of them to be drawn; read "
                "more (--limit-triples), or draw fewer (--few)"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Sources:
    """Where inputs are; what is None is had from the web, at the commits that the run notes.

    Attributes:
        triples: what `load_triples` takes. mt_bench: a folder in FastChat's layout.
        alpaca_eval: JSON of another model's outputs, with the instructions.
        choices: a task of the paper -> a file of questions; empty reads lm-eval's own tasks.
        model: hub id or folder of another model than the preset's, such as one that
            `recipes/train_sft.py` made. input_sae, output_sae: the same for SAEs.
        trained: slug of a row -> the folder that a training recipe wrote.
    """

    triples: str | None = None
    mt_bench: Path | None = None
    alpaca_eval: Path | None = None
    choices: Mapping[str, Path] = field(default_factory=dict[str, Path])
    model: str | None = None
    input_sae: str | None = None
    output_sae: str | None = None
    trained: Mapping[str, Path] = field(default_factory=dict[str, Path])


@dataclass(frozen=True)
class Judges:
    """Who rates MT-Bench's answers, and who says which of two AlpacaEval answers is better."""

    mt_bench: Judge | None = None
    alpaca_eval: Judge | None = None


def rows_of(preset: str, wanted: tuple[str, ...] = ()) -> list[Row]:
    """The paper's rows of a model, or those that are named by their slugs.

    Example:
        >>> [row.slug for row in rows_of("gemma-2-9b", ("n250-dspa", "main-base"))]
        ['main-base', 'n250-dspa']

    Raises:
        EvaluationError: no such model, or no such row of it.
    """
    rows = list(published(preset))
    known = tuple(row.slug for row in rows)
    for slug in wanted:
        check_choice("row", slug, known, EvaluationError)
    return [row for row in rows if not wanted or row.slug in wanted]


def steps_of(wanted: tuple[str, ...] = ()) -> tuple[str, ...]:
    """All steps, or those that are named, in their order.

    Example:
        >>> steps_of(("cost", "maps"))
        ('maps', 'cost')

    Raises:
        EvaluationError: no such step.
    """
    for step in wanted:
        check_choice("step", step, STEPS, EvaluationError)
    return tuple(step for step in STEPS if not wanted or step in wanted)
