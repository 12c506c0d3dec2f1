"""`dspa audit`: one prompt, answered unsteered and steered, as a report in HTML."""

from pathlib import Path
from typing import Annotated

import typer

from dspa_nn.audit import report
from dspa_nn.cli.build import build
from dspa_nn.cli.options import (
    DEFAULT_PRESET,
    Alpha,
    Chat,
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
    Weights,
)
from dspa_nn.cli.steer import twice
from dspa_nn.maps import ConditionalDifferenceMap


def audit(
    map_folder: MapArgument,
    text: Annotated[str, typer.Argument(metavar="PROMPT", help="What to say to the model.")],
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("report.html"),
    preset: Preset = DEFAULT_PRESET,
    weights: Weights = None,
    model: Model = None,
    input_sae: InputSAE = None,
    output_sae: OutputSAE = None,
    layers: Layers = None,
    chat: Chat = False,
    max_new_tokens: MaxNewTokens = 64,
    alpha: Alpha = None,
    k_prompt: KPrompt = None,
    k_diff: KDiff = None,
    mode: Mode = None,
    prompt_rule: PromptRule = None,
) -> None:
    """Answer a prompt unsteered and steered, and explain every edit in one HTML file.

    The file needs nothing beside it and fetches nothing.
    """
    fitted = ConditionalDifferenceMap.load(map_folder)
    dspa = build(preset, model, input_sae, output_sae, layers, weights)
    answers = twice(
        fitted,
        dspa,
        [{"role": "user", "content": text}] if chat else text,
        max_new_tokens,
        alpha=alpha,
        k_prompt=k_prompt,
        k_diff=k_diff,
        mode=mode,
        prompt_rule=prompt_rule,
    )
    unsteered = answers.unsteered.strip()
    path = report(answers.edits, out, dspa=dspa, map=fitted, unsteered=unsteered)
    typer.echo(answers.edits)
    typer.echo(f"The report is {path}; open it in a browser.")
