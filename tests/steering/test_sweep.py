"""A layer sweep: each pair's counts are, byte for byte, those of a run of that pair alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

import dspa_nn as dn
from dspa_nn.counts import CountRun, checkpoints, merge_shards, passes, shard_folder
from dspa_nn.counts import remote as remote_counting
from dspa_nn.graph import active
from dspa_nn.maps import PromptTokens
from tests import tiny
from tests.examples import examples
from tests.job_stand import JobStand

INPUTS, OUTPUTS = (0, 1, 2), (1, 2, 3)
PAIRS = [(i, o) for i in INPUTS for o in OUTPUTS if i <= o]
# Compared where not all of them are: the first and the last, and one of a single layer.
SOME = [(0, 1), (1, 1), (2, 3)]
BUDGET = 40
KINDS = ("topk", "jumprelu", "standard", "gated", "topk_rescaled", "topk")
# Mamba keeps states instead of keys and values, so that each response runs behind its prompt.
MAMBA: dict[str, Any] = {
    "vocab_size": len(tiny.VOCABULARY), "hidden_size": tiny.HIDDEN, "state_size": 4,
    "num_hidden_layers": tiny.LAYERS, "bos_token_id": None, "eos_token_id": None,
    "pad_token_id": 0,
}  # fmt: skip


def hf_model(family: str) -> Any:
    if family != "mamba":
        return tiny.model(family)
    config = transformers.MambaConfig(**MAMBA)
    config._name_or_path = "tiny-mamba"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


class Scene:
    """A model with three input and three output SAEs, each of another kind and width."""

    def __init__(self, family: str = "llama", bos: tiny.BosStyle = "add", **options: Any) -> None:
        self.model = tiny.nnsight_model(hf_model(family), tiny.tokenizer(bos))
        self.options = options
        inputs, outputs = (
            {
                layer: tiny.random_sae(
                    kind, layer=layer, width=first + 4 * layer, seed=first + layer
                )
                for layer, kind in zip(layers, kinds, strict=True)
            }
            for layers, first, kinds in ((INPUTS, 24, KINDS[:3]), (OUTPUTS, 16, KINDS[3:]))
        )
        self.inputs, self.outputs = inputs, outputs
        self.sweep = dn.LayerSweep(self.model, input_saes=inputs, output_saes=outputs, **options)

    def alone(self, pair: tuple[int, int]) -> dn.DSPA:
        """A pair that knows nothing of the sweep."""
        return dn.DSPA(
            self.model, input_sae=self.inputs[pair[0]], output_sae=self.outputs[pair[1]],
            input_layer=pair[0], output_layer=pair[1], **self.options,
        )  # fmt: skip


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene()


def triples(count: int = 7, *, chat: bool = False) -> list[dn.PreferenceTriple]:
    return [dn.PreferenceTriple(**own) for own in tiny.triples(count, chat=chat)]


def written(counts: Any, folder: Path) -> dict[str, bytes]:
    counts.save(folder)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def assert_pairs_are_those_of_runs_alone(
    swept: Any, scene: Scene, folder: Path, source: Any = None, pairs: Any = SOME, **given: Any
) -> None:
    source = triples() if source is None else source
    for pair in pairs:
        alone = scene.alone(pair).count(source, progress=False, **given)
        wanted = written(alone, folder / f"alone-{pair}")
        found = written(swept.counts(*pair), folder / f"swept-{pair}")
        if "weights_unknown" in swept.counts(*pair).provenance:  # of NDIF, where nothing reads them
            assert found.keys() == wanted.keys()
            del found["counts.json"], wanted["counts.json"]
        assert found == wanted, pair


@pytest.mark.slow
@pytest.mark.parametrize("family", [*tiny.FAMILIES, "mamba"])
def test_each_pair_is_that_of_a_run_alone(family: str, tmp_path: Path) -> None:
    scene = Scene(family, "none" if family == "qwen3" else "add")
    swept = scene.sweep.count(triples(), token_budget=BUDGET, progress=False)
    assert swept.pairs == scene.sweep.pairs == PAIRS
    given: dict[str, Any] = {"token_budget": BUDGET, "pairs": PAIRS if family == "llama" else SOME}
    assert_pairs_are_those_of_runs_alone(swept, scene, tmp_path, **given)


@pytest.mark.parametrize("budget", [1, 10**6])
def test_at_any_token_budget(scene: Scene, budget: int, tmp_path: Path) -> None:
    swept = scene.sweep.count(triples(), token_budget=budget, progress=False)
    assert_pairs_are_those_of_runs_alone(swept, scene, tmp_path, token_budget=budget)


@pytest.mark.parametrize("bos", ["add", "none", "markup"])
def test_content_and_markup_of_chats(bos: tiny.BosStyle, tmp_path: Path) -> None:
    scene, source = Scene(bos=bos), triples(chat=True)
    given = {"source": source, "token_budget": 256}
    swept = scene.sweep.count(source, token_budget=256, progress=False)
    assert swept.table.markup_length.sum()
    assert_pairs_are_those_of_runs_alone(swept, scene, tmp_path, **given)
    alone = scene.alone((1, 2)).count(source, token_budget=256, progress=False)
    of_prompts: tuple[PromptTokens, ...] = ("content", "all")
    for tokens in of_prompts:
        map = swept.fit(1, 2, percentile=50, prompt_tokens=tokens)
        wanted = written(alone.fit(percentile=50, prompt_tokens=tokens), tmp_path / tokens)
        assert written(map, tmp_path / f"swept-{tokens}") == wanted


def test_options_of_a_dspa_hold_for_every_pair(tmp_path: Path) -> None:
    scene = Scene(
        same_model_as="some/name", payload_dtype="bfloat16", sae_device="cpu",
        defaults={"percentile": 50},
    )  # fmt: skip
    swept = scene.sweep.count(triples(), token_budget=BUDGET, progress=False)
    assert swept.counts(0, 1).provenance["defaults"] == {"percentile": 50}
    assert swept.counts(0, 1).provenance["payload_dtype"] == "bfloat16"
    assert_pairs_are_those_of_runs_alone(swept, scene, tmp_path, token_budget=BUDGET)


def test_encoding_in_small_blocks(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = written(scene.sweep.count(triples(), token_budget=BUDGET, progress=False), tmp_path)
    monkeypatch.setattr(active, "BLOCK", 90)
    swept = scene.sweep.count(triples(), token_budget=BUDGET, progress=False)
    assert written(swept, tmp_path / "again") == whole
    assert_pairs_are_those_of_runs_alone(swept, scene, tmp_path, token_budget=BUDGET)


def interrupt_after(patch: pytest.MonkeyPatch, batches: int) -> list[int]:
    """Let the counting pass raise after so many batches; the list grows by one at each."""
    done: list[int] = []
    real: Callable[..., Any] = passes.run_batch

    def run(model: Any, counter: Any, batch: Any, token_budget: int) -> Any:
        if len(done) == batches:
            raise KeyboardInterrupt
        done.append(len(batch))
        return real(model, counter, batch, token_budget)

    patch.setattr(passes, "run_batch", run)
    return done


def test_resumed_after_an_interruption(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "BATCHES_PER_CHUNK", 1)
    run = {"token_budget": BUDGET, "checkpoint": tmp_path / "run", "progress": False}
    with monkeypatch.context() as patch:
        interrupt_after(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            scene.sweep.count(triples(), **run)
    assert len(list((tmp_path / "run").glob("chunk-*"))) == 3
    with monkeypatch.context() as patch:
        done = interrupt_after(patch, 100)
        swept = scene.sweep.count(triples(), **run)
        batches = len(CountRun(scene.sweep, triples(), token_budget=BUDGET).batches)
        assert len(done) == batches - 3 > 0
    assert_pairs_are_those_of_runs_alone(swept, scene, tmp_path, token_budget=BUDGET)
    # The folder is that of the sweep, and of no pair alone.
    with pytest.raises(dn.CountsError, match="was taken with another input_layer, input_sae"):
        scene.alone((1, 2)).count(triples(), **run)


def test_shards_merge_to_the_whole(scene: Scene, tmp_path: Path) -> None:
    given = {"token_budget": BUDGET, "progress": False}
    whole = written(scene.sweep.count(triples(), **given), tmp_path / "whole")
    parts = [scene.sweep.count(triples(), shards=3, shard=shard, **given) for shard in range(3)]
    merged = parts[2].merge(parts[0], parts[1])
    assert written(merged, tmp_path / "merged") == whole
    assert merged.dspa(1, 2).input_layer == 1
    run = CountRun(scene.sweep, triples(), token_budget=BUDGET)
    for shard in range(2):
        run.keep(tmp_path / "kept", shards=2, shard=shard, progress=False)
    kept = dn.SweepCounts(merge_shards(tmp_path / "kept"))
    assert written(kept, tmp_path / "again") == whole
    assert dn.SweepCounts.load(shard_folder(tmp_path / "kept", 0, 2)).pairs == PAIRS
    with pytest.raises(dn.CountsError, match="counts of several SAEs side by side, and a map is"):
        merge_shards(tmp_path / "kept").fit()


def test_remote_jobs_bring_every_sae_home(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_counting, "submit", JobStand)
    monkeypatch.setattr(remote_counting, "POLL_EVERY", 0.0)
    swept = scene.sweep.count(triples(), token_budget=BUDGET, remote=True, progress=False)
    assert_pairs_are_those_of_runs_alone(swept, scene, tmp_path, token_budget=BUDGET)


def test_the_model_runs_once_and_each_sae_is_held_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced: list[int] = []
    real: Callable[..., Any] = passes.run_traces

    def run_traces(model: Any, counter: Any, tensors: Any) -> None:
        traced.append(1 + len(tensors["passes"]))
        real(model, counter, tensors)

    monkeypatch.setattr(passes, "run_traces", run_traces)
    swept = scene.sweep.count(triples(), progress=False)
    of_sweep = sum(traced)
    traced.clear()
    alone = {pair: scene.alone(pair).count(triples(), progress=False) for pair in PAIRS}
    assert sum(traced) == of_sweep * len(PAIRS)
    held = {
        "content": [(layer, 3) for layer in INPUTS],
        "chosen": [(0, layer) for layer in OUTPUTS],
    }
    for name, pairs in held.items():
        own = sum(getattr(alone[pair], name).nnz for pair in pairs)
        assert getattr(swept.table, name).nnz == own


def test_a_job_carries_every_encoder_once(scene: Scene) -> None:
    payload = scene.sweep.payload()
    assert [part.kind.value for part in payload.parts] == 3 * ["input encoder"] + 3 * [
        "output encoder"
    ]
    for role, pair in ((0, (0, 3)), (1, (2, 3))):
        alone = scene.alone(pair).payload()
        assert alone.parts[role].nbytes == payload.parts[5 * role].nbytes
    assert payload.fits
    assert 0 < payload.estimate <= 1.1 * payload.nbytes + 30_000


def test_saved_and_loaded(scene: Scene, tmp_path: Path) -> None:
    swept = scene.sweep.count(triples(), progress=False)
    files = written(swept, tmp_path / "sweep")
    assert len(files) == 2
    loaded = dn.SweepCounts.load(tmp_path / "sweep")
    assert repr(loaded) == repr(swept)
    assert "layers [0, 1, 2] -> [1, 2, 3]" in repr(loaded)
    assert f"{len(PAIRS)} pairs" in repr(loaded)
    assert written(loaded, tmp_path / "again") == files
    assert written(loaded.counts(1, 3), tmp_path / "a") == written(
        swept.counts(1, 3), tmp_path / "b"
    )
    with pytest.raises(dn.CountsError, match="these counts were read from files, which hold no"):
        loaded.dspa(1, 3)
    assert dn.SweepCounts.load(tmp_path / "sweep", scene.sweep).dspa(1, 3).output_layer == 3
    swept.counts(1, 3).save(tmp_path / "pair")
    with pytest.raises(dn.CountsError, match="input layer 1 and output layer 3 alone, where those"):
        dn.SweepCounts.load(tmp_path / "pair")


def test_the_pair_of_a_sweep_steers_with_its_map(scene: Scene) -> None:
    swept = scene.sweep.count(triples(), progress=False)
    assert scene.sweep.counted is swept
    dspa, map = scene.sweep.dspa(0, 3), scene.sweep.fit(0, 3, percentile=50)
    assert repr(dspa) == repr(scene.alone((0, 3))) == repr(swept.dspa(0, 3))
    prompt = dspa.render("sun moon")
    with dspa.model.generate(prompt.ids, max_new_tokens=3, do_sample=False):
        edits = dspa.apply(map, prompt=prompt, mode="both", alpha=0.5, k_prompt=8)
    assert edits.total
    with pytest.raises(dn.MapError, match="this map was fitted with input layer 0, but it is used"):
        scene.sweep.dspa(1, 3).plan(map, prompt)


@pytest.mark.usefixtures("unchecked")
def test_what_is_no_sweep_is_refused(scene: Scene) -> None:
    early, late = scene.inputs, scene.outputs

    def build(inputs: Any, outputs: Any) -> dn.LayerSweep:
        return dn.LayerSweep(scene.model, input_saes=inputs, output_saes=outputs)

    sweep = build({2: early[2], 0: early[0]}, {3: late[3], 1: late[1]})
    assert sweep.pairs == [(0, 1), (0, 3), (2, 3)]
    with pytest.raises(dn.CountsError, match=r"nothing was counted yet; call count\(triples\)"):
        sweep.counts(0, 1)
    with pytest.raises(dn.SteeringError, match=r"layers 2 and 1 came, and the pairs of this sweep"):
        sweep.dspa(2, 1)
    sweep.count(triples(3), progress=False)
    with pytest.raises(dn.CountsError, match=r"2 and 1 came, and counted were the pairs \(0, 1\),"):
        sweep.counts(2, 1)
    for inputs, outputs, words in (
        ({}, {3: late[3]}, "input_saes is empty; give at least one SAE by its layer"),
        ({0: early[0]}, {}, "output_saes is empty; give at least one SAE by its layer"),
        ({None: early[0]}, {3: late[3]}, "input_saes has the layer None; name the decoder block"),
        ({0: early[0]}, {4: late[3]}, "output layer 4 came, and tiny-llama has layers 0 to 3"),
        ({"0": early[0]}, {3: late[3]}, "input_layer is '0', and must be the number of a decoder"),
        ({0: early[0], 2: early[2]}, {1: late[1]}, "input layer 2 has no output layer after it"),
        ({2: early[2]}, {1: late[1], 3: late[3]}, "output layer 1 has no input layer before it"),
    ):  # fmt: skip
        with pytest.raises(dn.SteeringError, match=words):
            build(inputs, outputs)
    with pytest.raises(dn.SAEError, match="reads the output of layer 0"):
        build({1: early[0]}, {3: late[3]})


@pytest.mark.usefixtures("unchecked")
def test_saes_in_a_list_are_refused(scene: Scene) -> None:
    given: Any = [scene.inputs[0]]
    with pytest.raises(
        dn.SteeringError, match="of type list; expected Mapping, the SAE"
    ) as refused:
        dn.LayerSweep(scene.model, input_saes=given, output_saes=scene.outputs)
    assert len(str(refused.value).splitlines()) == 1


@settings(max_examples=examples(20), deadline=None)
@given(st.data())
def test_a_subset_of_a_sweep_is_the_sweep_of_a_subset(scene: Scene, data: st.DataObject) -> None:
    if not _swept:
        _swept.append(scene.sweep.count(triples(), progress=False))
    swept = _swept[0]
    chosen = sorted(data.draw(st.sets(st.integers(0, len(swept) - 1), min_size=1)))
    pair = data.draw(st.sampled_from(PAIRS))
    one = swept.subset(chosen).counts(*pair)
    other = swept.counts(*pair).subset(chosen)
    for name in ("content", "markup", "chosen", "rejected"):
        assert (getattr(one, name) != getattr(other, name)).nnz == 0
    assert one.provenance == other.provenance


_swept: list[dn.SweepCounts] = []
