"""Put `dspa serve` on Ray Serve: several replicas behind one address, each with its own model.

    pip install 'dspa-nn[serve-ray]'
    python recipes/serve_on_ray.py --map warm=maps/warm --replicas 2

The address is that of `dspa serve`, and so is the API: http://127.0.0.1:8000/v1. Ray hands each
request to a replica, and starts a replica that dies again. What a replica was answering when it
died is asked of another one, `TRIES` times. An answer is a function of its request (with a seed, or
temperature 0), so that asking twice changes nothing. Ray's proxy may drop connections while it
replaces a replica, after which a client asks again by itself, as `openai`'s does (`max_retries`).
Streams arrive whole, at their end.

Batches are those of each replica: with two of them, sixteen requests are answered at once.
"""

import argparse
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import dspa_nn as dn
from dspa_nn.imports import late
from dspa_nn.serving import Engine, check_start, make_app

late("anyio")

TRIES = 5
# Seconds between two looks of Ray at whether a replica lives.
HEALTH_PERIOD = 2.0


class Answering:
    """A replica: one model, and the application of `dspa serve`, called without a network."""

    def __init__(self, build: Callable[[], Engine]) -> None:
        import httpx

        self.engine = build()
        transport = httpx.ASGITransport(make_app(self.engine))
        self.client = httpx.AsyncClient(transport=transport, base_url="http://replica")

    async def ask(self, method: str, path: str, body: bytes) -> tuple[int, bytes, str, int]:
        """Answer one request; return its status, body and type, and the process that answered."""
        answer = await self.client.request(method, path, content=body, timeout=None)
        return answer.status_code, answer.content, answer.headers["content-type"], os.getpid()


class Front:
    """What listens: it hands requests on, and hands them on again where a replica dies."""

    def __init__(self, replicas: Any) -> None:
        self.replicas = replicas

    async def __call__(self, request: Any) -> Any:
        """Answer a request of HTTP, whole: a stream arrives at its end."""
        from ray.exceptions import RayError
        from starlette.responses import JSONResponse, Response

        body = await request.body()
        for _ in range(TRIES):
            try:
                status, content, kind, process = await self.replicas.ask.remote(
                    request.method, request.url.path, body
                )
            except RayError:  # the replica has died; another one answers
                continue
            return Response(content, status, {"x-replica": str(process)}, media_type=kind)
        error = {
            "message": f"no replica could answer in {TRIES} tries; send the request again later",
            "type": "server_error",
            "param": None,
            "code": "no_replica",
        }
        return JSONResponse({"error": error}, status_code=503)


def application(build: Callable[[], Engine], replicas: int, gpus: float = 0) -> Any:
    """The Ray Serve application: `serve.run(application(...), route_prefix="/")`.

    Args:
        build: makes the engine of a replica.
        replicas: how many there are.
        gpus: of each.
    """
    from ray import serve

    answering: Any = serve.deployment(
        Answering,
        num_replicas=replicas,
        max_ongoing_requests=64,
        health_check_period_s=HEALTH_PERIOD,
        ray_actor_options={"num_gpus": gpus, "num_cpus": 1},
    )
    front: Any = serve.deployment(
        Front, max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0}
    )
    return front.bind(answering.bind(build))


def engine_of(preset: str, maps: dict[str, str]) -> Engine:
    """The engine of a replica, with its own model."""
    loaded = {name: dn.ConditionalDifferenceMap.load(path) for name, path in maps.items()}
    return Engine(dn.DSPA.from_preset(preset), loaded)


def named(text: str) -> tuple[str, str]:
    """The name and the folder in NAME=FOLDER."""
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise argparse.ArgumentTypeError(f"{text!r}; write NAME=FOLDER, such as warm=maps/warm")
    return name, folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--map", action="append", default=[], type=named, metavar="NAME=FOLDER")
    parser.add_argument("--preset", default="smollm2-135m-instruct")
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--gpus", type=float, default=0, help="of each replica")
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args()
    maps: dict[str, str] = dict(given.map)
    if len(maps) < len(given.map):
        parser.error("--map gives one name twice; give each map a name of its own")
    check_start(maps, port=given.port)

    from ray import serve

    serve.start(http_options={"host": "127.0.0.1", "port": given.port})
    build = partial(engine_of, given.preset, maps)
    serve.run(application(build, given.replicas, given.gpus), route_prefix="/", blocking=True)


if __name__ == "__main__":
    main()
