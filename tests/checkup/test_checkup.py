"""What `dspa doctor` finds, with each part of the machine replaced by a broken one."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch

from dspa_nn.checkup import Findings, check_up, files, machine, versions
from dspa_nn.checkup.reach import look_at_hub, look_at_ndif
from dspa_nn.costs import preset_needs
from dspa_nn.errors import DSPAError
from dspa_nn.models import get_preset
from tests.cli.test_cli import dspa

GB = 10**9
EMBEDDED, LARGE = "smollm2-135m-instruct", "gemma-2-9b"


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """Versions in place of those that are installed."""
    said: dict[str, str | None] = {}
    real = versions.installed
    monkeypatch.setattr(versions, "installed", lambda name: said.get(name, real(name)))
    return said


class Server(BaseHTTPRequestHandler):
    """An NDIF server that answers with `server.answers`, by path; 404 where there is none."""

    def do_GET(self) -> None:
        found = self.server.answers.get(self.path)  # pyright: ignore
        content = json.dumps(found).encode()
        self.send_response(404 if found is None else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        return


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    from nnsight import CONFIG

    double: Any = HTTPServer(("127.0.0.1", 0), Server)
    double.answers = {"/ping": "pong"}
    threading.Thread(target=double.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(CONFIG.API, "HOST", f"http://127.0.0.1:{double.server_port}")
    yield double.answers
    double.shutdown()
    double.server_close()


def named(findings: Findings, name: str) -> Any:
    return next(one for one in findings if one.name == name)


def test_versions_as_they_are(installed: dict[str, str | None]) -> None:
    findings = Findings()
    versions.look_at_versions(findings)
    assert [named(findings, name).state for name in ("python", "packages", "extras")] == ["ok"] * 3
    assert torch.__version__ in named(findings, "packages").found


@pytest.mark.parametrize(
    ("given", "found", "fix"),
    [
        ({"torch": "2.7.0"}, "torch is 2.7.0, and <3,>=2.8 is asked for", "'torch<3,>=2.8'"),
        ({"einops": None}, "einops is absent, and >=0.8 is asked for", "'einops>=0.8'"),
    ],
)
def test_a_package_that_is_too_old_or_absent(
    installed: dict[str, str | None], given: dict[str, Any], found: str, fix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(
        versions, "installed", lambda name: {**dict.fromkeys(given), **given}.get(name, "2.9")
    )
    monkeypatch.setattr(versions.metadata, "requires", lambda _: ["torch<3,>=2.8", "einops>=0.8"])
    findings = Findings()
    versions.look_at_versions(findings)
    one = named(findings, "packages")
    assert (one.state, findings.well) == ("problem", False)
    assert found in one.found
    assert one.fix == f"pip install {fix}"


def test_a_known_bad_pair_is_named(installed: dict[str, str | None]) -> None:
    installed |= {"alpaca-eval": "0.6.6", "setuptools": "82.0.0"}
    findings = Findings()
    versions.look_at_versions(findings)
    one = named(findings, "known bad pair")
    assert one.state == "note"
    assert one.found.startswith("alpaca-eval 0.6.6 with setuptools 82.0.0: AlpacaEval imports")
    assert one.fix == "pip install 'setuptools<81'"


def test_an_older_python_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions.sys, "version_info", (3, 9, 1, "final", 0))
    findings = Findings()
    versions.look_at_versions(findings)
    assert named(findings, "python").found == "3.9.1, and >=3.11 is asked for"
    assert not findings.well


@pytest.mark.slow
def test_a_model_and_saes_in_the_hubs_cache_are_found(cache: Path) -> None:
    preset = get_preset(LARGE)
    findings = Findings()
    assert files.look_at_model(findings, preset, remote=False)
    assert files.look_at_saes(findings, preset)
    assert [one.state for one in findings] == ["note"] * 3
    assert "log in with `hf auth login`" in named(findings, "model").fix
    model = cache / "models--google--gemma-2-9b" / "snapshots" / "1f"
    model.mkdir(parents=True)
    (model / "model.safetensors").touch()
    for source in (preset.input_sae, preset.output_sae):
        repo_id, path = files.where(str(source))
        assert repo_id == "google/gemma-scope-9b-pt-res"
        folder = cache / f"models--{repo_id.replace('/', '--')}" / "snapshots" / "2e"
        (folder / path).mkdir(parents=True)
    findings = Findings()
    assert not files.look_at_model(findings, preset, remote=False)
    assert not files.look_at_saes(findings, preset)
    assert [one.state for one in findings] == ["ok"] * 3
    (model / "model.safetensors").unlink()
    (model / "model.safetensors").symlink_to(cache / "gone")
    findings = Findings()
    files.look_at_model(findings, preset, remote=False)
    assert named(findings, "model").state == "problem"


def test_the_embedded_model_needs_what_converts_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(files, "snapshot_dir", lambda: tmp_path)
    preset, findings = get_preset(EMBEDDED), Findings()
    monkeypatch.setattr(files.importlib.util, "find_spec", lambda name: None)
    assert files.look_at_model(findings, preset, remote=False)
    assert named(findings, "model").fix == "pip install 'dspa-nn[demo]'"
    monkeypatch.setattr(files.importlib.util, "find_spec", lambda name: name)
    findings = Findings()
    assert files.look_at_model(findings, preset, remote=False)
    assert named(findings, "model").state == "note"


@pytest.mark.parametrize(("remote", "state"), [(False, "problem"), (True, "ok")])
def test_memory_is_held_against_the_need(
    remote: bool, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = preset_needs(LARGE)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (20 * GB, 24 * GB))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a small GPU")
    findings = Findings()
    machine.look_at_memory(findings, needs, remote)
    one = named(findings, "GPU")
    assert one.state == state
    assert one.found == "a small GPU, 20.0 GB of 24.0 GB free; gemma-2-9b needs 24.8 GB in bfloat16"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(machine, "free_memory", lambda: 30 * GB)
    findings = Findings()
    machine.look_at_memory(findings, needs, remote)
    assert named(findings, "memory").state == state
    assert "gemma-2-9b needs 43.3 GB in float32" in named(findings, "memory").found
    monkeypatch.setattr(machine, "free_memory", lambda: None)
    findings = Findings()
    machine.look_at_memory(findings, needs, remote)
    assert named(findings, "memory").state == "ok"


def test_a_full_disk_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = GB

    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: Usage)
    findings = Findings()
    machine.look_at_disk(findings, tmp_path / "hub", 2 * GB, "the files")
    assert findings.to_dict()["findings"][0] == {
        "name": "disk", "state": "problem",
        "found": f"1.0 GB free in {tmp_path / 'hub'}; the files to fetch are 2.0 GB",
        "fix": "free some, or name another disk with HF_HOME and DSPA_CACHE",
    }  # fmt: skip


@pytest.mark.parametrize(("needed", "state"), [(False, "note"), (True, "problem")])
def test_a_hub_that_is_away_matters_where_something_must_be_fetched(
    needed: bool, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    findings = Findings()
    look_at_hub(findings, needed)  # the tests are offline
    assert (named(findings, "hub").state, named(findings, "hub").fix) == (
        state, "unset HF_HUB_OFFLINE",
    )  # fmt: skip
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("dspa_nn.files.hub.getproxies", dict)
    findings = Findings()
    look_at_hub(findings, needed)
    assert named(findings, "hub").found == "http://127.0.0.1:9 does not answer within 3 seconds"
    monkeypatch.setattr("dspa_nn.checkup.reach.hub_answers", lambda: True)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_secret")
    findings = Findings()
    look_at_hub(findings, needed)
    assert named(findings, "hub").found == "http://127.0.0.1:9 answers; logged in"


@pytest.mark.parametrize(
    ("answers", "state", "found"),
    [
        ({}, "problem", "does not say what it runs (HTTPStatusError)"),
        ({"/status": {"deployments": {}}}, "problem", "runs 0 models, google/gemma-2-9b not among"),
        (
            {"/status": {"deployments": {'x:{"repo_id": "google/gemma-2-9b"}': {
                "application_state": "RUNNING"}}}},
            "ok", "answers, and runs google/gemma-2-9b",
        ),
    ],
)  # fmt: skip
def test_ndif_is_asked(
    server: dict[str, Any], answers: dict[str, Any], state: str, found: str
) -> None:
    server |= answers
    findings = Findings()
    look_at_ndif(findings, "google/gemma-2-9b", needed=True, timeout=5)
    assert named(findings, "NDIF").state == state
    assert found in named(findings, "NDIF").found


def test_an_ndif_that_is_away_is_asked_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    from nnsight import CONFIG

    monkeypatch.setattr(CONFIG.API, "HOST", "http://127.0.0.1:9")
    findings = Findings()
    look_at_ndif(findings, "google/gemma-2-9b", needed=False, timeout=0.5)
    assert named(findings, "NDIF").state == "note"
    assert "does not answer (ConnectError)" in named(findings, "NDIF").found


def test_the_command_says_it_in_both_ways(server: dict[str, Any], cache: Path) -> None:
    told = dspa("doctor", "--preset", LARGE)
    assert told.exit_code == 1, told.output  # offline, and nothing is in the cache
    lines = [line for line in told.output.splitlines() if str(cache) not in line]
    assert max(map(len, lines)) <= 80
    assert "-> unset HF_HUB_OFFLINE" in told.output
    as_json = json.loads(dspa("doctor", "--preset", LARGE, "--remote", "--json").stdout)
    assert as_json["preset"] == LARGE
    problems = {one["name"] for one in as_json["findings"] if one["state"] == "problem"}
    assert problems == {"hub", "NDIF"}  # the SAEs must be had here for a remote run, too
    assert all(one["fix"] for one in as_json["findings"] if one["state"] != "ok")
    with pytest.raises(DSPAError, match="there is no preset 'gemma'"):
        check_up("gemma")
