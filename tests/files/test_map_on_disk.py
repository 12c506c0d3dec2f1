"""A map on disk: what is read when it is loaded, and when a prompt asks for some of its rows."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dspa_nn import ConditionalDifferenceMap, FileError
from dspa_nn.graph.select import scores

ROWS, COLUMNS, EACH = 256, 1 << 17, 1 << 14
SMAPS = Path("/proc/self/smaps")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """32 MiB of entries, 128 KiB a row."""
    rng = np.random.default_rng(0)
    columns = np.tile(np.arange(0, COLUMNS, COLUMNS // EACH), ROWS)
    values = rng.standard_normal(ROWS * EACH).astype(np.float32)
    bounds = np.arange(ROWS + 1) * EACH
    made = ConditionalDifferenceMap(np.arange(ROWS), bounds, columns, values, (ROWS, COLUMNS))
    made.save(tmp_path)
    return tmp_path


def resident(folder: Path) -> int:
    """Bytes of the map's file that this process has read through its mappings."""
    found, ours = 0, False
    for line in SMAPS.read_text().splitlines():
        if "-" in line.split(" ", 1)[0]:
            ours = line.endswith(".safetensors") and str(folder) in line
        elif ours and line.startswith("Rss:"):
            found += 1024 * int(line.split()[1])
    return found


@pytest.mark.skipif(not SMAPS.exists(), reason="only Linux tells which pages of a file were read")
def test_only_the_rows_asked_for_are_read(folder: Path) -> None:
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    whole = ConditionalDifferenceMap.load(folder)
    assert resident(folder) > 0.9 * size  # what the measure shows where all is read
    counts = torch.zeros(ROWS, dtype=torch.int64)
    counts[[3, 4, 5]] = 1
    wanted = whole.score(counts)
    del whole
    assert resident(folder) == 0
    found = ConditionalDifferenceMap.load(folder, verify=False)
    # The system maps a file in pieces of up to 2 MiB: at its start, its end, and what is asked for.
    assert resident(folder) < size / 4
    assert torch.equal(found.score(counts), wanted)
    assert resident(folder) < size / 2


def test_rows_not_asked_for_are_not_touched() -> None:
    """Were they read at all, NaN would show in the scores, and a column out of range would fail."""
    rows, indptr = torch.arange(4), torch.tensor([0, 1, 2, 5, 8])
    columns = torch.tensor([0, 1, 9, 9, 9, 9, 9, 9])
    values = torch.tensor([1.0, 2.0, *[float("nan")] * 6])
    weights = torch.tensor([[1.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
    assert scores(weights, rows, indptr, columns, values, 2).tolist() == [[1.0, 2.0]]


def test_what_is_cut_short_is_noticed_without_verifying_too(folder: Path) -> None:
    (path,) = folder.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FileError, match="cannot be read"):
        ConditionalDifferenceMap.load(folder, verify=False)
