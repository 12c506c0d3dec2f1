"""Does s(x) . drho rank chosen above rejected? Held-out accuracy of maps on UltraFeedback.

    python recipes/ultrafeedback_accuracy.py count ../shared/data/ultrafeedback/triples.jsonl \
        --work work/ultrafeedback                                     # the model runs only here
    python recipes/ultrafeedback_accuracy.py grid --work work/ultrafeedback --out work/accuracy

Maps are fitted on N triples drawn from rows 0-399 and judged on rows 500-799, for every percentile,
gate, prompt rule and way of counting prompt tokens, with the full scores and with those of the
latents that would be steered (k_diff 16; ablation alone, or ablation and augmentation); the
sparsifications at two percentiles. The baselines are one global difference that ignores the prompt
and "longer wins". The demo's triples are judged in the same way. Everything after the counts is
arithmetic (`_accuracy/dense.py`).
"""

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _accuracy.dense import Fitted, combined, fit_dense

import dspa_nn as dn
from dspa_nn.counts import ActivationCounts
from dspa_nn.evaluation import (
    alike_in_length,
    bootstrap,
    longer_wins,
    mean_difference,
    ranked,
    selected,
)
from dspa_nn.graph.settings import DEFAULTS
from dspa_nn.maps import Gate, PromptTokens
from dspa_nn.triples import Skipped, read_demo_rows, read_row, ultrafeedback_rows

PRESET = "smollm2-135m-instruct"
PERCENTILES = (50, 75, 90, 95, 99)
GATES: tuple[Gate, ...] = ("active", "literal")
RULES = ("density", "gated", "centred")
PROMPT_TOKENS: tuple[PromptTokens, ...] = ("content", "all")
SPARSE_PERCENTILES = (50, 90)
K_DIFF: int = DEFAULTS["k_diff"]
SCOPES = ("full", "ablate", "both")
Values = dict[str, list[np.ndarray]]


def numbered(path: Path, longest: int, tokens: Callable[[str], int]) -> dict[int, Any]:
    """Triples by their row in the file; those with a longer response than `longest` left out."""
    triples = {}
    for row, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        try:
            triple = read_row(json.loads(line), True)
        except Skipped:
            continue
        if max(tokens(triple.chosen), tokens(triple.rejected)) <= longest:
            triples[row] = triple
    return triples


def count(options: argparse.Namespace) -> None:
    """Run the model once over all rows of UltraFeedback and over the demo's triples."""
    dspa = dn.DSPA.from_preset(PRESET)
    print(dspa)

    def tokens(text: str) -> int:
        return len(dspa.facts.tokenizer(text, add_special_tokens=False).input_ids)

    triple_of = numbered(options.source, options.longest, tokens)
    split_of = {row: split for split in ("fit", "dev", "test") for row in ultrafeedback_rows(split)}
    rows = [row for row in split_of if row in triple_of]
    demo = read_demo_rows("register")
    tables = {
        "demo": ([row.triple for row in demo], [row.split for row in demo]),
        "ultrafeedback": (
            [triple_of[row] for row in rows],
            [split_of[row] for row in rows],
        ),
    }
    for name, (triples, splits) in tables.items():
        start = time.perf_counter()
        folder = options.work / name
        counts = dspa.count(triples, checkpoint=folder / "chunks", overlong="skip")
        counts.save(folder)
        (folder / "splits.json").write_text(json.dumps(splits))
        print(counts)
        print(f"{name}: counted in {time.perf_counter() - start:.0f} s", flush=True)
    print(
        f"{len(split_of) - len(rows)} of {len(split_of)} rows left out: no pair, or a response of "
        f"over {options.longest} tokens"
    )


def load(folder: Path) -> tuple[ActivationCounts, ActivationCounts]:
    """The fitting and the test triples of a counted table."""
    counts = ActivationCounts.load(folder)
    splits = np.array(json.loads((folder / "splits.json").read_text()))[counts.index]
    return counts.subset(counts.index[splits == "fit"]), counts.subset(
        counts.index[splits == "test"]
    )


def judge(scores: np.ndarray, test: ActivationCounts) -> Iterator[tuple[str, np.ndarray]]:
    """Which test triples are ranked rightly by all scores, then by those of steered latents."""
    for scope in SCOPES:
        restricted = scores if scope == "full" else selected(scores, K_DIFF, scope)
        yield scope, ranked(restricted, test)


def settings() -> Iterator[tuple[str, PromptTokens, float, Gate]]:
    """Every (sparsification, prompt tokens, percentile, gate)."""
    for tokens, percentile, gate in itertools.product(PROMPT_TOKENS, PERCENTILES, GATES):
        yield "none", tokens, percentile, gate
        if percentile in SPARSE_PERCENTILES and gate == "active":
            yield "paper", tokens, percentile, gate
            yield "rows", tokens, percentile, gate


def resample(
    fitting: ActivationCounts, test: ActivationCounts, size: int, seed: int, into: Values
) -> None:
    """Fit every map on `size` random triples; append which test triples each ranks rightly."""
    drawn = np.random.default_rng(seed).choice(fitting.index, size, replace=False)
    sample = fitting.subset(drawn)
    same = np.broadcast_to(mean_difference(sample), (len(test), test.d_out)).copy()
    for scope, values in judge(same, test):
        into.setdefault(f"global|{scope}", []).append(values)
    known: dict[Any, Fitted] = {}
    for sparsify, tokens, percentile, gate in settings():
        key = (tokens, percentile, gate)
        if key not in known:
            known = {key: fit_dense(sample, percentile, gate, tokens)}
        for rule in RULES:
            scores = combined(known[key], test, rule, sparsify, K_DIFF)
            for scope, values in judge(scores, test):
                name = f"{sparsify}|{tokens}|{percentile}|{gate}|{rule}|{scope}"
                into.setdefault(name, []).append(values)


def summary(values: Values, test: ActivationCounts) -> dict[str, dict[str, Any]]:
    """Accuracy with its interval over test triples, and its spread over resamplings."""
    alike = alike_in_length(test)
    values = {"longer wins": [longer_wins(test)], **values}
    accuracies = {}
    for name, draws in values.items():
        table = np.stack(draws)
        accuracies[name] = {
            "all": bootstrap(table.mean(0)).to_dict(),
            "alike": bootstrap(table.mean(0)[alike]).to_dict(),
            "sd": float(table.mean(1).std(ddof=1)) if len(table) > 1 else 0.0,
        }
    return accuracies


def markdown(title: str, accuracies: dict[str, dict[str, Any]]) -> str:
    """Tables of accuracies: baselines, then one row per setting and one column per scope."""
    lines = [f"## {title}", "", "| baseline | all pairs | of like length | sd over draws |"]
    lines.append("|---|---|---|---|")
    for name, result in accuracies.items():
        if name.count("|") < 2:
            words = name.replace("|", ", ")
            lines.append(
                f"| {words} | {cell(result['all'])} | {cell(result['alike'])} "
                f"| {result['sd']:.3f} |"
            )
    lines += ["", "| sparsify | prompt tokens | p | gate | rule | full | full, like length | sd "]
    lines[-1] += "| steered: ablate | steered: both |"
    lines.append("|---|---|---|---|---|---|---|---|---|---|")
    for name, result in accuracies.items():
        if name.count("|") == 5 and name.endswith("|full"):
            start = name.removesuffix("full")
            scopes = [cell(accuracies[start + scope]["all"]) for scope in SCOPES[1:]]
            cells = [*name.split("|")[:5], cell(result["all"]), cell(result["alike"])]
            lines.append("| " + " | ".join([*cells, f"{result['sd']:.3f}", *scopes]) + " |")
    return "\n".join(lines) + "\n"


def cell(interval: dict[str, Any]) -> str:
    """A mean and its 95 % interval, or a dash where there is none."""
    if interval["mean"] is None:
        return "-"
    return f"{interval['mean']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"


def grid(options: argparse.Namespace) -> None:
    """Fit, rank, and write tables and figures."""
    everything, pages = {}, []
    for name in ("ultrafeedback", "demo"):
        if not (options.work / name / "counts.json").exists():
            continue
        fitting, test = load(options.work / name)
        size = min(options.size, int(0.8 * len(fitting)))
        values: Values = {}
        start = time.perf_counter()
        for seed in range(options.draws):
            resample(fitting, test, size, seed, values)
            print(f"{name}: draw {seed} after {time.perf_counter() - start:.0f} s", flush=True)
        accuracies = summary(values, test)
        everything[name] = {
            "fit": size, "of": len(fitting), "test": len(test), "draws": options.draws,
            "alike": int(alike_in_length(test).sum()), "accuracy": accuracies,
        }  # fmt: skip
        title = f"{name}: N = {size} of {len(fitting)}, {len(test)} held-out triples"
        pages.append(markdown(title, accuracies))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".json").write_text(json.dumps(everything, indent=1))
    options.out.with_suffix(".md").write_text("\n".join(pages))
    print("\n".join(pages))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("count")
    one.add_argument("source", type=Path, help="UltraFeedback as JSON Lines, all rows in order")
    one.add_argument("--work", type=Path, default=Path("work/ultrafeedback"))
    one.add_argument("--longest", type=int, default=4096, help="tokens of a response, at most")
    two = commands.add_parser("grid")
    two.add_argument("--work", type=Path, default=Path("work/ultrafeedback"))
    two.add_argument("--out", type=Path, default=Path("work/accuracy"))
    two.add_argument("--size", type=int, default=250, help="triples to a map")
    two.add_argument("--draws", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    {"count": count, "grid": grid}[options.command](options)


if __name__ == "__main__":
    main()
