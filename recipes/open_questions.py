"""The paper's open questions, by held-out ranking and by steered margin, on the embedded model.

    python recipes/open_questions.py count ../shared/data --work work/theory
    python recipes/open_questions.py rank --work work/theory
    python recipes/open_questions.py steer ../shared/data --work work/theory
    python recipes/open_questions.py describe --work work/theory
    python recipes/open_questions.py tables --work work/theory

The paper proposes de-mixing and whitening and tests neither, and leaves gate, percentile and the
weight of a response open. `rank` fits every selection on draws of N triples of the fitting rows and
ranks all other fitting rows and the development rows, on which choices are made, and the test rows,
on which nothing is chosen. `steer` scores test rows under some of them; with --apart every draw
has test rows of its own, which tells more than the same rows again. Rows are those of
`dspa_nn.triples`. Whatever is finished lies in --work, and a command goes on from there.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from _real.data import first_tokens
from _theory.described import described
from _theory.packed import FILES, SETS, pack, read_source, unpack
from _theory.questions import Judged, tables
from _theory.ranking import K_PROMPT, PAPER, PERCENTILE, Held, selections
from _theory.steered import measured, on_device

from dspa_nn.counts import ActivationCounts
from dspa_nn.evaluation import SameForAll, longer_wins, mean_difference
from dspa_nn.steering import DSPAMethod, SteeringMethod
from dspa_nn.theory import Demixer, sample_of, shrunk_whitening
from dspa_nn.triples import PreferenceTriple

PRESET = "smollm2-135m-instruct"
# Paper's edit, at a strength at which something can be seen.
STEERING: Any = {"alpha": 1.0, "k_diff": 16, "mode": "ablate", "prompt_rule": "density",
                 "k_prompt": K_PROMPT}  # fmt: skip


def count(options: argparse.Namespace) -> None:
    """Count every usable row of every set, once."""
    dspa = on_device(PRESET, options.device)
    print(dspa, flush=True)
    options.work.mkdir(parents=True, exist_ok=True)
    for name in SETS:
        path = options.work / f"{name}.npz"
        if path.exists():
            continue
        begun = time.perf_counter()
        source = read_source(name, options.data, options.most)
        budget = 4096 if options.device == "cpu" else 32768
        counts = dspa.count(source.triples, token_budget=budget, overlong="skip", progress=False)
        pack(counts, source.rows, source.splits, path)
        print(repr(counts))
        print(f"{name}: {time.perf_counter() - begun:.0f} s, {path.stat().st_size} bytes",
              flush=True)  # fmt: skip


def rank(options: argparse.Namespace) -> None:
    """Judge every selection on every row that was not fitted on, for each draw."""
    for name in options.sets:
        splits = unpack(options.work / f"{name}.npz")
        fitting, others = splits["fit"], splits["dev"].merge(splits["test"])
        everything = fitting.merge(others)
        held = Held.of(everything)
        for size, draws in zip(options.sizes, options.draws, strict=True):
            if size >= len(fitting):
                continue
            for draw in range(options.part[0], draws, options.part[1]):
                path = options.work / f"rank-{name}" / f"{size}-{draw:02d}.npz"
                if path.exists():
                    continue
                begun = time.perf_counter()
                drawn = np.sort(
                    np.random.default_rng(draw).choice(fitting.index, size, replace=False)
                )
                some = fitting.subset(drawn)
                found = dict(selections(some, held, draw < options.confidence, options.over))
                path.parent.mkdir(parents=True, exist_ok=True)
                arrays: Any = {key: (2 * value).astype(np.int8) if len(value) > 1 else value
                          for key, value in found.items()}  # fmt: skip
                part = path.with_suffix(".part.npz")
                np.savez_compressed(part, **arrays, rows=everything.index, drawn=drawn)
                part.replace(path)
                print(f"{name}, N = {size}, draw {draw}: {time.perf_counter() - begun:.0f} s",
                      flush=True)  # fmt: skip


def steered_methods(
    dspa: Any, fitting: ActivationCounts, draw: int, only: Sequence[str] = ()
) -> list[SteeringMethod]:
    """The selections that are steered by, from one draw of fitting triples; `only`: some of them.

    Each is made when its turn comes, since a whitening and a de-mixer take a while.
    """
    whole = fitting.fit(percentile=PERCENTILE, sparsify="none", prompt_tokens="content")
    sample = sample_of(fitting, percentile=PERCENTILE, prompt_tokens="content")
    mean = torch.as_tensor(mean_difference(fitting))

    def whitening(by: Any) -> Any:
        return shrunk_whitening(sample.drho, by)

    rules: dict[str, Callable[[], Any]] = {
        PAPER: dict,
        "prompt rule: gated": lambda: {"prompt_rule": "gated"},
        "global: one difference": lambda: {"select": SameForAll(mean)},
        "whitened: ledoit-wolf": lambda: {"score": whitening("ledoit-wolf")},
        "whitened: 0.9": lambda: {"score": whitening(0.9)},
        "global, whitened: 0.9": lambda: {"select": SameForAll(whitening(0.9)(mean))},
        "global, whitened: 0.97": lambda: {"select": SameForAll(whitening(0.97)(mean))},
        "de-mixed: density, ridge 3.0": lambda: {
            "score": Demixer(sample, over="density", ridge=3.0)
        },
        "de-mixed: gated, ridge 3.0": lambda: {"score": Demixer(sample, ridge=3.0)},
    }
    return [
        DSPAMethod(f"{name}|{draw}", dspa, whole, cast(Any, {**STEERING, **make()}))
        for name, make in rules.items()
        if not only or name in only
    ]


def steer(options: argparse.Namespace) -> None:
    """Score test rows, steered by some selections, for some draws of fitting triples."""
    dspa = on_device(PRESET, options.device)
    for name in options.sets:
        fitting = unpack(options.work / f"{name}.npz")["fit"]
        test = list(read_source(name, options.data).of("test").items())
        if options.cut:
            test = [(row, cut(dspa, triple, options.cut)) for row, triple in test]
        path = options.work / f"steer-{name}{'-apart' if options.apart else ''}.jsonl"
        for draw in range(options.resamplings):
            size = min(options.size, len(fitting))
            drawn = np.random.default_rng(draw).choice(fitting.index, size, replace=False)
            methods = steered_methods(dspa, fitting.subset(drawn), draw, options.only)
            start = draw * options.triples if options.apart else 0
            triples = dict(test[start : start + options.triples])
            measured(dspa, triples, methods, path, options.device)


def cut(dspa: Any, triple: PreferenceTriple, most: int) -> PreferenceTriple:
    """A triple whose responses end after so many tokens."""
    chosen, rejected = (
        first_tokens(dspa.facts.tokenizer, text, most) for text in (triple.chosen, triple.rejected)
    )
    return PreferenceTriple(triple.prompt, chosen, rejected)


def describe(options: argparse.Namespace) -> None:
    """What the bounds say of the fitting rows, and how M is conditioned."""
    names = [name for name in SETS if (options.work / f"{name}.npz").exists()]
    text = described({name: unpack(options.work / f"{name}.npz")["fit"] for name in names})
    (options.work / "described.md").write_text(text)
    print(text)


def write_tables(options: argparse.Namespace) -> None:
    """Write what came out as Markdown, and the figures as JSON."""
    judged = []
    for name in FILES:
        splits = unpack(options.work / f"{name}.npz")
        judged.append(
            Judged(
                name,
                options.work / f"rank-{name}",
                {split: counts.index for split, counts in splits.items()},
                {split: longer_wins(counts) for split, counts in splits.items()},
                {
                    split: np.log(counts.chosen_length / counts.rejected_length)
                    for split, counts in splits.items()
                },
            )
        )
    steered = {
        f"{name}{apart}": [json.loads(line) for line in path.read_text().splitlines()]
        for name in FILES
        for apart in ("", "-apart")
        if (path := options.work / f"steer-{name}{apart}.jsonl").exists()
    }
    text, figures = tables(judged, steered)
    (options.work / "tables.md").write_text(text)
    (options.work / "tables.json").write_text(json.dumps(figures, indent=1))
    print(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("count")
    two = commands.add_parser("rank")
    three = commands.add_parser("steer")
    four = commands.add_parser("tables")
    for command in (one, three):
        command.add_argument("data", type=Path, help="the folder of the data sets")
        command.add_argument("--device", default="cpu")
    five = commands.add_parser("describe")
    for command in (one, two, three, four, five):
        command.add_argument("--work", type=Path, default=Path("work/theory"))
    one.add_argument("--most", type=int, help="rows of each set, for a trial")
    two.add_argument("--sets", nargs="*", default=list(FILES))
    two.add_argument("--sizes", type=int, nargs="*", default=[250, 1000])
    two.add_argument("--draws", type=int, nargs="*", default=[20, 10])
    two.add_argument("--confidence", type=int, default=3, help="draws in which entries are tested")
    two.add_argument("--over", nargs="*", default=["density", "gated"], help="sets to de-mix on")
    two.add_argument("--part", type=int, nargs=2, default=[0, 1], help="every n-th draw, from i on")
    three.add_argument("--size", type=int, default=250, help="triples to a map")
    three.add_argument("--resamplings", type=int, default=5)
    three.add_argument("--triples", type=int, default=40, help="test rows of a draw, at most")
    three.add_argument("--cut", type=int, help="tokens of a response, at most")
    three.add_argument("--apart", action="store_true", help="test rows of its own for each draw")
    three.add_argument("--sets", nargs="*", default=list(FILES))
    three.add_argument("--only", nargs="*", default=(), help="some selections, by name")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    run = {"count": count, "rank": rank, "steer": steer, "describe": describe}
    run.get(options.command, write_tables)(options)


if __name__ == "__main__":
    main()
