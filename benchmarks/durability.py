"""Kill a count at random moments, and fill its disk: is the map the same byte for byte?

    python -m benchmarks.durability --quick         # 2 x 8 kills and 3 full disks, a minute
    python -m benchmarks.durability                 # 2 x 50 kills and 10 full disks

The embedded model counts triples of the demo in shards with a checkpoint, merges them, fits and
saves; a forked process does it, `kill -9` ends that process, and another resumes from what is on
the disk. Half of the kills come at random times, half at random file operations, where there is
most to break. Every finished run is compared with an undisturbed one: the same files, the same
bytes, and no other file, hidden ones included. A full disk is a tmpfs of a random size (Linux,
root), made larger after the refusal.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks._report import Rows, options, write
from dspa_nn.counts import CountRun, merge_shards
from dspa_nn.errors import FileError

SHARDS = 3
# Small, for many batches: a chunk of the checkpoint is two of them.
BUDGET = 64
# Bytes of the smallest disk that is filled.
SMALLEST = 1 << 16
# Exit status of a process that ended with a `FileError`, as on a full disk.
FULL = 3
# An attempt is killed within this share of the time or the file operations of a whole run.
REACH = 1 / 3

Job = Callable[[Path], None]


class Lost(Exception):
    """What was counted did not survive; the message says what differs."""


def job_of(run: CountRun) -> Job:
    """Count in shards, merge, fit and save, all below one folder."""

    def job(folder: Path) -> None:
        for shard in range(SHARDS):
            run.keep(
                folder / "counts",
                shards=SHARDS,
                shard=shard,
                checkpoint=folder / "work",
                progress=False,
            )
        merge_shards(folder / "counts").fit().save(folder / "map")

    return job


def started(job: Job, folder: Path, before: Callable[[], Any] = lambda: None) -> int:
    """Run the job in a forked process, which starts with `before`; return the process."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        before()
        job(folder)
        code = 0
    except FileError as error:
        print(error, file=sys.stderr)
        code = FULL
    except BaseException:  # noqa: BLE001 - shown here, since this process ends without a word
        traceback.print_exc()
    finally:
        os._exit(code)


def ended(process: int) -> int:
    """Wait for it; a signal that killed it is negative."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def compare(folder: Path, wanted: dict[str, bytes]) -> None:
    """Raise `Lost` if a finished run differs from the undisturbed one in any file."""
    files = contents(folder)
    names = sorted(set(files) ^ set(wanted))
    if names:
        raise Lost(f"files that only one of the two runs has: {', '.join(names)}")
    changed = [name for name in wanted if files[name] != wanted[name]]
    if changed:
        raise Lost(f"other bytes in {', '.join(changed)}")


def half_done(folder: Path) -> dict[str, int]:
    """What a kill left: temporary files, and tensor files that no JSON names yet."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    tensors = [path for path in files if path.suffix == ".safetensors"]
    return {
        "temporary files": sum(path.suffix == ".tmp" for path in files),
        "tensors without JSON": sum(
            not (path.parent / f"{path.name.rsplit('-', 1)[0]}.json").exists() for path in tensors
        ),
    }


def of_files(event: str, arguments: tuple[Any, ...], folder: Path) -> bool:
    """Whether an event of Python's audit is about files below a folder."""
    return event.startswith(("open", "os.", "shutil.")) and str(folder) in str(arguments)


def dying_at(operation: int, folder: Path) -> Callable[[], None]:
    """Make a process kill itself before its n-th operation on files below a folder."""

    def before() -> None:
        left = operation

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal left
            if of_files(event, arguments, folder):
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)

    return before


def whole_run(job: Job, folder: Path) -> tuple[dict[str, bytes], float, int]:
    """An undisturbed run: its files, its seconds, and how many file operations it took."""
    began = time.perf_counter()
    if ended(started(job, folder / "whole")):
        raise Lost("the undisturbed run failed")
    seconds = time.perf_counter() - began

    # Every file operation writes one byte to a pipe; the bytes are counted once the run has ended.
    read, written = os.pipe2(os.O_NONBLOCK)

    def counting() -> None:
        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if of_files(event, arguments, folder / "again"):
                os.write(written, b".")

        sys.addaudithook(hook)

    wanted = contents(folder / "whole")
    if ended(started(job, folder / "again", counting)):
        raise Lost("a second undisturbed run failed")
    compare(folder / "again", wanted)
    operations = len(os.read(read, 1 << 16))
    os.close(read)
    os.close(written)
    return wanted, seconds, operations


def killed(job: Job, folder: Path, kills: int, seed: int = 0) -> Rows:
    """Kill runs at random times until `kills` have hit a running one; then at file operations."""
    wanted, seconds, operations = whole_run(job, folder)
    rows = []
    for kind in ("a random time", "a random file operation"):
        draw = random.Random(seed)
        row = {"killed at": kind, "kills": 0, "runs finished": 0, "identical": 0}
        row |= {f"left {what}": 0 for what in half_done(folder / "nothing")}
        run = folder / kind.replace(" ", "-")
        while row["kills"] < kills:
            if kind == "a random time":
                process = started(job, run)
                time.sleep(draw.uniform(0, seconds * REACH))
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            else:
                last = draw.randrange(max(1, int(operations * REACH)))
                process = started(job, run, dying_at(last, run))
            code = ended(process)
            if code == -signal.SIGKILL:
                row["kills"] += 1
                for what, number in half_done(run).items():
                    row[f"left {what}"] += number > 0
            if code == 0 or row["kills"] == kills:
                if code and ended(started(job, run)):
                    raise Lost("a run could not be resumed")
                compare(run, wanted)
                row["runs finished"] += 1
                row["identical"] += 1
                run = folder / f"{run.name}-"
            elif code != -signal.SIGKILL:
                raise Lost(f"a resumed run ended with {code}")
        rows.append(row)
    return rows


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Callable[[int], Any]]:
    """A tmpfs of so many bytes; yields a function that resizes it."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o"]
    subprocess.run([*command, f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield lambda more: subprocess.run(
            ["mount", "-o", f"remount,size={more}", str(folder)], check=True
        )
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def filled(job: Job, folder: Path, times: int, seed: int = 0) -> Rows:
    """Let disks of random sizes run full, enlarge them, and resume."""
    wanted, _, _ = whole_run(job, folder)
    size = sum(map(len, wanted.values()))
    draw = random.Random(seed)
    row = {"disks": times, "ran full": 0, "left temporary files": 0, "identical": 0}
    for number in range(times):
        disk = folder / f"disk-{number}"
        # Uniform in the logarithm of the size: some disks fill in the count, some later.
        with small_disk(disk, int(SMALLEST * (size / SMALLEST) ** draw.random())) as resize:
            code = ended(started(job, disk / "run"))
            row["ran full"] += code == FULL
            row["left temporary files"] += half_done(disk)["temporary files"]
            if code not in (0, FULL):
                raise Lost(f"a full disk ended a run with {code}")
            resize(8 * size)
            if ended(started(job, disk / "run")):
                raise Lost("a run could not be resumed after its disk was full")
            compare(disk / "run", wanted)
            row["identical"] += 1
    return [row]


def main() -> None:
    import dspa_nn as dn
    from dspa_nn.files import ASSETS

    given = options(str(__doc__))
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # a forked process cannot use a GPU
    kills, disks, triples = (8, 3, 6) if given.quick else (50, 10, 12)
    source = dn.load_triples(ASSETS / "demo_triples.jsonl", limit=triples)
    dspa = dn.DSPA.from_preset("smollm2-135m-instruct")
    job = job_of(CountRun(dspa, source, token_budget=BUDGET))
    tables: dict[str, Rows] = {}
    notes = [f"{triples} triples of the demo in {SHARDS} shards, token_budget {BUDGET}."]
    with tempfile.TemporaryDirectory() as scratch:
        tables["kill -9, and go on"] = killed(job, Path(scratch), kills)
    with tempfile.TemporaryDirectory() as scratch:
        if os.geteuid() == 0 and sys.platform == "linux":
            tables["The disk full, made larger, and go on"] = filled(job, Path(scratch), disks)
        else:
            notes.append("No full disks: mounting one takes Linux and root.")
    write("durability", "Killed and resumed", tables, notes, given.out)


if __name__ == "__main__":
    main()
