"""`dspa steer`: one prompt, answered unsteered and steered."""

from typing import Annotated, Any

import typer

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
from dspa_nn.errors import TripleError
from dspa_nn.maps import ConditionalDifferenceMap


def steer(
    map_folder: MapArgument,
    text: Annotated[str, typer.Argument(metavar="PROMPT", help="What to say to the model.")],
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
    """Answer a prompt twice, unsteered and steered, and say what was edited."""
    fitted = ConditionalDifferenceMap.load(map_folder)
    dspa = build(preset, model, input_sae, output_sae, layers, weights)
    steered_model: Any = dspa.model
    prompt = dspa.render([{"role": "user", "content": text}] if chat else text)
    if not len(prompt.ids):
        raise TripleError("the prompt is empty, and this model begins no text by itself; say more")
    settings = {"max_new_tokens": max_new_tokens, "do_sample": False}
    with steered_model.generate(prompt.ids, **settings) as tracer:
        plain = tracer.result.save()
    with steered_model.generate(prompt.ids, **settings) as tracer:
        edits = dspa.apply(
            fitted,
            prompt=prompt,
            alpha=alpha,
            k_prompt=k_prompt,
            k_diff=k_diff,
            mode=mode,
            prompt_rule=prompt_rule,
        )
        steered = tracer.result.save()
    for name, ids in (("unsteered", plain), ("steered", steered)):
        answer = steered_model.tokenizer.decode(ids[0, len(prompt.ids) :], skip_special_tokens=True)
        typer.echo(f"{name}:\n{answer}\n")
    typer.echo(edits.plans[0])
    typer.echo(edits)
