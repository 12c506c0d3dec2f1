"""Does a latent's place in a map predict what ablating it alone does?

    python recipes/causal_check.py plans --work work/causal
    python recipes/causal_check.py news --work work/causal
    python recipes/causal_check.py ultrafeedback --source ultrafeedback.jsonl --work work/causal
    python recipes/causal_check.py tables --work work/causal

For the demo's sets a map is fitted with the demo's settings and checked on its test triples; for
UltraFeedback one is fitted on rows 0-399 with the settings of docs/appendix/real.md, and checked on
100 of rows 500-799. The 20 latents of the largest column sums are ablated one by one, for margins,
KL and the style of answers; then 100, for margins alone (--more). `tables` writes Markdown. What is
finished lies in --work. Minutes on a GPU (--device cuda), an hour or so a set on a CPU.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _real.data import Cut, read_splits

import dspa_nn as dn
from dspa_nn.audit import causal_check
from dspa_nn.demo import SETS as DEMO
from dspa_nn.evaluation import Interval
from dspa_nn.models import torch_module
from dspa_nn.steering import DSPAMethod
from dspa_nn.triples import PreferenceTriple

PRESET = "smollm2-135m-instruct"
SETS = ("plans", "news", "ultrafeedback")
TOKENS = {"plans": 32, "news": 32, "ultrafeedback": 48}


def of_demo(dspa: dn.DSPA, name: str) -> tuple[DSPAMethod, list[PreferenceTriple]]:
    """The demo's tuned map, and its test triples."""
    shown = DEMO[name]
    rows = {split: [] for split in ("fit", "dev", "test")}
    for row in shown.read():
        rows[row.split].append(row.triple)
    map = dspa.count(rows["fit"]).fit(**shown.fit)
    return DSPAMethod("map, tuned", dspa, map, shown.steering), rows["test"]


def of_ultrafeedback(dspa: dn.DSPA, source: Path) -> tuple[DSPAMethod, list[PreferenceTriple]]:
    """A map of 400 rows with the settings that development rows chose, and 100 test triples."""
    splits = read_splits("ultrafeedback", source, dspa, Cut())
    map = dspa.count(list(splits["fit"].values())).fit(percentile=50)
    method = DSPAMethod(
        "ultrafeedback", dspa, map,
        {"prompt_rule": "density", "mode": "both", "k_diff": 16, "alpha": 0.2},
    )  # fmt: skip
    return method, list(splits["test"].values())


def check(options: argparse.Namespace) -> None:
    """Ablate the top latents of one map, one by one."""
    name: str = options.command
    dspa = dn.DSPA.from_preset(PRESET)
    torch_module(dspa.model).to(options.device)
    if name == "ultrafeedback":
        method, triples = of_ultrafeedback(dspa, options.source)
    else:
        method, triples = of_demo(dspa, name)
    for latents, answers in ((options.latents, None), (options.more, 0)):
        if not latents:
            continue
        found = causal_check(
            dspa, method.map, triples, latents=latents, answers=answers,
            max_new_tokens=TOKENS[name], batch_size=options.batch,
            token_budget=options.token_budget, folder=options.work / name, options=method.options,
        )  # fmt: skip
        path = options.work / f"{name}-{latents}.json"
        path.write_text(json.dumps(found.to_dict()), encoding="utf-8")
        print(found)


def tables(options: argparse.Namespace) -> None:
    """Write the tables of whatever was checked."""
    text: list[str] = []
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(options.work.glob("*-*.json")):
        name = path.stem
        found[name] = json.loads(path.read_text(encoding="utf-8"))
        if found[name]["answers"]:
            text += [f"### {name}", "", *latent_table(found[name]["effects"]), ""]
    text = [*correlation_table(found), "", *text]
    (options.work / "tables.md").write_text("\n".join(text), encoding="utf-8")
    print("\n".join(text))


def correlation_table(found: dict[str, dict[str, Any]]) -> list[str]:
    """A row for each check: Spearman's rho of each pair."""
    names = list(dict.fromkeys(name for one in found.values() for name in one["correlations"]))
    lines = ["| map, latents | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for check, one in found.items():
        cells = [told(one["correlations"].get(name), 2) for name in names]
        lines.append(f"| {check.replace('-', ', ')} | " + " | ".join(cells) + " |")
    return lines


def latent_table(effects: Sequence[dict[str, Any]]) -> list[str]:
    """A row for each latent, the one of the largest column sum first."""
    lines = [
        "| latent | column sum | prompts that plan it | tokens | margin | chosen | rejected | KL | "
        "style, in standard deviations |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in effects:
        margin = one["margin"]
        clear = {
            axis: moved["mean"]
            for axis, moved in one["axes"].items()
            if moved["low"] > 0 or moved["high"] < 0
        }
        style = ", ".join(f"{axis} {mean:+.2f}" for axis, mean in clear.items())
        cells = [
            str(one["latent"]), f"{one['column_sum']:+.2f}", str(one["planned"]),
            f"{one['edits']:.1%}".replace("%", " %"),
            *(told(margin[part], 3) for part in ("margin", "chosen", "rejected")),
            f"{one['kl']['mean']:.3f}", style or "none detectably",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def told(one: dict[str, Any] | None, digits: int) -> str:
    """A mean with its interval."""
    if one is None or one["mean"] is None:
        return "-"
    found = Interval(**one)
    shown = [f"{value:+.{digits}f}" for value in (found.mean, found.low, found.high)]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("command", choices=(*SETS, "tables"))
    parser.add_argument("--source", type=Path, help="UltraFeedback as JSON Lines")
    parser.add_argument("--work", type=Path, required=True, help="folder for whatever is finished")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--latents", type=int, default=20, help="for margins and answers")
    parser.add_argument("--more", type=int, default=100, help="for margins alone; 0, none")
    parser.add_argument("--batch", type=int, default=25, help="answers at once")
    parser.add_argument("--token-budget", type=int, default=1536, help="tokens to a pass")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.command == "tables":
        tables(options)
        return
    if options.command == "ultrafeedback" and options.source is None:
        parser.error("ultrafeedback takes --source")
    check(options)


if __name__ == "__main__":
    main()
