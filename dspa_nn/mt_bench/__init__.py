"""MT-Bench by FastChat's protocol: two turns, graded one answer at a time by a judge of choice."""

from dspa_nn.mt_bench.answers import answer_questions
from dspa_nn.mt_bench.data import MTBench, load_judgments
from dspa_nn.mt_bench.judging import judge_answers
from dspa_nn.mt_bench.rating import Rating, read_rating
from dspa_nn.mt_bench.scores import score_judgments

__all__ = [
    "MTBench",
    "Rating",
    "answer_questions",
    "judge_answers",
    "load_judgments",
    "read_rating",
    "score_judgments",
]
