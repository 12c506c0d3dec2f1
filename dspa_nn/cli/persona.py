"""`dspa persona`: weights on axes of style as a file that steers as a map does."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from dspa_nn.cli.build import build
from dspa_nn.cli.options import (
    DEFAULT_PRESET,
    AsJSON,
    Chat,
    InputSAE,
    Layers,
    MaxNewTokens,
    Model,
    OutputSAE,
    Preset,
    Weights,
)
from dspa_nn.cli.stopping import how_to_go_on, resumable
from dspa_nn.errors import MapError
from dspa_nn.files import as_path, require_file, require_folder
from dspa_nn.personas import (
    AxisEffects,
    Persona,
    known_effects,
    measure_effects,
    read_weights,
    style_candidates,
)
from dspa_nn.prompts import Rendered
from dspa_nn.steering import DSPA
from dspa_nn.triples import load_triples


def persona(
    action: Annotated[
        Literal["make", "show", "measure"],
        typer.Argument(help="Make a persona, show one, or measure effects to make them of."),
    ],
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="WHAT",
            help="make: AXIS=WEIGHT, as often as there are axes; show: a file; measure: triples, "
            "whose prompts are answered.",
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="make, measure: the JSON file to write.")] = None,
    effects: Annotated[
        Path | None,
        typer.Option(help="make: what measure wrote.", show_default="those of the package"),
    ] = None,
    latents: Annotated[int, typer.Option(min=1, help="make: ablate so many latents at most.")] = 5,
    every: Annotated[
        bool, typer.Option("--every", help="make: ablate every latent of a gain.")
    ] = False,
    prompts: Annotated[int, typer.Option(min=3, help="measure: so many prompts.")] = 100,
    candidates: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="measure: so many latents of each axis, those that tell labelled texts apart.",
            show_default="every latent that fires",
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="measure: folder that keeps what is done.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="measure: answers at once.")] = 25,
    max_new_tokens: MaxNewTokens = 96,
    chat: Chat = False,
    preset: Preset = DEFAULT_PRESET,
    weights: Weights = None,
    model: Model = None,
    input_sae: InputSAE = None,
    output_sae: OutputSAE = None,
    layers: Layers = None,
    as_json: AsJSON = False,
) -> None:
    """Turn weights on axes of style into a persona, a file that steers as a map does.

    `dspa steer FILE PROMPT` answers with it, and so do the other commands that take a map.
    """
    if action == "show":
        _show(what, as_json)
        return
    if out is None:
        raise MapError(f"dspa persona {action} writes a file, and --out is missing; name one")
    require_file("--out", as_path(out))
    if checkpoint is not None:
        require_folder("--checkpoint", as_path(checkpoint))
    if action == "make":
        wanted = read_weights(what)
        if effects is not None:
            known = AxisEffects.load(effects)
        else:
            known = known_effects(build(preset, model, input_sae, output_sae, layers, weights))
        made = Persona(wanted, known, latents=None if every else latents)
        made.save(out)
        _print(
            _told(made), repr(made), out, "The persona is {}; steer with it as with a map.", as_json
        )
        return
    dspa = build(preset, model, input_sae, output_sae, layers, weights)
    chosen = None if candidates is None else style_candidates(dspa, candidates)
    with resumable(how_to_go_on(checkpoint, done="measured")):
        measured = measure_effects(
            dspa, _prompts(dspa, what, chat, prompts), chosen, max_new_tokens=max_new_tokens,
            batch_size=batch_size, folder=checkpoint,
        )  # fmt: skip
    measured.save(out)
    _print(measured.to_dict(), str(measured), out, "The effects are in {}.", as_json)


def _show(files: list[str], as_json: bool) -> None:
    shown = [Persona.load(path) for path in files]
    if as_json:
        typer.echo(json.dumps([_told(one) for one in shown], indent=1))
        return
    for one in shown:
        typer.echo(repr(one))


def _print(values: dict[str, Any], text: str, out: Path, where: str, as_json: bool) -> None:
    """What was made, and the file that it is in."""
    path = str(as_path(out))
    if as_json:
        typer.echo(json.dumps({"saved_in": path, **values}, indent=1))
        return
    typer.echo(text)
    typer.echo(where.format(path))


def _told(persona: Persona) -> dict[str, Any]:
    """A persona as plain values."""
    return {
        "weights": persona.axis_weights,
        "mode": persona.mode,
        "latents": {int(j): float(s) for j, s in zip(persona.columns, persona.values, strict=True)},
        "effects": persona.effects.to_dict(),
    }


def _prompts(dspa: DSPA, sources: list[str], chat: bool, most: int) -> list[Rendered]:
    """The first prompts of the sources, each of them once."""
    found: dict[str, Rendered] = {}
    for source in sources:
        for triple in load_triples(source, chat=chat):
            if len(found) == most:
                break
            rendered = dspa.render(triple.prompt)
            found.setdefault(rendered.text, rendered)
    return list(found.values())
