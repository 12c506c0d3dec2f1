"""How far can personas move the embedded model's answers along the axes of style?

    python recipes/personas.py effects ultrafeedback.jsonl --work work/personas
    python recipes/personas.py respond ultrafeedback.jsonl --work work/personas
    python recipes/personas.py graded ultrafeedback.jsonl --work work/personas
    python recipes/personas.py tables --work work/personas

The file is UltraFeedback as JSON Lines, all rows in order; rows 0-399 measure effects, 400-499 are
for choosing, 500-799 for the figures (`dspa_nn.triples`). `effects` ablates latents one by one.
`respond` answers development prompts under a persona for either end of every axis, chooses the two
axes that are surest to move (by the lower end of the gain's interval), and moves test prompts along
both at graded strengths. `graded` does that for axes of your choice, with the package's effects, on
test prompts that `respond` left alone; with --mode and --contrast in other ways. `tables` writes
Markdown. What is finished lies in --work, and a command that was cut off goes on from there. On a
CPU `effects` takes hours; --candidates and --prompts bound it, --device cuda takes minutes.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _personas.contrast import contrasted
from _personas.tables import (
    crosstalk_table,
    dose_table,
    effect_table,
    graded_table,
    key_of,
    lines_of,
)
from _real.data import Cut, read_splits

import dspa_nn as dn
from dspa_nn.evaluation import AXES, Answers, answer, fired
from dspa_nn.models import torch_module
from dspa_nn.personas import (
    AxisEffects,
    Persona,
    dose_response,
    known_effects,
    measure_effects,
    style_candidates,
)
from dspa_nn.prompts import Rendered
from dspa_nn.steering import SteeringOptions

PRESET = "smollm2-135m-instruct"
SIZES = (5, 20)
ALPHAS = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
# Raising a latent is capped by nothing.
BOTH_ALPHAS = (0.1, 0.2, 0.4)
ENDS = {"both": (1.0, -1.0), "high": (1.0,), "low": (-1.0,)}
FULL: SteeringOptions = {"alpha": 1.0}


class Experiment:
    """The model and the prompts of each split."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.dspa = dn.DSPA.from_preset(PRESET)
        torch_module(self.dspa.model).to(options.device)
        rows = read_splits(
            "ultrafeedback", options.source, self.dspa, Cut(options.longest, rows=(400, 100, 300))
        )
        self.prompts = {
            split: [self.dspa.render(triple.prompt) for triple in own.values()]
            for split, own in rows.items()
        }

    def answer(self, prompts: Sequence[Rendered]) -> Answers:
        """Unsteered answers."""
        given = self.options
        return answer(
            self.dspa, prompts, max_new_tokens=given.tokens, batch_size=given.batch
        )  # fmt: skip


def effects(options: argparse.Namespace) -> None:
    """Ablate candidates one by one on fitting prompts."""
    experiment = Experiment(options)
    dspa, prompts = experiment.dspa, experiment.prompts["fit"][: options.prompts]
    said = experiment.answer(prompts)
    often = fired(dspa, prompts, said).mean(0)
    among = [int(latent) for latent in np.flatnonzero(often >= options.least)]
    chosen = style_candidates(dspa, options.candidates, among=among)
    measured = measure_effects(
        dspa, prompts, chosen, max_new_tokens=options.tokens, batch_size=options.batch,
        unsteered=said, folder=options.work,
    )  # fmt: skip
    measured.save(options.work / "effects.json")
    print(measured)


def respond(options: argparse.Namespace) -> None:
    """Personas for both ends of every axis; then the two best axes, strength by strength."""
    experiment = Experiment(options)
    found = AxisEffects.load(options.work / "effects.json")
    path = options.work / "responses.jsonl"
    dev = experiment.prompts["dev"][: options.dev]
    test = experiment.prompts["test"][: options.test]
    for size in SIZES:
        measure(experiment, path, "dev", dev, either_end(found, size), [FULL])
    chosen = furthest(lines_of(path), found)
    for size in SIZES:
        measure(experiment, path, "test", test, either_end(found, size), [FULL])
    measure(experiment, path, "test", test, chosen, [{"alpha": alpha} for alpha in ALPHAS])
    both = [Persona(one.axis_weights, found, latents=one.latents, mode="both") for one in chosen]
    measure(experiment, path, "test", test, both, [{"alpha": alpha} for alpha in BOTH_ALPHAS])


def either_end(found: AxisEffects, size: int) -> list[Persona]:
    """A persona for each end of each axis, where any latent serves it."""
    made: list[Persona] = []
    for axis in found.axes:
        for sign in (1.0, -1.0):
            try:
                made.append(Persona({axis: sign}, found, latents=size))
            except dn.MapError as error:
                print(error)
    return made


def furthest(lines: Sequence[dict[str, Any]], found: AxisEffects) -> list[Persona]:
    """The two axes surest to gain on development rows: alone, together, and their other ends."""
    best: dict[str, tuple[float, float, int]] = {}
    for line in lines:
        if line["split"] != "dev":
            continue
        [(axis, sign)] = line["persona"].items()
        # By the lower end: a few answers of a far score can carry a mean.
        tried = (line["utility"]["low"], sign, line["latents"])
        best[axis] = max(best.get(axis, tried), tried)
    two = sorted(best, key=lambda axis: -best[axis][0])[:2]
    alone = [Persona({axis: best[axis][1]}, found, latents=best[axis][2]) for axis in two]
    wanted = {axis: best[axis][1] for axis in two}
    together = Persona(wanted, found, latents=max(best[axis][2] for axis in two))
    away = [Persona({axis: -best[axis][1]}, found, latents=best[axis][2]) for axis in two]
    return [*alone, together, *away]


def graded(options: argparse.Namespace) -> None:
    """Both ends of some axes at graded strengths, on prompts that no persona was chosen on."""
    experiment = Experiment(options)
    known = known_effects(experiment.dspa)
    found = contrasted(experiment.dspa, known) if options.contrast else known
    prompts = experiment.prompts[options.split][options.first :][: options.test]
    wanted = [{axis: sign} for axis in options.axes for sign in ENDS[options.end]]
    personas = [
        Persona(weights, found, latents=options.latents, mode=options.mode) for weights in wanted
    ]
    doses: list[SteeringOptions] = [{"alpha": alpha} for alpha in options.alphas]
    chosen_by = "labelled pairs" if options.contrast else "effects"
    more = {"chosen by": chosen_by, "first": options.first}
    path = options.work / "graded.jsonl"
    measure(experiment, path, options.split, prompts, personas, doses, more)


def measure(
    experiment: Experiment,
    path: Path,
    split: str,
    prompts: Sequence[Rendered],
    personas: Sequence[Persona],
    doses: Sequence[SteeringOptions],
    more: Mapping[str, Any] | None = None,
) -> None:
    """Add a line for each persona at each dose that the file does not hold yet."""
    known = {key_of(line) for line in lines_of(path)}
    said = None
    for persona in personas:
        about = {
            "split": split, "persona": persona.axis_weights, "latents": persona.latents,
            "mode": persona.mode, "n": len(prompts), **(more or {}),
        }  # fmt: skip
        left = [dose for dose in doses if key_of({**about, "options": dict(dose)}) not in known]
        if not left:
            continue
        said = said or experiment.answer(prompts)
        found = dose_response(
            experiment.dspa, prompts, [persona], left, unsteered=said,
            max_new_tokens=experiment.options.tokens, batch_size=experiment.options.batch,
        )  # fmt: skip
        with path.open("a", encoding="utf-8") as file:
            for one in found:
                file.write(json.dumps(one.to_dict() | about) + "\n")
                print(split, one, flush=True)


def tables(options: argparse.Namespace) -> None:
    """Write the effects, the cross-talk and the dose and response as Markdown."""
    text: list[str] = []
    if (options.work / "effects.json").exists():
        found = AxisEffects.load(options.work / "effects.json")
        lines = lines_of(options.work / "responses.jsonl")
        text += [*effect_table(found), ""]
        for size in SIZES:
            text += [f"{size} latents, alpha 1", "", *crosstalk_table(lines, size), ""]
        text += [*dose_table(lines), ""]
    text += graded_table(lines_of(options.work / "graded.jsonl"))
    (options.work / "tables.md").write_text("\n".join(text) + "\n", encoding="utf-8")
    print("\n".join(text))


COMMANDS = {"effects": effects, "respond": respond, "graded": graded, "tables": tables}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("command", choices=tuple(COMMANDS))
    parser.add_argument("source", type=Path, nargs="?", help="the data set as JSON Lines")
    parser.add_argument("--work", type=Path, required=True, help="folder for whatever is finished")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--prompts", type=int, default=96, help="effects: fitting prompts")
    parser.add_argument("--dev", type=int, default=40, help="respond: development prompts")
    parser.add_argument("--test", type=int, default=100, help="respond, graded: test prompts")
    parser.add_argument("--longest", type=int, default=96, help="most tokens of a prompt")
    parser.add_argument("--tokens", type=int, default=64, help="most tokens of an answer")
    parser.add_argument("--batch", type=int, default=25, help="answers at once")
    parser.add_argument("--candidates", type=int, default=40, help="effects: latents of an axis")
    parser.add_argument("--least", type=float, default=0.05,
                        help="effects: share of answers in which a latent fires")  # fmt: skip
    parser.add_argument("--axes", nargs="*", default=["concise", "proactive"], choices=tuple(AXES),
                        help="graded: axes that are moved, both ways")  # fmt: skip
    parser.add_argument("--end", choices=tuple(ENDS), default="both",
                        help="graded: the ends of an axis that are asked for")  # fmt: skip
    parser.add_argument("--latents", type=int, default=5, help="graded: latents to a persona")
    parser.add_argument("--mode", choices=("ablate", "augment", "both"), default="ablate",
                        help="graded: how they are edited")  # fmt: skip
    parser.add_argument("--alphas", type=float, nargs="*", default=[0.1, 0.2, 0.4, 0.7, 1.0],
                        help="graded: strengths")  # fmt: skip
    parser.add_argument("--contrast", action="store_true",
                        help="graded: latents by labelled pairs, not by their effects")  # fmt: skip
    parser.add_argument("--split", choices=("dev", "test"), default="test", help="graded: prompts")
    parser.add_argument("--first", type=int, default=100, help="graded: prompts that are skipped")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    if options.source is None and options.command != "tables":
        parser.error(f"{options.command} takes the data set's file")
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    COMMANDS[options.command](options)


if __name__ == "__main__":
    main()
