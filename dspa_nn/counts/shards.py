"""A count that was split over machines: where each shard is kept, and all of them as one table."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dspa_nn.checks import check_type
from dspa_nn.counts.table import ActivationCounts
from dspa_nn.errors import CountsError, FileError
from dspa_nn.files import as_path
from dspa_nn.provenance import unequal

_NAME = re.compile(r"shard-(\d{5,})-of-(\d{5,})")


def shard_folder(folder: str | Path, shard: int, shards: int) -> Path:
    """Where the counts of one shard lie in the folder of all of them; shards count from 0.

    >>> shard_folder("counts", 3, 8).name
    'shard-00003-of-00008'
    """
    return as_path(folder) / f"shard-{shard:05d}-of-{shards:05d}"


def check_shard(shard: int, shards: int) -> None:
    """Refuse a shard that does not exist.

    Raises:
        CountsError: naming the shard and how many there are.
    """
    for name, value in (("shard", shard), ("shards", shards)):
        check_type(name, value, int, CountsError)
    if not 0 <= shard < shards:
        raise CountsError(f"shard {shard} of {shards} does not exist; shards count from 0")


def shard_of(batches: Sequence[Sequence[int]], shard: int, shards: int) -> Sequence[Sequence[int]]:
    """The batches of one shard of `shards`; together they are the whole batch plan.

    >>> shard_of([[0, 1], [2], [3]], 0, 2)
    [[0, 1], [3]]

    Raises:
        CountsError: there is no such shard.
    """
    check_shard(shard, shards)
    return batches[shard::shards]


def merge_shards(folder: str | Path) -> ActivationCounts:
    """Read every shard in a folder and merge them: byte for byte the table of a single run.

    >>> for shard in (0, 1):
    ...     dspa.count(triples, shards=2, shard=shard).save(shard_folder("counts", shard, 2))
    >>> len(merge_shards("counts"))
    20

    Raises:
        CountsError: no shards, a missing one, shards of different splits or of different runs, or
            shards that do not hold every triple of their plan.
        FileError: a shard that was cut short or changed.
    """
    folder = as_path(folder)
    parts = [ActivationCounts.load(path) for path in _complete(folder)]
    _check_alike(folder, parts)
    whole = ActivationCounts.concatenate(parts)
    plan: Mapping[str, Any] = whole.provenance.get("batch_plan") or {}
    planned = plan.get("triples", len(whole))
    if len(whole) != planned:
        raise CountsError(
            f"the shards in {folder} hold {len(whole)} of the {planned} triples of their plan; "
            "one of them is a copy under another's name: count it again"
        )
    return whole


def _complete(folder: Path) -> list[Path]:
    """The folders of all shards, in order; a folder without counts.json was never finished."""
    if not folder.is_dir():
        raise FileError(f"there is no folder {folder}; check the path")
    names = [_NAME.fullmatch(path.parent.name) for path in folder.glob("*/counts.json")]
    found = {(int(name[1]), int(name[2])) for name in names if name}
    splits = sorted({shards for _, shards in found})
    if not splits:
        raise CountsError(
            f"{folder} holds no shards, expected folders such as {shard_folder('.', 0, 8)}; count "
            "them with dspa fit --shards 8 --shard 0, and so on"
        )
    if len(splits) > 1:
        raise CountsError(
            f"{folder} holds shards of {' and of '.join(map(str, splits))}; leave the shards of "
            "one split there"
        )
    (shards,) = splits
    missing = sorted(set(range(shards)) - {shard for shard, _ in found})
    if missing:
        raise CountsError(
            f"{folder} holds {len(found)} of {shards} shards; still to be counted: shard "
            f"{ranges(missing)}"
        )
    return [shard_folder(folder, shard, shards) for shard in range(shards)]


def ranges(numbers: Iterable[int]) -> str:
    """Ascending numbers as a scheduler writes an array of them.

    >>> ranges([0, 2, 3, 4, 7])
    '0,2-4,7'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _check_alike(folder: Path, parts: list[ActivationCounts]) -> None:
    """Refuse shards of different runs: their tables would add up to no run's."""
    first = parts[0].provenance
    for shard, part in enumerate(parts):
        differing = unequal(first, part.provenance)
        if differing:
            raise CountsError(
                f"shard {shard} in {folder} was counted with another {', '.join(differing)} than "
                "shard 0; count all shards of the same triples with the same model, SAEs, "
                "token_budget and version"
            )
