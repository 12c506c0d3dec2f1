"""The arithmetic of docs/method.md 2, 3, 4.1, 4.2 and 4.3, dense and in float64.

Nothing here touches a model, torch or `dspa_nn`. Where it leaves room, a comment opens with
"Choice".
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]
Singles = NDArray[np.float32]
Bools = NDArray[np.bool_]


@dataclass
class TripleCounts:
    """Tokens on which each latent fired (f > 0), and tokens that were counted, for one triple."""

    content: Ints  # [d_in], over the prompt's content tokens
    content_length: int
    markup: Ints  # [d_in], over the prompt's other tokens, a leading BOS excepted
    markup_length: int
    chosen: Ints  # [d_out]
    chosen_length: int
    rejected: Ints  # [d_out]
    rejected_length: int

    def prompt(self, prompt_tokens: str) -> tuple[Ints, int]:
        """Counts and length of the prompt tokens that count (section 4b, fourth point)."""
        if prompt_tokens == "content":
            return self.content, self.content_length
        assert prompt_tokens == "all"
        return self.content + self.markup, self.content_length + self.markup_length


@dataclass
class FittedMap:
    """What section 3 yields, and what was used on the way."""

    A: Singles  # [d_in, d_out], after sparsification
    whole: Singles  # [d_in, d_out], before it
    tau: Doubles  # [d_in]
    order_statistic: Doubles  # [d_in], sorted rho_i [ceil(p (N - 1) / 100)]
    gates: Bools  # [N, d_in], of the fitting prompts
    mean_gate: Doubles  # [d_in]
    cutoff: float  # t of section 3.4; 0 where nothing was cut
    gate: str
    kept: list[int]  # which of the triples given have densities


@dataclass
class Plan:
    """What sections 4.1 and 4.2 decide for one prompt."""

    prompt_latents: list[int]  # S_prompt, densest first
    scores: Doubles  # s, [d_out]
    augment: list[int]  # S_augment, highest score first
    ablate: list[int]  # S_ablate, lowest score first


def density(counts: Ints, length: int) -> Doubles:
    """Section 2: the fraction of counted tokens on which each latent fired."""
    return counts.astype(np.float64) / np.float64(length)  # 3.3: float64 division of the counts


def percentile_of(rho: Doubles, percentile: float) -> tuple[Doubles, Doubles]:
    """Section 3.3: tau, and the order statistic that the gate amounts to. rho is [N, d_in]."""
    count, width = rho.shape
    tau = np.zeros(width)
    order_statistic = np.zeros(width)
    place = percentile * (count - 1) / 100
    below, above = math.floor(place), math.ceil(place)
    for i in range(width):
        values = np.sort(rho[:, i])  # zeros included
        low, high = values[below], values[above]
        share = place - below  # linear interpolation, from the nearer end as numpy has it
        tau[i] = low + (high - low) * share if share < 0.5 else high - (high - low) * (1 - share)
        order_statistic[i] = high
    return tau, order_statistic


def gates_of(rho: Doubles, threshold: Doubles, gate: str) -> Bools:
    """Sections 2 and 10: g = 1 where rho_i >= threshold_i, and for "active" rho_i > 0 as well."""
    opened = rho >= threshold
    if gate == "active":
        return opened & (rho > 0)
    assert gate == "literal"
    return opened


def mean_difference(gates: Bools, drho: Doubles) -> Doubles:
    """Section 2: A = (1/N) sum_k g(x_k) drho_k^T, in float64."""
    count, d_in = gates.shape
    total = np.zeros((d_in, drho.shape[1]))
    for k in range(count):
        for i in range(d_in):
            if gates[k, i]:
                total[i] += drho[k]
    return total / count


def sparsify(
    whole: Singles, rule: str, k_diff: int, max_entries: int | None = None
) -> tuple[Singles, float]:
    """Section 3.4: the sparsified map and its cutoff t. Values are the stored float32 ones."""
    assert whole.dtype == np.float32
    kept = whole.copy()
    cutoff = 0.0
    if rule == "paper":
        # Candidates of every row, ranked over the whole row, zeros included; zeros then left out.
        candidates: list[float] = []
        for row in whole:
            places = extremes(row, k_diff)
            candidates += [abs(float(row[j])) for j in places if row[j] != 0]
        if candidates:  # else A is zero throughout and there is nothing to cut
            cutoff = min(candidates)
            kept[np.abs(kept) < cutoff] = 0
    elif rule == "rows":
        kept[:] = 0
        for i, row in enumerate(whole):
            for j in extremes(row, k_diff):
                kept[i, j] = row[j]
    else:
        assert rule == "none"
    # Choice: the budget applies after any of the three rules, and t becomes the smallest stored
    # |value| from which on no more than max_entries remain. Values tied with t stay or go together,
    # so the budget may be undershot; where even the largest |value| is tied too often, none stays.
    if max_entries is not None and np.count_nonzero(kept) > max_entries:
        sizes = np.abs(kept)
        fitting = [v for v in np.unique(sizes[sizes > 0]) if (sizes >= v).sum() <= max_entries]
        cutoff = float(min(fitting)) if fitting else math.inf
        kept[sizes < cutoff] = 0
    return kept, cutoff


def extremes(row: Singles, k: int) -> set[int]:
    """Places of the k largest and the k smallest values of a row; all of it where 2 k cover it.

    Choice: ties go to the lower index at both ends, as everywhere in docs/method.md. (Under
    "paper" that changes nothing, because only the values matter there.)
    """
    width = len(row)
    if width <= 2 * k:
        return set(range(width))
    largest = sorted(range(width), key=lambda j: (-row[j], j))[:k]
    smallest = sorted(range(width), key=lambda j: (row[j], j))[:k]
    return set(largest) | set(smallest)


def fit_map(
    counts: Sequence[TripleCounts],
    *,
    percentile: float = 90,
    gate: str = "active",
    sparsify_rule: str = "paper",
    k_diff: int = 16,
    max_entries: int | None = None,
    prompt_tokens: str = "content",
) -> FittedMap:
    """Section 3, whole: counts of triples to a map.

    Rounding: everything is float64 until A, the mean over the N kept triples, is stored as
    float32; sparsification compares those stored values.
    """
    # 4b: a prompt in which no token counts has no densities, and its triple is skipped.
    kept = [k for k, triple in enumerate(counts) if triple.prompt(prompt_tokens)[1] > 0]
    rho = np.stack([density(*counts[k].prompt(prompt_tokens)) for k in kept])
    drho = np.stack(
        [
            density(counts[k].chosen, counts[k].chosen_length)
            - density(counts[k].rejected, counts[k].rejected_length)
            for k in kept
        ]
    )
    tau, order_statistic = percentile_of(rho, percentile)
    gates = gates_of(rho, order_statistic, gate)
    whole = mean_difference(gates, drho).astype(np.float32)
    A, cutoff = sparsify(whole, sparsify_rule, k_diff, max_entries)
    return FittedMap(
        A=A,
        whole=whole,
        tau=tau,
        order_statistic=order_statistic,
        gates=gates,
        mean_gate=gates.astype(np.float64).mean(axis=0),
        cutoff=cutoff,
        gate=gate,
        kept=kept,
    )


def prompt_latents(counts: Ints, k_prompt: int) -> list[int]:
    """Section 4.1: the k_prompt densest latents, active only, by integer count, ties to the lower
    index."""
    active = [i for i in range(len(counts)) if counts[i] > 0]
    return sorted(active, key=lambda i: (-int(counts[i]), i))[:k_prompt]


def weights(
    fitted: FittedMap, counts: Ints, length: int, prompt_rule: str, k_prompt: int
) -> Doubles:
    """Section 4, last paragraph: w of s = A^T w, for the three prompt rules."""
    if prompt_rule == "density":
        w = np.zeros(len(counts))
        w[prompt_latents(counts, k_prompt)] = 1
        return w
    # Choice: a new prompt's gates are read at tau, as section 2 defines them and as the map's files
    # keep it. For the fitting prompts that equals the order statistic; a new prompt's rho may lie
    # between the two.
    g = gates_of(density(counts, length), fitted.tau, fitted.gate).astype(np.float64)
    if prompt_rule == "gated":
        return g
    assert prompt_rule == "centred"
    return g - fitted.mean_gate


def scores(A: Singles, w: Doubles) -> Doubles:
    """Section 4.2: s = A^T w, summed in float64 from the stored float32 entries, rows upwards."""
    s = np.zeros(A.shape[1])
    for i in range(A.shape[0]):
        if w[i] != 0:
            s += w[i] * A[i].astype(np.float64)
    return s


def select(
    s: Doubles,
    k_diff: int,
    *,
    mode: str = "ablate",
    only: Collection[int] | None = None,
    never: Collection[int] | None = None,
) -> tuple[list[int], list[int]]:
    """Section 4.2: (S_augment, S_ablate). `only` and `never` act before the k_diff are chosen."""
    assert mode in ("ablate", "augment", "both")
    allowed = [
        j
        for j in range(len(s))
        if (only is None or j in only) and (never is None or j not in never)
    ]
    highest = sorted(allowed, key=lambda j: (-s[j], j))[:k_diff]
    lowest = sorted(allowed, key=lambda j: (s[j], j))[:k_diff]
    augment = [j for j in highest if s[j] > 0] if mode != "ablate" else []
    ablate = [j for j in lowest if s[j] < 0] if mode != "augment" else []
    return augment, ablate


def make_plan(
    fitted: FittedMap,
    counts: Ints,
    length: int,
    *,
    prompt_rule: str = "density",
    k_prompt: int = 32,
    k_diff: int = 16,
    mode: str = "ablate",
    only: Collection[int] | None = None,
    never: Collection[int] | None = None,
) -> Plan:
    """Sections 4.1 and 4.2 for one prompt. `counts` and `length` are of counted tokens."""
    if length == 0:  # 4b: no densities, nothing planned (under any prompt rule)
        return Plan([], np.zeros(fitted.A.shape[1]), [], [])
    s = scores(fitted.A, weights(fitted, counts, length, prompt_rule, k_prompt))
    augment, ablate = select(s, k_diff, mode=mode, only=only, never=never)
    return Plan(prompt_latents(counts, k_prompt), s, augment, ablate)


def edit(f: Doubles, plan: Plan, alpha: float) -> Doubles:
    """Section 4.3 at one position: f~' [d_out] from f~ [d_out].

    The two sets are disjoint (one has s > 0, the other s < 0), so their order is of no account, and
    M_t is of the activations before the edit.
    """
    largest = f.max()  # M_t, over all latents, planned or not
    edited = f.copy()
    for j in plan.augment:
        if f[j] > 0:
            edited[j] = f[j] + alpha * largest
    for j in plan.ablate:
        if f[j] > 0:
            edited[j] = max(f[j] - alpha * largest, 0.0)
    return edited
