"""The paper's theory where the truth is known: tables, in about a minute.

    python recipes/known_truth.py

In `dspa_nn.theory.make_world` the utilities, the covariance and the chance of gates to open
together are chosen, so that A, M and every template are known exactly.
"""

from typing import Any

import numpy as np
import torch

from dspa_nn.imports import late
from dspa_nn.theory import (
    Sample,
    World,
    concentration_radius,
    conditioning,
    demix,
    gram,
    make_world,
    row_means,
    studentised,
)

SIZES = (100, 250, 1000, 4000, 16000)
TOGETHER = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
RIDGES = (0.0, 0.1, 1.0)
SEEDS = 5


def cosine(found: np.ndarray, truth: np.ndarray) -> float:
    """The mean over rows of the cosine between what was found and the truth."""
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(truth, axis=1)
    return float(np.mean((found * truth).sum(1) / np.maximum(norms, 1e-12)))


def error_of_a(world: World, n: int, seed: int) -> float:
    """How far A of a sample is from (c Sigma B M)^T, relative to it."""
    gap = world.draw(n, seed).map.toarray() - world.map()
    return float(np.linalg.norm(gap) / np.linalg.norm(world.map()))


def templates(world: World, sample: Sample, ridge: float | None) -> np.ndarray:
    """Each gate's template as the row of A, or de-mixed with a ridge, [d_in, d_out]."""
    if ridge is None:
        return sample.map.toarray()
    A, M = (torch.as_tensor(table.toarray()) for table in (sample.map, gram(sample.gates)))
    unit = torch.eye(world.d_in, dtype=torch.float64)
    return np.stack([demix(A, M, unit[gate], ridge).numpy() for gate in range(world.d_in)])


def recovered(n: int) -> list[dict[str, float]]:
    """For each chance to open together: the condition number of M, and cosines with the truth."""
    found = []
    for together in TOGETHER:
        row: dict[str, float] = {"together": together}
        cells: dict[str, list[float]] = {}
        for seed in range(SEEDS):
            world = make_world(together=together, alone=0.02, seed=seed)
            sample = world.draw(n, 100 + seed)
            truth = world.c * (world.Sigma @ world.B).T
            cells.setdefault("number", []).append(conditioning(world.gram()).number)
            for ridge in (None, *RIDGES):
                name = "A" if ridge is None else f"ridge {ridge:g}"
                cells.setdefault(name, []).append(cosine(templates(world, sample, ridge), truth))
        found.append(row | {name: float(np.mean(values)) for name, values in cells.items()})
    return found


def coverage(n: int = 250, draws: int = 200) -> list[tuple[str, float, float]]:
    """How often a bound or a test errs, where no entry of A has a mean other than 0."""
    csr_array: Any = late("scipy.sparse").csr_array
    missed: dict[float, list[float]] = {0.05: [], 0.2: []}
    false: dict[float, list[float]] = {0.05: [], 0.2: []}
    world = make_world(seed=0)
    for seed in range(draws):
        generator = np.random.default_rng(seed)
        drho = generator.choice([-1.0, 1.0], (n, len(world.Sigma)))
        gates = world.gates(n, generator)
        sample = Sample(csr_array(gates), csr_array(drho), np.full(world.d_in, 0.5))
        largest = np.abs(row_means(sample).toarray()).max(1)
        tested = studentised(sample)
        for level, rows in missed.items():
            radius = concentration_radius(sample.opened, drho.shape[1], level)
            rows.append(float((largest > radius)[sample.opened > 0].mean()))
            false[level].append(float(tested.discoveries(level).any()))
    return [
        *(("rows outside the bound", level, float(np.mean(v))) for level, v in missed.items()),
        *(("draws with any discovery", level, float(np.mean(v))) for level, v in false.items()),
    ]


def main() -> None:
    errors = [
        float(np.mean([error_of_a(make_world(seed=seed), n, 100 + seed) for seed in range(SEEDS)]))
        for n in SIZES
    ]
    few, many = recovered(250), recovered(16000)
    print("| N | error of A, relative |\n|---|---|")
    print("\n".join(f"| {n:,} | {error:.3f} |" for n, error in zip(SIZES, errors, strict=True)))
    ways = ("A", *(f"ridge {ridge:g}" for ridge in RIDGES))
    heads = [f"{name}, N = {n:,}" for n in (250, 16000) for name in ways]
    print("\n| opens with its group | condition number | " + " | ".join(heads) + " |")
    print("|" + "---|" * (2 + len(heads)))
    for one, other in zip(few, many, strict=True):
        cells = [f"{rows[name]:.2f}" for rows in (one, other) for name in ways]
        print(f"| {one['together']:g} | {one['number']:.1f} | " + " | ".join(cells) + " |")
    print("\n| | level | observed |\n|---|---|---|")
    print("\n".join(f"| {what} | {level:g} | {share:.3f} |" for what, level, share in coverage()))


if __name__ == "__main__":
    main()
