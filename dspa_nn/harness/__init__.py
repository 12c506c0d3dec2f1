"""Steered models in other people's evaluation harnesses: lm-evaluation-harness, AlpacaEval."""

from dspa_nn.harness.alpaca import alpaca_win_rate, read_outputs, write_outputs
from dspa_nn.harness.lm_eval_model import model_class
from dspa_nn.harness.lm_eval_run import run_lm_eval
from dspa_nn.harness.lm_eval_tasks import write_tasks

__all__ = [
    "alpaca_win_rate",
    "model_class",
    "read_outputs",
    "run_lm_eval",
    "write_outputs",
    "write_tasks",
]
