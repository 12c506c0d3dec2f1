"""`dspa serve`: an OpenAI-compatible server, steered request by request."""

from typing import Annotated, Any

import typer

from dspa_nn.cli.build import build
from dspa_nn.cli.options import (
    DEFAULT_PRESET,
    InputSAE,
    Layers,
    Model,
    OutputSAE,
    Preset,
    Weights,
)
from dspa_nn.errors import ServingError
from dspa_nn.personas import read_map
from dspa_nn.serving import Engine, check_start
from dspa_nn.serving import serve as serve_engine


def serve(
    maps: Annotated[
        list[str] | None,
        typer.Option(
            "--map", metavar="NAME=MAP", help="A saved map or sum, or its hub id; as often as maps."
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Where to listen; beyond 127.0.0.1 DSPA_API_KEY must be set.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Requests that are answered at once, at most.")
    ] = 8,
    window: Annotated[
        float,
        typer.Option(
            min=0,
            max=Engine.longest_window,
            help="Seconds that a request waits for others to join it.",
        ),
    ] = 0.01,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="Length of answers whose request names none.")
    ] = 512,
    preset: Preset = DEFAULT_PRESET,
    weights: Weights = None,
    model: Model = None,
    input_sae: InputSAE = None,
    output_sae: OutputSAE = None,
    layers: Layers = None,
) -> None:
    """Answer the OpenAI API's chat completions, each request steered by its own map and settings.

    Maps are what `/v1/models` lists, beside "unsteered". Ctrl-C stops the server.
    """
    paths = _paths_by_name(maps or [])
    options: dict[str, Any] = {
        "batch_size": batch_size, "window": window, "max_tokens": max_tokens,
    }  # fmt: skip
    check_start(paths, host, port, **options)  # before anything is loaded
    named = {name: read_map(path) for name, path in paths.items()}
    dspa = build(preset, model, input_sae, output_sae, layers, weights)
    engine = Engine(dspa, named, **options)
    typer.echo(f"serving {', '.join(engine.names)} on {_url(host, port)} (Ctrl-C stops)")
    serve_engine(engine, host, port)
    typer.echo("stopped")


def _paths_by_name(maps: list[str]) -> dict[str, str]:
    """What --map names.

    >>> _paths_by_name(["warm=maps/warm", "brief=maps/brief"])
    {'warm': 'maps/warm', 'brief': 'maps/brief'}
    """
    paths: dict[str, str] = {}
    for given in maps:
        name, equals, path = given.partition("=")
        if not equals or not name or not path:
            raise ServingError(f"--map is {given!r}; write NAME=MAP, such as --map warm=maps/warm")
        if name in paths:
            raise ServingError(f"--map names {name} twice; give each map a name of its own")
        paths[name] = path
    return paths


def _url(host: str, port: int) -> str:
    """What a client is given; an address of IPv6 stands in brackets there.

    >>> _url("::1", 8000)
    'http://[::1]:8000/v1'
    """
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"
