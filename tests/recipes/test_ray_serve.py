"""The recipe on Ray Serve: a replica killed under load loses no answer."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from dspa_nn.serving import Engine
from recipes.serve_on_ray import Answering
from tests import serve_zoo, steer_zoo

PORT = 8791
REPOSITORY = Path(__file__).parents[2]

# What `ray[serve]` brings and `ray[data]` does not.
needs_serve = pytest.mark.skipif(
    not all(find_spec(name) for name in ("ray", "grpc", "aiohttp_cors", "prometheus_client")),
    reason="Ray Serve is not installed: pip install -e '.[serve-ray]'",
)


def build() -> Engine:
    """The engine of a replica, slow enough for a kill to come in the middle of an answer."""
    engine = Engine(serve_zoo.tiny_dspa(), {}, window=0.01)
    engine._model.register_forward_pre_hook(lambda *_: time.sleep(0.05))
    return engine


def requests(count: int) -> list[dict[str, Any]]:
    return [
        {
            "model": "unsteered", "messages": [{"role": "user", "content": f"tea {number}"}],
            "max_tokens": 20, "temperature": 0.8, "seed": number,
        }
        for number in range(count)
    ]  # fmt: skip


def main() -> None:
    """What the test runs in a process of its own; prints a line of JSON."""
    import httpx
    import openai
    import ray  # pyright: ignore[reportMissingImports]
    from ray import serve  # pyright: ignore[reportMissingImports]

    from recipes.serve_on_ray import application

    ray.init(address="local", num_cpus=3, include_dashboard=False)
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run(application(build, 2), route_prefix="/")
    url = f"http://127.0.0.1:{PORT}"

    async def load(kill: int | None) -> list[Any]:
        # The client's own tries: Ray's proxy may drop connections while it replaces a replica.
        key: Any = {"base_url": f"{url}/v1", "api_key": "none", "max_retries": 5, "timeout": 200}
        async with openai.AsyncOpenAI(**key) as client:
            create: Any = client.chat.completions.create
            tasks = [asyncio.ensure_future(create(**body)) for body in requests(24)]
            if kill is not None:
                await asyncio.sleep(0.7)
                os.kill(kill, signal.SIGKILL)
            return [
                (answer.choices[0].finish_reason, answer.choices[0].message.content)
                for answer in await asyncio.gather(*tasks)
            ]

    def processes() -> set[int]:
        answers = [httpx.get(f"{url}/health", timeout=60) for _ in range(20)]
        return {int(answer.headers["x-replica"]) for answer in answers}

    before = processes()
    undisturbed = asyncio.run(load(None))
    killed = asyncio.run(load(min(before)))
    end = time.monotonic() + 120
    while len(after := processes() - {min(before)}) < 2 and time.monotonic() < end:
        time.sleep(1)
    said = [undisturbed, killed]
    print(json.dumps({"before": len(before), "after": len(after), "said": said}), flush=True)
    serve.shutdown()


@pytest.mark.slow
@needs_serve
def test_a_replica_killed_under_load_loses_no_answer() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from tests.recipes.test_ray_serve import main; main()"],
        cwd=REPOSITORY,
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join(
                [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
            ),
            "OMP_NUM_THREADS": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            # Other tests may keep the processors busy.
            "RAY_gcs_server_port_wait_time_s": "120",
            "RAY_raylet_start_wait_time_s": "120",
            "RAY_agent_register_timeout_ms": "120000",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    undisturbed, killed = told["said"]
    assert killed == undisturbed
    assert len({text for _, text in killed}) > 12
    assert (told["before"], told["after"]) == (2, 2)


def test_a_replica_answers_as_the_server_does() -> None:
    replica = Answering(lambda: Engine(steer_zoo.lab("llama", "add").dspa, {}))
    body = requests(1)[0]

    async def asked() -> list[Any]:
        path = "/v1/chat/completions"
        return [
            await replica.ask("POST", path, json.dumps(body | changes).encode())
            for changes in ({}, {"n": 2}, {"stream": True})
        ]

    whole, refused, streamed = asyncio.run(asked())
    replica.engine.close()
    assert whole[0] == 200
    assert len(json.loads(whole[1])["choices"][0]["message"]["content"]) > 1
    assert refused[0] == 400
    assert json.loads(refused[1])["error"]["param"] == "n"
    assert streamed[1].endswith(b"data: [DONE]\n\n")
    assert streamed[2].startswith("text/event-stream")
