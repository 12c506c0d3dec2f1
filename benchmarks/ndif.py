"""Runs on an NDIF server against the same runs here: results, bytes, time; recovery from kills.

    make ndif                                  # a server on this machine
    python -m benchmarks.ndif [--quick] [--kills 10]

NDIF_HOST names another server; where none answers nothing is run. Both sides hold the embedded
model, so tokens, edits and maps must be equal, and the script ends with an error where they are
not. With --kills a remote fit is killed at so many random moments and taken up again.
"""

import argparse
import hashlib
import json
import os

# Set before the hub's client is imported: the model is in the local cache, so nothing is fetched.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from nnsight import CONFIG, save

import dspa_nn as dn
from benchmarks._report import options, write
from dspa_nn.ndif import backend_factory
from dspa_nn.prompts import padded
from dspa_nn.steering import Mode
from dspa_nn.triples import read_demo_rows, take_demo_rows

PRESET = "smollm2-135m-instruct"
REPO_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
HOST = os.environ.get("NDIF_HOST", "http://127.0.0.1:8001")
TOKENS = 8
# For the counts that are killed: few triples, one per batch, so that there are many chunks.
KILLED, BUDGET = 24, 64


class Both:
    """The embedded model here and on the server, a map, and prompts."""

    def __init__(self, prompts: int) -> None:
        self.here = dn.DSPA.from_preset(PRESET)
        self.there = dn.DSPA.from_preset(PRESET, model=remote())
        rows = read_demo_rows("register")
        self.triples = [row.triple for row in take_demo_rows(rows, "fit", 64)]
        held_out = [row.triple.prompt for row in take_demo_rows(rows, "test", prompts)]
        self.prompts = [self.here.render(prompt) for prompt in held_out]
        self.traffic = backend_factory(self.there.model)

    def fit(self, remote: bool) -> tuple[Any, float]:
        """Count 64 triples and fit; return the map and the seconds."""
        dspa = self.there if remote else self.here
        start = time.perf_counter()
        counts = dspa.count(self.triples, remote=remote, progress=False)
        return counts.fit(percentile=50), time.perf_counter() - start

    def generate(self, given: Any, prompts: list[Any], remote: bool, **settings: Any) -> Any:
        """Generate greedily; return ids, the edit log and the seconds."""
        dspa = self.there if remote else self.here
        inputs = padded([prompt.prompt_ids for prompt in prompts], "left")
        if not isinstance(given, list):
            settings["prompt"] = prompts
        start = time.perf_counter()
        with dspa.model.generate(
            inputs, max_new_tokens=TOKENS, do_sample=False, remote=remote
        ) as tracer:
            edits = dspa.apply(given, **settings)
            ids = tracer.result.save()
        return ids, edits, time.perf_counter() - start

    def many(
        self, map: Any, batches: list[list[Any]], mode: Mode, remote: bool
    ) -> tuple[Any, float]:
        """Generate and trace every batch, remotely in one session.

        Returns ids, edit log and logits of each, and the seconds.
        """
        dspa = self.there if remote else self.here
        model = dspa.model
        packed = [(batch, padded([one.prompt_ids for one in batch], "left")) for batch in batches]
        start = time.perf_counter()
        with model.session(remote=remote):
            outputs = save([])
            for batch, inputs in packed:
                with model.generate(inputs, max_new_tokens=TOKENS, do_sample=False) as tracer:
                    edits = dspa.apply(map, prompt=batch, mode=mode)
                    out = tracer.result.save()
                with model.trace(inputs):
                    dspa.apply(map, prompt=batch, mode=mode)
                    logits = model.output.logits[:, -1].detach().clone().save()
                outputs.append((out, edits, logits))
        return outputs, time.perf_counter() - start

    def bytes_of(self, run: Callable[[], Any]) -> tuple[Any, int, int]:
        """Run; return the result, bytes sent and bytes received."""
        sent, received = self.traffic.sent, self.traffic.received
        result = run()
        return result, self.traffic.sent - sent, self.traffic.received - received


def remote() -> Any:
    """The model without weights, read from dspa_nn's cache if it is there."""
    from huggingface_hub import constants

    cache = Path(os.environ.get("DSPA_CACHE") or Path.home() / ".cache" / "dspa_nn") / "hub"
    if cache.exists():
        constants.HF_HUB_CACHE = str(cache)
    CONFIG.API.HOST, CONFIG.APP.REMOTE_LOGGING = HOST, False
    return dn.remote_model(REPO_ID)


def batches(prompts: list[Any], size: int) -> list[list[Any]]:
    return [prompts[start : start + size] for start in range(0, len(prompts), size)]


def equality(both: Both, map: Any) -> list[dict[str, Any]]:
    """Tokens, edits and logits of both sides, for every mode and two batch sizes."""
    rows = []
    for mode in ("ablate", "augment", "both"):
        for size in (1, 8):
            grouped = batches(both.prompts, size)
            (there, spent), up, down = both.bytes_of(
                lambda grouped=grouped, mode=mode: both.many(map, grouped, mode, True)
            )
            here, local_time = both.many(map, grouped, mode, False)
            tokens = logs = edits = 0
            largest = 0.0
            for remote_run, local_run in zip(there, here, strict=True):
                (ids, log, logits), (local_ids, local_log, local_logits) = remote_run, local_run
                tokens += torch.equal(ids, local_ids)
                logs += list(log) == list(local_log) and str(log) == str(local_log)
                edits += log.total
                scale = float(local_logits.abs().max())
                largest = max(largest, float((logits - local_logits).abs().max()) / scale)
            row = {
                "mode": mode,
                "batch": size,
                "prompts": len(both.prompts),
                "runs": len(grouped),
                "tokens equal": tokens,
                "logs equal": logs,
                "edits": edits,
                "logits differ, share of the largest": largest,
                "s there": spent,
                "s here": local_time,
                "bytes up": up,
                "bytes down": down,
            }
            if not tokens == logs == len(grouped) or largest > 1e-5:
                raise SystemExit(f"remote and local differ: {row}")
            rows.append(row)
    return rows


def sizes(both: Both, map: Any) -> list[dict[str, Any]]:
    """Bytes predicted and measured: in one request, planned first, and in a session of ten."""
    prompts = both.prompts[:1]
    payload = both.there.payload(map)
    rows = []

    def add(name: str, expected: Any, run: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result, up, down = both.bytes_of(run)
        rows.append(
            {
                "what": name,
                "tensors": expected.nbytes if expected else None,
                "up, predicted": expected.estimate if expected else None,
                "up": up,
                "down": down,
                "s": time.perf_counter() - start,
            }
        )
        return result

    whole = add("one request", payload, lambda: both.generate(map, prompts, True))
    plans = add("planned first: the plan", None, lambda: both.there.plan(map, prompts, remote=True))
    planned = add(
        "planned first: the run",
        both.there.payload(plans),
        lambda: both.generate(plans, prompts, True),
    )
    same = torch.equal(whole[0], planned[0]) and list(whole[1]) == list(planned[1])
    if not same:
        raise SystemExit("a planned run and a run in one request differ")
    ten = both.prompts[:10]
    ids = [prompt.prompt_ids.unsqueeze(0) for prompt in ten]
    model, dspa = both.there.model, both.there

    def session() -> None:
        with model.session(remote=True):
            logs = save([])
            for prompt, row in zip(ten, ids, strict=True):
                with model.generate(row, max_new_tokens=TOKENS, do_sample=False):
                    edits = dspa.apply(map, prompt=prompt)
                logs.append(edits)

    add(f"session of {len(ten)}", None, session)
    add(
        f"{len(ten)} requests",
        None,
        lambda: [both.generate(map, [prompt], True) for prompt in ten],
    )
    return rows


def fits(both: Both) -> tuple[Any, list[dict[str, Any]]]:
    """Compare both maps byte for byte; the bytes that a triple sends and receives."""
    (there, spent), up, down = both.bytes_of(lambda: both.fit(True))
    here, local_time = both.fit(False)
    digests = []
    for map in (there, here):
        with tempfile.TemporaryDirectory() as folder:
            map.save(folder)
            digests.append(digest(Path(folder)))
    if digests[0] != digests[1]:
        raise SystemExit("the map fitted remotely is not the local one, byte for byte")
    n, width = len(both.triples), both.here.facts.d_model * 4
    prompt = response = 0
    for triple in both.triples:
        ends = [both.here.render(triple.prompt, end) for end in (triple.chosen, triple.rejected)]
        prompt += ends[0].prompt_length
        response += sum(len(end.response_ids) for end in ends)
    row = {
        "triples": n,
        "maps": "byte-identical",
        "s there": spent,
        "s here": local_time,
        "up": up,
        "down": down,
        "up a triple": up // n,
        "down a triple": down // n,
        "hidden states a triple": (prompt + response) * width // n,
    }
    return here, [row]


def digest(folder: Path) -> str:
    """SHA-256 over the names and bytes of a folder's files."""
    sha = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        sha.update(path.name.encode() + path.read_bytes())
    return sha.hexdigest()


CHILD = """
import sys, torch
import benchmarks.ndif as benchmark, dspa_nn as dn
from dspa_nn.counts import remote as remote_counting
from dspa_nn.triples import read_demo_rows, take_demo_rows
torch.set_num_threads(1)
submit = remote_counting.RemoteRunner.submit
def watched(runner, number):
    print("chunk", number, flush=True)
    submit(runner, number)
remote_counting.RemoteRunner.submit = watched
dspa = dn.DSPA.from_preset(benchmark.PRESET, model=benchmark.remote())
rows = take_demo_rows(read_demo_rows("register"), "fit", benchmark.KILLED)
triples = [row.triple for row in rows]
counts = dspa.count(
    triples, remote=True, token_budget=benchmark.BUDGET, checkpoint=sys.argv[1], progress=False
)
counts.save(sys.argv[2])
print("finished", flush=True)
"""


def kills(times: int, seed: int = 0) -> list[dict[str, Any]]:
    """Kill the client of a remote count so many times, at random moments, and finish it."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        whole = run_child(folder / "whole", folder / "counts-whole", None)
        again, submitted, rounds = 0, 0, 0
        finished = False
        while not finished:
            stored = {int(path.name[6:]) for path in (folder / "run").glob("chunk-*")}
            # Seconds from the first submission on: few enough that every kill finds work left.
            after = draw.uniform(0.0, 1.5) if rounds < times else None
            run = run_child(folder / "run", folder / "counts", after)
            rounds += 1
            finished = run["finished"]
            submitted += len(run["chunks"])
            again += len(stored & set(run["chunks"]))
        equal = digest(folder / "counts") == digest(folder / "counts-whole")
    row = {
        "kills of the client": rounds - 1,
        "chunks": len(whole["chunks"]),
        "submissions": submitted,
        "stored chunks that ran again": again,
        "counts": "byte-identical" if equal else "DIFFERENT",
    }
    if again or not equal:
        raise SystemExit(f"an interrupted count went wrong: {row}")
    return [row]


def run_child(checkpoint: Path, out: Path, after: float | None) -> dict[str, Any]:
    """Count in another process; kill it `after` seconds from its first submission, if any."""
    child = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", CHILD, str(checkpoint), str(out)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    lines, start = [], time.perf_counter()
    first = None
    os.set_blocking(child.stdout.fileno(), False)
    while child.poll() is None:
        line = child.stdout.readline()
        if line:
            lines.append(line.strip())
            first = first or time.perf_counter()
        elif first is None and checkpoint.exists() and time.perf_counter() - start > 20:
            first = time.perf_counter()  # it only fetches what was already submitted
        if after is not None and first and time.perf_counter() - first >= after:
            child.send_signal(signal.SIGKILL)
            break
        time.sleep(0.02)
    child.wait()
    lines += [line.strip() for line in child.stdout.read().splitlines()]
    child.stdout.close()
    return {
        "seconds": time.perf_counter() - (first or start),
        "finished": "finished" in lines,
        "chunks": [int(line.split()[1]) for line in lines if line.startswith("chunk")],
    }


def answering() -> bool:
    """Whether the configured server answers."""
    try:
        with urllib.request.urlopen(f"{HOST}/ping", timeout=10) as answer:
            return json.load(answer) == "pong"
    except (OSError, ValueError):
        return False


def extend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kills", type=int, default=0, help="kill a remote count so often")
    parser.add_argument("--only-kills", action="store_true", help="nothing but that")


def main() -> None:
    asked = options(__doc__ or "", extend)
    if not answering():
        print(f"ndif: not run, since no NDIF server answers at {HOST}: see make ndif")
        return
    tables: dict[str, Any] = {}
    if not asked.only_kills:
        both = Both(4 if asked.quick else 20)
        map, tables["A fit"] = fits(both)
        tables["Generation, here and there"] = equality(both, map)
        tables["Bytes and seconds"] = sizes(both, map)
    if asked.kills:
        tables["Kills"] = kills(asked.kills)
    notes = [
        f"{TOKENS} new tokens, greedy, float32; the server runs on the same machine.",
        "Generation: each line is one session there, with one more forward for the logits.",
        "Bytes are compressed, as they travel; predicted: from a sample of each tensor.",
    ]
    write("ndif", "Runs on NDIF beside runs here", tables, notes, asked.out)


if __name__ == "__main__":
    main()
