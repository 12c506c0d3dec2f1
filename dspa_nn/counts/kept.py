"""Counts that are kept for a next fit: where they lie, how large they are, how to remove them."""

import json
import re
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dspa_nn.counts.table import ActivationCounts
from dspa_nn.errors import CountsError
from dspa_nn.files import cache_dir
from dspa_nn.imports import untyped

# How an entry is named: what else lies in the folder is somebody else's.
_NAME = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class KeptCounts:
    """One entry of the cache.

    >>> KeptCounts("3f6d", Path("counts/3f6d"), 2_500_000, 0.0).size
    '2.5 MB'

    Attributes:
        key: by which it is known: a hash of all that its counts depend on.
        folder: where it lies. nbytes: of all its files. used: when it was last read or written.
        provenance: what was counted with what; empty while it is not finished.
    """

    key: str
    folder: Path
    nbytes: int
    used: float
    provenance: dict[str, Any] = field(default_factory=dict[str, Any], repr=False)

    @property
    def size(self) -> str:
        """Its bytes in words."""
        return in_words(self.nbytes)

    @property
    def finished(self) -> bool:
        """Whether all its triples are counted."""
        return bool(self.provenance)

    def load(self) -> ActivationCounts:
        """Its counts.

        >>> map = dspa.fit(triples, progress=False)
        >>> len(kept_counts()[0].load())
        20

        Raises:
            FileError: it is not finished, or was changed.
        """
        return ActivationCounts.load(self.folder)

    def __str__(self) -> str:
        known = self.provenance
        when = time.strftime("%Y-%m-%d", time.localtime(self.used))
        if not self.finished:
            return f"{self.key}  {self.size:>8}  {when}  not finished"
        triples = known.get("batch_plan", {}).get("triples", "?")
        layers = f"{known.get('input_layer')} -> {known.get('output_layer')}"
        model = str(known.get("model_id")).rpartition("/")[2]
        return f"{self.key}  {self.size:>8}  {when}  {triples} triples, {model}, {layers}"


class KeptCountsList(list[KeptCounts]):
    """Entries of the cache, printed one a line."""

    def __repr__(self) -> str:
        total = in_words(sum(entry.nbytes for entry in self))
        return "\n".join(
            [f"{counts_folder()}: {len(self)} kept, {total}", *(str(entry) for entry in self)]
        )


def in_words(nbytes: int) -> str:
    """A number of bytes as a person reads it.

    >>> in_words(900), in_words(2_500_000), in_words(12_000_000_000)
    ('0.9 kB', '2.5 MB', '12.0 GB')
    """
    for unit, size in (("GB", 10**9), ("MB", 10**6)):
        if nbytes >= size:
            return f"{nbytes / size:.1f} {unit}"
    return f"{nbytes / 1000:.1f} kB"


def counts_folder() -> Path:
    """Where counts are kept: `counts` in the folder that `DSPA_CACHE` names, or `~/.cache/dspa_nn`.

    >>> counts_folder().name
    'counts'
    """
    return cache_dir() / "counts"


def kept_counts() -> KeptCountsList:
    """All counts that are kept, those used last first.

    >>> map = dspa.fit(triples, progress=False)
    >>> len(kept_counts())
    1
    """
    found = counts_folder().glob("*")
    folders = [path for path in found if _NAME.fullmatch(path.name) and path.is_dir()]
    entries = [entry_at(folder) for folder in folders]
    return KeptCountsList(sorted(entries, key=lambda entry: -entry.used))


def clear_counts(*keys: str) -> KeptCountsList:
    """Remove kept counts, those of these keys (or beginnings of keys) or all; return what went.

    >>> map = dspa.fit(triples, progress=False)
    >>> len(clear_counts()), len(kept_counts())
    (1, 0)

    What another process is counting stays.

    Raises:
        CountsError: nothing is kept under one of the keys.
    """
    entries = kept_counts()
    for key in keys:
        if not key or not any(entry.key.startswith(key) for entry in entries):
            raise CountsError(
                f"no counts are kept under {key!r} in {counts_folder()}; dspa counts lists them"
            )
    chosen = [entry for entry in entries if not keys or entry.key.startswith(keys)]
    return KeptCountsList(entry for entry in chosen if removed(entry))


def entry_at(folder: Path) -> KeptCounts:
    """The entry in a folder.

    >>> entry_at(counts_folder() / "3f6d").finished
    False
    """
    if not folder.exists():
        return KeptCounts(folder.name, folder, 0, 0.0)
    files = [path for path in folder.rglob("*") if path.is_file()]
    stats = [path.stat() for path in files]
    provenance: dict[str, Any] = {}
    with suppress(OSError, ValueError, TypeError, KeyError):
        about: Any = json.loads((folder / "counts.json").read_text())
        provenance = {**about["provenance"]}
    used = max([stat.st_mtime for stat in stats], default=folder.stat().st_mtime)
    return KeptCounts(folder.name, folder, sum(stat.st_size for stat in stats), used, provenance)


def lock_of(folder: Path) -> Any:
    """What a process that counts into an entry holds.

    >>> lock_of(counts_folder() / "3f6d").is_locked
    False
    """
    return untyped("filelock").FileLock(folder.with_name(f"{folder.name}.lock"))


def removed(entry: KeptCounts) -> bool:
    """Remove an entry unless a process holds it; say whether it is gone.

    >>> removed(entry_at(counts_folder() / "3f6d"))
    True
    """
    lock = lock_of(entry.folder)
    try:
        lock.acquire(timeout=0)
    except untyped("filelock").Timeout:
        return False
    except (OSError, NotImplementedError):
        pass
    try:
        shutil.rmtree(entry.folder, ignore_errors=True)
        entry.folder.with_name(f"{entry.key}.lock").unlink(missing_ok=True)
    finally:
        lock.release()
    return not entry.folder.exists()
