"""Synthetic counts of the benchmark of scale: what they promise, on a small table."""

from mmap import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import _synthetic, map_scale


def test_rates_add_up_under_their_cap() -> None:
    for width, active in ((4096, 32), (16_384, 100)):
        found = _synthetic.rates(width, active)
        assert found.sum() == pytest.approx(active)
        assert found.max() <= _synthetic.HIGHEST
        assert (np.diff(found) <= 0).all()


def on_disk(array: Any) -> bool:
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, mmap)


def test_a_prefix_of_a_table_is_a_table(tmp_path: Path) -> None:
    _synthetic.write(tmp_path, 300, 512, 8)
    whole, part = _synthetic.opened(tmp_path, 300), _synthetic.opened(tmp_path, 260)
    assert len(whole) == 300
    for name in _synthetic.TABLES:
        one, other = getattr(whole, name), getattr(part, name)
        assert (one[:260] != other).nnz == 0
        assert on_disk(other.data)
        assert on_disk(other.indices)
    # As many latents fire on a token as were asked for, but for what a short text cannot hold.
    fired = sum(getattr(whole, name).sum() for name in _synthetic.TABLES)
    tokens = sum(getattr(whole, f"{name}_length").sum() for name in _synthetic.TABLES)
    assert 7 < fired / tokens <= 8.2


def test_a_point_counts_its_work(tmp_path: Path) -> None:
    _synthetic.write(tmp_path, 60, 256, 8)
    counts = _synthetic.opened(tmp_path, 50)
    row = map_scale.measured(tmp_path, 50, "rows")
    adds, done = map_scale.work(counts)
    assert row["N"] == 50
    assert 0 < adds < done
    assert row["entries kept"] == len(counts.fit(sparsify="rows").values)
    line = map_scale.growth(
        [
            {"width": 4096, "rule": "rows", "N": n, "CPU seconds": 2.0 * n**2, "peak GB": 3.0,
             "counts MB": float(n)}
            for n in (10, 20, 40, 80)
        ]
    )[0]  # fmt: skip
    assert line["CPU seconds: exponent"] == pytest.approx(2)
    assert line["peak GB: exponent"] == pytest.approx(0)
    assert line["counts MB: at 61,000"] == pytest.approx(61_000)
