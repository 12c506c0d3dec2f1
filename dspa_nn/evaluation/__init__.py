"""Measures of what steering does, and the controls that it is compared with.

A measure takes a `SteeringMethod` (`dspa_nn.steering`), so that DSPA and whatever it is compared
with pass through the same code.
"""

from dspa_nn.evaluation.answers import Answers, answer, distinct, surprise
from dspa_nn.evaluation.choices import ChoiceItem, ChoiceScores, choose, load_choices
from dspa_nn.evaluation.controls import (
    densities,
    density_matched,
    global_difference,
    permuted,
    swapped,
)
from dspa_nn.evaluation.effects import Effect, effect
from dspa_nn.evaluation.latents import Codes, encode
from dspa_nn.evaluation.margin import MarginPart, Margins, margins
from dspa_nn.evaluation.matched import (
    Control,
    calibrated,
    from_counts,
    matched_controls,
    raw_controls,
)
from dspa_nn.evaluation.outcomes import (
    Outcome,
    Surprises,
    Values,
    answer_values,
    margin_values,
)
from dspa_nn.evaluation.pairs import LayerPair, rank_pairs, steer_pairs
from dspa_nn.evaluation.ranking import (
    accuracy,
    alike_in_length,
    global_accuracy,
    longer_wins,
    mean_difference,
    ranked,
    scores,
    selected,
)
from dspa_nn.evaluation.statistics import Interval, bootstrap, proportion
from dspa_nn.evaluation.strength import Match, calibrate, calibrate_norm
from dspa_nn.evaluation.style import gladness, warmth
from dspa_nn.evaluation.teacher_forcing import Forced, force, token_changes
from dspa_nn.evaluation.tokens import BOLD, COLOURED, TokenChanges
from dspa_nn.evaluation.words import promoted_tokens

__all__ = [
    "BOLD",
    "COLOURED",
    "Answers",
    "ChoiceItem",
    "ChoiceScores",
    "Codes",
    "Control",
    "Effect",
    "Forced",
    "Interval",
    "LayerPair",
    "MarginPart",
    "Margins",
    "Match",
    "Outcome",
    "Surprises",
    "TokenChanges",
    "Values",
    "accuracy",
    "alike_in_length",
    "answer",
    "answer_values",
    "bootstrap",
    "calibrate",
    "calibrate_norm",
    "calibrated",
    "choose",
    "densities",
    "density_matched",
    "distinct",
    "effect",
    "encode",
    "force",
    "from_counts",
    "gladness",
    "global_accuracy",
    "global_difference",
    "load_choices",
    "longer_wins",
    "margin_values",
    "margins",
    "matched_controls",
    "mean_difference",
    "permuted",
    "promoted_tokens",
    "proportion",
    "rank_pairs",
    "ranked",
    "raw_controls",
    "scores",
    "selected",
    "steer_pairs",
    "surprise",
    "swapped",
    "token_changes",
    "warmth",
]
