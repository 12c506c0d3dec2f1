"""Which new prompts a map has anything to say to: how many open one of its rows, which none."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64

from dspa_nn.checks import check_type
from dspa_nn.counts import ActivationCounts
from dspa_nn.errors import MapError
from dspa_nn.evaluation import Interval, proportion
from dspa_nn.graph.settings import DEFAULTS
from dspa_nn.maps import ConditionalDifferenceMap, MapSum, same_for_every_prompt
from dspa_nn.shown import as_html, check_axes, facts_html, pyplot, shown
from dspa_nn.steering import Plan

# Prompts that are looked at together: dense, they take 8 bytes for each latent.
_TOGETHER = 256
_NAMED = 12


@dataclass(frozen=True)
class Coverage:
    """How far a map reaches on prompts that it was not fitted on.

    Example:
        >>> print(coverage(map, counts))
        20 of 20 prompts open at least one of the map's ... rows (1.000 [0.839, 1.000])...

    Attributes:
        rule: "gated", a row is open where its latent's gate is; or "density", where its latent is
            among the prompt's densest.
        index: number of each prompt in its source.
        opened: rows of the map that each prompt opens.
        rows: the input latents that have entries in the map.
        times: prompts that open each of these rows.
        fitted: share of the fitting prompts that opened each; None where the map does not know, or
            the rule is "density".
    """

    rule: str
    index: Int64[np.ndarray, " n"]
    opened: Int64[np.ndarray, " n"]
    rows: Int64[np.ndarray, " r"]
    times: Int64[np.ndarray, " r"]
    fitted: Float64[np.ndarray, " r"] | None

    @property
    def covered(self) -> Interval:
        """The share of prompts that open at least one row, with Wilson's interval."""
        return proportion(self.opened > 0)

    @property
    def without(self) -> list[int]:
        """The prompts that open no row, by their number: nothing is steered for them."""
        return [int(number) for number in self.index[self.opened == 0]]

    @property
    def never(self) -> list[int]:
        """The input latents whose row no prompt opened."""
        return [int(latent) for latent in self.rows[self.times == 0]]

    def plot(self, axes: Any = None) -> Any:
        """Draw how often each row is opened, the most often opened first, with matplotlib.

        Beside it, where it is known, how often the fitting prompts opened the same rows. `axes`:
        one of matplotlib's to draw on; returned, as is a new one where None is given.
        """
        check_axes(axes, 1)
        if axes is None:
            _, axes = pyplot().subplots(figsize=(7, 3), layout="constrained")
        order = np.argsort(-self.times, kind="stable")
        share = self.times[order] / len(self.index)
        places = np.arange(len(order))
        if self.fitted is not None:
            axes.plot(
                places, self.fitted[order], ".", color="#d9772b", markersize=2,
                label="fitting prompts",
            )  # fmt: skip
        axes.step(places, share, where="mid", color="#3b8ad8", label="these prompts")
        axes.set_xlabel("row of the map")
        axes.set_ylabel("share of prompts")
        axes.legend(frameon=False, fontsize="small")
        return axes

    def _facts(self) -> dict[str, str]:
        one = self.covered
        facts = {
            "prompts that open a row": f"{int((self.opened > 0).sum())} of {len(self.index)} "
            f"({one.mean:.3f} [{one.low:.3f}, {one.high:.3f}])",
            "rows that a prompt opens": "median "
            f"{np.median(self.opened):g}, from {self.opened.min()} to {self.opened.max()}",
            "rows that none opens": f"{len(self.never):,} of {len(self.rows):,}",
        }
        if self.without:
            facts["prompts that open none"] = _listed(self.without)
        return facts

    def _repr_html_(self) -> str:
        return shown(
            f"Coverage of a map by {len(self.index)} prompts",
            f"<p>{as_html(_RULES[self.rule])}</p>",
            facts_html(self._facts()),
        )

    def __str__(self) -> str:
        one, never = self.covered, len(self.never)
        told = (
            f"{int((self.opened > 0).sum())} of {len(self.index)} prompts open at least one of the "
            f"map's {len(self.rows):,} rows ({one.mean:.3f} [{one.low:.3f}, {one.high:.3f}]); the "
            f"median prompt opens {np.median(self.opened):g}\n"
            f"{never:,} rows ({never / len(self.rows):.0%}) are opened by none of them"
        )
        if self.without:
            told += f"\nprompts that open none: {_listed(self.without)}"
        return f"{told}\n{_RULES[self.rule]}"

    __repr__ = __str__


_RULES = {
    "gated": "a row is open where its latent's gate is, as the map was fitted",
    "density": "a row is open where its latent is among the prompt's densest that vote",
}


def coverage(
    map: ConditionalDifferenceMap,
    prompts: ActivationCounts | Sequence[Plan],
    *,
    prompt_rule: str | None = None,
    k_prompt: int | None = None,
) -> Coverage:
    """Count how many prompts open at least one row of a map, and which rows none opens.

    Example:
        >>> found = coverage(map, [dspa.plan(map, "sun and moon"), dspa.plan(map, "tea")])
        >>> len(found.index), found.rule
        (2, 'gated')

    A prompt that opens no row is not steered at all, whatever alpha is; a row that is never opened
    is learned from the fitting triples alone. Where the rule is "centred", a closed gate votes
    too, against its mean: what is counted are the open ones.

    Args:
        map: with its thresholds, for the rules "gated" and "centred".
        prompts: counts of new triples, or what `DSPA.plan` made of new prompts.
        prompt_rule: "gated", "centred" or "density"; None takes the map's own.
        k_prompt: prompt latents that vote under "density"; None takes the map's own.

    Raises:
        MapError: prompts of another model or SAE, none at all, or a map without thresholds.
    """
    check_type("map", map, ConditionalDifferenceMap, MapError)
    terms = map.terms if isinstance(map, MapSum) else ((1.0, map),)
    # A sum's members may vote by rules of their own; one of them is looked at.
    if same_for_every_prompt(map):
        raise MapError(
            "coverage was given what scores every prompt alike, as a persona does, so it opens no "
            "rows; every prompt is steered by the same latents"
        )
    rule = prompt_rule or terms[0][1].defaults.get("prompt_rule") or DEFAULTS["prompt_rule"]
    asked = "density" if rule == "density" else "gated" if rule == "centred" else rule
    rows = np.unique(np.concatenate([member.rows.numpy() for _, member in terms]))
    if not len(rows):
        raise MapError("the map has no entries, so no prompt can open a row; fit it anew")
    index: list[np.ndarray] = []
    opened: list[np.ndarray] = []
    times = np.zeros(len(rows), dtype=np.int64)
    for numbers, counts, lengths in _prompts(map, prompts):
        votes = torch.zeros(counts.shape, dtype=torch.bool)
        for _, member in terms:
            own = member.weights(counts, lengths, prompt_rule=asked, k_prompt=k_prompt) > 0
            votes[:, member.rows] |= own[:, member.rows]
        here = votes[:, torch.as_tensor(rows)].numpy()
        index.append(numbers)
        opened.append(here.sum(1))
        times += here.sum(0)
    if not index:
        raise MapError("coverage was given no prompts; give counts or plans of at least one")
    known = map.gate_mean if asked == "gated" else None
    return Coverage(
        rule=asked,
        index=np.concatenate(index),
        opened=np.concatenate(opened),
        rows=rows,
        times=times,
        fitted=None if known is None else known.numpy()[rows],
    )


def _prompts(
    map: ConditionalDifferenceMap, prompts: Any
) -> Iterator[tuple[np.ndarray, torch.Tensor, torch.Tensor]]:
    """A few prompts at a time: their numbers, counts [n, d_in] and lengths [n]."""
    if isinstance(prompts, ActivationCounts):
        _check_origin(map, prompts.provenance)
        table, lengths = prompts.prompt(map.prompt_tokens)
        for start in range(0, len(prompts), _TOGETHER):
            part = slice(start, start + _TOGETHER)
            yield (
                prompts.index[part],
                torch.as_tensor(table[part].toarray()),
                torch.as_tensor(lengths[part]),
            )
        return
    check_type("prompts", prompts, list | tuple, MapError)
    for start in range(0, len(prompts), _TOGETHER):
        plans = prompts[start : start + _TOGETHER]
        for plan in plans:
            check_type("a prompt", plan, Plan, MapError)
            _check_origin(map, plan.origin)
        yield (
            np.arange(start, start + len(plans)),
            torch.stack([plan.made.counts for plan in plans]),
            torch.stack([plan.made.lengths for plan in plans]),
        )


def _check_origin(map: ConditionalDifferenceMap, known: Any) -> None:
    map.check(
        model_id=known.get("model_id"),
        revision=known.get("model_revision"),
        input_sae_sha256=known.get("input_sae_sha256"),
        input_layer=known.get("input_layer"),
    )


def _listed(numbers: Sequence[int]) -> str:
    more = f" and {len(numbers) - _NAMED} more" if len(numbers) > _NAMED else ""
    return ", ".join(str(number) for number in numbers[:_NAMED]) + more
