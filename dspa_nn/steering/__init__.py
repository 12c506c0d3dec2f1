"""DSPA: a model and its two SAEs; count, fit, plan, apply, attach; and other ways to steer."""

from dspa_nn.steering.attaching import Attachment, hooked_module
from dspa_nn.steering.conversation import Conversation
from dspa_nn.steering.dspa import DSPA
from dspa_nn.steering.edits import Edit, SteeredPass
from dspa_nn.steering.fit import fit_merged
from dspa_nn.steering.hooks import Hooks
from dspa_nn.steering.log import EditLog
from dspa_nn.steering.method import DSPAMethod, Intervention, ScaledMethod, SteeringMethod
from dspa_nn.steering.mixed import MixedRows, row_steerer
from dspa_nn.steering.options import (
    CountOptions,
    FitKeywords,
    Mode,
    PlanOptions,
    Positions,
    PromptLength,
    PromptOrPrompts,
    PromptRule,
    RunOptions,
    SteeringOptions,
    fill,
    run_settings,
)
from dspa_nn.steering.plan import Plan
from dspa_nn.steering.sweep import LayerSweep
from dspa_nn.steering.sweep_counts import SweepCounts
from dspa_nn.steering.warnings import received, remark_on_alpha, warn_beforehand, warn_of

__all__ = [
    "DSPA",
    "Attachment",
    "Conversation",
    "CountOptions",
    "DSPAMethod",
    "Edit",
    "EditLog",
    "FitKeywords",
    "Hooks",
    "Intervention",
    "LayerSweep",
    "MixedRows",
    "Mode",
    "Plan",
    "PlanOptions",
    "Positions",
    "PromptLength",
    "PromptOrPrompts",
    "PromptRule",
    "RunOptions",
    "ScaledMethod",
    "SteeredPass",
    "SteeringMethod",
    "SteeringOptions",
    "SweepCounts",
    "fill",
    "fit_merged",
    "hooked_module",
    "received",
    "remark_on_alpha",
    "row_steerer",
    "run_settings",
    "warn_beforehand",
    "warn_of",
]
