"""How the comparison depends on the number of triples, and DSPA on its settings."""

import time
from dataclasses import replace
from typing import Any

import numpy as np
from _real.runs import kept, measure
from _real.tuning import averages

from _arena.methods import build
from dspa_nn.counts import ActivationCounts
from dspa_nn.evaluation import answer, distinct, longer_wins, surprise
from dspa_nn.graph.settings import DEFAULTS, PLAN_SETTINGS
from dspa_nn.maps import densities, open_gates, thresholds

SIZES, RESAMPLINGS = (25, 100, 250), 5
RANKING_SIZES, RANKINGS = (10, 25, 50, 100, 175, 250, 325), 20
STUDIED = ("DSPA", "RepE", "Static-SAE")


def drawn(total: int, size: int, seed: int) -> list[int]:
    """Triples of one resampling, without replacement, in their order."""
    random = np.random.default_rng([size, seed])
    return sorted(random.choice(total, size, replace=False).tolist())


# Rule -> percentile and prompt rule of a map, fixed beforehand.
RULES: dict[str, tuple[float, Any]] = {
    "gated, p = 50": (50, "gated"),
    "gated, p = 90": (90, "gated"),
    "centred, p = 50": (50, "centred"),
    "paper's: density, p = 90": (90, "density"),
}


def ranking(arena: Any) -> None:
    """Held-out ranking by counts alone, over the number of fitting triples."""
    fitting, test = arena.counts("fit"), arena.counts(arena.options.held_out)
    found: dict[str, Any] = {"longer wins": longer_wins(test).tolist()}
    found["held out"] = [arena.options.held_out, len(test)]
    for size in (size for size in RANKING_SIZES if size <= len(fitting)):

        def run(size: int = size) -> dict[str, list[float]]:
            shares: dict[str, list[float]] = {}
            # All that there is can be drawn once alone.
            for seed in range(RANKINGS if size < len(fitting) else 1):
                for name, share in ranks(fitting, drawn(len(fitting), size, seed), test).items():
                    shares.setdefault(name, []).append(share)
            return shares

        path = arena.work / "ranking" / f"{size}.json"
        for name, values in kept(path, [size, RANKINGS, *found["held out"]], run).items():
            found.setdefault(name, {})[str(size)] = values
        print(size, {n: round(float(np.mean(v[str(size)])), 3) for n, v in found.items()
                     if isinstance(v, dict)}, flush=True)  # fmt: skip
        kept(arena.work / "ranking.json", found, lambda: found)


def ranks(fitting: ActivationCounts, rows: list[int], test: ActivationCounts) -> dict[str, float]:
    """Share of held-out triples that whole maps of some fitting triples rank rightly.

    A map is a mean over its triples, so s(x) . drho is the mean of `(w . g) (drho . drho)` over
    them, and no map is made (docs/method.md 3 and 4, `sparsify="none"`).
    """
    counts = fitting.subset([fitting.index[row] for row in rows])
    rho, seen = (densities(*one.prompt("content")) for one in (counts, test))
    here: Any = test.differences()
    alike = (here @ counts.differences().T).toarray()
    shares: dict[str, float] = {}
    for name, (percentile, rule) in RULES.items():
        tau, cut = thresholds(rho, percentile)
        gates = open_gates(rho, cut, "active")[0].toarray()
        weights = votes(seen.toarray(), tau, rule)
        if rule == "centred":
            weights = weights - gates.mean(0)
        score = ((weights @ gates.T) * alike).mean(1)
        shares[name] = float(right(score).mean())
    return {**shares, "one global difference": float(right(alike.mean(1)).mean())}


def votes(rho: np.ndarray, tau: np.ndarray, rule: str) -> np.ndarray:
    """Which prompt latents vote: those whose gate is open, or the 32 of highest density."""
    if rule != "density":
        return ((rho > 0) & (rho >= tau)).astype(float)
    order = np.argsort(-rho, axis=1, kind="stable")[:, : DEFAULTS["k_prompt"]]
    chosen = np.zeros_like(rho)
    np.put_along_axis(chosen, order, 1.0, axis=1)
    return chosen * (rho > 0)


def right(scores: np.ndarray) -> np.ndarray:
    """1 where chosen is ranked first, 0 where rejected is, 0.5 for a tie."""
    return (np.sign(scores) + 1) / 2


def efficiency(arena: Any) -> None:
    """The change of the margin of methods that were fitted on resamplings of fewer triples."""
    everything, triples = arena.fitted, arena.splits["test"][: arena.options.study]
    total = len(everything.taken)
    for size in SIZES:
        # All that there is can be drawn once alone.
        for seed in range(RESAMPLINGS if size < total else 1):
            fitted = everything.of(drawn(total, min(size, total), seed))
            settings = {name: arena.chosen[name] for name in STUDIED}
            methods = [build(fitted, name, setting) for name, setting in settings.items()]
            folder = arena.work / "efficiency" / f"{size}-{seed}"
            found = measure(arena.dspa, triples, methods, folder, [arena.key, settings])
            value = {name: averages(found[name]) for name in STUDIED}
            path = arena.work / "efficiency" / f"{size}-{seed}.json"
            kept(path, value, lambda value=value: value)
            print(size, seed, {n: round(v["change"], 4) for n, v in value.items()}, flush=True)


def around(default: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Axis -> settings that differ from the default in that alone."""
    density = {**default, "prompt_rule": "density"}
    return {
        "alpha": [{**default, "alpha": a} for a in (0.1, 0.2, 0.4, 0.7, 1.0)],
        "k_diff": [{**default, "k_diff": k} for k in (1, 4, 16, 64, 256)],
        "percentile": [{**default, "percentile": p} for p in (25, 50, 75, 90, 97)],
        "prompt_rule": [{**default, "prompt_rule": r} for r in ("density", "gated", "centred")],
        "k_prompt": [{**density, "k_prompt": k} for k in (4, 16, 32, 64, 256)],
        "alpha x mode": [
            {**default, "alpha": a, "mode": mode}
            for mode in ("ablate", "augment", "both")
            for a in (0.1, 0.2, 0.4, 0.8, 1.6)
        ],
    }


def between(arena: Any, default: dict[str, Any], triples: Any) -> list[dict[str, Any]]:
    """The preset's settings between every pair of layers that there are SAEs for."""
    rows: list[dict[str, Any]] = []
    for pair in arena.swept.pairs:
        fitted = replace(
            arena.fitted, dspa=arena.swept.dspa(*pair), counts=arena.swept.counts(*pair)
        )
        method = build(fitted, "DSPA", default)
        folder = arena.work / "sensitivity" / "layers-{}-{}".format(*pair)
        found = measure(fitted.dspa, triples, [method], folder, [arena.key, default, pair])
        rows.append(row_of({**default, "layers": list(pair)}, found["DSPA"]))
    return rows


def row_of(setting: dict[str, Any], found: Any) -> dict[str, Any]:
    """What one setting did: the averages, and every triple's change."""
    changes = found["chosen.change"] - found["rejected.change"]
    return {"setting": setting, **averages(found), "changes": changes.tolist()}


def sensitivity(arena: Any) -> None:
    """One setting at a time around the preset's, and alpha with every mode, with answers."""
    dspa, work = arena.dspa, arena.work / "sensitivity"
    default = {
        name: dspa.defaults.get(name, DEFAULTS.get(name)) for name in ("percentile", *PLAN_SETTINGS)
    }
    triples = arena.splits["test"][: arena.options.study]
    rows: dict[str, list[dict[str, Any]]] = {}
    for axis, settings in around(default).items():
        methods = [build(arena.fitted, "DSPA", s, f"{i}") for i, s in enumerate(settings)]
        folder = work / axis.replace(" ", "-")
        found = measure(dspa, triples, methods, folder, [arena.key, settings])
        rows[axis] = [row_of(own, found[str(place)]) for place, own in enumerate(settings)]
    rows["layers"] = between(arena, default, triples)
    for axis, found in rows.items():
        for row in found:
            print(axis, row["setting"], round(row["change"], 4), round(row["kl"], 4), flush=True)
    kept(work / "margins.json", rows, lambda: rows)
    said(arena, default, work)


def said(arena: Any, default: dict[str, Any], work: Any) -> None:
    """Answers over alpha and mode: where do they break?"""
    dspa = arena.dspa
    prompts = [dspa.render(one.prompt) for one in arena.splits["test"][:16]]
    for place, setting in enumerate([None, *around(default)["alpha x mode"]]):

        def run(setting: Any = setting) -> dict[str, Any]:
            method = None if setting is None else build(arena.fitted, "DSPA", setting)
            found = answer(dspa, prompts, method, max_new_tokens=40, batch_size=16)
            return {
                "setting": setting,
                "texts": found.texts,
                "ids": [ids.tolist() for ids in found.ids],
                "distinct_2": [distinct(ids, 2) for ids in found.ids],
                "log_perplexity": surprise(dspa, prompts, found).tolist(),
            }

        begun = time.perf_counter()
        kept(work / f"answers-{place:02d}.json", [arena.key, setting], run)
        print(f"{setting}: answered, {time.perf_counter() - begun:.0f} s", flush=True)
