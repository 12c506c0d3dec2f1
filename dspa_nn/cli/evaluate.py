"""`dspa evaluate`: a receipt for a map, as one page and one JSON file."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from dspa_nn.baselines import INSTRUCTION
from dspa_nn.checks import LEAST_TEMPERATURE
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
    MaxNewTokens,
    Mode,
    Model,
    OutputSAE,
    Preset,
    PromptRule,
    Seed,
    Weights,
)
from dspa_nn.cli.stopping import resumable
from dspa_nn.errors import FileError
from dspa_nn.evaluation import load_choices
from dspa_nn.files import as_path, require_folder
from dspa_nn.maps import ConditionalDifferenceMap
from dspa_nn.receipt import evaluate as write_receipt
from dspa_nn.triples import load_triples


def evaluate(
    map_folder: Annotated[str, typer.Argument(metavar="MAP", help="A saved map, or its hub id.")],
    triples: Annotated[
        str, typer.Option(help="Held-out triples, which the map has not seen: what is reported on.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the page, the JSON and finished parts.")],
    dev: Annotated[
        str | None,
        typer.Option(
            help="Development triples, to match the controls on.",
            show_default="a share of the held-out ones",
        ),
    ] = None,
    dev_share: Annotated[float, typer.Option(min=0.0, max=1.0, help="That share.")] = 0.3,
    fitted_on: Annotated[
        str | None,
        typer.Option(help="Triples that the map was fitted on: none of them may be held out."),
    ] = None,
    preset: Preset = DEFAULT_PRESET,
    weights: Weights = None,
    model: Model = None,
    input_sae: InputSAE = None,
    output_sae: OutputSAE = None,
    layers: Layers = None,
    chat: Chat = False,
    alpha: Alpha = None,
    k_prompt: KPrompt = None,
    k_diff: KDiff = None,
    mode: Mode = None,
    prompt_rule: PromptRule = None,
    instruction: Annotated[
        str, typer.Option(help="What the prompt prefix says; empty leaves it out.")
    ] = INSTRUCTION,
    paraphrases: Annotated[
        Path | None, typer.Option(help="JSON Lines of prompt and paraphrase.")
    ] = None,
    multiple_choice: Annotated[
        Path | None, typer.Option(help="JSON Lines of question, choices and answer.")
    ] = None,
    questions: Annotated[
        int | None, typer.Option(min=1, help="Read so many of these at most.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=6, help="Report on so many triples at most.")
    ] = None,
    max_new_tokens: MaxNewTokens = 32,
    temperature: Annotated[
        float, typer.Option(min=LEAST_TEMPERATURE, help="Of the sampled answers.")
    ] = 0.7,
    name: Annotated[
        str | None, typer.Option(help="The map's, on the page.", show_default="its folder's")
    ] = None,
    seed: Seed = 0,
    as_json: AsJSON = False,
) -> None:
    """Write a page on what a map does, what it damages, and whether anything simpler does it.

    Controls are matched in strength on development triples, and everything is reported on held-out
    ones. Run again, the same command goes on where it was cut off.
    """
    require_folder("--out", as_path(out))
    fitted = ConditionalDifferenceMap.load(map_folder)
    for source in (triples, dev, fitted_on):  # what cannot be read is refused before a model loads
        if source is not None:
            load_triples(source, chat=chat)
    if multiple_choice is not None:
        load_choices(multiple_choice, questions)
    if paraphrases is not None and not as_path(paraphrases).is_file():
        raise FileError(f"there is no file {paraphrases}; check --paraphrases")
    dspa = build(preset, model, input_sae, output_sae, layers, weights)
    settings: Any = {
        "alpha": alpha, "k_prompt": k_prompt, "k_diff": k_diff, "mode": mode,
        "prompt_rule": prompt_rule,
    }  # fmt: skip
    with resumable(f"what is finished is in {out}, and the same command goes on from there"):
        receipt = write_receipt(
            dspa, fitted, triples, out, name=name or Path(map_folder).name, dev=dev,
            dev_share=dev_share, fitted_on=fitted_on, options=settings, instruction=instruction,
            paraphrases=paraphrases, multiple_choice=multiple_choice,
            max_new_tokens=max_new_tokens, temperature=temperature, limit=limit,
            questions=questions, chat=chat, seed=seed, progress=False if as_json else None,
        )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(receipt.report, indent=1))
        return
    typer.echo(receipt)
    typer.echo(f"\nthe page is {receipt.page}, every figure is in {receipt.json}")
