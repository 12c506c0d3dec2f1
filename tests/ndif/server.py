"""A real NDIF server on loopback, with the embedded model: install, start, stop.

    python -m tests.ndif.server start      # or: make ndif

Linux, no GPU needed. Everything binds 127.0.0.1.
"""

import ipaddress
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
REPO_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
MODEL_KEY = "nnsight.modeling.transformers.TransformersModel:" + json.dumps(
    {"repo_id": REPO_ID, "revision": None, "task": "text-generation"}
)
PORTS = {"api": 8001, "redis": 6390, "s3": 9000, "ray": 6385, "ray_client": 10001}
HOST = f"http://127.0.0.1:{PORTS['api']}"
# Every process of the server carries this in its environment: so that they can be found again.
MARK = "DSPA_NDIF_RUN"
# Whether the tests started the server, and so may stop it.
started_here = False


def cache() -> Path:
    """Return the toolkit's cache folder (`DSPA_CACHE`, else `~/.cache/dspa_nn`)."""
    root = os.environ.get("DSPA_CACHE")
    return Path(root) if root else Path.home() / ".cache" / "dspa_nn"


def venv() -> Path:
    """Return the server's own virtual environment, outside the repository."""
    return Path(os.environ.get("DSPA_NDIF_VENV") or cache() / "ndif-venv")


def work() -> Path:
    """Return the folder of logs; short, since Ray puts sockets below it."""
    return Path(os.environ.get("DSPA_NDIF_WORK") or f"{tempfile.gettempdir()}/ndif-{os.getuid()}")


def missing() -> str | None:
    """Say what of the server is not installed here, or None."""
    if not sys.platform.startswith("linux"):
        return "the loopback NDIF server runs on Linux only"
    if shutil.which("redis-server") is None:
        return "redis-server is not installed: apt-get install redis-server, then make ndif"
    if not installed():
        return "the server's packages are not installed: make ndif"
    return None


def installed() -> bool:
    """Whether the virtual environment holds what requirements.txt asks for today."""
    note = venv() / ".installed"
    return note.exists() and note.read_text() == (HERE / "requirements.txt").read_text()


def install() -> None:
    """Make the server's virtual environment, once: about two minutes."""
    if installed():
        return
    python = shutil.which("python3.11") or sys.executable
    subprocess.run([python, "-m", "venv", str(venv())], check=True)
    pip = [str(venv() / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "-r", str(HERE / "requirements.txt")], check=True)
    subprocess.run([*pip, "--no-deps", "--ignore-requires-python", "ndif==0.1.2"], check=True)
    (venv() / ".installed").write_text((HERE / "requirements.txt").read_text())


def environment() -> dict[str, str]:
    """Return what every process of the server is started with."""
    ours = cache() / "hub" / ("models--" + REPO_ID.replace("/", "--"))
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    env |= {
        MARK: str(work()),
        # The actor's folder alone: the toolkit must not be importable.
        "PYTHONPATH": str(HERE / "actor"),
        "PATH": f"{venv() / 'bin'}{os.pathsep}{env.get('PATH', '')}",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "GRPC_ENABLE_FORK_SUPPORT": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Else Ray takes the machine's outward address for 127.0.0.1, and listens on all of them.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # Else a token that another Ray of this user left behind would be asked for.
        "RAY_AUTH_MODE": "disabled",
        # A machine that is busy with other tests answers late, and is not dead.
        "RAY_gcs_server_port_wait_time_s": "180",
        "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "180",
        "RAY_health_check_timeout_ms": "60000",
        "RAY_health_check_failure_threshold": "20",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NDIF_REDIS_URL": f"redis://127.0.0.1:{PORTS['redis']}",
        "NDIF_OBJECT_STORE_URL": f"http://127.0.0.1:{PORTS['s3']}",
        "NDIF_API_URL": HOST,
        "NDIF_API_PORT": str(PORTS["api"]),
        "NDIF_RAY_ADDRESS": f"ray://127.0.0.1:{PORTS['ray_client']}",
        "NDIF_DEFAULT_MODEL_ACTOR_CLASS": "ndif_cpu.CPUModelActor",
        "GUNICORN_CMD_ARGS": f"--bind 127.0.0.1:{PORTS['api']}",
        "DSPA_NDIF_IMPORTS": str(work() / "imports.jsonl"),
    }
    if ours.exists():
        env["HF_HOME"] = str(cache())
    return env


# Those that this process started, and so has to wait for when they end.
_children: list[subprocess.Popen[bytes]] = []


def _spawn(name: str, command: list[str], **extra: str) -> None:
    with (work() / f"{name}.log").open("ab") as log:
        child = subprocess.Popen(
            command, env=environment() | extra, stdout=log, stderr=log,
            stdin=subprocess.DEVNULL, start_new_session=True, cwd=work(),
        )  # fmt: skip
    _children.append(child)


class NotStarted(RuntimeError):
    """The server did not come up; the message ends with what its log says."""


def start(timeout: float = 300, attempts: int = 4, limit: float | None = None) -> None:
    """Start every process, deploy the embedded model, and return when it answers.

    timeout: seconds that one attempt may take. Ray gives itself 30 seconds to come up, which a
    busy machine may not have, so all is ended and begun again up to `attempts` times. limit:
    seconds after which the server ends a job; None lets jobs run.
    """
    if running():
        return
    reason = missing()
    if reason:
        raise NotStarted(reason)
    for attempt in range(1, attempts + 1):
        stop()
        try:
            _start(timeout, limit)
            return
        except (NotStarted, subprocess.SubprocessError) as error:
            print(f"attempt {attempt} of {attempts} to start NDIF: {error}", file=sys.stderr)
            if attempt == attempts:
                stop()
                raise NotStarted(f"the NDIF server did not start: {error}") from error


def _start(timeout: float, limit: float | None) -> None:
    deadline = time.monotonic() + timeout
    shutil.rmtree(work(), ignore_errors=True)
    work().mkdir(parents=True)
    ports = {name: str(port) for name, port in PORTS.items()}
    _spawn("redis", ["redis-server", "--port", ports["redis"], "--bind", "127.0.0.1", "--save", ""])
    _spawn("s3", ["moto_server", "-H", "127.0.0.1", "-p", ports["s3"]])
    head = [
        "ray", "start", "--head", "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1",
        "--num-cpus=8", "--num-gpus=1", f"--port={ports['ray']}", "--disable-usage-stats",
        f"--ray-client-server-port={ports['ray_client']}", f"--temp-dir={work() / 'ray'}",
        "--object-store-memory=1000000000",
        # What the scheduler reads; nobody looks for the GPU.
        '--resources={"head":10,"cuda_memory_bytes":8000000000,"cpu_memory_bytes":16000000000}',
    ]  # fmt: skip
    with (work() / "ray.log").open("ab") as log:
        done = subprocess.run(
            head, env=environment(), stdout=log, stderr=log, check=False, timeout=timeout
        )
    if done.returncode:
        raise NotStarted(_last_words("ray.log"))
    controller = "ndif.services.ray.deployments.controller.controller"
    extra = {} if limit is None else {"NDIF_DEFAULT_EXECUTION_TIMEOUT_SECONDS": str(limit)}
    _spawn(
        "controller", [str(venv() / "bin" / "python"), "-m", controller],
        NDIF_SERVICE="ray", RAY_ADDRESS=f"127.0.0.1:{ports['ray']}", **extra,
    )  # fmt: skip
    gunicorn = ["gunicorn", "--config", "python:ndif.services.api.gunicorn_conf"]
    _spawn("api", [*gunicorn, "ndif.services.api.app:app"], NDIF_SERVICE="api")
    _until(lambda: get("/ping") == "pong", deadline, "api.log")
    _until(lambda: bool((get("/status") or {}).get("cluster")), deadline, "controller.log")
    deploy()
    _until(running, deadline, "deploy.log")


def deploy() -> None:
    """Deploy the embedded model."""
    config = work() / "models.yaml"
    entry = {
        "checkpoint": REPO_ID, "task": "text-generation", "dtype": "float32",
        "size_bytes": 540_000_000, "model_key": MODEL_KEY,
    }  # fmt: skip
    config.write_text(json.dumps({"models": [entry]}))  # JSON is YAML
    with (work() / "deploy.log").open("ab") as log:
        subprocess.run(
            ["ndif", "deploy", "-f", str(config)],
            env=environment(), stdout=log, stderr=log, check=True, timeout=240,
        )  # fmt: skip


def get(path: str) -> Any:
    """Return the JSON that the server answers, or None where it does not."""
    try:
        with urllib.request.urlopen(HOST + path, timeout=15) as answer:
            return json.load(answer)
    except (OSError, ValueError, urllib.error.URLError):
        return None


def running() -> bool:
    """Whether the server answers and the embedded model is deployed."""
    if get("/ping") != "pong":
        return False
    status = get("/status")
    found = status.get("deployments", {}).items() if isinstance(status, dict) else ()
    return any(REPO_ID in name and one.get("application_state") == "RUNNING" for name, one in found)


def _until(ready: Callable[[], bool], deadline: float, log: str) -> None:
    while not ready():
        if time.monotonic() > deadline:
            raise NotStarted(_last_words(log))
        time.sleep(1)


def _last_words(log: str) -> str:
    path = work() / log
    lines = path.read_text(errors="replace").split("\n") if path.exists() else []
    return f"see {path}, which ends with: " + " | ".join(line for line in lines[-6:] if line)


def processes() -> list[int]:
    """Return the ids of every process that `start` started, and of all they started."""
    folders = (folder for folder in Path("/proc").iterdir() if folder.name.isdigit())
    return [int(own.name) for own in folders if own.name != str(os.getpid()) and _is_ours(own)]


def _is_ours(process: Path) -> bool:
    """Whether a process (its folder in /proc) bears our mark, or writes into our folder of logs.

    Redis and Ray write their titles over the environment that they were started with.
    """
    try:
        if f"{MARK}={work()}".encode() in (process / "environ").read_bytes().split(b"\0"):
            return True
        writing = (one for one in (process / "fd").iterdir() if one.lstat().st_mode & 0o200)
        return any(one.readlink().is_relative_to(work()) for one in writing)
    except OSError:
        return False


def listening() -> set[str]:
    """Return the addresses that the server's processes listen on."""
    sockets = set()
    for pid in processes():
        try:
            streams = list((Path("/proc") / str(pid) / "fd").iterdir())
            sockets |= {str(stream.readlink()) for stream in streams}
        except OSError:
            continue
    found = set()
    for table, size in (("tcp", 4), ("tcp6", 16)):
        for line in (Path("/proc/net") / table).read_text().splitlines()[1:]:
            own = line.split()
            if own[3] == "0A" and f"socket:[{own[9]}]" in sockets:
                # Words of four bytes, each in the machine's order.
                words = bytes.fromhex(own[1].partition(":")[0])
                raw = b"".join(words[i : i + 4][::-1] for i in range(0, size, 4))
                found.add(str(ipaddress.ip_address(raw)))
    return found


def imports() -> dict[str, int]:
    """Count what shipped code imported on the server since it started, by module and verdict."""
    found: dict[str, int] = {}
    for line in (work() / "imports.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if entry["event"] == "import":
            name = f"{entry['name']}: {'allowed' if entry['allowed'] else 'refused'}"
            found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items()))


def stop(patience: float = 10) -> None:
    """End every process of the server, and wait until none is left."""
    for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, patience)):
        end = time.monotonic() + seconds
        for pid in processes():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        while processes() and time.monotonic() < end:
            time.sleep(0.2)
    while _children:
        _children.pop().wait(patience)


def main(command: str) -> None:
    """Run one of install, prepare, start, stop, status, imports."""
    if command == "prepare":
        # For `make test`: the two minutes are spent only where the server could start.
        if shutil.which("redis-server") is not None and sys.platform.startswith("linux"):
            install()
    elif command == "start":
        from dspa_nn.models import model_path

        install()
        model_path()
        start()
        print(f"An NDIF server with {REPO_ID} listens on 127.0.0.1. Two lines to use it:\n")
        home = environment().get("HF_HOME")
        print(
            f"    export NDIF_HOST={HOST}" + (f" HF_HOME={home} HF_HUB_OFFLINE=1" if home else "")
        )
        print(f'    model = dspa_nn.remote_model("{REPO_ID}")\n')
    elif command == "stop":
        stop()
    elif command == "install":
        install()
    elif command == "imports":
        print("\n".join(f"{times:>6}  {name}" for name, times in imports().items()))
    else:
        print("running" if running() else f"not running ({missing() or 'make ndif starts it'})")


if __name__ == "__main__":
    try:
        main(sys.argv[1] if len(sys.argv) > 1 else "status")
    except NotStarted as error:
        raise SystemExit(str(error)) from None
