"""Plans and edit logs as a notebook shows them: small HTML, without scripts."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from dspa_nn.prompts import token_texts
from dspa_nn.saes import meanings_of
from dspa_nn.shown import as_html, shaded_html, shown, table_html
from dspa_nn.steering.plots import Drawable, over_tokens
from dspa_nn.steering.telling import Tellable

# Rows and tokens of a log that are shown, and latents of a table.
_ROWS, _TOKENS, _LATENTS = 3, 400, 10
NOBODY_VOTES = "the same for every prompt: no input latent votes"


@runtime_checkable
class ShownLog(Tellable, Drawable, Protocol):
    """An edit log, as far as it is shown here."""


@runtime_checkable
class ShownPlan(Protocol):
    """A plan, as far as it is shown here."""

    @property
    def prompt_latents(self) -> list[tuple[int, int, float]]:
        """Voting input latents, their counts and weights."""
        ...

    @property
    def alike(self) -> list[bool]:
        """Whether each map scores every prompt alike."""
        ...

    @property
    def augment(self) -> list[tuple[int, float]]:
        """Latents that are raised, and their scores."""
        ...

    @property
    def ablate(self) -> list[tuple[int, float]]:
        """Latents that are turned down, and their scores."""
        ...

    @property
    def counted_tokens(self) -> int:
        """Prompt tokens that were counted."""
        ...

    @property
    def origin(self) -> Mapping[str, Any]:
        """What identifies the model and the SAEs."""
        ...


def words_of(origin: Mapping[str, Any], side: str, latent: int) -> str:
    """A few words on a latent, where the package has a table of its SAE.

    >>> words_of({}, "output", 3)
    ''
    """
    meaning = meanings_of(origin.get(f"{side}_sae_sha256")).get(latent)
    return "" if meaning is None else meaning.words()


def plan_html(plan: ShownPlan) -> str:
    """A plan: who votes, and what would be edited."""
    votes, origin = plan.prompt_latents, plan.origin
    title = f"Plan from {plan.counted_tokens} prompt tokens"
    planned = [("▲ augment", *entry) for entry in plan.augment]
    planned += [("▼ ablate", *entry) for entry in plan.ablate]
    return shown(
        title,
        table_html(
            ["direction", "output latent", "score", "promotes"],
            [
                (direction, latent, f"{score:+.3f}", words_of(origin, "output", latent))
                for direction, latent, score in planned
            ],
        )
        or "<p>nothing would be steered</p>",
        f"<p>{NOBODY_VOTES}</p>"
        if all(plan.alike)
        else table_html(
            ["input latent", "active tokens", "vote", "about"],
            [
                (latent, count, f"{weight:.3g}", words_of(origin, "input", latent))
                for latent, count, weight in votes[:_LATENTS]
            ],
            f"{len(votes)} input latents vote"
            + (f"; the first {_LATENTS}:" if len(votes) > _LATENTS else ":"),
        ),
    )


def log_html(log: ShownLog, tokenizer: Any) -> str:
    """An edit log: what it prints, the text with every moved token shaded, the latents."""
    title, *lines = str(log).split("\n")
    if not log.rows:
        return shown(title)
    parts = [f"<p>{as_html(line.strip())}</p>" for line in lines]
    if tokenizer is not None:
        parts += [_text(log, row, tokenizer) for row in range(min(log.rows, _ROWS))]
    if log.rows > _ROWS:
        parts.append(f"<p>… and {log.rows - _ROWS} more rows</p>")
    parts.append(
        table_html(
            ["output latent", "times edited", "promotes"],
            [
                (latent, times, words_of(log.origin, "output", latent))
                for latent, times in list(log.by_latent().items())[:_LATENTS]
            ],
        )
    )
    return shown(title, *parts)


def _text(log: ShownLog, row: int, tokenizer: Any) -> str:
    edits, share = over_tokens(log, row)
    most = max(float(share.max(initial=0)), 1e-12)
    whole: Any = log.sequence(row).ids
    ids: list[int] = whole.tolist()
    texts = list(token_texts(ids[:_TOKENS], tokenizer))
    marked = [
        (text, float(share[index]) / most, f"{edits[index]} edits, moved {share[index]:.1%}")
        for index, text in enumerate(texts)
    ]
    if len(ids) > _TOKENS:
        marked.append((f" … {len(ids) - _TOKENS} more tokens", 0.0, ""))
    return shaded_html(marked)
