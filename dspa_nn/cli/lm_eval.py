"""`dspa lm-eval`: lm-evaluation-harness with steered models."""

import tempfile
from typing import Annotated

import typer

from dspa_nn.errors import EvaluationError
from dspa_nn.harness import run_lm_eval, write_tasks


def lm_eval(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="ARGUMENTS", help="What lm-eval takes, after --.")
    ] = None,
    local: Annotated[
        list[str] | None,
        typer.Option(metavar="TASK=FILE", help="A task on a local file of questions; repeatable."),
    ] = None,
) -> None:
    """Run lm-evaluation-harness with the model class `dspa`, a steered model.

    Everything after -- goes to lm-eval: dspa lm-eval -- run --model dspa --model_args
    preset=smollm2-135m-instruct,map=my_map --tasks dspa_paper
    """
    if not arguments:
        raise EvaluationError(
            "nothing came for lm-evaluation-harness; write what it takes after --, as in dspa "
            "lm-eval -- run --model dspa --tasks dspa_paper, or dspa lm-eval -- --help"
        )
    files = dict(_divided(entry) for entry in local or [])
    with tempfile.TemporaryDirectory() as folder:
        write_tasks(folder, files)
        run_lm_eval([*arguments, "--include_path", folder])


def _divided(entry: str) -> tuple[str, str]:
    name, _, path = entry.partition("=")
    if not path:
        raise typer.BadParameter(f"{entry!r} is not TASK=FILE")
    return name, path
