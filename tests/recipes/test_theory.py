"""The recipes of the theory: packed counts, power, judged selections, every-token edits."""

import importlib
from typing import Any

import numpy as np
import pytest
import torch

from dspa_nn.evaluation import margins
from tests import eval_zoo


@pytest.fixture
def part(monkeypatch):
    monkeypatch.syspath_prepend(str(eval_zoo.REPOSITORY / "recipes"))
    return lambda name: importlib.import_module(f"_theory.{name}")


def test_packed_counts_come_back_with_their_splits(part, tmp_path) -> None:
    packed, counts = part("packed"), eval_zoo.counts(20)
    rows = [3 * index for index in range(20)]
    splits = ["fit"] * 10 + ["dev"] * 4 + [""] + ["test"] * 5
    packed.pack(counts, rows, splits, tmp_path / "one.npz")
    found = packed.unpack(tmp_path / "one.npz")
    assert {split: len(own) for split, own in found.items()} == {"fit": 10, "dev": 4, "test": 5}
    assert (found["dev"].index == [30, 33, 36, 39]).all()
    own = counts.subset(range(10, 14))
    for name in ("content", "markup", "chosen", "rejected"):
        assert (getattr(found["dev"], name) != getattr(own, name)).nnz == 0


def test_rows_needed_are_those_of_a_paired_test(part) -> None:
    questions = part("questions")
    assert questions.rows_needed(0.3, gain=0.02) == pytest.approx((2.8016 * 0.3 / 0.02) ** 2, abs=2)
    generator = np.random.default_rng(0)
    n = questions.rows_needed(1.0, gain=0.2)
    means = generator.normal(0.2, 1, (2000, n)).mean(1)
    assert abs((means > 1.96 / np.sqrt(n)).mean() - 0.8) < 0.03


def test_selections_rank_as_maps_do(part) -> None:
    from dspa_nn.evaluation import accuracy, global_accuracy

    ranking, counts = part("ranking"), eval_zoo.counts(20)
    fitting, others = counts.subset(range(12)), counts.subset(range(12, 20))
    found = dict(ranking.selections(fitting, ranking.Held.of(others)))
    map = fitting.fit(percentile=90, sparsify="none", prompt_tokens="content")
    rules: Any = ((ranking.PAPER, "density"), ("prompt rule: gated", "gated"))
    for name, rule in rules:
        expected = accuracy(map, others, prompt_rule=rule, k_prompt=ranking.K_PROMPT)
        assert (found[name] == expected).all()
    assert (found["global: one difference"] == global_accuracy(fitting, others)).all()
    sizes = [float(found[f"entries: {name}"][0]) for name in ("bound", "whole")]
    assert sizes[0] == 0 < sizes[1] == len(map.values)


def test_length_control_leaves_nothing_that_goes_with_length(part) -> None:
    counts = eval_zoo.counts(20)
    left = part("ranking").length_controlled(counts)
    ratio = np.log(counts.chosen_length / counts.rejected_length)
    assert np.abs((ratio - ratio.mean()) @ left).max() < 1e-9


def test_steered_margins_are_paired_where_draws_have_rows_of_their_own(part) -> None:
    told = part("steered_tables")
    paper = part("ranking").PAPER

    def run(name: str, draw: int, rows: list[int], change: float) -> dict[str, Any]:
        figures = ("change", "kl", "share")
        sides = {f"{side}.{figure}": [0.0] * len(rows) for side in ("chosen", "rejected")
                 for figure in figures}  # fmt: skip
        sides["chosen.change"] = [change] * len(rows)
        return {"name": f"{name}|{draw}", "rows": rows, **sides}

    runs = [
        run(paper, 0, [1, 2], 0.5), run("other", 0, [1, 2], 0.7),
        run(paper, 1, [3, 4], 0.1), run("other", 1, [3, 4], 0.1),
        run("once", 1, [3, 4], 0.2),
    ]  # fmt: skip
    figures: Any = {}
    lines = told.steered_tables({"made up": runs}, figures, 0.95)
    assert lines[0] == "### made up: 4 test rows, 2 draws"
    found = figures["steered"]["made up"]
    assert found[paper]["margin"]["mean"] == pytest.approx(0.3)
    assert found["other"]["gap"]["mean"] == pytest.approx(0.1)
    assert found["other"]["by draw"] == pytest.approx([0.2, 0.0])
    assert found["once"]["gap"]["mean"] == pytest.approx(0.1)


def test_every_token_is_moved_by_the_same_norm(part) -> None:
    dspa, triples = eval_zoo.dspa(), eval_zoo.triples(2)
    prompts = [dspa.render(triple.prompt) for triple in triples]
    plans: Any = {tuple(prompt.prompt_ids.tolist()): [1, 2] for prompt in prompts}
    method = part("steered").EveryToken("every token", dspa, plans, 0.5)
    assert torch.linalg.vector_norm(method.vector(prompts[0])) == pytest.approx(0.5)
    _, found = margins(dspa, triples, [method])
    assert (found.share > 0).all()
    assert found.change.any()
