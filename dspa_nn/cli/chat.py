"""`dspa chat`: a talk in the terminal, steered and unsteered answers side by side."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from dspa_nn.chat import Talk, run_chat
from dspa_nn.checks import check_temperature
from dspa_nn.cli.build import build
from dspa_nn.cli.options import (
    DEFAULT_PRESET,
    Alpha,
    InputSAE,
    KDiff,
    KPrompt,
    Layers,
    MapArgument,
    MaxNewTokens,
    Mode,
    Model,
    OutputSAE,
    Preset,
    PromptRule,
    Remote,
    Weights,
    asked,
)
from dspa_nn.errors import FileError, SteeringError
from dspa_nn.files import as_path
from dspa_nn.personas import read_map


def chat(
    map_folder: MapArgument,
    system: Annotated[str | None, typer.Option(help="A system message.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with a talk that /save wrote.")] = None,
    max_new_tokens: MaxNewTokens = 128,
    temperature: Annotated[
        float, typer.Option(min=0, help="Of sampled answers; 0 takes the likeliest token.")
    ] = 0.0,
    seed: Annotated[int | None, typer.Option(help="Of each sampled answer.")] = None,
    preset: Preset = DEFAULT_PRESET,
    weights: Weights = None,
    model: Model = None,
    input_sae: InputSAE = None,
    output_sae: OutputSAE = None,
    layers: Layers = None,
    remote: Remote = False,
    alpha: Alpha = None,
    k_prompt: KPrompt = None,
    k_diff: KDiff = None,
    mode: Mode = None,
    prompt_rule: PromptRule = None,
) -> None:
    """Talk with the model, steered and unsteered answers side by side.

    Both sides are asked the same, and each goes on from its own answers. /help lists what else can
    be typed: /map, /alpha, /why, /undo, /save.
    """
    if seed is not None and remote:
        raise SteeringError(
            f"--seed {seed} came with --remote, where the server draws by itself; leave one of "
            "them out"
        )
    check_temperature(temperature, SteeringError)
    if resume is not None and not as_path(resume).is_dir():
        raise FileError(f"there is no folder {resume}; give one that /save wrote to --resume")
    fitted = read_map(map_folder)
    dspa = build(preset, model, input_sae, output_sae, layers, weights, remote=remote)
    generation: dict[str, Any] = {"max_new_tokens": max_new_tokens, "do_sample": temperature > 0}
    if temperature > 0:
        generation["temperature"] = temperature
    if seed is not None:
        generation["seed"] = seed
    settings: dict[str, Any] = dict(asked(
        alpha=alpha, k_prompt=k_prompt, k_diff=k_diff, mode=mode, prompt_rule=prompt_rule,
    ))  # fmt: skip
    talk = Talk(
        dspa, fitted, Path(map_folder).name, settings=settings, generation=generation,
        system=system, remote=remote, resume=resume,
    )  # fmt: skip
    run_chat(talk, Console(highlight=False))
