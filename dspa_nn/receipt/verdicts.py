"""What a receipt says in words: of the effect, of the damage, and of whatever is simpler."""

from collections.abc import Iterator
from dataclasses import replace

from dspa_nn.evaluation import Outcome
from dspa_nn.receipt.claims import (
    DISTINCT,
    HIGHEST_PERPLEXITY_RATIO,
    POINTS,
    Verdict,
    in_words,
    lies_above,
    lies_below,
    margin_claim,
    parts_of,
    percent,
    points,
    too_few,
)
from dspa_nn.receipt.figures import Measured

Verdicts = Iterator[Verdict]


def verdicts(measured: Measured) -> list[Verdict]:
    """Every claim about the map, whichever way it turns out."""
    found = [*_effect(measured), *_damage(measured), *_robust(measured)]
    for other in measured.others:
        found += _against(measured, other)
    return found


def in_short(measured: Measured, judged: list[Verdict]) -> str:
    """Three sentences for who reads no further: effect, what is simpler, damage."""
    margin = measured.map.effect(measured.seed)
    worse = measured.map.values["change"] < 0
    rises = in_words(lies_above(margin.margin), "rises", "falls", "is not shown to change")
    first = (
        f"On {len(worse)} held-out prompts the margin {rises} ({margin.margin} nats a token); on "
        f"{int(worse.sum())} of them it falls."
    )
    beats = [verdict for verdict in judged if verdict.claim == "beats"]
    won = [verdict.against for verdict in beats if verdict.holds]
    lost = [verdict.against for verdict in beats if not verdict.holds]
    second = [
        f"It moves the margin more than {_listed(won)}." if won else "",
        f"It is not shown to move it more than {_listed(lost)}." if lost else "",
    ]
    ratio = measured.map.interval("log_perplexity_change", measured.seed).exp()
    third = (
        f"The price: next tokens move by {measured.map.interval('kl', measured.seed).mean:.3f} "
        f"nats of KL, and the perplexity of answers by a factor of {ratio.mean:.2f}"
    )
    if measured.choices:
        change = points(measured.right_change(measured.map.name))
        third += f"; multiple choice changes by {change} points"
    return " ".join(filter(None, [first, *second, f"{third}."]))


def _effect(measured: Measured) -> Verdicts:
    map, seed = measured.map, measured.seed
    found = map.effect(seed)
    yield replace(margin_claim(map.name, found), holds=lies_above(found.margin))
    holds = lies_above(found.chosen)
    how = in_words(holds, "become more likely", "become less likely", "are not shown to change")
    yield Verdict(
        map.name, "", "chosen", "", holds,
        f"The preferred texts themselves {how}: {found.chosen} nats a token.", str(found.chosen),
    )  # fmt: skip
    alike = measured.at_equal_length(map)
    holds = lies_above(alike)
    how = in_words(holds, "rises", "falls", "is not shown to change")
    yield Verdict(
        map.name, "", "equal length", "", holds,
        f"Where both texts are of one length the margin {how}: {alike}.", str(alike),
    )  # fmt: skip
    share = measured.worse(map)
    holds = lies_below(share, 0.5)
    which = in_words(holds, "Fewer than half", "More than half", "Perhaps half")
    times = int((map.values["change"] < 0).sum())
    yield Verdict(
        map.name, "", "few worse", "", holds,
        f"{which} of the prompts are made worse: the margin falls on {times} of {share.n}, "
        f"{percent(share)}.", percent(share),
    )  # fmt: skip
    yield from _moved(measured, map, "Its answers", "score")
    yield from _moved(
        measured, measured.sampled, f"Sampled at temperature {measured.temperature:g}, its answers",
        "sampled score",
    )  # fmt: skip


def _moved(measured: Measured, outcome: Outcome, who: str, claim: str) -> Verdicts:
    """Whether answers move towards what is preferred, by every score that can tell."""
    moved = measured.moved(outcome)
    for score in measured.scores:
        change = moved[score]
        holds = lies_above(change)
        how = in_words(holds, "move towards", "move away from", "are not shown to move towards")
        yield Verdict(
            measured.map.name, "", claim, score, holds,
            f"{who} {how} what is preferred, by {score}: {change} on the {change.n} prompts where "
            f"{score} tells the two texts apart.", str(change),
        )  # fmt: skip


def _damage(measured: Measured) -> Verdicts:
    map, seed = measured.map, measured.seed
    yield _fluent(map, seed, "Its answers", "fluent")
    yield _fluent(
        measured.sampled, seed, f"Sampled at temperature {measured.temperature:g}, they",
        "sampled fluent",
    )  # fmt: skip
    change = map.interval("distinct_2_change", seed)
    holds = lies_above(change, -DISTINCT)
    how = in_words(holds, "do not repeat", "repeat", "may repeat")
    yield Verdict(
        map.name, "", "no loops", "", holds,
        f"Its answers {how} themselves more: the share of different pairs of tokens changes by "
        f"{change}, where -{DISTINCT} is the limit.", str(change),
    )  # fmt: skip
    if measured.choices:
        change = measured.right_change(map.name)
        holds = lies_above(change, -POINTS)
        before, after = (measured.right(name).mean for name in ("unsteered", map.name))
        how = in_words(holds, "is kept", "is not kept", "may not be kept")
        yield Verdict(
            map.name, "", "multiple choice", "", holds,
            f"Multiple choice {how}: {100 * before:.1f} % right unsteered, {100 * after:.1f} % "
            f"under the map, a change of {points(change)} points{too_few(change, 'questions')}, "
            f"where -{100 * POINTS:.0f} is the limit.", points(change),
        )  # fmt: skip


def _fluent(outcome: Outcome, seed: int, who: str, claim: str) -> Verdict:
    ratio = outcome.interval("log_perplexity_change", seed).exp()
    below = lies_below(ratio, HIGHEST_PERPLEXITY_RATIO)
    figures = f"{ratio.mean:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"
    how = in_words(below, "stay fluent", "do not stay fluent", "may not stay fluent")
    text = (
        f"{who} {how}: their perplexity under the unsteered model is {figures} times that of its "
        f"own answers{too_few(ratio, 'answers')}, where {HIGHEST_PERPLEXITY_RATIO} is the limit."
    )
    return Verdict(outcome.name, "", claim, "", below, text, figures)


def _robust(measured: Measured) -> Verdicts:
    for one in measured.under:
        holds = lies_above(one.effect.margin)
        how = in_words(holds, "still rises", "falls", "is not shown to rise")
        yield Verdict(
            measured.map.name, "", "robust", one.rewrite.name, holds,
            f"With the prompts {_put(one.rewrite.name)} the margin {how}: {one.effect.margin}"
            f"{too_few(one.effect.margin, 'prompts')}; "
            f"less that of the same prompts as they were given: {one.less.margin}.",
            str(one.effect.margin),
        )  # fmt: skip


def _put(name: str) -> str:
    return {
        "longer prompt": "made longer by notes of something else",
        '"Please answer:"': 'opening with "Please answer:"',
    }.get(name, name)


def _against(measured: Measured, other: Outcome) -> Verdicts:
    """Whether the map does better than another method on the same prompts."""
    map, seed = measured.map, measured.seed
    gap = map.less(other, seed)
    holds = lies_above(gap.margin)
    unknown = "It cannot be told whether "
    how = in_words(holds, "more", "less", "more")
    start = "The map" if holds is not None else f"{unknown}the map"
    yield Verdict(
        map.name, other.name, "beats", "", holds,
        f"{start} moves the margin {how} than {other.name}: the difference is {parts_of(gap)}.",
        parts_of(gap),
    )  # fmt: skip
    for score in measured.scores:
        change = map.gap(f"{score}_toward", other, seed)
        holds = lies_above(change)
        how = in_words(holds, "further", "less far", "further")
        start = "Its answers" if holds is not None else f"{unknown}its answers"
        yield Verdict(
            map.name, other.name, "better score", score, holds,
            f"{start} move {how} towards what is preferred than those of {other.name}, by "
            f"{score}: the difference is {change}.", str(change),
        )  # fmt: skip


def _listed(names: list[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]
