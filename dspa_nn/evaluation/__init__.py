"""Measures of what steering does, and the controls that it is compared with.

A measure takes a `SteeringMethod` (`dspa_nn.steering`), so that DSPA and whatever it is compared
with pass through the same code.
"""

from dspa_nn.evaluation.alone import (
    AnswersAlone,
    Direction,
    OneEach,
    answers_alone,
    edit_alone,
    fired,
)
from dspa_nn.evaluation.alpha import AlphaCurve, AlphaPoint, alpha_curve
from dspa_nn.evaluation.answers import Answers, answer, distinct, surprise
from dspa_nn.evaluation.axes import (
    AXES,
    AxisName,
    StyleAxis,
    StylePair,
    read_style_pairs,
    style_axes,
    validate_axis,
)
from dspa_nn.evaluation.branching import Branching, branching_factor
from dspa_nn.evaluation.choices import ChoiceItem, ChoiceScores, choose, load_choices
from dspa_nn.evaluation.controls import (
    SameForAll,
    densities,
    density_matched,
    global_difference,
    permuted,
    swapped,
)
from dspa_nn.evaluation.effects import Effect, effect
from dspa_nn.evaluation.latents import Codes, encode
from dspa_nn.evaluation.length import alike, answer_lengths, at_equal_length
from dspa_nn.evaluation.margin import MarginPart, Margins, margins
from dspa_nn.evaluation.matched import (
    Control,
    calibrated,
    from_counts,
    matched_controls,
    raw_controls,
)
from dspa_nn.evaluation.moved_axes import AxisChanges, axis_changes
from dspa_nn.evaluation.outcomes import (
    Outcome,
    Surprises,
    Values,
    answer_values,
    margin_values,
)
from dspa_nn.evaluation.pairs import LayerPair, rank_pairs, steer_pairs
from dspa_nn.evaluation.preferences import Preference, preference, preference_of
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
from dspa_nn.evaluation.reading import reading_grade
from dspa_nn.evaluation.repeats import loop, repetition
from dspa_nn.evaluation.statistics import Interval, bootstrap, proportion, rank_correlation
from dspa_nn.evaluation.strength import Match, calibrate, calibrate_norm
from dspa_nn.evaluation.style import encouragement, gladness, warmth
from dspa_nn.evaluation.teacher_forcing import Forced, force, token_changes
from dspa_nn.evaluation.tokens import BOLD, COLOURED, TokenChanges
from dspa_nn.evaluation.words import promoted_tokens

__all__ = [
    "AXES",
    "BOLD",
    "COLOURED",
    "AlphaCurve",
    "AlphaPoint",
    "Answers",
    "AnswersAlone",
    "AxisChanges",
    "AxisName",
    "Branching",
    "ChoiceItem",
    "ChoiceScores",
    "Codes",
    "Control",
    "Direction",
    "Effect",
    "Forced",
    "Interval",
    "LayerPair",
    "MarginPart",
    "Margins",
    "Match",
    "OneEach",
    "Outcome",
    "Preference",
    "SameForAll",
    "StyleAxis",
    "StylePair",
    "Surprises",
    "TokenChanges",
    "Values",
    "accuracy",
    "alike",
    "alike_in_length",
    "alpha_curve",
    "answer",
    "answer_lengths",
    "answer_values",
    "answers_alone",
    "at_equal_length",
    "axis_changes",
    "bootstrap",
    "branching_factor",
    "calibrate",
    "calibrate_norm",
    "calibrated",
    "choose",
    "densities",
    "density_matched",
    "distinct",
    "edit_alone",
    "effect",
    "encode",
    "encouragement",
    "fired",
    "force",
    "from_counts",
    "gladness",
    "global_accuracy",
    "global_difference",
    "load_choices",
    "longer_wins",
    "loop",
    "margin_values",
    "margins",
    "matched_controls",
    "mean_difference",
    "permuted",
    "preference",
    "preference_of",
    "promoted_tokens",
    "proportion",
    "rank_correlation",
    "rank_pairs",
    "ranked",
    "raw_controls",
    "read_style_pairs",
    "reading_grade",
    "repetition",
    "scores",
    "selected",
    "steer_pairs",
    "style_axes",
    "surprise",
    "swapped",
    "token_changes",
    "validate_axis",
    "warmth",
]
