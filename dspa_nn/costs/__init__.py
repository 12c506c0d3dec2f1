"""What fitting and training cost, in FLOPs."""

from dspa_nn.costs.account import (
    STEP_1_TOKENS,
    STEP_2_BATCHES,
    STEP_2_MOST,
    STEP_2_ROWS,
    STEP_2_TOKENS,
    account_dspa,
    account_rahf,
)
from dspa_nn.costs.fit import H100_PEAK, UTILISATION, FitFlops, FitPlan, fit_flops, speed_up
from dspa_nn.costs.flops import ForwardFlops, build, count_forward, encode_flops, forward_flops
from dspa_nn.costs.needs import PresetNeeds, needs_table, preset_needs
from dspa_nn.costs.passes import Pass, Trained, add_lora, count_backward, pass_flops
from dspa_nn.costs.steps import (
    dpo_step,
    rahf_first_step,
    rahf_second_step,
    sae_step,
    sft_step,
)
from dspa_nn.costs.table import CostRow, CostTable, cost_table, preset_costs
from dspa_nn.costs.training import TrainingFlops, dpo_flops, rahf_flops

__all__ = [
    "H100_PEAK",
    "STEP_1_TOKENS",
    "STEP_2_BATCHES",
    "STEP_2_MOST",
    "STEP_2_ROWS",
    "STEP_2_TOKENS",
    "UTILISATION",
    "CostRow",
    "CostTable",
    "FitFlops",
    "FitPlan",
    "ForwardFlops",
    "Pass",
    "PresetNeeds",
    "Trained",
    "TrainingFlops",
    "account_dspa",
    "account_rahf",
    "add_lora",
    "build",
    "cost_table",
    "count_backward",
    "count_forward",
    "dpo_flops",
    "dpo_step",
    "encode_flops",
    "fit_flops",
    "forward_flops",
    "needs_table",
    "pass_flops",
    "preset_costs",
    "preset_needs",
    "rahf_first_step",
    "rahf_flops",
    "rahf_second_step",
    "sae_step",
    "sft_step",
    "speed_up",
]
