"""Steered models in other people's evaluation harnesses: lm-evaluation-harness."""

from dspa_nn.harness.lm_eval_model import model_class
from dspa_nn.harness.lm_eval_run import run_lm_eval
from dspa_nn.harness.lm_eval_tasks import write_tasks

__all__ = ["model_class", "run_lm_eval", "write_tasks"]
