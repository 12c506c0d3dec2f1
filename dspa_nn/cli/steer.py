"""`dspa steer`: one prompt, answered unsteered and steered."""

import json
from typing import Annotated, Any, NamedTuple, Unpack

import typer

from dspa_nn.cli.build import build
from dspa_nn.cli.options import (
    DEFAULT_PRESET,
    Alpha,
    AsJSON,
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
    Remote,
    Weights,
)
from dspa_nn.errors import TripleError
from dspa_nn.maps import ConditionalDifferenceMap
from dspa_nn.personas import read_map
from dspa_nn.progress import warn
from dspa_nn.steering import DSPA, EditLog, SteeringOptions, remark_on_alpha
from dspa_nn.triples import Prompt


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
    remote: Remote = False,
    as_json: AsJSON = False,
) -> None:
    """Answer a prompt twice, unsteered and steered, and say what was edited."""
    fitted = read_map(map_folder)
    if not chat and fitted.provenance.get("prompts") == "chat":
        warn(
            "the map was fitted on chat prompts, and this prompt is text as it stands; add --chat "
            "to lift it to one user message"
        )
    answers = twice(
        fitted,
        build(preset, model, input_sae, output_sae, layers, weights, remote),
        [{"role": "user", "content": text}] if chat else text,
        max_new_tokens,
        remote,
        alpha=alpha,
        k_prompt=k_prompt,
        k_diff=k_diff,
        mode=mode,
        prompt_rule=prompt_rule,
    )
    if as_json:
        typer.echo(json.dumps(answers.to_dict(), ensure_ascii=False, indent=1))
        return
    typer.echo(f"unsteered:\n{answers.unsteered}\n")
    typer.echo(f"steered:\n{answers.steered}\n")
    typer.echo(answers.edits.plans[0])
    typer.echo(answers.edits)


class Twice(NamedTuple):
    """Both answers to one prompt, and what was edited in the second."""

    unsteered: str
    steered: str
    edits: EditLog

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; of the edits, how often each output latent was edited."""
        plan, edits = self.edits.plans[0], self.edits
        return {
            "unsteered": self.unsteered,
            "steered": self.steered,
            "settings": {name: _plain(value) for name, value in edits.options.items()},
            "plan": {"augment": plan.augment, "ablate": plan.ablate},
            "edits": edits.total,
            "steered_tokens": edits.tokens,
            "edits_of_latents": edits.by_latent(),
        }


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def twice(
    fitted: ConditionalDifferenceMap,
    dspa: DSPA,
    text: Prompt,
    max_new_tokens: int,
    remote: bool = False,
    **options: Unpack[SteeringOptions],
) -> Twice:
    """Answer a prompt greedily, unsteered and steered; here, or on NDIF."""
    model: Any = dspa.model
    if remark := remark_on_alpha(options.get("alpha")):
        warn(remark)
    prompt = dspa.render(text)
    if not len(prompt.ids):
        raise TripleError("the prompt is empty, and this model begins no text by itself; say more")
    settings: dict[str, Any] = {"max_new_tokens": max_new_tokens, "do_sample": False}
    if remote:
        settings["remote"] = True
    with model.generate(prompt.ids, **settings) as tracer:
        plain = tracer.result.save()
    with model.generate(prompt.ids, **settings) as tracer:
        edits = dspa.apply(fitted, prompt=prompt, **options)
        steered = tracer.result.save()
    start = len(prompt.ids)
    before, after = (
        str(model.tokenizer.decode(ids[0, start:], skip_special_tokens=True))
        for ids in (plain, steered)
    )
    return Twice(before, after, edits)
