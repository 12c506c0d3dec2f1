"""Does the condition matter? Which prompt, which latents, which tokens, each taken away in turn.

    python recipes/open_questions.py count ../shared/data --work work/theory
    python recipes/condition.py measure ../shared/data --work work/theory --device cuda
    python recipes/condition.py tables --work work/theory

DSPA conditions three times: the prompt picks rows of the map, these pick output latents, and a
latent is edited only on the tokens on which it is active. For five preferences the steered margin
is measured with each taken away: a map or one global difference; the prompt rule or all rows;
active tokens or all tokens (the latents' directions taken off everywhere). A map whose rows are
dealt out at random is the control that still picks by prompt, but by the wrong one. All are brought
to the strength of the whole on development triples.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from _theory.condition_tables import tables
from _theory.packed import SETS, read_source, unpack
from _theory.steered import EveryToken, measured, on_device
from jaxtyping import Float64
from torch import Tensor

import dspa_nn as dn
from dspa_nn.counts import ActivationCounts
from dspa_nn.evaluation import SameForAll, calibrate, encode, mean_difference, permuted
from dspa_nn.graph.select import select
from dspa_nn.steering import DSPAMethod, SteeringMethod
from dspa_nn.triples import PreferenceTriple

PRESET = "smollm2-135m-instruct"
# The paper's rule, and the preset's, each with the percentile that it is used with.
RULES: dict[str, float] = {"density": 90, "gated": 50, "centred": 50}
EDIT: Any = {"alpha": 1.0, "k_diff": 16, "mode": "ablate"}


@dn.extension("score", name="independent")
class Independent:
    """One global difference, times what the prompt's rule would vote for if it told nothing of it.

    A map in which gates and differences were independent has entries P(g_i) E[drho_j]: its scores
    are one difference times a number of the prompt's. Where that number is above 0 (always, but for
    the rule "centred") the plan is that of one global difference.
    """

    def __init__(
        self, difference: Float64[Tensor, " d_out"], gate_mean: Float64[Tensor, " d_in"]
    ) -> None:
        self.difference, self.gate_mean = difference, gate_mean

    def __call__(self, weights: Float64[Tensor, "batch d_in"]) -> Float64[Tensor, "batch d_out"]:
        """Score by the difference with the prompt's own sign."""
        return (weights @ self.gate_mean).unsqueeze(-1) * self.difference


def active_methods(dspa: Any, fitting: ActivationCounts, rule: str) -> dict[str, DSPAMethod]:
    """The cells in which active tokens alone are edited, before they are matched."""
    map = fitting.fit(percentile=RULES[rule], sparsify="none", prompt_tokens="content")
    mean = torch.as_tensor(mean_difference(fitting))
    options: Any = {**EDIT, "prompt_rule": rule}
    whole = DSPAMethod("map, rule", dspa, map, options)
    found = {
        "map, rule": whole,
        "map, all rows": replace(
            whole, options={**whole.options, "select": SameForAll(map.column_sums())}
        ),
        "global, all rows": replace(whole, options={**whole.options, "select": SameForAll(mean)}),
        "rows permuted, rule": replace(whole, map=permuted(map, seed=0)),
    }
    if rule == "centred" and map.gate_mean is not None:
        score = Independent(mean, map.gate_mean)
        found["global, rule"] = replace(whole, options={**whole.options, "score": score})
    return found


def planned(
    method: DSPAMethod, counts: ActivationCounts, rows: Sequence[int]
) -> dict[int, list[int]]:
    """Row -> the latents that a method ablates for its prompt, from counts alone."""
    some = counts.subset(list(rows))
    table, lengths = some.prompt("content")
    known = torch.as_tensor(table.toarray()), torch.as_tensor(lengths)
    rule: Any = {"prompt_rule": method.options.get("prompt_rule")}
    options: Any = {**EDIT, **method.options}
    scores = method.map.score(*known, **rule)
    if "score" in options:
        scores = options["score"](method.map.weights(*known, **rule))
    choose = options.get("select", select)
    _, ablate = choose(scores, options["k_diff"], "ablate", None)
    plans = [[int(latent) for latent in row if latent >= 0] for row in ablate]
    return dict(zip(some.index.tolist(), plans, strict=True))


def cells(
    dspa: Any,
    splits: Mapping[str, ActivationCounts],
    rule: str,
    development: Mapping[int, PreferenceTriple],
    test: Mapping[int, PreferenceTriple],
    codes: Any,
    path: Path,
) -> list[SteeringMethod]:
    """Every cell of one rule, at the strength of the whole on development triples."""
    fitting = splits["fit"]
    raw = active_methods(dspa, fitting, rule)
    whole = raw["map, rule"]
    alpha = codes.settings(whole)["alpha"]
    edits, share = codes.strength(*codes.planned(whole), alpha=alpha)
    norm = share / codes.share_of(1.0)
    reached: dict[str, Any] = {"map, rule": {"edits": edits, "share": share, "norm": norm}}
    methods: list[SteeringMethod] = []
    for name, method in raw.items():
        matched = method
        if name != "map, rule":
            matched, match = calibrate(codes, method, whole)
            reached[name] = match.to_dict()
        methods.append(replace(matched, name=f"{rule}|{name}|active tokens"))
        # The same latents as where active tokens are edited at the whole's own k_diff.
        plans = planned(method, splits["test"], list(test))
        by_prompt = {
            tuple(dspa.render(triple.prompt).prompt_ids.tolist()): plans[row]
            for row, triple in test.items()
        }
        methods.append(EveryToken(f"{rule}|{name}|every token", dspa, by_prompt, norm))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"rows": list(development), "reached": reached}, indent=1))
    return methods


def encoded(dspa: Any, triples: Sequence[PreferenceTriple]) -> Any:
    """The output latents of development triples."""
    return encode(dspa, triples)


def measure(options: argparse.Namespace) -> None:
    """Match on development triples, score test triples."""
    dspa = on_device(PRESET, options.device)
    for name in options.sets:
        splits = unpack(options.work / f"{name}.npz")
        source = read_source(name, options.data)
        development = source.of("dev", options.match)
        test = source.of("test", options.triples)
        counted = set(splits["test"].index.tolist())
        test = {row: triple for row, triple in test.items() if row in counted}
        codes = encoded(dspa, list(development.values()))
        for rule in options.rules:
            path = options.work / "condition" / f"{name}-{rule}-matched.json"
            methods = cells(dspa, splits, rule, development, test, codes, path)
            lines = options.work / "condition" / f"{name}.jsonl"
            measured(dspa, test, methods, lines, options.device)


def write_tables(options: argparse.Namespace) -> None:
    """Write what came out as Markdown, and the figures as JSON."""
    text, figures = tables(options.work / "condition", options.sets)
    (options.work / "condition.md").write_text(text)
    (options.work / "condition.json").write_text(json.dumps(figures, indent=1))
    print(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    commands = parser.add_subparsers(dest="command", required=True)
    one, two = commands.add_parser("measure"), commands.add_parser("tables")
    one.add_argument("data", type=Path, help="the folder of the data sets")
    one.add_argument("--device", default="cpu")
    one.add_argument("--triples", type=int, default=150, help="test triples, at most")
    one.add_argument("--match", type=int, default=24, help="development triples to match on")
    one.add_argument("--rules", nargs="*", default=list(RULES), choices=tuple(RULES))
    for command in (one, two):
        command.add_argument("--work", type=Path, default=Path("work/theory"))
        command.add_argument("--sets", nargs="*", default=list(SETS))
    options = parser.parse_args()
    {"measure": measure, "tables": write_tables}[options.command](options)


if __name__ == "__main__":
    main()
