"""`dspa tune`: settings chosen on development triples, within limits on damage."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from dspa_nn.cli.build import build, build_sweep, read_sae
from dspa_nn.cli.options import (
    DEFAULT_PRESET,
    AsJSON,
    Chat,
    Layers,
    Model,
    Preset,
    Seed,
    Source,
    Split,
    Weights,
)
from dspa_nn.cli.stopping import resumable
from dspa_nn.errors import EvaluationError
from dspa_nn.files import as_path, require_folder
from dspa_nn.models import get_preset
from dspa_nn.steering import DSPA, LayerSweep
from dspa_nn.triples import PreferenceTriple, load_triples
from dspa_nn.tuning import Space, check_search, commands
from dspa_nn.tuning import tune as search

SEVERAL = "One of the values to choose from; several if repeated."
SAES = "LAYER=SOURCE or a source; several layers if repeated."


def tune(
    source: Source,
    out: Annotated[Path, typer.Option(help="Folder for the study, tuning.json and front.png.")],
    dev: Annotated[
        str | None,
        typer.Option(
            help="Development triples, to compare settings on.", show_default="a share of SOURCE"
        ),
    ] = None,
    dev_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="That share, the last ones.")
    ] = 0.2,
    trials: Annotated[
        int, typer.Option(min=1, help="Settings to measure, earlier runs' included.")
    ] = 64,
    kl: Annotated[float, typer.Option(help="Most nats of KL per token.")] = 0.15,
    perplexity: Annotated[
        float, typer.Option(help="Highest perplexity ratio of answers; 0 does without.")
    ] = 1.3,
    keep: Annotated[
        int, typer.Option(min=1, help="Ways to vote that pass the screening, of each rule.")
    ] = 2,
    percentile: Annotated[list[float] | None, typer.Option(help=SEVERAL)] = None,
    prompt_tokens: Annotated[list[str] | None, typer.Option(help=SEVERAL)] = None,
    prompt_rule: Annotated[list[str] | None, typer.Option(help=SEVERAL)] = None,
    k_prompt: Annotated[list[int] | None, typer.Option(help=SEVERAL)] = None,
    k_diff: Annotated[list[int] | None, typer.Option(help=SEVERAL)] = None,
    mode: Annotated[list[str] | None, typer.Option(help=SEVERAL)] = None,
    alpha: Annotated[
        str | None, typer.Option(metavar="LOW,HIGH", help="Range of alpha.", show_default="0.1,1")
    ] = None,
    preset: Preset = DEFAULT_PRESET,
    weights: Weights = None,
    model: Model = None,
    input_sae: Annotated[list[str] | None, typer.Option(help=SAES)] = None,
    output_sae: Annotated[list[str] | None, typer.Option(help=SAES)] = None,
    layers: Layers = None,
    chat: Chat = False,
    split: Split = "train",
    limit: Annotated[int | None, typer.Option(min=3, help="Stop after so many triples.")] = None,
    seed: Seed = 0,
    as_json: AsJSON = False,
) -> None:
    """Choose a map's settings by what steers best on development triples, within limits on damage.

    Every way of counting and voting is ranked from counts; the best are searched with k_diff, mode
    and alpha by steered margin. Run again, the same command goes on where it was cut off, and with
    more --trials it adds to them. Give it no test triples.
    """
    require_folder("--out", as_path(out))
    space = _space(
        percentile=percentile, prompt_tokens=prompt_tokens, prompt_rule=prompt_rule,
        k_prompt=k_prompt, k_diff=k_diff, mode=mode, alpha=_range(alpha),
    )  # fmt: skip
    fitting, development = _triples(source, dev, dev_share, chat, split, limit)
    check_search(
        fitting, development, trials=trials, keep=keep, kl=kl, perplexity=perplexity or None
    )
    built = _built(preset, model, input_sae or [], output_sae or [], layers, weights)
    with resumable(f"what is measured is in {out}; the same command goes on from there"):
        found = search(
            built, fitting, development, out, space=space, trials=trials, keep=keep, kl=kl,
            perplexity=perplexity or None, seed=seed, progress=False if as_json else None,
        )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(found.report, indent=1))
        return
    typer.echo(found)
    if found.region is not None:
        best = found.region.best.choice.vote.layers
        where = _flags(
            preset, model, weights, input_sae or [], output_sae or [], layers, chat, best
        )
        told = (f"{command}{where}" for command in commands(found.region, source))
        typer.echo("\nwith the best:\n  " + "\n  ".join(told))
    if found.picture is None:
        typer.echo("no picture: pip install 'dspa-nn[demo]' brings matplotlib, which draws it")
    typer.echo(f"\nevery figure is in {found.json}" + (
        "" if found.picture is None else f", the plot in {found.picture}"
    ))  # fmt: skip


def _flags(
    preset: str,
    model: str | None,
    weights: Any,
    inputs: list[str],
    outputs: list[str],
    layers: str | None,
    chat: bool,
    best: tuple[int, int],
) -> str:
    """The options that make `dspa fit` and `dspa steer` take what the search took.

    best: the layers of the setting; of several SAEs theirs are named, without the layer.
    """
    told: dict[str, str | None] = {"preset": None if preset == DEFAULT_PRESET else preset}
    told |= {"weights": weights, "model": model}
    several = _several(inputs, outputs)
    for role, sources, layer in zip(("input", "output"), (inputs, outputs), best, strict=True):
        own = sources
        if several:
            own = [_source(one) for one in sources if read_sae(role, one)[0] == layer]
            own = own or [str(getattr(get_preset(preset), f"{role}_sae"))]
        told[f"{role}-sae"] = own[0] if own else None
    told["layers"] = ",".join(map(str, best)) if several else layers
    named = (f" --{name} {shlex.quote(str(value))}" for name, value in told.items() if value)
    return "".join(named) + (" --chat" if chat else "")


def _several(inputs: list[str], outputs: list[str]) -> bool:
    """Whether SAE options came more than once, or with their layer."""
    sides = (inputs, outputs)
    return any(len(side) > 1 or any(_source(one) != one for one in side) for side in sides)


def _source(option: str) -> str:
    """What an option names, without its layer.

    >>> _source("9=saes/early"), _source("saes/early")
    ('saes/early', 'saes/early')
    """
    layer, equals, rest = option.partition("=")
    return rest.strip() if equals and layer.strip().isdecimal() else option


def _space(**given: Any) -> Space:
    """What was given in place of what is usual."""
    asked = {name: tuple(value) for name, value in given.items() if value}
    return Space(**asked)


def _range(alpha: str | None) -> tuple[float, float] | None:
    if alpha is None:
        return None
    try:
        low, high = (float(part) for part in alpha.split(","))
    except ValueError:
        raise EvaluationError(
            f"--alpha is {alpha!r}; give the least and the greatest, as 0.1,1"
        ) from None
    return low, high


def _triples(
    source: str, dev: str | None, share: float, chat: bool, split: str, limit: int | None
) -> tuple[Sequence[PreferenceTriple], Sequence[PreferenceTriple]]:
    """The triples to fit on, and those to compare settings on."""
    triples = load_triples(source, chat=chat, split=split, limit=limit)
    if dev is not None:
        return triples, load_triples(dev, chat=chat, split=split)
    last = max(2, round(share * len(triples))) if share else 0
    if not 0 < last < len(triples):
        raise EvaluationError(
            f"{source} has {len(triples)} triples, and {last} of them would be compared on, where "
            "at least two and not all were expected; give more, another --dev-share, or --dev"
        )
    return triples[:-last], triples[-last:]


def _built(
    preset: str,
    model: str | None,
    inputs: list[str],
    outputs: list[str],
    layers: str | None,
    weights: Any,
) -> DSPA | LayerSweep:
    """A model with two SAEs, or several layers where SAEs came more than once or with a layer."""
    if _several(inputs, outputs):
        if layers is not None:
            raise EvaluationError(
                f"--layers {layers} came with SAEs of several layers; write each as LAYER=SOURCE"
            )
        return build_sweep(preset, model, inputs, outputs, weights)
    single = [group[0] if group else None for group in (inputs, outputs)]
    return build(preset, model, single[0], single[1], layers, weights)
