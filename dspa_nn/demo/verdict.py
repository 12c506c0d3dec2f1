"""What the figures say, in plain sentences that turn out either way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dspa_nn.demo.measure import Outcome
from dspa_nn.evaluation import Interval, bootstrap
from dspa_nn.triples import DemoRow

HIGHEST_PERPLEXITY_RATIO = 1.3


@dataclass(frozen=True)
class Verdict:
    """A claim and whether the figures bear it out."""

    holds: bool
    text: str


def differences(map: Outcome, controls: Mapping[str, Outcome], seed: int) -> dict[str, Interval]:
    """The map's change of the margin less each control's, triple by triple."""
    change = map.values["change"]
    return {
        key: bootstrap(change - control.values["change"], seed=seed)
        for key, control in controls.items()
    }


def verdicts(
    map: Outcome,
    controls: Mapping[str, Outcome],
    rows: Sequence[DemoRow],
    seed: int,
) -> list[Verdict]:
    """Judge the map against nothing, against each control, for each kind, and by fluency."""
    judged: list[Verdict] = []
    raised = map.interval("change", seed, rows)
    judged.append(
        Verdict(
            raised.above_zero,
            f"Steering {_does(raised.above_zero)} raise the margin of held-out triples: {raised} "
            "nats a token.",
        )
    )
    for key, gap in differences(map, controls, seed).items():
        if key == "c":
            continue
        judged.append(
            Verdict(
                gap.above_zero,
                f"It {_does(gap.above_zero)} beat control {controls[key].name}: {gap} a token, "
                "paired.",
            )
        )
    if "c" in controls:
        other = controls["c"].interval("change", seed, rows)
        judged.append(
            Verdict(
                other.below_zero,
                f"The swapped map (c) {_does(other.below_zero)} go the other way: {other} a token.",
            )
        )
    for kind in sorted({row.kind for row in rows}):
        part = map.interval("change", seed, rows, kind)
        judged.append(
            Verdict(
                part.mean > 0,
                f"The mean effect on {kind} prompts {_is(part.mean > 0)} positive: {part} a token.",
            )
        )
    style = map.interval("style_change", seed, rows)
    judged.append(
        Verdict(
            style.above_zero,
            f"The answers {_do(style.above_zero)} move towards the preferred style: {style} marks "
            "a word.",
        )
    )
    ratio = map.interval("log_perplexity_change", seed, rows).exp()
    fluent = ratio.mean <= HIGHEST_PERPLEXITY_RATIO
    judged.append(
        Verdict(
            fluent,
            f"Perplexity under the unsteered model {'stays' if fluent else 'does not stay'} within "
            f"{HIGHEST_PERPLEXITY_RATIO} of the unsteered answers': ratio {ratio.mean:.2f} "
            f"[{ratio.low:.2f}, {ratio.high:.2f}].",
        )
    )
    return judged


def _does(holds: bool) -> str:
    return "does" if holds else "does not"


def _do(holds: bool) -> str:
    return "do" if holds else "do not"


def _is(holds: bool) -> str:
    return "is" if holds else "is not"
