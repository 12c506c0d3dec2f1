import itertools
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from dspa_nn.maps import DifferenceSums, difference_sums, gates

csr_array: Any = sparse.csr_array  # scipy declares no types


def test_blocks_of_any_size_give_the_same_map(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rho = csr_array(rng.random((9, 6)) * (rng.random((9, 6)) < 0.3))
    drho = csr_array(rng.normal(size=(9, 5)) * (rng.random((9, 5)) < 0.7))
    _, cut = gates.thresholds(rho, 70)
    opened, always = gates.open_gates(rho, cut, "literal")
    assert 0 < always.sum() < 6
    dense = np.where(always, 1, opened.toarray())
    maps = []
    changed = (drho.toarray() != 0).sum(0)
    assert changed.min() < 9 / 1.6 < changed.max()
    names = (
        "_BLOCK_ENTRIES", "_PIECE", "_TRIPLES", "_ROWS", "_COLUMNS", "_DENSE_ABOVE_ONE_IN",
        "_KEPT_BYTES",
    )  # fmt: skip
    # Columns all looked up, some, and none; differences kept, and made for each block.
    for sizes in (
        (1, 1, 1, 1, 1, 0, 0),
        (7, 4, 2, 4, 3, 1.6, 10_000),
        (10_000, 5, 4, 5, 2, 1.6, 0),
        (10_000, 9, 9, 9, 9, 10, 10_000),
    ):
        for name, size in zip(names, sizes, strict=True):
            monkeypatch.setattr(difference_sums, name, size)
        blocks = DifferenceSums(opened, always, lambda a, b: drho[a:b], 5)
        found = [blocks[at] for at in range(len(blocks))]
        numbers = np.concatenate([rows for rows, _ in found])
        assert sorted(numbers) == list(range(6))
        assert (np.diff(dense.sum(0)[numbers]) >= 0).all()  # fewest open gates first
        whole = np.concatenate([block for _, block in found])
        maps.append(whole[np.argsort(numbers)])
        assert (maps[0] == maps[-1]).all()
    summed = np.zeros((6, 5))
    for k in range(9):  # add by add, in the order of the triples
        summed += np.outer(dense[k], drho[[k]].toarray())
    assert (maps[0] == (summed / 9).astype(np.float32)).all()


def test_iterating_over_the_blocks_ends_and_gives_each_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(difference_sums, "_BLOCK_ENTRIES", 10)
    drho = csr_array(np.arange(1.0, 16).reshape(3, 5))
    blocks = DifferenceSums(
        csr_array(np.ones((3, 6))), np.zeros(6, bool), lambda a, b: drho[a:b], 5
    )
    assert [rows.tolist() for rows, _ in itertools.islice(blocks, 9)] == [[0, 1], [2, 3], [4, 5]]
    assert (blocks[-1][1] == blocks[2][1]).all()
    for beyond in (3, -4):
        with pytest.raises(IndexError):
            blocks[beyond]
