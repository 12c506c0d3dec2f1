import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dspa_nn.errors import FileError
from dspa_nn.files import (
    read_pair,
    sha256_of_file,
    sha256_of_json,
    write_atomically,
    write_pair,
)

ARRAYS = {"b": np.arange(6, dtype=np.int32), "a": np.linspace(0, 1, 5)}
ABOUT = {"provenance": {"model_id": "tiny", "é": 1e-5}, "shape": [2, 3]}


def save(folder: Path, scale: int = 1) -> None:
    write_pair(folder, "map", {k: v * scale for k, v in ARRAYS.items()}, ABOUT, version=1)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def tensor_file(folder: Path) -> Path:
    (path,) = folder.glob("map-*.safetensors")
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    save(tmp_path / "new" / "folder")
    tensors, about = read_pair(tmp_path / "new" / "folder", "map", version=1)
    assert set(tensors) == {"a", "b"}
    for name, array in ARRAYS.items():
        assert tensors[name].numpy().dtype == array.dtype
        np.testing.assert_array_equal(tensors[name].numpy(), array)
    assert {key: about[key] for key in ABOUT} == ABOUT
    assert about["sha256"] == sha256_of_file(tensor_file(tmp_path / "new" / "folder"))


def test_equal_contents_are_equal_bytes(tmp_path: Path) -> None:
    save(tmp_path / "one")
    write_pair(
        tmp_path / "two", "map", dict(reversed(ARRAYS.items())), dict(reversed(ABOUT.items())),
        version=1,
    )  # fmt: skip
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert len(contents(tmp_path / "one")) == 2


def test_saving_again_leaves_one_pair(tmp_path: Path) -> None:
    save(tmp_path)
    (tmp_path / "map-notours.safetensors").write_text("kept")
    save(tmp_path, scale=2)
    assert len(contents(tmp_path)) == 3
    assert int(read_pair(tmp_path, "map", version=1)[0]["b"][1]) == 2


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    save(tmp_path)
    for path in (tensor_file(tmp_path), tmp_path / "map.json"):
        whole = path.read_bytes()
        for at in range(len(whole)):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises(FileError):
                read_pair(tmp_path, "map", version=1)
        path.write_bytes(whole)
    read_pair(tmp_path, "map", version=1)


def test_cut_short(tmp_path: Path) -> None:
    save(tmp_path)
    for path in (tensor_file(tmp_path), tmp_path / "map.json"):
        whole = path.read_bytes()
        for length in (0, 1, len(whole) // 2, len(whole) - 2):
            path.write_bytes(whole[:length])
            with pytest.raises(FileError, match=r"was cut short or changed.*save or copy it again"):
                read_pair(tmp_path, "map", version=1)
        path.write_bytes(whole)


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_a_number_that_json_does_not_know_is_a_change(tmp_path: Path, number: str) -> None:
    write_pair(tmp_path, "map", ARRAYS, ABOUT | {"threshold": 0.25}, version=1)
    path = tmp_path / "map.json"
    path.write_text(path.read_text().replace("0.25", number))
    with pytest.raises(FileError, match=r"was cut short or changed since it was saved; save or"):
        read_pair(tmp_path, "map", version=1)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"holds no map\.json, expected a folder that save"):
        read_pair(tmp_path, "map", version=1)
    save(tmp_path)
    tensor_file(tmp_path).unlink()
    with pytest.raises(FileError, match=r"which is not beside it; copy or download the two"):
        read_pair(tmp_path, "map", version=1)


def test_newer_schema_and_another_schema(tmp_path: Path) -> None:
    write_pair(tmp_path, "map", ARRAYS, ABOUT, version=3)
    with pytest.raises(FileError, match=r"schema version 3, newer than 2, .*; upgrade dspa_nn\."):
        read_pair(tmp_path, "map", version=2)
    (tmp_path / "counts.json").write_bytes((tmp_path / "map.json").read_bytes())
    with pytest.raises(FileError, match=r"has schema 'dspa_nn\.map', expected 'dspa_nn\.counts'"):
        read_pair(tmp_path, "counts", version=3)


def test_a_tensor_file_named_by_hand_is_not_followed(tmp_path: Path) -> None:
    save(tmp_path)
    about = json.loads((tmp_path / "map.json").read_text())
    del about["checksum"]
    about["sha256"] = "../../etc/passwd"
    about["checksum"] = sha256_of_json(about)
    (tmp_path / "map.json").write_text(json.dumps(about))
    with pytest.raises(FileError, match="was cut short or changed"):
        read_pair(tmp_path, "map", version=1)


@pytest.mark.parametrize("step", [0, 1])
def test_a_crash_at_either_replacement_leaves_the_old_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    save(tmp_path)
    before = contents(tmp_path)
    replace, calls = Path.replace, []

    def failing(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == step + 1:
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(FileError, match=r"could not be written \(No space left on device\)"):
        save(tmp_path, scale=2)
    assert contents(tmp_path) == before


# A limit on file sizes fails a write half-way, as a full disk does, and for root too.
FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
import numpy as np
from dspa_nn.errors import FileError
from dspa_nn.files import write_atomically, write_pair
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
for act in (
    lambda: write_pair(sys.argv[1], "map", {"a": np.zeros(10**5)}, {}, version=1),
    lambda: write_pair(sys.argv[1] + "/new", "map", {"a": np.zeros(10**5)}, {}, version=1),
    lambda: write_atomically(sys.argv[1] + "/map.json", b"x" * 10**5),
):
    try:
        act()
    except FileError as error:
        print(error)
"""


@pytest.mark.slow
def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    save(tmp_path)
    before = contents(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all("and what was there before is unchanged; free some space" in line for line in lines)
    assert contents(tmp_path) == before


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path)
    before = contents(tmp_path)

    def read_only(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", read_only)
    with pytest.raises(FileError, match=r"could not be written \(Permission denied\), and what"):
        save(tmp_path, scale=2)
    assert contents(tmp_path) == before


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(FileError, match="choose another folder"):
        save(tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "mine"


def test_write_atomically(tmp_path: Path) -> None:
    write_atomically(tmp_path / "deep" / "report.json", "{}")
    write_atomically(tmp_path / "deep" / "report.json", b"[]")
    assert contents(tmp_path / "deep") == {"report.json": b"[]"}


# Writes a temporary file, says so, and waits to be killed or told to go on.
WRITER = """
import sys
from pathlib import Path
import numpy as np
from dspa_nn.files import write_pair

def replace(self, target, replace=Path.replace):
    if target.name == sys.argv[2]:
        print("written", flush=True)
        sys.stdin.readline()
    return replace(self, target)

Path.replace = replace
write_pair(sys.argv[1], "map", {"a": np.ones(3)}, {}, version=1)
print("saved", flush=True)
"""


def writer(folder: Path, waits_at: str = "map.json") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(folder), waits_at]
    started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    assert started.stdout.readline() == "written\n"
    return started


def temporaries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob(".*.tmp"))


@pytest.mark.slow
def test_the_next_save_removes_what_a_killed_one_left_and_nothing_else(tmp_path: Path) -> None:
    save(tmp_path)
    (tmp_path / ".map.json.notes").write_text("kept")
    killed = writer(tmp_path)
    killed.kill()
    killed.communicate()
    assert len(temporaries(tmp_path)) == 1
    living = writer(tmp_path)
    (own,) = temporaries(tmp_path)  # the dead one's is gone
    # Another save meanwhile: nothing is taken from the living writer, and each pair is whole.
    save(tmp_path, scale=2)
    assert temporaries(tmp_path) == [own]
    assert int(read_pair(tmp_path, "map", version=1)[0]["b"][1]) == 2
    assert living.communicate("\n")[0] == "saved\n"
    assert read_pair(tmp_path, "map", version=1)[0]["a"].tolist() == [1, 1, 1]
    assert temporaries(tmp_path) == []
    assert (tmp_path / ".map.json.notes").read_text() == "kept"
    assert len(contents(tmp_path)) == 3


def test_a_file_alone_is_tidied_too(tmp_path: Path) -> None:
    for name in (".report[1].json.left.tmp", ".report1.json.left.tmp", ".other.json.left.tmp"):
        (tmp_path / name).write_text("half")
    write_atomically(tmp_path / "report[1].json", "{}")
    assert sorted(contents(tmp_path)) == [
        ".other.json.left.tmp",
        ".report1.json.left.tmp",
        "report[1].json",
    ]
