"""What a search found, as plain values, in words and as the commands that use it."""

from collections.abc import Mapping, Sequence
from typing import Any

from dspa_nn.evaluation import bootstrap
from dspa_nn.provenance import package_versions
from dspa_nn.tuning.region import Region, front_of
from dspa_nn.tuning.space import Space, Trial, Vote
from dspa_nn.tuning.study import as_json
from dspa_nn.tuning.subject import Subject, hashes

SCHEMA, VERSION = "dspa_nn.tuning", 1


def report_of(
    subject: Subject,
    space: Space,
    screened: Sequence[tuple[Vote, float]],
    measured: Sequence[Trial],
    region: Region | None,
    limits: Mapping[str, Any],
    sizes: Mapping[str, int],
    seed: int,
) -> dict[str, Any]:
    """All that was found as plain values; docs/howto/tune.md lists the keys."""
    found: dict[str, Any] | None = None
    if region is not None:
        found = {
            "best": as_json(region.best),
            "gentlest": as_json(region.gentlest),
            "values": region.values(),
            "members": [
                as_json(trial) | {"best_less_this": gap.to_dict()} for trial, gap in region.members
            ],
        }
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "settings": None if region is None else region.best.choice.to_dict(),
        "region": found,
        "front": [as_json(trial) for trial in front_of(measured)],
        "trials": [as_json(trial) for trial in measured],
        "screened": [
            {**vars(vote), "layers": list(vote.layers), "ranks": share} for vote, share in screened
        ],
        "limits": dict(limits),
        "space": space.to_dict(),
        "triples": dict(sizes),
        "seed": seed,
        "model": subject.provenance,
        "data": {name: hashes(subject)[name] for name in ("fit", "dev")},
        "versions": package_versions(),
    }


def commands(region: Region, fitting: str, setting: str = "best") -> tuple[str, str]:
    """The commands that fit a map with a setting of a region, and steer with it.

    setting: "best" or "gentlest".
    """
    choice = (region.best if setting == "best" else region.gentlest).choice

    def flags(settings: Mapping[str, Any]) -> str:
        return " ".join(f"--{n.replace('_', '-')} {value}" for n, value in settings.items())

    return (
        f"dspa fit {fitting} --out my_map {flags(choice.fit)}",
        f"dspa steer my_map PROMPT {flags(choice.steer)}",
    )


def told(region: Region | None, trials: int) -> list[str]:
    """The lines that are printed below the plot."""
    if region is None:
        return [
            f"None of {trials} settings is within the limits: allow more damage, or try more or "
            "gentler settings."
        ]
    lines = [f"{trials} settings; {len(region.members)} of them are as good as the best within "
             "noise, on these triples."]  # fmt: skip
    for name, trial in (("best", region.best), ("gentlest", region.gentlest)):
        settings = " ".join(f"{key}={value}" for key, value in trial.choice.settings.items())
        margin = bootstrap(trial.margins)
        lines.append(
            f"{name + ':':<10} margin {margin}, KL {trial.damage:.3f} nats a token; {settings}"
        )
    spread = "; ".join(
        f"{name} {', '.join(map(str, values))}" if name != "alpha" else
        f"alpha {values[0]} to {values[1]}"
        for name, values in region.values().items()
    )  # fmt: skip
    lines.append(f"in the region: {spread}")
    if not bootstrap(region.best.margins).above_zero:
        lines.append("Even the best is not shown to raise the margin at all.")
    lines.append(
        "The best of many is too good by the choice: measure it with `dspa evaluate` on triples "
        "that chose nothing."
    )
    return lines
