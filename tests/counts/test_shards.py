"""Folders of shards: merged whole, or refused by the name of what is missing or does not fit."""

import shutil
from pathlib import Path

import pytest

from dspa_nn import ActivationCounts, CountsError, FileError
from dspa_nn.counts import merge_shards, shard_folder
from dspa_nn.counts.shards import ranges
from dspa_nn.models import PRESETS, preset_of
from dspa_nn.steering import fit_merged
from tests.count_zoo import PROVENANCE, random_counts

TRIPLES = 12


def written(folder: Path, made: ActivationCounts) -> dict[str, bytes]:
    made.save(folder)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def whole_table(**changes: object) -> ActivationCounts:
    made = random_counts(0, TRIPLES)
    made.provenance = (
        PROVENANCE | {"batch_plan": {"sha256": "e" * 64, "triples": TRIPLES}} | changes
    )
    return made


def split(folder: Path, shards: int, whole: ActivationCounts | None = None) -> ActivationCounts:
    """Save a table as shards; of more shards than triples the last ones are empty."""
    whole = whole_table() if whole is None else whole
    for shard in range(shards):
        whole.subset(whole.index[shard::shards]).save(shard_folder(folder, shard, shards))
    return whole


@pytest.mark.parametrize("shards", [1, 2, 5, TRIPLES + 3])
def test_shards_in_a_folder_are_the_whole_byte_for_byte(tmp_path: Path, shards: int) -> None:
    whole = split(tmp_path / "parts", shards)
    (tmp_path / "parts" / "shard-00000-of-00000.log").write_text("not ours")
    (tmp_path / "parts" / "logs").mkdir()
    merged = merge_shards(tmp_path / "parts")
    assert written(tmp_path / "a", merged) == written(tmp_path / "b", whole)


def test_missing_shards_are_named_as_a_scheduler_takes_them(tmp_path: Path) -> None:
    split(tmp_path, 9)
    for shard in (0, 3, 4, 5, 8):
        shutil.rmtree(shard_folder(tmp_path, shard, 9))
    # Killed before its first JSON was in place: arrays without a table.
    (shard_folder(tmp_path, 2, 9) / "counts.json").unlink()
    with pytest.raises(CountsError) as caught:
        merge_shards(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} holds 3 of 9 shards; still to be counted: shard 0,2-5,8"
    )


def test_folders_that_are_no_set_of_shards_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"there is no folder .*; check the path"):
        merge_shards(tmp_path / "absent")
    with pytest.raises(CountsError, match="holds no shards, expected folders such as shard-00000-"):
        merge_shards(tmp_path)
    split(tmp_path, 2)
    split(tmp_path, 3)
    with pytest.raises(CountsError, match="holds shards of 2 and of 3; leave the shards of one sp"):
        merge_shards(tmp_path)


@pytest.mark.parametrize("key", ["batch_plan", "dtype", "input_sae_sha256", "package_version"])
def test_shards_of_different_runs_are_refused(tmp_path: Path, key: str) -> None:
    whole = split(tmp_path, 3)
    changed = whole.subset(whole.index[1::3])
    changed.provenance = whole.provenance | {key: {"triples": 7} if key == "batch_plan" else "x"}
    changed.save(shard_folder(tmp_path, 1, 3))
    with pytest.raises(CountsError, match=f"shard 1 in .* was counted with another {key} than sha"):
        merge_shards(tmp_path)


def test_a_copy_under_another_name_is_refused(tmp_path: Path) -> None:
    split(tmp_path, TRIPLES + 2)
    empty, full = (shard_folder(tmp_path, at, TRIPLES + 2) for at in (TRIPLES + 1, 0))
    shutil.rmtree(full)
    shutil.copytree(empty, full)
    with pytest.raises(CountsError, match="hold 11 of the 12 triples of their plan; one of"):
        merge_shards(tmp_path)
    shutil.rmtree(full)
    shutil.copytree(shard_folder(tmp_path, 1, TRIPLES + 2), full)
    with pytest.raises(CountsError, match="is in two of the tables"):
        merge_shards(tmp_path)


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    split(tmp_path, 3)
    (tensors,) = shard_folder(tmp_path, 1, 3).glob("*.safetensors")
    tensors.write_bytes(tensors.read_bytes()[:-1])
    with pytest.raises(FileError, match=r"shard-00001-of-00003.* cut short or changed; save or co"):
        merge_shards(tmp_path)


@pytest.mark.parametrize(
    ("numbers", "text"), [([], ""), ([4], "4"), ([0, 1], "0-1"), ([0, 2, 3, 4, 7], "0,2-4,7")]
)
def test_ranges(numbers: list[int], text: str) -> None:
    assert ranges(numbers) == text


def test_a_merged_fit_takes_the_values_of_the_presets_model(tmp_path: Path) -> None:
    preset = PRESETS["smollm2-135m-instruct"]
    origin = {
        "model_id": preset.model_id,
        "input_layer": preset.input_layer,
        "output_layer": preset.output_layer,
    }
    assert preset_of(origin) == preset
    assert preset_of(origin | {"output_layer": 3}) is None
    split(tmp_path / "known", 2, whole_table(**origin))
    known = fit_merged(tmp_path / "known", {"sparsify": "rows"})
    assert (known.percentile, known.sparsify) == (preset.defaults.get("percentile"), "rows")
    assert known.defaults == preset.defaults
    split(tmp_path / "unknown", 2)
    unknown = fit_merged(tmp_path / "unknown", {})
    assert (unknown.percentile, unknown.defaults) == (90, {})
