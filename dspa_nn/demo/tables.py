"""The demo's figures as tables, chosen and rejected apart: whole in 80 columns."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.text import Text

from dspa_nn.demo.measure import kinds_of, of_kind
from dspa_nn.demo.sets import TextScore
from dspa_nn.demo.show import cell, grid, note, section
from dspa_nn.evaluation import Match, Outcome
from dspa_nn.triples import DemoRow


def margins(
    console: Console, outcomes: Sequence[Outcome], rows: Sequence[DemoRow], seed: int
) -> None:
    """The change of the margin and of its parts, over all triples and for each kind of prompt."""
    section(
        console,
        "Effect on the margin",
        "By how much steering changes log p(chosen) - log p(rejected), and each of the two, in "
        f"nats per token over {len(rows)} held-out triples. Below each mean is its 95 % bootstrap "
        "interval. A margin rises where the chosen text gains, or where the rejected one loses.",
    )
    for kind in ("", *kinds_of(rows)):
        table = grid("margin", "chosen", "rejected", name=f"{kind or 'all'} prompts")
        for outcome in outcomes[1:]:
            found = outcome.effect(seed, of_kind(rows, kind))
            table.add_row(outcome.name, *map(cell, (found.margin, found.chosen, found.rejected)))
        console.print(table)
        if kind != kinds_of(rows)[-1]:
            console.print()


def strength(console: Console, outcomes: Sequence[Outcome], seed: int) -> None:
    """How much was edited on either text, and how far the next-token distributions moved."""
    section(
        console,
        "How much was edited",
        "Per token of the held-out responses, chosen and rejected apart: output latents edited; "
        "how far the residual stream was moved, in % of its norm; and over both, KL(unsteered || "
        "steered) in nats.",
    )
    table = grid(
        "edits,\nchosen", "edits,\nrejected", "moved %,\nchosen", "moved %,\nrejected", "KL"
    )
    for outcome in outcomes[1:]:
        edits = [
            cell(outcome.interval(f"{part}_edits", seed), _edits) for part in ("chosen", "rejected")
        ]
        moved = [
            cell(outcome.interval(f"{part}_share", seed), _percent)
            for part in ("chosen", "rejected")
        ]
        divergence = cell(outcome.interval("kl", seed), "{:.3f}".format)
        table.add_row(outcome.name, *edits, *moved, divergence)
    console.print(table)


def answers(
    console: Console,
    outcomes: Sequence[Outcome],
    rows: Sequence[DemoRow],
    score: TextScore,
    seed: int,
) -> None:
    """What can be read off the answers: their score, and how fluent they are."""
    kinds = ("", *kinds_of(rows))
    section(
        console,
        "Effect on the answers",
        f"{len(rows)} greedy answers each. {score.about} Shown is its change against the "
        "unsteered answer; above 0 is towards what is preferred.",
    )
    table = grid("answers\nchanged", *(f"{score.name},\n{kind or 'all'}" for kind in kinds))
    form = f"{{:+.{score.digits}f}}".format
    for outcome in outcomes[1:]:
        intervals = (outcome.interval("score_change", seed, of_kind(rows, kind)) for kind in kinds)
        table.add_row(
            outcome.name, _changed(outcomes[0], outcome), *(cell(part, form) for part in intervals)
        )
    console.print(table)
    console.print()
    note(
        console,
        "Tokens per answer, share of different tokens and pairs of tokens, and perplexity under "
        "the unsteered model, as a ratio to that of its own answers.",
    )
    table = grid("tokens", "distinct\n1-grams", "distinct\n2-grams", "perplexity\nratio")
    for outcome in outcomes:
        table.add_row(
            outcome.name,
            cell(outcome.interval("tokens", seed), "{:.1f}".format),
            *(cell(outcome.interval(f"distinct_{n}", seed), "{:.2f}".format) for n in (1, 2)),
            cell(outcome.interval("log_perplexity_change", seed).exp(), "{:.2f}".format),
        )
    console.print(table)


def matches(console: Console, by_control: Mapping[str, Match]) -> None:
    """How near each control came to the map's strength on the development triples."""
    section(
        console,
        "Strength of the controls",
        "k_diff, then alpha, were chosen on development triples to edit as often and to move the "
        "residual stream as far as the map (its figures in brackets), or as nearly as can be.",
    )
    table = grid("k_diff", "alpha", "edits\nper token", "moved by %", "within\n10 %")
    for name, match in by_control.items():
        table.add_row(
            name,
            str(match.k_diff),
            f"{match.alpha:.2f}",
            f"{match.edits:.2f} ({match.wanted_edits:.2f})",
            f"{_percent(match.share)} ({_percent(match.wanted_share)})",
            "yes" if match.within else "no",
        )
    console.print(table)


def paired(
    console: Console, map: Outcome, others: Sequence[Outcome], score: TextScore, seed: int
) -> None:
    """The map less every other method, triple by triple."""
    section(
        console,
        "The map less the others",
        "Paired by triple: the change of the margin and its parts in nats per token, and of the "
        f"{score.name} of the answers ({score.unit}).",
    )
    table = grid("margin", "chosen", "rejected", score.name, name="the map less")
    form = f"{{:+.{score.digits}f}}".format
    for other in others:
        gap = map.less(other, seed)
        cells = [cell(part) for part in (gap.margin, gap.chosen, gap.rejected)]
        table.add_row(other.name, *cells, cell(map.gap("score_change", other, seed), form))
    console.print(table)


def latents(
    console: Console,
    steered: Outcome,
    by_kind: Mapping[str, Mapping[int, int]],
    words: Mapping[int, str] | None = None,
    most: int = 10,
) -> None:
    """Which output latents were edited how often in the answers, by kind of prompt, in words."""
    assert steered.answers is not None
    total = list(steered.answers.by_latent().items())
    told = (
        " The words are those that a latent's own direction makes likelier, read off the model's "
        "unembedding: a hint, not its meaning."
        if words
        else ""
    )
    section(
        console,
        "What was edited",
        f"{sum(times for _, times in total)} edits of {len(total)} output latents in "
        f"{len(steered.answers.texts)} answers; shown are the "
        f"{min(most, len(total))} edited most often.{told}",
    )
    table = grid("edits", *(f"on {kind}" for kind in by_kind), name="output latent")
    if words:
        table.columns[0].min_width = table.columns[0].max_width = 6
        table.columns[0].header = "latent"
        table.add_column("words", ratio=1)
    for latent, times in total[:most]:
        each = [str(edits.get(latent, 0)) for edits in by_kind.values()]
        row = [str(latent), str(times), *each]
        table.add_row(*row, *([Text(words.get(latent, "-"))] if words else []))
    console.print(table)


def _changed(unsteered: Outcome, steered: Outcome) -> str:
    if unsteered.answers is None or steered.answers is None:
        return "-"
    pairs = zip(unsteered.answers.texts, steered.answers.texts, strict=True)
    return str(sum(before != after for before, after in pairs))


def _edits(edits: float) -> str:
    return f"{edits:.2f}" if edits < 9.995 else f"{edits:.1f}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
