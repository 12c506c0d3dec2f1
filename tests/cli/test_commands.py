"""What all subcommands have in common: examples, --debug, --json, exit codes, completion."""

import errno
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from dspa_nn import DSPA, ConditionalDifferenceMap
from dspa_nn.cli.app import UNEXPECTED, app
from dspa_nn.cli.commands import COMMANDS
from dspa_nn.cli.steer import twice
from dspa_nn.errors import NDIFError, SteeringError
from tests import tiny
from tests.cli.test_cli import dspa, source, tiny_preset  # noqa: F401
from tests.conftest import REPOSITORY

# The commands that the design fixes; `persona` and `reproduce` are looked for where they are.
FIXED = (
    "demo fit merge sweep steer chat serve audit evaluate tune bench presets payload inspect "
    "doctor ndif"
).split()
WITHOUT_JSON = {"chat", "serve", "lm-eval"}  # they print no results of their own


def test_every_command_is_there() -> None:
    assert set(FIXED) <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_of_a_command_can_be_read_by_it(name: str) -> None:
    words = shlex.split(COMMANDS[name].example)
    assert words[:2] == ["dspa", name]
    group: Any = typer.main.get_command(app)
    parent = group.context_class(group, info_name="dspa")
    context = group.commands[name].make_context(name, words[2:], parent=parent)
    assert context.command.name == name
    shown = dspa(name, "--help")
    assert "Example: dspa " in shown.output
    assert "--debug" in shown.output
    assert ("--json" in shown.output) == (name not in WITHOUT_JSON)


HELP = """
import sys, time
from dspa_nn.cli.app import app
try:
    app(["--help"])
finally:
    heavy = ("torch", "nnsight", "transformers", "numpy")
    print(time.process_time(), *[name for name in heavy if name in sys.modules])
"""


def test_help_takes_under_half_a_second_and_loads_no_model_library() -> None:
    told = subprocess.run(
        [sys.executable, "-c", HELP], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    seconds, *loaded = told.stdout.splitlines()[-1].split()
    assert not loaded
    assert float(seconds) < 0.5  # of the processor, the interpreter's start included


@pytest.mark.slow
def test_shells_are_told_what_there_is() -> None:
    def completed(line: str) -> list[str]:
        words = line.split(" ")
        own = {
            "_DSPA_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", "import sys; sys.argv = ['dspa']; from dspa_nn.cli.app import "
             "app; app(prog_name='dspa')"], cwd=REPOSITORY, capture_output=True, text=True,
            env=os.environ | own, check=False,
        )  # fmt: skip
        return done.stdout.split()

    assert set(completed("dspa s")) == {name for name in COMMANDS if name.startswith("s")}
    assert completed("dspa inspect --js") == ["--json"]


@pytest.mark.parametrize("before", [True, False])
def test_debug_adds_the_traceback(before: bool, tmp_path: Path) -> None:
    command = ("steer", tmp_path / "absent", "Hello")
    told = dspa("--debug", *command) if before else dspa(*command, "--debug")
    assert told.exit_code == 1
    assert told.stderr.startswith("Traceback (most recent call last):")
    assert told.stderr.splitlines()[-1].startswith("dspa: ")
    assert dspa(*command).stderr.startswith("dspa: ")


@pytest.mark.parametrize(
    ("error", "sentence", "code"),
    [
        (SteeringError("alpha is -1"), "dspa: alpha is -1\n", 1),
        (
            KeyError("rows"),
            "dspa: KeyError: 'rows': this was not foreseen; add --debug for the traceback, and "
            "report it\n",
            UNEXPECTED,
        ),
        (MemoryError(), "dspa: the memory is full (no more of it is to be had); `dspa doctor`", 70),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "dspa: the disk that the output goes to is full; free some of it, and run this again\n",
            1,
        ),
        (KeyboardInterrupt(), "dspa: stopped: run the same command again to start over\n", 130),
    ],
)
def test_an_error_is_one_sentence_and_an_exit_code(
    error: BaseException, sentence: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("dspa_nn.cli.bench.preset_costs", fails)
    told = dspa("bench")
    assert told.exit_code == code
    assert told.stderr.startswith(sentence)
    assert len(told.stderr.splitlines()) == 1


def test_a_wrong_option_exits_with_2() -> None:
    assert dspa("bench", "--promt", 3).exit_code == 2
    assert dspa("frob").exit_code == 2


@pytest.mark.usefixtures("tiny_preset")
@pytest.mark.filterwarnings("ignore::dspa_nn.errors.DSPAWarning")
def test_results_are_json_and_nothing_else(
    source: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def printed(*arguments: object) -> Any:
        told = dspa(*arguments, "--json")
        assert told.exit_code == 0, told.output
        return json.loads(told.stdout)

    out = tmp_path / "map"
    fitted = printed("fit", source, "--out", out, "--percentile", 50)
    map = ConditionalDifferenceMap.load(out)
    assert (fitted["saved_in"], fitted["entries"]) == (str(out), len(map.values))
    assert fitted["fitted"] == map.fitted
    part = printed("fit", source, "--out", tmp_path / "parts", "--shards", 1, "--shard", 0)
    assert part["triples"] == 12
    merged = printed("merge", tmp_path / "parts", "--out", tmp_path / "merged", "--percentile", 50)
    assert merged["provenance"] == fitted["provenance"]
    steered = printed("steer", out, "sun moon", "--max-new-tokens", 4, "--alpha", 1)
    assert steered["edits"] == sum(steered["edits_of_latents"].values())
    assert steered["settings"]["alpha"] == 1
    page = tmp_path / "report.html"
    audited = printed("audit", out, "sun moon", "--max-new-tokens", 4, "--alpha", 1, "--out", page)
    assert audited == {"report": str(page), **steered}
    alone = printed("audit", out, "--top", 2)
    assert len(alone["latents"]["prompt"]) == 2
    assert {"latent", "sum", "words"} < alone["latents"]["prompt"][0].keys()
    kept = printed("counts")["kept"]
    assert [entry["finished"] for entry in kept] == [True]
    assert printed("counts", "clear")["removed"] == [kept[0]["key"]]
    (found,) = printed("inspect", out)
    assert (found["kind"], found["whole"]) == ("map", True)
    sizes = printed("payload", "--preset", "gemma-2-9b")
    assert sizes["requests"][0]["float32"] == 472_303_616
    built = DSPA.from_preset("smollm2-135m-instruct")
    monkeypatch.setattr(DSPA, "from_preset", lambda name, dispatch, payload_dtype: built)
    assert printed("payload", out)["fits"] is True


def test_inspect_exits_with_1_for_what_is_damaged(tmp_path: Path) -> None:
    ConditionalDifferenceMap.from_dense([[0.0, 0.5]]).save(tmp_path / "map")
    assert dspa("inspect", tmp_path / "map").exit_code == 0
    (tensors,) = (tmp_path / "map").glob("*.safetensors")
    tensors.write_bytes(tensors.read_bytes()[:-1])
    told = dspa("inspect", tmp_path / "map")
    assert told.exit_code == 1
    assert "it was cut short or changed; save or copy it again" in told.output


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Remote models are tiny ones here, whose runs nnsight's own double packs and runs."""
    from dspa_nn.ndif import BackendFactory, adapter

    asked: list[str] = []

    def remote_model(repo_id: str) -> Any:
        asked.append(repo_id)
        return tiny.nnsight_model(tiny.model("llama"), tiny.tokenizer("markup"))

    def backend(self: Any, remote: Any, blocking: bool = True, *rest: Any, **more: Any) -> Any:
        asked.append("sent")
        return adapter.local_simulation(self._model(), blocking, None, False)

    monkeypatch.setattr("dspa_nn.cli.build.remote_model", remote_model)
    monkeypatch.setattr(BackendFactory, "__call__", backend)
    return asked


@pytest.fixture
def saes(tmp_path: Path) -> tuple[object, ...]:
    for sae, name in zip(tiny.saes(tiny.model("llama"), "topk"), ("in", "out"), strict=True):
        sae.save_model(tmp_path / name)
    layers = f"{tiny.LAYER_IN},{tiny.LAYER_OUT}"
    saes = ("--input-sae", tmp_path / "in", "--output-sae", tmp_path / "out", "--layers", layers)
    return ("--model", "tiny/llama", *saes)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::dspa_nn.errors.DSPAWarning")
def test_remote_runs_are_sent_and_say_the_same(
    simulated: list[str], saes: tuple[object, ...], tmp_path: Path
) -> None:
    dense = tiny.triples(12)
    model = tiny.nnsight_model(tiny.model("llama"), tiny.tokenizer("markup"))
    here = DSPA(model, input_sae=tmp_path / "in", output_sae=tmp_path / "out",
                input_layer=tiny.LAYER_IN, output_layer=tiny.LAYER_OUT)  # fmt: skip
    here.fit(dense, percentile=50, progress=False, cache=False).save(tmp_path / "map")
    ask = ("steer", tmp_path / "map", "sun moon", "--max-new-tokens", 4, "--alpha", 1, "--json")
    far = dspa(*ask, "--remote", *saes)
    assert far.exit_code == 0, far.output
    assert simulated == ["tiny/llama", "sent", "sent"]
    near = twice(ConditionalDifferenceMap.load(tmp_path / "map"), here, "sun moon", 4, alpha=1.0)
    assert json.loads(far.stdout) == json.loads(json.dumps(near.to_dict()))
    page = tmp_path / "page.html"
    audit = ("audit", tmp_path / "map", "sun moon", "--max-new-tokens", 4, "--out", page)
    assert dspa(*audit, "--remote", *saes).exit_code == 0
    assert "Steered" in page.read_text()


def test_remote_is_refused_where_it_makes_no_sense(tmp_path: Path) -> None:
    refused = {
        ("fit", "x.jsonl", "--out", tmp_path, "--shards", 2, "--shard", 0): "--shards came with",
        ("sweep", "x.jsonl", "--margin", 3): "--margin 3 came with --remote",
        ("chat", "map", "--temperature", 1, "--seed", 3): "--seed 3 came with --remote",
    }
    for command, sentence in refused.items():
        told = dspa(*command, "--remote")
        assert told.exit_code == 1
        assert sentence in told.stderr
    ConditionalDifferenceMap.from_dense([[0.0, 0.5]]).save(tmp_path / "map")
    told = dspa("steer", tmp_path / "map", "Hello", "--remote", "--weights", "hub")
    assert "--weights hub came with --remote, where the server has the weights" in told.stderr


def test_ndif_looks_at_the_server_and_at_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nnsight import CONFIG

    from dspa_nn.ndif import Job

    monkeypatch.setattr(CONFIG.API, "HOST", "http://127.0.0.1:9")
    told = dspa("ndif", "--timeout", 0.5)
    assert told.exit_code == 1
    assert "BAD  reachable" in told.output
    assert json.loads(dspa("ndif", "--timeout", 0.5, "--json").stdout)["well"] is False
    Job("f00", "http://127.0.0.1:9").save(tmp_path / "job.json")
    monkeypatch.setattr(Job, "status", property(lambda self: "COMPLETED"))
    told = dspa("ndif", "job", tmp_path / "job.json")
    assert told.exit_code == 0, told.output
    assert told.output.startswith("job f00 on http://127.0.0.1:9: COMPLETED\n")
    told = dspa("ndif", "job", tmp_path / "job.json", "--json")
    assert json.loads(told.stdout)["status"] == "COMPLETED"

    def failed(_: Any) -> str:
        raise NDIFError("job f00 is not known to the server")

    monkeypatch.setattr(Job, "status", property(failed))
    assert dspa("ndif", "job", tmp_path / "job.json").exit_code == 1
    assert "came without a file" in dspa("ndif", "job").stderr
    assert "which takes no file" in dspa("ndif", "check", tmp_path / "job.json").stderr


@pytest.mark.usefixtures("tiny_preset")
@pytest.mark.parametrize(
    ("command", "patched", "sentence"),
    [
        (
            ("sweep", "SOURCE", "--checkpoint", "run"), "dspa_nn.steering.LayerSweep.count",
            "what was counted is in run, and the same command goes on from there",
        ),
        (("sweep", "SOURCE"), "dspa_nn.steering.LayerSweep.count", "nothing was kept; with --ch"),
        (
            ("alpaca-eval", "asked.json", "--out", "out", "--name", "m"),
            "dspa_nn.cli.alpaca_eval.write_outputs", "answers and judgments so far are in out, and",
        ),
        (
            ("mt-bench", "DATA", "--out", "out", "--name", "m"),
            "dspa_nn.cli.mt_bench.answer_questions", "answers and judgments so far are in out, and",
        ),
        (
            ("tune", "SOURCE", "--out", "out"), "dspa_nn.cli.tune.search",
            "what is measured is in out; the same command goes on from there",
        ),
    ],
)  # fmt: skip
def test_what_was_stopped_says_how_to_go_on(
    command: tuple[str, ...], patched: str, sentence: str,
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,  # noqa: F811
) -> None:  # fmt: skip
    from tests.mt_bench import bench

    monkeypatch.chdir(tmp_path)
    asked = [{"instruction": "Say hello.", "output": "Hello.", "generator": "x"}]
    Path("asked.json").write_text(json.dumps(asked))
    named = {"SOURCE": str(source), "DATA": str(bench.folder(tmp_path / "data"))}

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    built = DSPA.from_preset("smollm2-135m-instruct")
    if "sweep" in command:

        class Sweep:
            count = stop

        monkeypatch.setattr("dspa_nn.cli.sweep.build_sweep", lambda *_: Sweep())
    else:
        monkeypatch.setattr(patched, stop)
        monkeypatch.setattr(DSPA, "from_preset", lambda *_, **__: built)
    told = dspa(*[named.get(word, word) for word in command])
    assert told.exit_code == 130, told.output
    assert told.stderr.splitlines()[-1].startswith(f"dspa: stopped: {sentence}")


@pytest.mark.slow
def test_a_real_ctrl_c_leaves_whole_files_and_the_run_goes_on(
    saes: tuple[object, ...], tmp_path: Path
) -> None:
    tiny.model("llama").save_pretrained(tmp_path / "model")
    tiny.tokenizer("markup").save_pretrained(tmp_path / "model")
    triples = tmp_path / "triples.jsonl"
    triples.write_text("".join(json.dumps(row) + "\n" for row in tiny.triples(3000)))
    fit = [
        sys.executable, "-c", "from dspa_nn.cli.app import app; app()", "fit", triples,
        "--checkpoint", tmp_path / "run", "--no-cache", "--model", tmp_path / "model", *saes[2:],
    ]  # fmt: skip
    run: Callable[..., Any] = subprocess.run
    words = [str(word) for word in fit]
    assert run([*words, "--out", str(tmp_path / "whole"), "--checkpoint", str(tmp_path / "other")],
               cwd=REPOSITORY, check=False).returncode == 0  # fmt: skip
    words += ["--out", str(tmp_path / "map")]
    # A suite that runs in the background hands on that Ctrl-C is ignored.
    stopped = subprocess.Popen(
        words, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    )  # fmt: skip
    until = time.monotonic() + 120
    while not list((tmp_path / "run").rglob("*.json")) and time.monotonic() < until:
        time.sleep(0.01)
    stopped.send_signal(signal.SIGINT)
    _, told = stopped.communicate(timeout=120)
    assert stopped.returncode == 130, told
    assert f"dspa: stopped: what was counted is in {tmp_path / 'run'}, and the same" in told
    assert not (tmp_path / "map").exists()
    assert not list((tmp_path / "run").rglob("*.tmp"))
    assert run(words, cwd=REPOSITORY, check=False).returncode == 0
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "map").iterdir()} == whole
