"""A real server whose jobs are ended, whose worker is killed, and which is stopped: last of all."""

import gc
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import dspa_nn as dn
from dspa_nn.ndif import backend_factory
from tests.ndif.conftest import LIMIT

pytestmark = [
    pytest.mark.ndif,
    pytest.mark.slow,
    # A connection whose server was killed is nobody's to close any more.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]
TICK = 1 / os.sysconf("SC_CLK_TCK")


@pytest.fixture(scope="module")
def model(remote: Any, server: Any) -> Any:
    """The remote model, on a server that ends every job after `LIMIT` seconds."""
    if not server.started_here:
        pytest.skip("these tests stop the server, and this one was running before them")
    return remote.model


@pytest.fixture(autouse=True)
def collected(model: Any) -> Iterator[None]:
    """Let go of broken connections while their warning is expected, not at the end of all tests."""
    yield
    backend_factory(model).last = None
    gc.collect()


def endless(model: Any, **how: Any) -> Any:
    """Submit a job that would run for many minutes."""
    matrix = torch.ones(500, 500)
    with model.trace(torch.arange(5).unsqueeze(0), remote=True, **how) as tracer:
        for _ in range(1_000_000):
            product = matrix @ matrix
        found = product[0, 0].save()  # noqa: F841 # pyright: ignore
    return tracer


def running(model: Any, server: Any) -> dn.Job:
    """The same, submitted without waiting; return it once it runs.

    Its status is no sign of that: the server may write QUEUED over RUNNING.
    """
    before = seconds_computed(server)
    job = dn.Job.of(endless(model, blocking=False))
    until(lambda: seconds_computed(server) > before + 1)
    return job


def seconds_computed(server: Any) -> float:
    """Processor time that the process with the model has used."""
    fields = (Path("/proc") / str(worker(server)) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK


def until(reached: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.2)


def worker(server: Any) -> int:
    """The process in which the model runs."""
    for pid in server.processes():
        if b"CPUModelAc" in (Path("/proc") / str(pid) / "cmdline").read_bytes():
            return pid
    raise AssertionError("no worker runs")


def test_time_out(model: Any) -> None:
    said = rf"exceeded the execution timeout of {LIMIT}\.0s\)"
    with pytest.raises(dn.NDIFError, match=said) as raised:
        endless(model)
    assert str(raised.value).startswith("the job was stopped by the server (")
    assert "generate fewer tokens" in str(raised.value)
    assert not raised.value.passing


def test_a_job_that_its_operator_cancels(model: Any, server: Any) -> None:
    job = running(model, server)
    subprocess.run(["ndif", "kill", job.job_id], env=server.environment(), check=True)
    with pytest.raises(dn.NDIFError) as raised:
        job.result(60)
    text = str(raised.value)
    assert "was cancelled on the server" in text or "lost the job before it was done" in text


def test_the_worker_is_killed(model: Any, server: Any) -> None:
    until(server.running)
    job = running(model, server)
    os.kill(worker(server), signal.SIGKILL)
    with pytest.raises(dn.NDIFError, match="lost the job before it was done") as raised:
        job.result(60)
    assert raised.value.passing


def test_the_server_stops_in_the_middle_of_a_job(model: Any, server: Any) -> None:
    until(server.running)
    threading.Timer(6, server.stop, [2]).start()
    # Which of the two is said depends on what goes first, the worker or the connection.
    said = "went away while the job was running|lost the job before it was done"
    with pytest.raises(dn.NDIFError, match=said) as raised:
        endless(model)
    assert raised.value.passing
    until(lambda: not server.processes())
    with pytest.raises(dn.NDIFError, match=r"no NDIF server answers at http://127\.0\.0\.1:8001"):
        endless(model)
