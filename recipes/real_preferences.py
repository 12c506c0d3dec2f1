"""Does a map steer towards real preferences, and is it better than what ignores the prompt?

    python recipes/real_preferences.py count hh-rlhf FILE --work work/hh-rlhf
    python recipes/real_preferences.py tune hh-rlhf FILE --work work/hh-rlhf
    python recipes/real_preferences.py measure hh-rlhf FILE --work work/hh-rlhf
    python recipes/real_preferences.py answers hh-rlhf FILE --work work/hh-rlhf
    python recipes/real_preferences.py tables hh-rlhf FILE --work work/hh-rlhf

FILE is UltraFeedback or HH-RLHF's harmless test file as JSON Lines, all rows in order; which rows
are used for what is in `dspa_nn.triples` and `_real/data.py`. `count` runs the model over the
fitting and development rows. `tune` ranks the ways to vote by held-out ranking of the counts, and
the ways to steer by the steered margin of development rows, within a limit on KL. `measure` takes
maps of several sizes and four controls, matched in strength on development rows, and scores test
rows. `answers` lets them answer test prompts. `tables` writes `tables.md` and `results.json`.

Whatever is finished lies in --work, and a command that was cut off goes on from there. Texts of
the data sets lie there too, in answers.json: keep the folder out of the repository.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _real.compare import MAP, answered, at_strength, strengths
from _real.data import ROWS, Cut, read_splits
from _real.runs import kept, measure
from _real.tables import answer_table, grid_table, margin_table, paired_table
from _real.tuning import Setting, averages, best_of, grid, ranked_votes

import dspa_nn as dn
from dspa_nn.counts import ActivationCounts
from dspa_nn.evaluation import accuracy, bootstrap, encode, global_accuracy, longer_wins
from dspa_nn.graph.settings import DEFAULTS, PLAN_SETTINGS
from dspa_nn.steering import DSPAMethod
from dspa_nn.triples import SPLITS, PreferenceTriple

PRESET = "smollm2-135m-instruct"


class Experiment:
    """One data set in one folder: its rows, its counts, its chosen setting."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.work: Path = options.work
        self.dspa = dn.DSPA.from_preset(PRESET)
        self.cut = Cut(options.prompt, options.response, tuple(options.rows))
        self.splits = read_splits(options.data, options.source, self.dspa, self.cut)

    def triples(self, split: str, most: int | None = None) -> list[PreferenceTriple]:
        """The triples of a split, or the first of them."""
        return list(self.splits[split].values())[:most]

    def counts(self, split: str, most: int | None = None) -> ActivationCounts:
        """The counts of a split, or of its first triples."""
        found = ActivationCounts.load(self.work / split)
        return found if most is None else found.subset(found.index[:most])

    @property
    def setting(self) -> Setting:
        """What `tune` chose."""
        return Setting(**json.loads((self.work / "tuning.json").read_text())["value"]["best"])

    def methods(self) -> tuple[list[DSPAMethod], dict[str, Any]]:
        """Maps of every size, with controls of their strength, and how well these match."""
        options, setting = self.options, self.setting
        methods: list[DSPAMethod] = []
        reached: dict[str, Any] = {}
        for size in options.sizes:
            fitting = self.counts("fit", size)
            tuned = setting.method(f"{MAP}, N = {len(fitting)}", self.dspa, fitting)
            print(tuned.map, flush=True)
            methods.append(tuned)
            if size not in options.controls:
                continue

            def match(tuned: DSPAMethod = tuned, fitting: ActivationCounts = fitting) -> Any:
                codes = encode(self.dspa, self.triples("dev", options.match))
                return strengths(codes, tuned, fitting)

            key = [asdict(setting), asdict(self.cut), options.match]
            found = kept(self.work / f"matched-{size}.json", key, match)
            suffix = f", N = {len(fitting)}"
            methods += at_strength(tuned, fitting, found, suffix)
            reached |= {f"{name}{suffix}": one for name, one in found.items()}
        if options.preset:
            methods.append(presets(self.dspa, self.counts("fit", options.sizes[-1])))
        return methods, reached


def presets(dspa: dn.DSPA, fitting: ActivationCounts) -> DSPAMethod:
    """The map that a user gets who leaves every keyword out."""
    steering: Any = {name: dspa.defaults.get(name, DEFAULTS[name]) for name in PLAN_SETTINGS}
    return DSPAMethod("preset's settings", dspa, fitting.fit(), steering)


def count(options: argparse.Namespace) -> None:
    """Run the model over the rows that are used; splits that are counted are passed over."""
    experiment = Experiment(options)
    for split in options.splits:
        folder = options.work / split
        if (folder / "counts.json").exists():
            continue
        start = time.perf_counter()
        counts = experiment.dspa.count(experiment.triples(split), checkpoint=folder / "chunks")
        counts.save(folder)
        rows, seconds = list(experiment.splits[split]), time.perf_counter() - start
        about = {"rows": rows, "seconds": seconds, **asdict(experiment.cut)}
        (folder / "rows.json").write_text(json.dumps(about))
        print(counts)
        print(f"{options.data} {split}: counted in {seconds:.0f} s", flush=True)


def tune(options: argparse.Namespace) -> None:
    """Choose the setting on development rows alone."""
    experiment = Experiment(options)
    fitting, development = experiment.counts("fit", options.sizes[0]), experiment.counts("dev")
    votes = ranked_votes(fitting, development)
    for share, percentile, rule in votes:
        print(f"{rule}, percentile {percentile}: ranks {share:.3f} of development rows")
    settings = grid(votes)
    dspa, triples = experiment.dspa, experiment.triples("dev", options.match)
    first = {setting.percentile: setting for setting in settings}
    maps = {percentile: setting.fit(fitting) for percentile, setting in first.items()}
    methods = [
        setting.method(str(setting), dspa, fitting, maps[setting.percentile])
        for setting in settings
    ]
    key = [options.sizes[0], [asdict(setting) for setting in settings]]
    measured = measure(dspa, triples, methods, options.work / "tune", key)
    rows = [
        {"setting": asdict(setting), **averages(measured[str(setting)])} for setting in settings
    ]
    best = best_of(rows, votes, options.kl)
    value = {
        "votes": votes, "grid": rows, "best": best["setting"], "kl": options.kl,
        "triples": len(triples), "fitted_on": options.sizes[0],
    }  # fmt: skip
    kept(options.work / "tuning.json", value, lambda: value)
    print("\n".join(grid_table(rows)))
    print(f"chosen: {best['setting']}")


def measured_methods(options: argparse.Namespace) -> tuple[Experiment, list[DSPAMethod], Any]:
    """What is compared, and the key of its files."""
    experiment = Experiment(options)
    methods, reached = experiment.methods()
    return experiment, methods, [asdict(experiment.setting), asdict(experiment.cut), reached]


def margin_figures(options: argparse.Namespace) -> None:
    """Score test rows under every condition."""
    experiment, methods, key = measured_methods(options)
    triples = experiment.triples("test", options.test)
    measured = measure(experiment.dspa, triples, methods, options.work / "test-margins", key)
    plain = {
        name: {figure: values.tolist() for figure, values in figures.items()}
        for name, figures in measured.items()
    }
    (options.work / "margins.json").write_text(json.dumps(plain))
    print("\n".join([*margin_table(measured), "", *paired_table(measured)]))


def answers(options: argparse.Namespace) -> None:
    """Answer the first test prompts under every condition."""
    experiment, methods, key = measured_methods(options)
    dspa = experiment.dspa
    prompts = [dspa.render(one.prompt) for one in experiment.triples("test", options.prompts)]
    said = {}
    for method in [None, *methods]:
        name = "unsteered" if method is None else method.name
        said[name] = kept(
            options.work / "answers" / f"{name.replace(' ', '_')}.json",
            [key, options.prompts, options.tokens],
            lambda method=method: answered(dspa, prompts, method, options.tokens),
        )
        print(f"{name}: answered", flush=True)
    (options.work / "answers.json").write_text(json.dumps(said))
    print("\n".join(answer_table(said)))


def tables(options: argparse.Namespace) -> None:
    """Write every table of the data set, and the figures behind them without any text."""
    work: Path = options.work
    raw = json.loads((work / "margins.json").read_text())
    measured = {
        name: {key: np.array(values) for key, values in figures.items()}
        for name, figures in raw.items()
    }
    said = json.loads((work / "answers.json").read_text())
    tuning = json.loads((work / "tuning.json").read_text())["value"]
    fitting, development = (ActivationCounts.load(work / split) for split in ("fit", "dev"))
    lines = [f"# {options.data}", "", "## Settings, on development rows", ""]
    lines += [*grid_table(tuning["grid"]), "", f"Chosen: {Setting(**tuning['best'])}", ""]
    lines += ["## Margin on test rows", "", *margin_table(measured), ""]
    lines += ["## The map less its controls", "", *paired_table(measured), ""]
    lines += ["## Answers", "", *answer_table(said), "", "## From counts alone", ""]
    lines += [f"Fitting rows: {fitting.prompt_dependence(percentile=50)}", ""]
    lines += ranking(fitting, development, tuning["best"])
    (work / "tables.md").write_text("\n".join(lines) + "\n")
    figures = {
        "tuning": tuning,
        "margins": raw,
        "answers": {
            name: {key: values for key, values in figures.items() if key != "texts"}
            for name, figures in said.items()
        },
    }
    (work / "results.json").write_text(json.dumps(figures, indent=1))
    print("\n".join(lines))


def ranking(
    fitting: ActivationCounts, development: ActivationCounts, best: dict[str, Any]
) -> list[str]:
    """How many development pairs are ranked rightly, by what."""
    map = Setting(**best).fit(fitting)
    shares = {
        "the map": accuracy(map, development, prompt_rule=best["prompt_rule"]),
        "one global difference": global_accuracy(fitting, development),
        "the longer response": longer_wins(development),
    }
    found = {name: bootstrap(values) for name, values in shares.items()}
    return [
        f"Development rows ranked rightly by {name}: {one.mean:.3f} [{one.low:.3f}, {one.high:.3f}]"
        for name, one in found.items()
    ]


COMMANDS = {
    "count": count,
    "tune": tune,
    "measure": margin_figures,
    "answers": answers,
    "tables": tables,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("command", choices=tuple(COMMANDS))
    parser.add_argument("data", choices=tuple(ROWS))
    parser.add_argument("source", type=Path, help="the data set as JSON Lines, all rows in order")
    parser.add_argument("--work", type=Path, required=True, help="folder for whatever is finished")
    parser.add_argument("--prompt", type=int, default=512, help="most tokens of a prompt")
    parser.add_argument("--response", type=int, default=256, help="tokens kept of a response")
    parser.add_argument("--rows", type=int, nargs=3, default=(400, 100, 100), metavar="ROWS",
                        help="rows to fit, to tune and to test on")  # fmt: skip
    parser.add_argument("--splits", nargs="+", default=("fit", "dev"), choices=SPLITS,
                        help="count: which rows")  # fmt: skip
    parser.add_argument("--sizes", type=int, nargs="+", default=(250, 400),
                        help="triples to a map; settings are tuned with the first")  # fmt: skip
    parser.add_argument("--controls", type=int, nargs="+", default=(400,),
                        help="sizes whose controls are measured")  # fmt: skip
    parser.add_argument("--match", type=int, default=24,
                        help="development rows to tune and to match strengths on")  # fmt: skip
    parser.add_argument("--kl", type=float, default=0.15, help="tune: most nats per token")
    parser.add_argument("--preset", action="store_true", help="measure the preset's settings too")
    parser.add_argument("--test", type=int, default=None, help="measure: test rows, all if left")
    parser.add_argument("--prompts", type=int, default=32, help="answers: prompts")
    parser.add_argument("--tokens", type=int, default=48, help="answers: most tokens")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    COMMANDS[options.command](options)


if __name__ == "__main__":
    main()
