"""`dspa serve`: what it refuses before a model is loaded, and that Ctrl-C ends it cleanly."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests import steer_zoo
from tests.cli.test_cli import dspa
from tests.conftest import REPOSITORY


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--map", "warm"], "dspa: --map is 'warm'; write NAME=MAP, such as --map warm=maps/warm"),
        (["--map", "=warm"], "dspa: --map is '=warm'; write NAME=MAP"),
        (["--host", "0.0.0.0"], "dspa: the server would listen on 0.0.0.0, where others can reach"),
        (
            ["--map", "unsteered=warm"],
            "dspa: a map is named 'unsteered'; give it another name, sinc",
        ),
        (["--map", " =warm"], "dspa: a map is named ' '; expected a name without blanks around it"),
        (
            ["--map", "warm =warm"],
            "dspa: a map is named 'warm '; expected a name without blanks ar",
        ),
        (
            ["--map", "a=b", "--map", "a=c"],
            "dspa: --map names a twice; give each map a name of its",
        ),
        (
            ["--port", "{port}"],
            "dspa: the server could not listen on 127.0.0.1:{port}, which may be",
        ),
    ],
)
def test_what_is_refused_before_anything_is_loaded(
    given: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DSPA_API_KEY", raising=False)
    for load in ("read_map", "build"):
        monkeypatch.setattr(f"dspa_nn.cli.serve.{load}", lambda *_: pytest.fail("it was loaded"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        told = dspa("serve", *[one.replace("{port}", port) for one in given])
    assert told.exit_code == 1
    assert said.replace("{port}", port) in told.output


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--map", "a={here}", "--map", "b={here}-none"], "dspa: {here}-none holds no map.json, "),
        (
            ["--input-sae", "{here}-none", "--output-sae", "{here}"],
            "dspa: --input-sae is {here}-none, and no such folder is here; check the path",
        ),
        (
            ["--input-sae", "{here}", "--output-sae", "./none"],
            "dspa: --output-sae is ./none, and no such folder is here; check the path",
        ),
        (["--layers", "9"], "dspa: --layers is '9'; expected the input and the output layer"),
    ],
)
def test_folders_that_are_missing_are_told_before_a_model_is_loaded(
    given: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = str(tmp_path / "map")
    steer_zoo.lab("llama", "add").map.save(here)
    monkeypatch.setattr("dspa_nn.cli.build.load_model", lambda *_: pytest.fail("it was loaded"))
    told = dspa("serve", "--port", "0", *[one.replace("{here}", here) for one in given])
    assert told.exit_code == 1
    assert said.replace("{here}", here) in told.output


SERVE = """
from dspa_nn.serving import Engine, serve
from tests import serve_zoo
engine = Engine(serve_zoo.tiny_dspa(), {{}})
engine._model.register_forward_pre_hook(lambda *_: __import__("time").sleep(0.2))
serve(engine, port={port})
print("stopped")
"""


@pytest.mark.slow
def test_ctrl_c_ends_answers_and_the_server(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "serving.py").write_text(SERVE.format(port=port))
    server = subprocess.Popen(
        [sys.executable, tmp_path / "serving.py"],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        end = time.monotonic() + 200
        while True:
            try:
                httpx.get(f"{url}/health")
                break
            except httpx.HTTPError:
                assert server.poll() is None, server.communicate()
                assert time.monotonic() < end
                time.sleep(0.2)
        body = {
            "model": "unsteered", "messages": [{"role": "user", "content": "Hi"}],
            "max_tokens": 400, "stream": True,
        }  # fmt: skip
        lines: list[str] = []
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as answer:
            for line in answer.iter_lines():
                lines.append(line)
                if len(lines) == 3:
                    server.send_signal(signal.SIGINT)
        assert '"message": "the server is stopping; send the request again later"' in lines[-2]
        out, err = server.communicate(timeout=60)
    finally:
        server.kill()
    assert server.returncode == 0, err
    assert out.splitlines()[-1] == "stopped"
    assert "Traceback" not in err
