"""Steered models in other people's harnesses: lm-evaluation-harness, AlpacaEval, Inspect.

Names are imported when they are first used: Inspect loads a module of this package whenever it
looks for providers.
"""

from typing import TYPE_CHECKING

from dspa_nn.imports import lazy_names

if TYPE_CHECKING:
    from dspa_nn.harness.alpaca import alpaca_win_rate, write_outputs
    from dspa_nn.harness.alpaca_files import read_outputs
    from dspa_nn.harness.inspect_model import inspect_provider
    from dspa_nn.harness.lm_eval_model import model_class
    from dspa_nn.harness.lm_eval_run import git_kept_quiet, run_lm_eval
    from dspa_nn.harness.lm_eval_tasks import PAPER_TASKS, write_tasks

__all__ = [
    "PAPER_TASKS",
    "alpaca_win_rate",
    "git_kept_quiet",
    "inspect_provider",
    "model_class",
    "read_outputs",
    "run_lm_eval",
    "write_outputs",
    "write_tasks",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "alpaca": ["alpaca_win_rate", "write_outputs"],
        "alpaca_files": ["read_outputs"],
        "inspect_model": ["inspect_provider"],
        "lm_eval_model": ["model_class"],
        "lm_eval_run": ["git_kept_quiet", "run_lm_eval"],
        "lm_eval_tasks": ["PAPER_TASKS", "write_tasks"],
    },
)
