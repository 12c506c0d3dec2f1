"""Every method of the comparison on the same triples, by measures that need no judge.

    python recipes/arena.py prepare register --work work/register
    python recipes/arena.py tune register --work work/register
    python recipes/arena.py margins register --work work/register
    python recipes/arena.py answers register --work work/register
    python recipes/arena.py sampled register --work work/register
    python recipes/arena.py ranking register --work work/register
    python recipes/arena.py efficiency register --work work/register
    python recipes/arena.py sensitivity register --work work/register
    python recipes/arena.py tables register --work work/register > register.md

The sets are those that the package brings along, `plans`, `news` and `register`, and
`ultrafeedback` (`--source FILE`, all its rows as JSON Lines). `prepare` runs the model over the
triples: counts of latents, mean hidden states. `tune` chooses each method's own settings on
development triples, within a limit on KL. `margins` and `answers` measure all methods on test
triples, `sampled` their branching factor. `ranking` and `efficiency` refit on resamplings of fewer
triples; `sensitivity` changes one setting at a time. `tables` prints whatever is finished as
Markdown, without any text.
`--trained NAME=FOLDER` adds what a training recipe left to `margins`, `answers` and `sampled`.

Whatever is finished lies in --work, in pieces: a command that was cut off goes on from there. Texts
lie there too, so keep that folder out of the repository.
"""

import argparse
import json
import time
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from _arena.methods import PAPER, Fitted, best_of, build, candidates
from _arena.sets import INSTRUCTIONS, SETS, Sizes, lengths, read_set
from _arena.studies import efficiency, ranking, sensitivity
from _arena.tables import page
from _real.runs import kept, measure
from _real.tuning import averages

import dspa_nn as dn
from dspa_nn.baselines import Activations, activations
from dspa_nn.costs import dpo_flops, fit_flops, rahf_flops
from dspa_nn.counts import ActivationCounts
from dspa_nn.errors import DSPAError
from dspa_nn.evaluation import answer, branching_factor, encode, surprise
from dspa_nn.models import get_preset
from dspa_nn.steering import SteeringMethod, SweepCounts
from dspa_nn.triples import SPLITS

PRESET = "smollm2-135m-instruct"


def sweep_of(dspa: dn.DSPA) -> dn.LayerSweep:
    """The preset's SAEs, each as input SAE and as output SAE."""
    preset = get_preset(PRESET)
    saes = {preset.input_layer: preset.input_sae, preset.output_layer: preset.output_sae}
    return dn.LayerSweep(
        dspa.model, input_saes=saes, output_saes=saes, defaults=preset.defaults,
        template=preset.template,
    )  # fmt: skip


class Arena:
    """One set in one folder: its triples, what was taken of them, the chosen settings."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.work: Path = options.work
        self.dspa = dn.DSPA.from_preset(PRESET)
        self.sizes = Sizes(options.fit, options.dev, options.test, options.prompt, options.response)
        self.splits = read_set(options.set, self.dspa, self.sizes, options.source)
        self.fitting = self.splits["fit"][: self.sizes.fit]
        self.key = [options.set, self.sizes.fit, self.sizes.prompt, self.sizes.response]

    def counts(self, split: str) -> ActivationCounts:
        """Counts of a split, taken once."""
        folder = self.work / split
        if not (folder / "counts.json").exists():
            counted = self.dspa.count(self.splits[split], checkpoint=folder / "chunks")
            counted.save(folder)
        return ActivationCounts.load(folder)

    @cached_property
    def taken(self) -> Activations:
        """Mean hidden states of the fitting triples, taken once."""
        path = self.work / "activations.json"

        def make() -> Any:
            found = activations(self.dspa, self.fitting)
            names = ("chosen", "rejected", "prompts")
            return {
                **{name: getattr(found, name).tolist() for name in names},
                "layers": [found.layer, found.condition_layer],
                "provenance": found.provenance,
            }

        value = kept(path, self.key, make)
        chosen, rejected, prompts = (
            torch.tensor(value[name], dtype=torch.float64)
            for name in ("chosen", "rejected", "prompts")
        )
        late, early = value["layers"]
        return Activations(chosen, rejected, prompts, late, early, value["provenance"])

    @cached_property
    def fitted(self) -> Fitted:
        """What methods are fitted on, of the first N fitting triples."""

        def share() -> float:
            return encode(self.dspa, self.splits["dev"][:8]).share_of(1.0)

        stream = 1 / kept(self.work / "stream.json", self.key, share)
        counts = self.counts("fit")
        return Fitted(self.dspa, counts.subset(counts.index[: self.sizes.fit]), self.taken, stream)

    @cached_property
    def chosen(self) -> dict[str, dict[str, Any]]:
        """Method -> the setting that `tune` chose."""
        return json.loads((self.work / "tuning.json").read_text())["value"]["best"]

    @cached_property
    def swept(self) -> SweepCounts:
        """Counts of the fitting triples for every pair of layers, taken once."""
        folder, sweep = self.work / "layers", sweep_of(self.dspa)
        if not (folder / "counts.json").exists():
            sweep.count(self.fitting, checkpoint=folder / "chunks").save(folder)
        return SweepCounts.load(folder, sweep=sweep)

    def methods(self) -> list[SteeringMethod]:
        """All that were tuned, in the order of the tables."""
        return [build(self.fitted, name, setting) for name, setting in self.chosen.items()]

    def trained(self) -> list[SteeringMethod]:
        """What a training recipe left, by the name that was given."""
        pairs = [text.partition("=") for text in self.options.trained]
        return [
            build(self.fitted, "trained", {"folder": folder}, name) for name, _, folder in pairs
        ]


def prepare(arena: Arena) -> None:
    """Run the model over the triples."""
    for split in SPLITS:
        print(split, arena.counts(split), flush=True)
        triples = arena.fitting if split == "fit" else arena.splits[split]
        value = lengths(arena.dspa, triples)
        kept(arena.work / f"lengths-{split}.json", arena.key, lambda value=value: value)
    print(f"activations of {len(arena.taken)} triples; stream {arena.fitted.stream:.1f}")


def tune(arena: Arena) -> None:
    """Choose every method's own setting on development triples alone."""
    triples = arena.splits["dev"][: arena.options.dev]  # UltraFeedback: all are counted
    instructions = INSTRUCTIONS[arena.options.set]
    tried = candidates(arena.fitted, arena.counts("dev"), instructions)
    rows: dict[str, list[dict[str, Any]]] = {}
    for name, settings in tried.items():
        methods = [build(arena.fitted, name, s, f"{name} {i}") for i, s in enumerate(settings)]
        folder = arena.work / "tune" / name.replace(" ", "-")
        found = measure(arena.dspa, triples, methods, folder, [arena.key, settings])
        rows[name] = [
            {"setting": setting, **averages(found[method.name])}
            for setting, method in zip(settings, methods, strict=True)
        ]
        for row in rows[name]:
            print(name, row, flush=True)
    best = {name: best_of(found, arena.options.kl)["setting"] for name, found in rows.items()}
    # The random map has DSPA's settings: what differs is where its entries stand.
    best["random map"] = best["DSPA"]
    best["DSPA, paper's settings"] = PAPER
    value = {"best": best, "grid": rows, "kl": arena.options.kl, "triples": len(triples)}
    kept(arena.work / "tuning.json", value, lambda: value)
    print(json.dumps(best, indent=1))


def margin_figures(arena: Arena) -> None:
    """Score the test triples under every method."""
    groups: list[tuple[str, list[SteeringMethod]]] = [
        (one.name, [one]) for one in arena.trained()
    ] or [("all", arena.methods())]
    for name, methods in groups:
        found = measure(
            arena.dspa, arena.splits["test"], methods, arena.work / "margins" / name,
            [arena.key, arena.chosen if name == "all" else arena.options.trained],
        )  # fmt: skip
        plain = {
            method: {figure: values.tolist() for figure, values in figures.items()}
            for method, figures in found.items()
        }
        write(arena.work / f"margins-{name}.json", plain)


def answers(arena: Arena) -> None:
    """Answer the first test prompts under every method, greedily."""
    options, dspa = arena.options, arena.dspa
    triples = arena.splits["test"][: options.prompts]
    prompts = [dspa.render(triple.prompt) for triple in triples]
    trained = arena.trained()
    for method in trained or [None, *arena.methods()]:
        name = "unsteered" if method is None else method.name

        def run(method: SteeringMethod | None = method) -> dict[str, Any]:
            said = answer(dspa, prompts, method, max_new_tokens=options.tokens, batch_size=16)
            return {
                "texts": said.texts,
                "ids": [ids.tolist() for ids in said.ids],
                "log_perplexity": surprise(dspa, prompts, said).tolist(),
            }

        begun = time.perf_counter()
        key = [arena.key, options.prompts, options.tokens, arena.chosen.get(name, options.trained)]
        kept(arena.work / "answers" / f"{name}.json", key, run)
        print(f"{name}: answered, {time.perf_counter() - begun:.0f} s", flush=True)


def sampled(arena: Arena) -> None:
    """The branching factor of sampled answers under every method."""
    options, dspa = arena.options, arena.dspa
    triples = arena.splits["test"][: options.prompts]
    prompts = [dspa.render(triple.prompt) for triple in triples]
    for method in arena.trained() or [None, *arena.methods()]:
        name = "unsteered" if method is None else method.name

        def run(method: SteeringMethod | None = method) -> dict[str, Any]:
            found = branching_factor(dspa, prompts, method, max_new_tokens=24, batch_size=24)
            return {
                "entropy": found.entropy.tolist(),
                "ids": [ids.tolist() for ids in found.answers.ids],
            }

        key = [arena.key, options.prompts, arena.chosen.get(name, options.trained)]
        kept(arena.work / "sampled" / f"{name}.json", key, run)
        print(f"{name}: sampled", flush=True)


def costs(arena: Arena) -> dict[str, float]:
    """FLOPs of fitting each method on the N triples: of what is run, not of a paper's account."""
    dspa = arena.dspa
    where: Any = {
        "input_layer": dspa.input_layer, "output_layer": dspa.output_layer,
        "d_in": dspa.input_sae.width, "d_out": dspa.output_sae.width,
    }  # fmt: skip
    shapes = kept(arena.work / "lengths-fit.json", arena.key, lambda: lengths(dspa, arena.fitting))
    config: Any = dspa.model._module.config
    once = fit_flops(config, shapes, **where).total
    pairs = fit_flops(config, shapes, plan="pairs", **where)
    dense = pairs.blocks + pairs.attention
    by_counts = ("Static-SAE", "global difference", "DSPA", "random map", "DSPA, paper's settings")
    return {
        "unsteered": 0.0, "prompt prefix": 0.0, **dict.fromkeys(("RepE", "CAA", "CAST"), dense),
        **dict.fromkeys(by_counts, once),
        "DPO": dpo_flops(config, shapes).total,
        "RAHF-SCIT": sum(step.total for step in rahf_flops(config, shapes)),
    }  # fmt: skip


def tables(arena: Arena) -> None:
    """Print the tables of all parts that are finished."""
    print("\n".join(page(arena.options.set, arena.work, costs(arena))))


def write(path: Path, value: Any) -> None:
    """Write a JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


COMMANDS = {
    "prepare": prepare,
    "tune": tune,
    "margins": margin_figures,
    "answers": answers,
    "sampled": sampled,
    "ranking": ranking,
    "efficiency": efficiency,
    "sensitivity": sensitivity,
    "tables": tables,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("command", choices=tuple(COMMANDS))
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--work", type=Path, required=True, help="folder for whatever is finished")
    parser.add_argument("--source", type=Path, help="ultrafeedback: its rows as JSON Lines")
    parser.add_argument("--fit", type=int, default=250, help="triples to a fit")
    parser.add_argument("--dev", type=int, default=24, help="development triples")
    parser.add_argument("--test", type=int, default=60, help="test triples")
    parser.add_argument("--prompt", type=int, default=256, help="most tokens of a prompt")
    parser.add_argument("--response", type=int, default=128, help="tokens kept of a response")
    parser.add_argument("--kl", type=float, default=0.15, help="tune: most nats per token")
    parser.add_argument("--prompts", type=int, default=24, help="answers: prompts")
    parser.add_argument("--tokens", type=int, default=48, help="answers: most tokens")
    parser.add_argument("--trained", nargs="*", default=[], metavar="NAME=FOLDER",
                        help="what a training recipe left")  # fmt: skip
    parser.add_argument("--held-out", choices=("test", "dev"), default="test",
                        help="ranking: which triples are ranked")  # fmt: skip
    parser.add_argument("--study", type=int, default=30, help="test triples of the studies")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    try:
        COMMANDS[options.command](Arena(options))
    except DSPAError as error:
        raise SystemExit(f"arena: {error}") from None


if __name__ == "__main__":
    main()
