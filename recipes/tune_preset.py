"""Choose a preset's settings by what steers best on the demo's development triples.

    python recipes/tune_preset.py --out work/tuning.json
    python recipes/tune_preset.py --pair work/v1/9 work/v1/24 --pair work/v2/9 work/v2/24

Maps are fitted on the demo's fitting triples, and every setting is scored on its development
triples; the test triples are never read. First the ways of counting and voting (percentile,
prompt_tokens, prompt_rule, k_prompt) are ranked by held-out accuracy, which costs no run of the
model. The best of each rule are then tried with every k_diff, mode and alpha, and scored by the
mean change of the margin per token. A setting that moves the model further than `--kl` nats per
token, or whose answers have a perplexity ratio above `--perplexity`, is left out: strong edits gain
margin at the expense of fluency.

The model runs up to the output layer once for each batch, and for each setting from there on.
"""

import argparse
import itertools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

import dspa_nn as dn
from dspa_nn.counts import ActivationCounts
from dspa_nn.evaluation import Margins, accuracy, answer, margins, surprise, warmth
from dspa_nn.graph.settings import DEFAULTS, FIT_SETTINGS, PLAN_SETTINGS
from dspa_nn.progress import show_progress
from dspa_nn.steering import DSPAMethod, SteeringOptions
from dspa_nn.triples import DemoRow, read_demo_rows, take_demo_rows

PRESET = "smollm2-135m-instruct"
PERCENTILES = (50, 75, 90, 95)
PROMPT_TOKENS = ("content", "all")
K_PROMPTS = (16, 32, 64)
K_DIFFS = (8, 16, 32)
MODES = ("ablate", "both")
ALPHAS = (0.2, 0.5, 1.0)
Setting = dict[str, Any]


def voting_settings() -> list[Setting]:
    """Every way of counting and voting; k_prompt matters to the density rule alone."""
    settings: list[Setting] = []
    unused = {"k_prompt": DEFAULTS["k_prompt"]}
    for percentile, tokens in itertools.product(PERCENTILES, PROMPT_TOKENS):
        counting = {"percentile": percentile, "prompt_tokens": tokens}
        settings += [counting | {"prompt_rule": "density", "k_prompt": k} for k in K_PROMPTS]
        settings += [counting | {"prompt_rule": rule} | unused for rule in ("gated", "centred")]
    return settings


class Maps:
    """Maps of the fitting triples, each fitted once."""

    def __init__(self, dspa: dn.DSPA, fitting: ActivationCounts) -> None:
        self.dspa, self.fitting = dspa, fitting
        self.known: dict[str, dn.ConditionalDifferenceMap] = {}

    def of(self, setting: Setting) -> dn.ConditionalDifferenceMap:
        """The map of a setting."""
        fit: Setting = {name: setting[name] for name in FIT_SETTINGS if name in setting}
        if text(fit) not in self.known:
            self.known[text(fit)] = self.fitting.fit(**fit)
        return self.known[text(fit)]

    def method(self, setting: Setting) -> DSPAMethod:
        """Steer by one setting."""
        options = {name: setting[name] for name in PLAN_SETTINGS}
        return DSPAMethod("", self.dspa, self.of(setting), cast(SteeringOptions, options))


def rank_votes(maps: Maps, development: ActivationCounts, keep: int) -> list[tuple[float, Setting]]:
    """Voting settings by held-out accuracy, the best `keep` of each prompt rule."""
    ranked: list[tuple[float, Setting]] = []
    for setting in voting_settings():
        rule = {k: setting[k] for k in ("prompt_rule", "k_prompt")}
        ranked.append((float(accuracy(maps.of(setting), development, **rule).mean()), setting))
    ranked.sort(key=lambda pair: -pair[0])
    kept: dict[str, int] = {}
    best = []
    for score, setting in ranked:
        rule = setting["prompt_rule"]
        kept[rule] = kept.get(rule, 0) + 1
        if kept[rule] <= keep:
            best.append((score, setting))
    return best


def figures(scored: Margins, setting: Setting, kinds: Sequence[str]) -> dict[str, Any]:
    """The figures of one setting on the development triples."""
    found = scored.effect()
    by_kind = {
        kind: scored.effect([entry == kind for entry in kinds]).to_dict()
        for kind in sorted(set(kinds))
    }
    parts = {"chosen": scored.chosen, "rejected": scored.rejected}
    return {
        "setting": setting,
        "change": found.margin.mean,
        "effect": found.to_dict(),
        "text": str(found),
        "by_kind": by_kind,
        "kl": float(scored.kl.mean()),
        "edits": {name: float(part.edits.mean()) for name, part in parts.items()},
        "share": {name: float(part.share.mean()) for name, part in parts.items()},
    }


def check_answers(
    dspa: dn.DSPA, maps: Maps, rows: Sequence[DemoRow], best: list[dict[str, Any]]
) -> None:
    """Add the perplexity ratio and the change of style of greedy answers, in place."""
    prompts = [dspa.render(row.triple.prompt) for row in rows]
    plain = answer(dspa, prompts)
    before = surprise(dspa, prompts, plain)
    style = np.array([row.sign * warmth(t) for row, t in zip(rows, plain.texts, strict=True)])
    for entry in best:
        said = answer(dspa, prompts, maps.method(entry["setting"]))
        after = surprise(dspa, prompts, said)
        entry["perplexity_ratio"] = float(np.exp(np.nanmean(after - before)))
        now = [row.sign * warmth(t) for row, t in zip(rows, said.texts, strict=True)]
        entry["style_change"] = float(np.mean(np.array(now) - style))


def tune(
    dspa: dn.DSPA, rows: Sequence[DemoRow], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Score the grid for one pair of SAEs; the best allowed setting comes first."""
    start = time.perf_counter()
    fitting_rows = take_demo_rows(rows, "fit", options.fit)
    development = take_demo_rows(rows, "dev", options.dev)
    fitting = dspa.count([row.triple for row in fitting_rows])
    held_out = dspa.count([row.triple for row in development])
    triples = [row.triple for row in development]
    kinds = [row.kind for row in development]
    print(f"counted in {time.perf_counter() - start:.0f} s", flush=True)
    maps = Maps(dspa, fitting)
    votes = rank_votes(maps, held_out, options.keep)
    for value, setting in votes:
        print(f"accuracy {value:.3f}  {text(setting)}")
    grid = [
        (value, vote | {"k_diff": k_diff, "mode": mode, "alpha": alpha})
        for (value, vote), k_diff, mode, alpha in itertools.product(
            votes, options.k_diff, options.mode, options.alpha
        )
    ]
    responses = 2 * len(triples) * (1 + len(grid))
    with show_progress("margins", responses, "responses") as advance:
        measured = margins(
            dspa, triples, [maps.method(setting) for _, setting in grid], advance=advance
        )
    scored = [
        figures(entry, setting, kinds) | {"accuracy": value}
        for entry, (value, setting) in zip(measured[1:], grid, strict=True)
    ]
    for entry in scored:
        print(line(entry))
    scored.sort(key=lambda entry: (entry["kl"] > options.kl, -entry["change"]))
    few = development[: options.answers]
    check_answers(dspa, maps, few, scored[: options.check])
    scored.sort(
        key=lambda entry: (
            entry["kl"] > options.kl,
            entry.get("perplexity_ratio", np.inf) > options.perplexity,
            -entry["change"],
        )
    )
    print(f"\n{len(scored)} settings in {time.perf_counter() - start:.0f} s; the best:")
    for entry in scored[: options.check]:
        print(line(entry))
    return scored


def text(setting: Setting) -> str:
    return " ".join(f"{name}={value}" for name, value in setting.items())


def line(entry: dict[str, Any]) -> str:
    kinds = " ".join(
        f"{kind} " + "/".join(f"{found[part]['mean']:+.3f}" for part in ("chosen", "rejected"))
        for kind, found in entry["by_kind"].items()
    )
    edits, moved = (
        "/".join(f"{entry[name][part]:{form}}" for part in ("chosen", "rejected"))
        for name, form in (("edits", ".2f"), ("share", ".1%"))
    )
    answers = ""
    if "perplexity_ratio" in entry:
        answers = f" perplexity {entry['perplexity_ratio']:.2f} style {entry['style_change']:+.3f}"
    return (
        f"{entry['text']}; by kind, chosen/rejected: {kinds}; kl {entry['kl']:.3f} "
        f"edits {edits} moved {moved}{answers}  "
        f"{text(entry['setting'])}"
    )


def pair_of(folders: Sequence[str] | None) -> dn.DSPA:
    """The preset with its SAEs, or with those of two folders and the layers that they name."""
    preset = dn.DSPA.from_preset(PRESET)
    if folders is None:
        return preset
    layers = [int(json.loads((Path(f) / "cfg.json").read_text())["metadata"]["hook_name"]
                  .split(".")[1]) for f in folders]  # fmt: skip
    return dn.DSPA(
        preset.model,
        input_sae=folders[0],
        output_sae=folders[1],
        input_layer=layers[0],
        output_layer=layers[1],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--pair", nargs=2, action="append", metavar=("IN", "OUT"))
    parser.add_argument("--out", type=Path, default=Path("work/tuning.json"))
    parser.add_argument("--fit", type=int, default=250, help="triples to fit on")
    parser.add_argument("--dev", type=int, default=None, help="development triples, all if left")
    parser.add_argument("--keep", type=int, default=2, help="voting settings kept of each rule")
    parser.add_argument("--k-diff", type=int, nargs="+", default=K_DIFFS)
    parser.add_argument("--mode", nargs="+", default=MODES)
    parser.add_argument("--alpha", type=float, nargs="+", default=ALPHAS)
    parser.add_argument("--kl", type=float, default=0.15, help="most nats per token")
    parser.add_argument("--perplexity", type=float, default=1.25, help="highest ratio")
    parser.add_argument("--check", type=int, default=8, help="settings whose answers are looked at")
    parser.add_argument("--answers", type=int, default=30, help="prompts to answer for that")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = []
    for folders in options.pair or [None]:
        dspa = pair_of(folders)
        print(dspa, flush=True)
        scored = tune(dspa, read_demo_rows("register"), options)
        results.append({"saes": folders, "dspa": dspa.provenance(), "settings": scored})
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1))
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
