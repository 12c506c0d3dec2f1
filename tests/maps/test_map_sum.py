"""Sums of maps: scores add exactly, whatever each map was fitted with."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dspa_nn.errors import FileError, MapError
from dspa_nn.maps import ConditionalDifferenceMap, MapSum
from tests.count_zoo import random_counts, seeds
from tests.examples import examples

quick = settings(max_examples=examples(10), deadline=None)
coefficients = st.sampled_from([1.0, -1.0, 0.5, 0.3, -2.75, 1e-3])
rules = st.sampled_from(["density", "gated", "centred"])


def each(terms: Any) -> Any:
    """An iterator over what the annotation rules out."""
    return iter(terms)


def fitted(seed: int, percentile: int = 50, **options: Any) -> ConditionalDifferenceMap:
    """A map of counts of its own, with a prompt rule of its own."""
    own = {"prompt_rule": options.pop("rule", "centred"), "k_prompt": options.pop("k", 3)}
    map = random_counts(seed, 8).fit(percentile=percentile, k_diff=2, **options)
    map.defaults = own
    return map


def prompts(seed: int, n: int = 5) -> tuple[np.ndarray, np.ndarray]:
    table, lengths = random_counts(seed, n).prompt()
    return table.toarray(), lengths


@pytest.fixture
def three() -> list[ConditionalDifferenceMap]:
    return [
        fitted(1, 50),
        fitted(2, 90, gate="literal", sparsify="none", rule="gated"),
        fitted(3, 0, rule="density", k=2),
    ]


@quick
@given(seeds, st.lists(st.tuples(coefficients, st.integers(0, 100), rules), min_size=1, max_size=4))
def test_the_score_of_a_sum_is_the_sum_of_the_scores(
    seed: int, own: list[tuple[float, int, str]]
) -> None:
    # Each with its own percentile, thresholds and prompt rule; added from the first to the last.
    maps = [fitted(seed + i, p, rule=rule) for i, (_, p, rule) in enumerate(own)]
    numbers = [number for number, _, _ in own]
    counts, lengths = prompts(seed + 99)
    total: Any = numbers[0] * maps[0]
    wanted: Any = numbers[0] * maps[0].score(counts, lengths)
    for number, map in zip(numbers[1:], maps[1:], strict=True):
        total = total + number * map
        wanted = wanted + number * map.score(counts, lengths)
    assert torch.equal(total.score(counts, lengths), wanted)
    assert torch.equal(total.score(counts[0], lengths[0]), wanted[0])
    over_all = {"prompt_rule": "gated", "k_prompt": 1}
    wanted = sum(n * m.score(counts, lengths, **over_all) for n, m in total.terms)
    assert torch.equal(total.score(counts, lengths, **over_all), wanted)


def test_it_is_written_as_numbers_are(three: list[ConditionalDifferenceMap]) -> None:
    a, b, c = three
    counts, lengths = prompts(7)
    s = [map.score(counts, lengths) for map in three]
    assert torch.equal((a + 0.5 * b - c).score(counts, lengths), s[0] + 0.5 * s[1] - s[2])
    assert torch.equal((-a).score(counts, lengths), -s[0])
    assert torch.equal((a / 2).score(counts, lengths), s[0] / 2)
    assert torch.equal((a * 3 - b / 4).score(counts, lengths), 3 * s[0] - s[1] / 4)
    total: Any = sum([a, b, c], start=0)
    assert torch.equal(total.score(counts, lengths), s[0] + s[1] + s[2])
    for number in (np.float32(0.5), np.array(0.5), torch.tensor(0.5)):
        assert (a * number).terms == ((0.5, a),)
    assert (np.float64(0.5) * a).terms == ((0.5, a),)


def test_nested_sums_are_flat_and_equal_members_one(three: list[Any]) -> None:
    a, b, c = three
    nested = 2 * (a + (b - c) / 2) - (a - b)
    assert [number for number, _ in nested.terms] == [1.0, 2.0, -1.0]
    assert [map for _, map in nested.terms] == [a, b, c]
    assert [number for number, _ in (a + (b + c)).terms] == [
        number for number, _ in ((a + b) + c).terms
    ]
    again = ConditionalDifferenceMap(
        a.rows, a.indptr, a.columns, a.values, a.shape, tau=a.tau.clone(), gate_mean=a.gate_mean,
        provenance=a.provenance, defaults=a.defaults, **a.fitted,
    )  # fmt: skip
    assert (a + again).terms == ((2.0, a),)
    for other in (fitted(1, 51), a.restrict(rows=[0])):
        assert len((a + other).terms) == 2
    assert (a + b - a).terms == ((1.0, b),)
    assert (a - a).terms == ((0.0, a),)
    assert (a - a + b).terms == ((1.0, b),)
    assert not len((a - a).values)
    assert not len((a - a).columns_used())


def test_looking_at_a_sum_shows_its_entries_added_up(three: list[Any]) -> None:
    a, b, _ = three
    total = a - 0.5 * b
    dense = (a.to_dense().double() - 0.5 * b.to_dense().double()).float()
    assert torch.equal(total.to_dense(), dense)
    assert total.top(1)[0].value == dense.flatten()[dense.abs().argmax()]
    assert torch.allclose(total.column_sums(), dense.double().sum(0))
    assert total.columns_used().tolist() == sorted({*a.columns.tolist(), *b.columns.tolist()})
    # What cancels entry by entry may still be steered: the members vote apart.
    assert len((a - a.restrict() - 1e-9 * b).columns_used())
    part = total.restrict(rows=iter([0, 3]), columns=[1, 2])
    assert torch.equal(part.to_dense(), a.restrict([0, 3], [1, 2]).to_dense() - 0.5 * b.restrict(
        [0, 3], [1, 2]).to_dense())  # fmt: skip
    assert isinstance(part, MapSum)
    for again in (copy.copy(total), copy.deepcopy(total)):
        assert torch.equal(again.to_dense(), dense)


def test_what_a_sum_knows(three: list[Any]) -> None:
    a, b, c = three
    a.defaults |= {"alpha": 1.0, "mode": "both"}
    b.defaults |= {"alpha": 1.0, "mode": "ablate"}
    total = a + b
    assert total.defaults == {"alpha": 1.0}
    assert total.provenance["model_id"] == "tiny"
    assert total.provenance["sum"][1] == {"coefficient": 1.0, "provenance": b.provenance}
    assert (total.percentile, total.gate, total.k_diff) == (None, None, 2)
    assert total.tau is None
    assert "weights" not in total.provenance
    knows = copy.copy(a)
    knows.provenance = a.provenance | {"weights": "float32:aa", "data_sha256": "e" * 64}
    assert (knows + b).provenance["weights"] == "float32:aa"
    assert "data_sha256" not in (knows + b).provenance
    lines = repr(a - 0.5 * c).splitlines()
    assert lines[0].startswith("MapSum of 2 maps: 7 x 9, ")
    assert lines[0].endswith(" columns of tiny, layers 1 -> 3")
    assert lines[1].startswith("  +1 x 8 triples, ")
    assert lines[2].startswith("  -0.5 x 8 triples, ")
    assert lines[2].endswith(" entries, percentile 0, gate 'active', 'density'")
    assert lines[3] == "  they differ in alpha, mode: left to the run"


def test_files_of_a_sum(tmp_path: Path, three: list[Any]) -> None:
    a, b, c = three
    total = a + 0.1 * b - c
    a.save(tmp_path)  # what was there is replaced
    total.save(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    counts, lengths = prompts(3)
    for verify in (True, False):
        again = ConditionalDifferenceMap.load(tmp_path, verify=verify)
        assert isinstance(again, MapSum)
        assert [number for number, _ in again.terms] == [1.0, 0.1, -1.0]
        assert torch.equal(again.score(counts, lengths), total.score(counts, lengths))
        assert again.provenance == total.provenance
        assert repr(again) == repr(total)
        assert (again - total).terms[0][0] == 0
    about = json.loads((tmp_path / "map.json").read_text())
    assert about["version"] == 2
    assert {"0.rows", "1.tau", "2.values"} <= set(_names(tmp_path))
    (tmp_path / "map.json").write_text(json.dumps(about | {"sum": about["sum"][:1]}))
    with pytest.raises(FileError, match="was cut short or changed since it was saved"):
        ConditionalDifferenceMap.load(tmp_path)
    a.save(tmp_path)
    assert json.loads((tmp_path / "map.json").read_text())["version"] == 1


def test_a_sum_from_the_hub(
    tmp_path: Path, three: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (three[0] - three[1]).save(tmp_path)
    patterns: list[str] = []

    def download(name: str, allow_patterns: list[str]) -> str:
        patterns.extend(allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    again = ConditionalDifferenceMap.load("someone/sum")
    assert isinstance(again, MapSum)
    assert {path.name for pattern in patterns for path in tmp_path.glob(pattern)} == {
        path.name for path in tmp_path.iterdir()
    }


def _names(folder: Path) -> list[str]:
    from safetensors import safe_open

    [path] = folder.glob("*.safetensors")
    with safe_open(str(path), "pt") as file:
        return list(file.keys())


def other(**changes: Any) -> ConditionalDifferenceMap:
    map = fitted(5)
    map.provenance = map.provenance | changes
    return map


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda a: a + other(input_sae_sha256="e" * 64), "with input SAE with SHA-256 aaaaaaaaaaaa"
         ", but the other map has input SAE with SHA-256 eeeeeeeeeeee;"),
        (lambda a: a + other(output_layer=4), "output layer 3, but the other map has output layer "
         "4;"),
        (lambda a: a + other(model_id="big"), "with model tiny, but the other map has model big;"),
        (lambda a: (a + other()) - other(model_id="big", data_sha256="2"), "with model tiny, but"),
        (lambda a: a + random_counts(3, 8).fit(prompt_tokens="all"),
         "one map counts prompt tokens as 'content' and the other as 'all', and a run counts in"),
        (lambda a: a - ConditionalDifferenceMap.from_dense([[0.5]]),
         "one map is 7 x 9 and the other 1 x 1; expected two maps of the same SAEs"),
        (lambda a: a * float("nan"), "a map came to be multiplied by nan; multiply by a finite"),
        (lambda a: 1e308 * a * 10, "a map came to be multiplied by inf; use finite numbers"),
        (lambda a: a / 0, "a map came to be divided by 0; divide by another number"),
        (lambda a: a * 10**400, "a map came to be multiplied by a number too large for a float"),
        (lambda a: MapSum(iter([a])), "a sum was given a ConditionalDifferenceMap; expected pairs"),
        (lambda a: MapSum(each([("2", a)])), "a sum was given a tuple of str and Conditiona.*; ex"),
        (lambda a: MapSum(each([(1.0, "a")])), "a sum was given a tuple of float and str; expecte"),
        (lambda a: MapSum([]), "a sum of no maps was asked for; add at least one"),
        (lambda a: (a + a).weights([0] * 7), "weights of a sum of 1 maps were asked for, and each"),
        (lambda a: (a + a).with_entries([], [0], [], []), "was given entries, and has none of its"),
        (lambda a: (a + other()).score([1] * 8), r"has shape \(8,\); expected \[\.\., 7\]"),
    ],
)  # fmt: skip
def test_refusals(call: Any, sentence: str) -> None:
    with pytest.raises(MapError, match=sentence):
        call(fitted(4))


def test_weights_that_differ_are_refused_and_those_of_another_dtype_accepted() -> None:
    one = other(weights="float32:aa")
    with pytest.raises(MapError, match="fingerprint float32:aa, but the other map has weights of"):
        _ = one + other(weights="float32:bb")
    assert "weights" not in (one + other(weights="bfloat16:bb")).provenance


def test_zero_adds_nothing() -> None:
    one = fitted(4)
    sums: list[Any] = [one + 0, 0 + one, one - 0, sum([one], 0.0)]
    for same in sums:
        assert [(number, map is one) for number, map in same.terms] == [(1.0, True)]
    assert [(number, map is one) for number, map in (0 - one).terms] == [(-1.0, True)]


@pytest.mark.parametrize(
    "call",
    [lambda a: a + 1, lambda a: a * "2", lambda a: a * True, lambda a: a - "b", lambda a: a / a],
)
def test_what_is_no_map_and_no_number_is_pythons_to_refuse(call: Any) -> None:
    with pytest.raises(TypeError, match=r"unsupported operand|can't multiply"):
        call(fitted(4))
