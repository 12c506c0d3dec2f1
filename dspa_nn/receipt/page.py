"""A receipt as one page of HTML: verdicts first, then the figures that they rest on."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from dspa_nn.evaluation import Interval
from dspa_nn.receipt.claims import HIGHEST_PERPLEXITY_RATIO, Verdict, percent, points
from dspa_nn.receipt.examples import answers_section
from dspa_nn.receipt.figures import Measured
from dspa_nn.receipt.markup import STYLE, Row, intervals, table
from dspa_nn.receipt.scores import ABOUT

MARKS = {True: ("yes", "yes"), False: ("no", "no"), None: ("open", "open")}
# Headings of the verdicts by their claims; all others are of the effect.
GROUPS = {
    **dict.fromkeys(("fluent", "sampled fluent", "no loops", "multiple choice"), "Damage"),
    "robust": "Robustness",
}


def page_of(measured: Measured, report: Mapping[str, Any], judged: Sequence[Verdict]) -> str:
    """The whole page; `report` is what the JSON beside it holds."""
    name = escape(report["name"])
    about = report["data"]
    lead = (
        f"What the map does to {about['triples']['n']} held-out preferences, what it damages, and "
        "whether anything simpler does the same. The margin is log p(chosen) - log p(rejected) per "
        "token: by how much the model finds the preferred text likelier. Intervals are of 95 %; "
        "every difference is paired, prompt by prompt."
    )
    body = [
        f"<h1>Receipt: {name}</h1><p class=dim>{escape(lead)}</p>"
        f"<p class=dim>{escape(_map_in_words(report))}</p>",
        f"<p class=short>{escape(report['in_short'])}</p>",
        "<h2>Verdicts</h2><p class=dim>Yes: the whole interval is on the side of the claim. No: it "
        "is on the other side. Open: it holds both. With this many claims, one in twenty that are "
        "of nothing would still say yes or no.</p>",
        _claims(judged),
        _effect(measured),
        _damage(measured),
        _robust(measured),
        _controls(measured),
        answers_section(measured),
        _about(report),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>Receipt: {name}</title><style>{STYLE}</style>'
        "</head><body>" + "\n".join(body) + "</body></html>\n"
    )


def _map_in_words(report: Mapping[str, Any]) -> str:
    """Which map it is, between which layers of which model, and how it steers."""
    map, model = report["map"]["settings"], report["model"]
    fitted = map["fit"].get("n_triples")
    of = f" on {fitted} triples" if fitted else ""
    steer = ", ".join(f"{key} {value}" for key, value in map["steer"].items() if value is not None)
    return (
        f"The map was fitted{of} for {model.get('model_id')}, layers {model.get('input_layer')} -> "
        f"{model.get('output_layer')}, and steers with {steer}."
    )


def _claims(judged: Sequence[Verdict]) -> str:
    groups: dict[str, list[str]] = {}
    for verdict in judged:
        style, word = MARKS[verdict.holds]
        heading = "Against what is simpler" if verdict.against else GROUPS.get(verdict.claim, "")
        groups.setdefault(heading or "Effect", []).append(
            f"<li><span class={style}>{word}</span><span>{escape(verdict.text)}</span></li>"
        )
    return "".join(
        f"<h3>{heading}</h3><ul class=claims>{''.join(lines)}</ul>"
        for heading, lines in groups.items()
    )


def _effect(measured: Measured) -> str:
    seed = measured.seed
    effects = [(outcome.name, outcome.effect(seed)) for outcome in measured.outcomes]
    drawn = [
        intervals(
            caption,
            [Row(name, getattr(found, part), str(getattr(found, part))) for name, found in effects],
            "nats a token",
            first=measured.map.name,
        )
        for part, caption in (
            (
                "margin",
                "Change of log p(chosen) - log p(rejected). Wanted: to the right.",
            ),
            ("chosen", "Of it, the chosen texts. Wanted: to the right."),
            ("rejected", "Of it, the rejected texts. Wanted: to the left."),
        )
    ]
    alike = [(one.name, measured.at_equal_length(one)) for one in measured.outcomes]
    drawn.append(
        intervals(
            "Of the margin, what is left where both texts are of one length.",
            [Row(name, found, str(found)) for name, found in alike],
            "nats a token",
            first=measured.map.name,
        )
    )
    shares = [(one.name, measured.worse(one)) for one in measured.outcomes]
    drawn.append(
        intervals(
            "Share of prompts whose margin falls (Wilson's interval). The line is at a half.",
            [Row(name, share, percent(share)) for name, share in shares],
            "made worse",
            zero=0.5,
            first=measured.map.name,
        )
    )
    for score in measured.scores:
        moved = [(one.name, measured.moved(one)[score]) for one in measured.outcomes]
        drawn.append(
            intervals(
                f"Answers: change of {score} towards what is preferred, on the {moved[0][1].n} "
                f"prompts where it tells the two texts apart ({ABOUT[score]}).",
                [Row(name, interval, str(interval)) for name, interval in moved],
                score,
                first=measured.map.name,
            )
        )
    drawn.append(_other_scores(measured))
    return "<h2>Effect</h2>" + "".join(drawn)


def _other_scores(measured: Measured) -> str:
    """The map's change of every other score, as figures alone."""
    rest = [
        Row(f"{name} ({found.n})", found, str(found))
        for name, found in measured.moved(measured.map).items()
        if name not in measured.scores
    ]
    return intervals(
        "Other scores of the map's answers (in brackets: prompts where one tells the two texts "
        "apart). The preferences are not about these, and of so many some change by chance.",
        rest,
        "towards preferred",
    )


def _damage(measured: Measured) -> str:
    seed, first = measured.seed, measured.map.name
    ratios = [
        (one.name, one.interval("log_perplexity_change", seed).exp()) for one in measured.outcomes
    ]
    kls = [(one.name, one.interval("kl", seed)) for one in measured.outcomes]
    drawn = [
        intervals(
            "KL from the unsteered to the steered next-token distribution, on the held-out texts.",
            [Row(name, kl, _plain(kl)) for name, kl in kls],
            "nats a token",
            first=first,
        ),
        intervals(
            "Perplexity of answers under the unsteered model, as a ratio to that of its own. "
            f"The line is at 1; {HIGHEST_PERPLEXITY_RATIO} is the limit of what counts as fluent.",
            [Row(name, ratio, _plain(ratio, 2)) for name, ratio in ratios],
            "times",
            zero=1.0,
            first=first,
        ),
    ]
    if measured.choices:
        changes = [(one.name, measured.right_change(one.name)) for one in measured.outcomes]
        before = measured.right("unsteered")
        drawn.append(
            intervals(
                f"Multiple choice: change of the share that is right, in points ({percent(before)} "
                f"unsteered, of {before.n}).",
                [Row(name, change, points(change)) for name, change in changes],
                "points",
                first=first,
            )
        )
    everyone = [("unsteered", measured.plain), *((o.name, o.values) for o in measured.outcomes)]
    rows = [
        [name, *(_mean(values[one], digits) for one, digits in _LOOPS)] for name, values in everyone
    ]
    drawn.append(
        table(
            "Answers: length in tokens; share of different tokens, of different pairs, of runs of "
            "four tokens that were said before; share of answers that end in a loop.",
            ["", "tokens", "different tokens", "different pairs", "said before", "loops"],
            rows,
        )
    )
    return "<h2>Damage</h2>" + "".join(drawn)


_LOOPS = (("tokens", 1), ("distinct_1", 3), ("distinct_2", 3), ("repetition", 3), ("loops", 3))


def _robust(measured: Measured) -> str:
    given = measured.map.effect(measured.seed).margin
    rows = [Row("as given", given, str(given))]
    rows += [Row(u.rewrite.name, u.effect.margin, str(u.effect.margin)) for u in measured.under]
    notes = "".join(
        f"<dt>{escape(one.rewrite.name)}</dt><dd>{escape(one.rewrite.about)} "
        f"{percent(one.worse)} of the prompts are made worse.</dd>"
        for one in measured.under
    )
    sampled = measured.sampled
    ratio = sampled.interval("log_perplexity_change", measured.seed).exp()
    branching = measured.branching()
    said = (
        f"Sampled at temperature {measured.temperature:g} (both from the same seed), the map's "
        f"answers have a perplexity ratio of {_plain(ratio, 2)}. Sampled at temperature 1, the "
        f"model chooses among {_plain(branching[measured.map.name], 2)} next tokens under the map "
        f"and {_plain(branching['unsteered'], 2)} unsteered (the branching factor): a ratio of "
        f"{_plain(branching['ratio'], 2)}, where 1 is no change."
    )
    return (
        "<h2>Robustness</h2>"
        + intervals(
            "Change of the margin under the map, with the prompts put otherwise.",
            rows,
            "nats a token",
            first="as given",
        )
        + f"<dl>{notes}</dl><p>{escape(said)}</p>"
    )


def _controls(measured: Measured) -> str:
    seed = measured.seed
    gaps = [(other.name, measured.map.less(other, seed).margin) for other in measured.others]
    matched = [
        [
            name, str(match.k_diff), f"{match.alpha:.2f}",
            f"{match.edits:.2f} ({match.wanted_edits:.2f})",
            f"{100 * match.share:.1f} ({100 * match.wanted_share:.1f})",
            "yes" if match.within else "no",
        ]
        for name, match in measured.matches.items()
    ]  # fmt: skip
    return (
        "<h2>Against what is simpler</h2>"
        "<p>(a) deals the map's rows out at random: a map that answers to nothing. (b) edits "
        "latents that fire as often, instead of the planned ones. (c) has chosen and rejected "
        "exchanged. (d) steers every prompt by one and the same difference. The instruction is put "
        "before the prompt, and the model is not steered.</p>"
        + intervals(
            "The map's change of the margin less that of each. To the right: the map does more.",
            [Row(f"less {name}", gap, str(gap)) for name, gap in gaps],
            "nats a token",
        )
        + table(
            "Strength of the controls, matched on development triples (the map's in brackets). A "
            "control that edits less would lose for that alone.",
            ["", "k_diff", "alpha", "edits a token", "moved by %", "within 10 %"],
            matched,
        )
    )


def _about(report: Mapping[str, Any]) -> str:
    notes = "".join(f"<li>{escape(note)}</li>" for note in report["data"]["notes"])
    seconds = ", ".join(f"{name} {value:.0f} s" for name, value in report["seconds"].items())
    facts = {
        "map": {**report["map"]["settings"], "provenance": report["map"]["provenance"]},
        "data": {name: one for name, one in report["data"].items() if name != "notes"},
        "settings": report["settings"],
        "versions": report["versions"],
    }
    return (
        f"<h2>What this rests on</h2><ul>{notes}</ul><p>Time: {escape(seconds)}. Written "
        f"{escape(report['written'])}. Every figure, with its value for each prompt, is in the "
        f"JSON file beside this page.</p><details><summary>Settings, provenance and versions"
        f"</summary><pre>{escape(json.dumps(facts, indent=1))}</pre></details>"
    )


def _mean(values: Any, digits: int) -> str:
    """Of what was measured; an answer may be too short for a figure."""
    known = values[~np.isnan(values)]
    return f"{known.mean():.{digits}f}" if len(known) else "-"


def _plain(interval: Interval, digits: int = 3) -> str:
    ends = (interval.mean, interval.low, interval.high)
    mean, low, high = (f"{value:.{digits}f}" for value in ends)
    return f"{mean} [{low}, {high}]"
