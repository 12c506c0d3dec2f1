"""The command `dspa`, on a tiny model: files in, files and text out, errors in one sentence."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from dspa_nn import DSPA, ConditionalDifferenceMap, load_triples
from dspa_nn.audit import steered_latents
from dspa_nn.cli.app import COMMANDS, app, function_of
from dspa_nn.costs import preset_costs
from tests import tiny


@pytest.fixture
def tiny_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every preset is a tiny Llama with random SAEs."""
    model, tokenizer = tiny.model("llama"), tiny.tokenizer("markup")
    input_sae, output_sae = tiny.saes(model, "topk")

    def from_preset(name: str, model: object = None) -> DSPA:
        assert name == "smollm2-135m-instruct"
        return DSPA(
            tiny.nnsight_model(tiny.model("llama"), tokenizer),
            input_sae=input_sae,
            output_sae=output_sae,
            input_layer=tiny.LAYER_IN,
            output_layer=tiny.LAYER_OUT,
        )

    monkeypatch.setattr(DSPA, "from_preset", from_preset)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "triples.jsonl"
    rows = tiny.triples(12)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def dspa(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_preset")
def test_fit_saves_a_map_and_steer_uses_it(source: Path, tmp_path: Path) -> None:
    fitted = dspa("fit", source, "--out", tmp_path / "map", "--percentile", 50)
    assert fitted.exit_code == 0, fitted.output
    loaded = ConditionalDifferenceMap.load(tmp_path / "map")
    assert repr(loaded) in fitted.output

    steered = dspa("steer", tmp_path / "map", "sun moon", "--max-new-tokens", 4, "--alpha", 1)
    assert steered.exit_code == 0, steered.output
    for part in ("unsteered:\n", "steered:\n", "Plan from", "alpha 1.0"):
        assert part in steered.output

    page = tmp_path / "pages" / "report.html"
    audited = dspa("audit", tmp_path / "map", "sun moon", "--max-new-tokens", 4, "--out", page)
    assert audited.exit_code == 0, audited.output
    assert "EditLog: " in audited.output
    for part in ("Unsteered", "Steered", 'class="t p'):
        assert part in page.read_text()
    audited = dspa("audit", tmp_path / "map", "--top", 2)
    assert audited.exit_code == 0, audited.output
    assert str(steered_latents(loaded, 2)) in audited.output
    reach = dspa("audit", tmp_path / "map", "--triples", source, "--fitted-on", source)
    assert reach.exit_code == 0, reach.output
    assert "12 of 12 prompts open at least one of the map's" in reach.output
    assert "top 10 of maps fitted on halves of 12 triples" in reach.output
    both = dspa("audit", tmp_path / "map", "sun", "--triples", source)
    assert "a prompt came with --triples, which tell of the map alone" in both.stderr
    empty = dspa("steer", tmp_path / "map", "", "--max-new-tokens", 4)
    assert empty.exit_code == 1
    assert "the prompt is empty, and this model begins no text by itself; say more" in empty.stderr


@pytest.mark.usefixtures("tiny_preset")
@pytest.mark.filterwarnings("always:the map was fitted on chat:dspa_nn.DSPAWarning")
def test_a_map_of_chats_on_a_prompt_that_is_none_is_told_of(source: Path, tmp_path: Path) -> None:
    for options, told in ((("--chat",), True), ((), False)):
        fitted = dspa("fit", source, "--out", tmp_path / "map", "--percentile", 50, *options)
        assert fitted.exit_code == 0, fitted.output
        steer = ("steer", tmp_path / "map", "sun moon", "--max-new-tokens", 2)
        assert dspa(*steer).stderr.count("add --chat to lift it to one user message") == told
        assert "--chat" not in dspa(*steer, "--chat").stderr


def test_help_lists_every_command_and_loads_no_model_library() -> None:
    code = (
        "import sys; from dspa_nn.cli.app import app; app(['--help'], standalone_mode=False); "
        "print(*[name for name in ('torch', 'nnsight', 'transformers') if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[-1] == ""
    for name in COMMANDS:
        assert f" {name} " in told.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_a_commands_line_of_help_is_that_of_its_function(name: str) -> None:
    assert COMMANDS[name][1] == (inspect.getdoc(function_of(name)) or "").splitlines()[0]
    assert dspa(name, "--help").exit_code == 0


@pytest.mark.usefixtures("tiny_preset")
def test_the_same_file_gives_the_same_map_by_command_and_by_library(
    source: Path, tmp_path: Path
) -> None:
    built = DSPA.from_preset("smollm2-135m-instruct")
    for chat, options in ((False, ()), (True, ("--chat",))):
        folder = tmp_path / f"map-{chat}"
        told = dspa("fit", source, "--out", folder, "--percentile", 50, *options)
        assert told.exit_code == 0, told.output
        by_library = built.fit(load_triples(source, chat=chat), percentile=50)
        by_command = ConditionalDifferenceMap.load(folder)
        assert torch.equal(by_command.to_dense(), by_library.to_dense())
        assert by_command.provenance == by_library.provenance


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.usefixtures("tiny_preset")
@pytest.mark.parametrize("options", [(), ("--percentile", 50, "--k-diff", 4, "--sparsify", "rows")])
def test_shards_merge_to_the_map_of_a_single_fit(
    source: Path, tmp_path: Path, options: tuple[object, ...]
) -> None:
    assert dspa("fit", source, "--out", tmp_path / "whole", *options).exit_code == 0
    for shard in (2, 0, 1):
        unfinished = dspa("merge", tmp_path / "parts", "--out", tmp_path / "map", *options)
        assert unfinished.exit_code == 1
        made = dspa("fit", source, "--out", tmp_path / "parts", "--shards", 3, "--shard", shard)
        assert made.exit_code == 0, made.output
        assert f"saved in {tmp_path / 'parts' / f'shard-0000{shard}-of-00003'}" in made.output
    merged = dspa("merge", tmp_path / "parts", "--out", tmp_path / "map", *options)
    assert merged.exit_code == 0, merged.output
    assert contents(tmp_path / "map") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--shards", 3), "dspa: --shards came alone; give both --shards, how many parts, and --s"),
        (("--shard", 3), "dspa: --shard came alone; give both --shards, how many parts, and --sha"),
        (("--shards", 3, "--shard", 3), "dspa: shard 3 of 3 does not exist; shards count from 0"),
        (
            ("--shards", 3, "--shard", 0, "--percentile", 50, "--gate", "literal"),
            "dspa: --percentile, --gate came with --shards, which only counts; give it to dspa me",
        ),
    ],
)
def test_shards_that_cannot_be_meant_are_refused_before_anything_runs(
    arguments: tuple[object, ...], sentence: str, tmp_path: Path
) -> None:
    result = dspa("fit", "absent.jsonl", "--out", tmp_path / "parts", *arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith(sentence)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("fit", "absent.jsonl", "--out", "map"), "dspa: there is no file absent.jsonl"),
        (("steer", "absent", "Hello"), "dspa: "),
        (("steer", "absent", "Hello", "--alpha", "1e39"), "dspa: alpha is 1e+39, and must be a nu"),
        (("steer", "absent", "Hello", "--alpha", "inf"), "dspa: alpha is inf, and must be a finit"),
    ],
)
def test_an_error_of_ours_is_one_sentence_and_exit_code_1(
    arguments: tuple[str, ...], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = dspa(*arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith(sentence)
    assert len(result.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_an_out_that_is_a_file_is_refused_before_anything_runs(tmp_path: Path) -> None:
    out = tmp_path / "file"
    out.write_text("")
    for command in (("fit", "absent.jsonl"), ("merge", tmp_path)):
        result = dspa(*command, "--out", out)
        assert result.exit_code == 1
        assert result.stderr == f"dspa: --out is {out}, which is a file; give a folder\n"


def test_an_unknown_preset_names_those_there_are(source: Path, tmp_path: Path) -> None:
    result = dspa("fit", source, "--out", tmp_path / "map", "--preset", "gpt-9")
    assert result.exit_code == 1
    assert result.stderr.startswith("dspa: there is no preset 'gpt-9'; the presets are smollm2-")


@pytest.mark.filterwarnings("always::dspa_nn.errors.DSPAWarning")
@pytest.mark.usefixtures("tiny_preset")
def test_a_warning_of_ours_is_one_sentence(source: Path, tmp_path: Path) -> None:
    dspa("fit", source, "--out", tmp_path / "map", "--percentile", 50)
    result = dspa("steer", tmp_path / "map", "sun moon", "--max-new-tokens", 2, "--alpha", 0)
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("dspa: nothing was steered: alpha is 0")
    assert "Warning" not in result.stderr


def test_demo_hands_its_options_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}

    def run_demo(out: Path, **options: object) -> None:
        given.update(options, out=out)

    monkeypatch.setattr("dspa_nn.demo.run_demo", run_demo)
    given_sets = ("--set", "register", "--set", "register")
    result = dspa("demo", "--out", tmp_path, "--fit", 20, "--test", 5, "--seed", 3, *given_sets)
    assert result.exit_code == 0, result.output
    given.pop("console")
    assert given == {
        "out": tmp_path, "sets": ["register", "register"], "n_fit": 20, "n_test": 5,
        "max_new_tokens": 32, "seed": 3,
    }  # fmt: skip


@pytest.mark.slow
def test_bench_prints_the_cost_table() -> None:
    lengths = ("--prompt", 20, "--chosen", 30, "--rejected", 10)
    table = preset_costs("smollm2-135m-instruct", [(20, 30, 10)])
    shown = dspa("bench", *lengths)
    assert shown.exit_code == 0, shown.output
    assert shown.output == f"{table}\n"
    as_json = dspa("bench", *lengths, "--json")
    assert json.loads(as_json.output) == json.loads(json.dumps(table.to_dict()))


@pytest.mark.usefixtures("tiny_preset")
def test_payload_counts_what_a_run_would_send(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dspa("fit", source, "--out", tmp_path / "map", "--percentile", 50).exit_code == 0
    built = DSPA.from_preset("smollm2-135m-instruct")
    monkeypatch.setattr(DSPA, "from_preset", lambda name, dispatch, payload_dtype: built)
    fitted = ConditionalDifferenceMap.load(tmp_path / "map")
    told = dspa("payload", tmp_path / "map")
    assert told.exit_code == 0, told.output
    parts = built.payload(fitted).parts
    assert len(parts) == 4
    for part in parts:
        assert f"{part.nbytes:>15,}  {part.name}" in told.output
    assert "planned first: plan = dspa.plan(map, prompt, remote=True)" in told.output


def test_payload_from_shapes_alone() -> None:
    told = dspa("payload", "--preset", "gemma-2-9b").output
    assert "472,303,616 fits" in told
    assert "235,470,848 fits" in told
    wide = dspa("payload", "--preset", "gemma-2-9b", "--width", 131072).output
    assert max(len(line) for line in (told + wide).splitlines()) <= 80
    assert "3,762,472,960 over" in wide
    assert "940,277,760 over" in wide


def test_version() -> None:
    from dspa_nn import __version__

    assert dspa("--version").output == f"dspa-nn {__version__}\n"


@pytest.mark.usefixtures("tiny_preset")
def test_the_package_runs_as_the_command() -> None:
    asked = [sys.executable, "-m", "dspa_nn", "presents"]
    told = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert told.returncode == 2
    assert told.stderr.startswith("Usage: dspa ")
    assert "Did you mean 'presets'?" in told.stderr


@pytest.mark.slow
def test_split_and_limit(source: Path, tmp_path: Path) -> None:
    result = dspa("fit", source, "--out", tmp_path / "map", "--limit", 5)
    assert result.exit_code == 0, result.output
    assert ConditionalDifferenceMap.load(tmp_path / "map").n_triples == 5
    import datasets

    rows = [json.loads(line) for line in source.read_text().splitlines()]
    whole = datasets.Dataset.from_list(rows)
    parts = datasets.DatasetDict({"train": whole, "dev": whole.select(range(4))})
    parts.save_to_disk(str(tmp_path / "data"))
    result = dspa("fit", tmp_path / "data", "--out", tmp_path / "map", "--split", "dev")
    assert result.exit_code == 0, result.output
    assert ConditionalDifferenceMap.load(tmp_path / "map").n_triples == 4


def test_another_model_than_a_presets(source: Path, tmp_path: Path) -> None:
    model, tokenizer = tiny.model("llama"), tiny.tokenizer("markup")
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    for sae, name in zip(tiny.saes(model, "topk"), ("in", "out"), strict=True):
        sae.save_model(tmp_path / name)
    saes = ("--input-sae", tmp_path / "in", "--output-sae", tmp_path / "out")
    named = ("--model", tmp_path / "model", *saes)
    for layers in ((), ("--layers", f"{tiny.LAYER_IN},{tiny.LAYER_OUT}")):
        result = dspa("fit", source, "--out", tmp_path / "map", *named, *layers)
        assert result.exit_code == 0, result.output
    result = dspa("steer", tmp_path / "map", "sun", "--max-new-tokens", 2, *named)
    assert result.exit_code == 0, result.output
    refused = {
        ("--model", "x"): "dspa: --input-sae and --output-sae must be given with --model",
        (*named, "--layers", "nine"): "dspa: --layers is 'nine'; expected the input and the",
        (*named, "--layers", "2,1"): "dspa: input layer 2 and output layer 1 came, and",
        ("--model", tmp_path / "no", *saes): f"dspa: the model {tmp_path / 'no'} could not be load",
        ("--model", "nobody/x", *saes): "dspa: the model nobody/x could not be loaded",
    }
    for options, sentence in refused.items():
        result = dspa("fit", source, "--out", tmp_path / "map", *options)
        assert result.exit_code == 1
        assert result.stderr.startswith(sentence), result.stderr
        assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.usefixtures("tiny_preset")
def test_what_was_stopped_says_how_to_go_on(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dspa_nn.counts import ActivationCounts

    fit = ("fit", source, "--out", tmp_path / "map", "--no-cache")
    assert dspa(*fit).exit_code == 0
    wanted = contents(tmp_path / "map")
    save = ActivationCounts.save

    def stop(counts: ActivationCounts, folder: Path) -> None:
        save(counts, folder)
        raise KeyboardInterrupt

    run = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(ActivationCounts, "save", stop)
        result = dspa(*fit, "--checkpoint", run)
    assert result.exit_code == 130
    assert result.stderr.endswith(
        f"dspa: stopped: what was counted is in {run}, and the same command goes on from there\n"
    )
    assert contents(tmp_path / "map") == wanted
    assert not list(run.rglob("*.tmp"))
    assert dspa(*fit, "--checkpoint", run).exit_code == 0
    assert contents(tmp_path / "map") == wanted


@pytest.mark.usefixtures("tiny_preset")
def test_counts_are_kept_listed_and_cleared(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dspa_nn.counts import ActivationCounts, counts_folder

    fit = ("fit", source, "--out", tmp_path / "map")
    save = ActivationCounts.save

    def stop(counts: ActivationCounts, folder: Path) -> None:
        save(counts, folder)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ActivationCounts, "save", stop)
        result = dspa(*fit)
    assert result.exit_code == 130
    sentence = "what was counted is kept, and the same command goes on from there\n"
    assert result.stderr.endswith(f"dspa: stopped: {sentence}")
    assert "not finished" in dspa("counts").output
    first, again = dspa(*fit), dspa(*fit)
    assert f"are kept in {counts_folder()}" in first.stderr
    assert f"are read again from {counts_folder()}" in again.stderr
    listed = dspa("counts", "list").output.splitlines()
    assert listed[0].startswith(f"{counts_folder()}: 1 kept, ")
    assert all(len(line) <= 80 for line in listed[1:])
    key = listed[1].split()[0]
    refused = dspa("counts", "clear", "zz")
    assert refused.exit_code == 1
    assert "no counts are kept under 'zz'" in refused.stderr
    refused = dspa("counts", "list", key)
    assert refused.exit_code == 1
    assert f"dspa counts list was given {key}, and lists all that is kept" in refused.stderr
    cleared = dspa("counts", "clear", key).output.splitlines()
    assert cleared[0].startswith(f"removed {key}")
    assert cleared[1].endswith(": 0 kept, 0.0 kB")
