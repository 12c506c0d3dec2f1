"""How far can personas move the embedded model's answers along the axes of style?

    python recipes/personas.py effects ultrafeedback.jsonl --work work/personas
    python recipes/personas.py respond ultrafeedback.jsonl --work work/personas
    python recipes/personas.py tables --work work/personas

The file is UltraFeedback as JSON Lines, all rows in order; rows 0-399 measure effects, 400-499 are
for choosing, 500-799 for the figures (`dspa_nn.triples`). `effects` ablates latents one by one.
`respond` answers development prompts under a persona for either end of every axis, chooses the two
axes that moved furthest, and moves test prompts along both at graded strengths. `tables` writes
Markdown. What is finished lies in --work, and a command that was cut off goes on from there. On a
CPU `effects` takes hours; --candidates and --prompts bound it, --device cuda takes minutes.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _real.data import Cut, read_splits

import dspa_nn as dn
from dspa_nn.evaluation import AXES, Answers, answer, fired
from dspa_nn.models import torch_module
from dspa_nn.personas import (
    AxisEffects,
    Persona,
    dose_response,
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


def measure(
    experiment: Experiment,
    path: Path,
    split: str,
    prompts: Sequence[Rendered],
    personas: Sequence[Persona],
    doses: Sequence[SteeringOptions],
) -> None:
    """Add a line for each persona at each dose that the file does not hold yet."""
    known = {key_of(line) for line in lines_of(path)}
    said = None
    for persona in personas:
        for dose in doses:
            about = {
                "split": split, "persona": persona.axis_weights, "latents": persona.latents,
                "mode": persona.mode, "options": dict(dose), "n": len(prompts),
            }  # fmt: skip
            if key_of(about) in known:
                continue
            said = said or experiment.answer(prompts)
            [found] = dose_response(
                experiment.dspa, prompts, [persona], [dose], unsteered=said,
                max_new_tokens=experiment.options.tokens, batch_size=experiment.options.batch,
            )  # fmt: skip
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found.to_dict() | about) + "\n")
            print(split, found, flush=True)


def key_of(line: dict[str, Any]) -> str:
    """What tells one line from another."""
    names = ("split", "persona", "latents", "mode", "options", "n")
    return json.dumps([line[name] for name in names], sort_keys=True)


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The lines so far."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def tables(options: argparse.Namespace) -> None:
    """Write the effects, the cross-talk and the dose and response as Markdown."""
    found = AxisEffects.load(options.work / "effects.json")
    lines = lines_of(options.work / "responses.jsonl")
    text = [*effect_table(found), ""]
    for size in SIZES:
        text += [f"{size} latents, alpha 1", "", *crosstalk_table(lines, size), ""]
    text += dose_table(lines)
    (options.work / "tables.md").write_text("\n".join(text) + "\n", encoding="utf-8")
    print("\n".join(text))


def effect_table(found: AxisEffects) -> list[str]:
    """For each axis, how many latents move it beyond chance, and those that do so furthest."""
    lines = [
        "| axis | latents that move it | furthest up: latent, effect (SE) | furthest down |",
        "|---|---|---|---|",
    ]
    clear = significant(found)
    for place, axis in enumerate(found.axes):
        ends = []
        for sign in (-1, 1):
            order = np.argsort(sign * found.effect[:, place], kind="stable")[:3]
            ends.append(
                ", ".join(
                    f"{found.latents[i]}: {found.effect[i, place]:+.2f} "
                    f"({found.error[i, place]:.2f})"
                    for i in order
                )
            )
        lines.append(f"| {AXES[axis].name} | {clear[:, place].sum()} | {ends[0]} | {ends[1]} |")  # pyright: ignore
    return lines


def significant(found: AxisEffects, level: float = 0.05) -> np.ndarray:
    """Effects that pass Benjamini-Hochberg over all latents and axes, by two-sided z."""
    from scipy.stats import false_discovery_control, norm

    z = np.abs(found.effect) / np.where(found.error > 0, found.error, np.inf)
    p = 2 * norm.sf(z)
    return false_discovery_control(p.ravel()).reshape(p.shape) <= level


def crosstalk_table(lines: Sequence[dict[str, Any]], size: int) -> list[str]:
    """A row for each persona, a column for each axis; in bold what was asked for."""
    rows = [
        line for line in lines
        if line["split"] == "test" and line["latents"] == size and line["mode"] == "ablate"
        and line["options"] == FULL and len(line["persona"]) == 1
    ]  # fmt: skip
    if not rows:
        return []
    axes = list(rows[0]["axes"])
    text = [
        "| asked for | " + " | ".join(axes) + " | answers changed | perplexity ratio |",
        "|---" * (len(axes) + 3) + "|",
    ]
    seen: set[str] = set()
    for line in rows:
        [(axis, sign)] = line["persona"].items()
        if key_of(line) in seen:
            continue
        seen.add(key_of(line))
        cells = [
            f"**{interval(line['axes'][name])}**" if name == axis else interval(line["axes"][name])
            for name in axes
        ]
        end = axis if sign > 0 else AXES[axis].low  # pyright: ignore
        text.append("| " + " | ".join([end, *cells, *damage(line)]) + " |")
    return text


def dose_table(lines: Sequence[dict[str, Any]]) -> list[str]:
    """A row for each persona and alpha, where several alphas were tried."""
    text = [
        "| asked for | latents | mode | alpha | utility | axis by axis | answers changed | "
        "perplexity ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    doses = [line for line in lines if line["split"] == "test"]
    several = [one for one in grouped(doses) if len({str(line["options"]) for line in one}) > 2]
    for line in (line for one in several for line in one):
        asked = ", ".join(f"{axis} {weight:+g}" for axis, weight in line["persona"].items())
        told = ", ".join(f"{axis} {interval(line['axes'][axis])}" for axis in line["persona"])
        cells = [
            asked, str(line["latents"]), line["mode"], f"{line['options']['alpha']:g}",
            interval(line["utility"]), told, *damage(line),
        ]  # fmt: skip
        text.append("| " + " | ".join(cells) + " |")
    return text


def grouped(lines: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Lines of one persona together, in order of alpha, each alpha once."""
    groups: dict[str, dict[float, dict[str, Any]]] = {}
    for line in lines:
        key = json.dumps([line["persona"], line["latents"], line["mode"]])
        groups.setdefault(key, {}).setdefault(line["options"]["alpha"], line)
    for group in groups.values():
        yield [group[alpha] for alpha in sorted(group)]


def interval(one: dict[str, float]) -> str:
    """A mean with its interval, to two digits."""
    return f"{one['mean']:+.2f} [{one['low']:+.2f}, {one['high']:+.2f}]"


def damage(line: dict[str, Any]) -> list[str]:
    """Share of answers changed, and the ratio of perplexities."""
    moved = line["log_perplexity"]
    if moved["mean"] is None:
        return [f"{line['changed']:.0%}", "not measured"]
    low, mean, high = (float(np.exp(moved[name])) for name in ("low", "mean", "high"))
    return [f"{line['changed']:.0%}", f"{mean:.2f} [{low:.2f}, {high:.2f}]"]


COMMANDS = {"effects": effects, "respond": respond, "tables": tables}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("command", choices=tuple(COMMANDS))
    parser.add_argument("source", type=Path, nargs="?", help="the data set as JSON Lines")
    parser.add_argument("--work", type=Path, required=True, help="folder for whatever is finished")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--prompts", type=int, default=96, help="effects: fitting prompts")
    parser.add_argument("--dev", type=int, default=40, help="respond: development prompts")
    parser.add_argument("--test", type=int, default=100, help="respond: test prompts")
    parser.add_argument("--longest", type=int, default=96, help="most tokens of a prompt")
    parser.add_argument("--tokens", type=int, default=64, help="most tokens of an answer")
    parser.add_argument("--batch", type=int, default=25, help="answers at once")
    parser.add_argument("--candidates", type=int, default=40, help="effects: latents of an axis")
    parser.add_argument("--least", type=float, default=0.05,
                        help="effects: share of answers in which a latent fires")  # fmt: skip
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    if options.source is None and options.command != "tables":
        parser.error(f"{options.command} takes the data set's file")
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    COMMANDS[options.command](options)


if __name__ == "__main__":
    main()
