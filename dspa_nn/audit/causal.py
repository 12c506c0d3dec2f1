"""Whether a latent's place in a map predicts what ablating it alone does."""

import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from dspa_nn.audit.causal_table import CausalCheck, LatentEffect
from dspa_nn.checks import check_latents, check_positive_int, check_type
from dspa_nn.errors import DSPAError, MapError, TripleError
from dspa_nn.evaluation import (
    AxisName,
    Interval,
    axis_changes,
    bootstrap,
    edit_alone,
    effect,
    margins,
    rank_correlation,
)
from dspa_nn.files import Parts, sha256_of_json
from dspa_nn.maps import ConditionalDifferenceMap
from dspa_nn.progress import show_progress
from dspa_nn.steering import DSPA, PlanOptions
from dspa_nn.triples import PreferenceTriple, as_triples

# Latents whose margins are measured in one go: the unsteered pass is shared by them.
_AT_ONCE = 5
# Prompts that are planned in one forward.
_PROMPTS = 25
_FIGURES = ("chosen", "rejected", "kl", "edits")


def top_latents(map: ConditionalDifferenceMap, n: int = 20) -> list[int]:
    """The output latents that a map steers most: those of the largest column sums, by size.

    Example:
        >>> top_latents(ConditionalDifferenceMap.from_dense([[0.5, 0.0, -1.0]]), 2)
        [2, 0]

    Ties go to the lower index; of a map with fewer, all that it can steer.

    Source: docs/method.md 10.
    """
    check_positive_int("latents", n, MapError)
    sums = map.column_sums().abs().numpy()
    order = np.argsort(-sums, kind="stable")[:n]
    return [int(latent) for latent in order if sums[latent] > 0]


def causal_check(
    dspa: DSPA,
    map: ConditionalDifferenceMap,
    triples: Iterable[Any],
    *,
    latents: int | Sequence[int] = 20,
    alpha: float = 1.0,
    answers: int | None = None,
    axes: Sequence[AxisName] | None = None,
    max_new_tokens: int = 48,
    batch_size: int = 25,
    token_budget: int = 1536,
    folder: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: bool | None = None,
    options: PlanOptions | None = None,
) -> CausalCheck:
    """Ablate each of a map's top latents alone, and see whether its place predicts its effect.

    Example:
        >>> check = causal_check(dspa, map, triples[:4], latents=3, answers=2, max_new_tokens=4)
        >>> sorted(check.correlations)[0]
        'KL by size of column sum'

    A map is a statistic of which latents differ between chosen and rejected responses, and says
    nothing of what they do. If its order is causal too, ablating a latent of a low column sum
    raises the margin, and one of a high sum lowers it.

    Args:
        dspa: the model and its SAEs.
        map: whose latents are looked at.
        triples: held-out ones, as `DSPA.count` takes them.
        latents: how many, those of the largest column sums; or which.
        alpha: size of the edit; from 1 on a latent falls to 0.
        answers: prompts of these triples, the first ones, that are answered for their style; None
            takes all of them, 0 none.
        axes: keys of `AXES`; None takes all that are measurable.
        max_new_tokens: length of the answers. batch_size: of them at once.
        token_budget: padded tokens to a pass of the margins; a GPU takes more.
        folder: keeps what is done; a run that was cut off goes on from there.
        seed: of the bootstrap.
        progress: show a bar; None shows it on a terminal.
        options: keywords of `DSPA.plan`, by which the map plans for these prompts.

    Raises:
        MapError: a map that can steer nothing, or one of another model or SAE.
        TripleError: no triples, or one that cannot be used.
        DSPAError: no such latent or axis.
    """
    check_type("map", map, ConditionalDifferenceMap, MapError)
    if isinstance(latents, str):
        raise DSPAError(f"latents is {latents!r}; give how many to take, or their numbers")
    chosen = top_latents(map, latents) if isinstance(latents, int) else [*latents]
    held_out = as_triples(triples)
    if not held_out:
        raise TripleError("no triples came to check latents on, and one at least is needed")
    if not chosen and isinstance(latents, int):
        raise MapError("the map has no entry that is not 0, so there is no latent to ablate.")
    if not chosen:
        raise DSPAError("latents is an empty list; name one at least, or how many to take")
    chosen = check_latents("output", chosen, dspa.output_sae.width)
    if twice := [latent for latent, times in Counter(chosen).items() if times > 1]:
        raise DSPAError(f"latents names {twice[0]} more than once; name each once")
    if answers is not None and answers != 0:
        check_positive_int("answers", answers, DSPAError)
    scores, planned = _planned(dspa, map, held_out, chosen, options or {})
    parts = None if folder is None else Parts(folder)
    figures = _margins(dspa, held_out, chosen, alpha, parts, token_budget, progress)
    count = len(held_out) if answers is None else min(answers, len(held_out))
    prompts = [dspa.render(one.prompt) for one in held_out[:count]]
    styles: list[dict[str, Interval]] = [{} for _ in chosen]
    if count > 1:
        found = axis_changes(
            dspa, prompts, chosen, axes=axes, alpha=alpha, max_new_tokens=max_new_tokens,
            batch_size=batch_size, folder=folder, progress=progress,
        )  # fmt: skip
        spread = np.where(found.spread > 0, found.spread, 1.0)
        styles = [
            {
                name: bootstrap(change[:, place] / spread[place], seed=seed)
                for place, name in enumerate(found.axes)
            }
            for change in found.change
        ]
    sums = map.column_sums().numpy()[chosen]
    effects = [
        LatentEffect(
            latent=latent,
            column_sum=float(sums[place]),
            score=float(scores[:, place].mean()),
            planned=int(planned[place]),
            edits=float(figures["edits"][place].mean()),
            margin=effect(figures["chosen"][place], figures["rejected"][place], seed=seed),
            kl=bootstrap(figures["kl"][place], seed=seed),
            axes=styles[place],
        )
        for place, latent in enumerate(chosen)
    ]
    change = figures["chosen"] - figures["rejected"]
    size, moved = np.abs(sums), change.mean(1)
    correlations = {
        "margin by column sum": rank_correlation(-sums, moved, seed=seed),
        "margin by mean score": rank_correlation(-scores.mean(0), moved, seed=seed),
        "margin by score, prompt by prompt": rank_correlation(-scores.T, change, seed=seed),
        "KL by size of column sum": rank_correlation(size, figures["kl"].mean(1), seed=seed),
    }
    if count > 1:
        far = [float(np.mean([abs(one.mean) for one in style.values()])) for style in styles]
        correlations["style by size of column sum"] = rank_correlation(size, far, seed=seed)
    return CausalCheck(effects, correlations, len(held_out), count)


def _planned(
    dspa: DSPA,
    map: ConditionalDifferenceMap,
    triples: Sequence[PreferenceTriple],
    latents: Sequence[int],
    options: PlanOptions,
) -> tuple[Float64[np.ndarray, "triples latents"], Int64[np.ndarray, " latents"]]:
    """The map's scores of the latents for each prompt, and how many prompts plan each of them."""
    prompts = [dspa.render(one.prompt) for one in triples]
    plans = [
        one
        for start in range(0, len(prompts), _PROMPTS)
        for one in dspa.plan(map, prompts[start : start + _PROMPTS], **options)
    ]
    scores = np.stack([plan.scores.numpy()[list(latents)] for plan in plans])
    planned = [sum(latent in plan.latents for plan in plans) for latent in latents]
    return scores, np.array(planned, dtype=np.int64)


def _margins(
    dspa: DSPA,
    triples: Sequence[PreferenceTriple],
    latents: Sequence[int],
    alpha: float,
    parts: Parts | None,
    token_budget: int,
    progress: bool | None,
) -> dict[str, Float64[np.ndarray, "latents triples"]]:
    """Changes of log p of both responses, KL and edits under each latent's ablation."""
    origin = {key: value for key, value in dspa.provenance().items() if key != "package_version"}
    texts = sha256_of_json([[one.prompt, one.chosen, one.rejected] for one in triples])
    found: dict[str, list[Any]] = {name: [] for name in _FIGURES}
    with show_progress("margins", len(latents), "latents", progress) as advance:
        for start in range(0, len(latents), _AT_ONCE):
            group = list(latents[start : start + _AT_ONCE])
            key = {"alpha": alpha, "latents": group, "origin": origin, "triples": texts}
            values = None if parts is None else parts.get("causal", key)
            if values is None:
                begun = time.perf_counter()
                methods = [edit_alone(dspa, latent, alpha=alpha) for latent in group]
                measured = margins(dspa, triples, methods, token_budget=token_budget)[1:]
                values = {
                    "chosen": [one.chosen.change.tolist() for one in measured],
                    "rejected": [one.rejected.change.tolist() for one in measured],
                    "kl": [one.kl.tolist() for one in measured],
                    "edits": [one.edits.tolist() for one in measured],
                }
                if parts is not None:
                    parts.put("causal", key, values, time.perf_counter() - begun)
            for name in _FIGURES:
                found[name] += values[name]
            advance(len(group))
    return {name: np.array(rows, dtype=np.float64) for name, rows in found.items()}
