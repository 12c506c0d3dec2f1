import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from dspa_nn.errors import FileError, MapError
from dspa_nn.maps import ConditionalDifferenceMap, Gate
from tests.count_zoo import PROVENANCE, naive_gates, random_counts, seeds
from tests.examples import examples

quick = settings(max_examples=examples(25), deadline=None)

DENSE = torch.tensor([[0.0, 0.5, 0.0], [0.0, 0.0, 0.0], [-0.25, 0.0, 0.125], [0.0, -0.5, 0.0]])


def small(**options: Any) -> ConditionalDifferenceMap:
    vectors: dict[str, Any] = {"tau": [0.5, 0.0, 0.25, 0.25], "gate_mean": [0.5, 0.25, 0.25, 1.0]}
    return ConditionalDifferenceMap.from_dense(DENSE, **(vectors | options))


def test_dense_and_back() -> None:
    A = small()
    assert torch.equal(A.to_dense(), DENSE)
    assert A.rows.tolist() == [0, 2, 3]
    assert A.indptr.tolist() == [0, 1, 3, 4]
    assert A.columns.tolist() == [1, 0, 2, 1]
    assert A.tau is not None
    types = (A.rows.dtype, A.columns.dtype, A.values.dtype, A.tau.dtype)
    assert types == (torch.int64, torch.int32, torch.float32, torch.float64)
    empty = ConditionalDifferenceMap.from_dense(torch.zeros(2, 3))
    assert torch.equal(empty.to_dense(), torch.zeros(2, 3))
    assert empty.score([1, 1]).tolist() == [0, 0, 0]


def test_density_takes_the_most_counts_active_ones_and_the_lower_index() -> None:
    A = small()
    assert A.weights([1, 2, 2, 2], k_prompt=2).tolist() == [0, 1, 1, 0]
    assert A.weights([0, 2, 0, 0], k_prompt=3).tolist() == [0, 1, 0, 0]
    assert A.weights([[3, 0, 0, 1], [0, 0, 0, 0]]).tolist() == [[1, 0, 0, 1], [0, 0, 0, 0]]
    assert small(defaults={"k_prompt": 1}).weights([1, 2, 2, 2]).tolist() == [0, 1, 0, 0]


def test_gated_and_centred() -> None:
    counts, lengths = [[2, 0, 1, 0], [0, 0, 0, 0]], [4, 0]
    gated = small().weights(counts, lengths, prompt_rule="gated")
    assert gated.tolist() == [[1, 0, 1, 0], [0, 0, 0, 0]]
    literal = small(gate="literal").weights(counts, lengths, prompt_rule="gated")
    assert literal.tolist() == [[1, 1, 1, 0], [0, 0, 0, 0]]
    centred = small(defaults={"prompt_rule": "centred"}).weights(counts, lengths)
    assert centred.tolist() == [[0.5, -0.25, 0.75, -1], [0, 0, 0, 0]]


@quick
@given(seeds, st.sampled_from([0, 50, 90, 100]), st.sampled_from(["active", "literal"]))
def test_gated_weights_of_fitting_prompts_are_the_gates_of_the_fit(
    seed: int, p: int, gate: Gate
) -> None:
    counts = random_counts(seed, 11)
    A = counts.fit(percentile=p, gate=gate)
    table, lengths = counts.prompt()
    expected = naive_gates(counts, p, gate, "content")
    found = A.weights(table.toarray(), lengths, prompt_rule="gated")
    np.testing.assert_array_equal(found.numpy(), expected)
    assert A.gate_mean is not None
    np.testing.assert_allclose(A.gate_mean.numpy(), expected.mean(axis=0), rtol=1e-15)
    centred = A.weights(table.toarray(), lengths, prompt_rule="centred")
    np.testing.assert_allclose(centred.numpy().mean(axis=0), 0, atol=1e-15)


@quick
@given(seeds, st.sampled_from(["density", "gated", "centred"]), st.integers(1, 4))
def test_scores_are_the_sum_in_float64_over_ascending_rows(seed: int, rule: str, k: int) -> None:
    counts = random_counts(seed, 6)
    A = counts.fit(percentile=50, k_diff=2)
    table, lengths = counts.prompt()
    found = A.score(table.toarray(), lengths, prompt_rule=rule, k_prompt=k)
    weights = A.weights(table.toarray(), lengths, prompt_rule=rule, k_prompt=k)
    expected = torch.zeros(6, 9, dtype=torch.float64)
    for i, row in enumerate(A.to_dense().double()):
        expected += weights[:, i : i + 1] * row
    assert found.dtype == torch.float64
    assert torch.equal(found, expected)
    one = A.score(table.toarray()[2], lengths[2], prompt_rule=rule, k_prompt=k)
    assert torch.equal(one, expected[2])
    shaped = A.score(table.toarray().reshape(2, 3, 7), lengths.reshape(2, 3), prompt_rule=rule,
                     k_prompt=k)  # fmt: skip
    assert torch.equal(shaped, expected.reshape(2, 3, 9))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda A: A.score([1, 2, 3]), r"has shape \(3,\); expected \[\.\., 4\], one count for"),
        (lambda A: A.score([1, 2, 3, -1]), "prompt_counts holds a negative number; expected"),
        (lambda A: A.score([1, 2, 3, float("nan")]), "prompt_counts holds NaN; expected counts of"),
        (lambda A: A.column(3), "latent 3 was asked for; expected output latents from 0 to 2"),
        (lambda A: A.column(-1), "latent -1 was asked for; expected output latents from 0 to 2"),
        (lambda A: A.score([1, 2, 3, 4], k_prompt=0), "k_prompt is 0; expected a whole number"),
        (
            lambda A: A.score([1, 2, 3, 4], prompt_rule="all"),
            "prompt_rule is 'all'; expected one of 'density', 'gated', 'centred'",
        ),
        (
            lambda A: A.score([1, 2, 3, 4], prompt_rule="gated"),
            "prompt_rule='gated' needs densities and prompt_lengths is None; pass the number",
        ),
        (
            lambda A: A.score([1, 2, 3, 4], [4], prompt_rule="centred"),
            r"prompt_lengths has shape \(1,\); expected \(\), one length for each prompt",
        ),
        (
            lambda A: A.score([1, 2, 3, 4], 3, prompt_rule="gated"),
            "prompt_counts holds a count above its prompt's length; count both over the same",
        ),
        (
            lambda A: ConditionalDifferenceMap.from_dense(DENSE).score(
                [1, 0, 0, 0], 3, prompt_rule="gated"
            ),
            "needs the map's tau, which this map does not hold; fit the map from counts, or use",
        ),
        (
            lambda A: small(gate_mean=None).score([1, 0, 0, 0], 3, prompt_rule="centred"),
            "needs the map's mean of the gates, which this map does not hold",
        ),
        (lambda A: A.restrict(rows=[4]), "rows names latent 4; expected latents from 0 to 3"),
        (lambda A: small(tau=[0.5]), r"tau has shape \(1,\); expected \(4,\), one for each input"),
        (lambda A: small(gate="x"), "gate is 'x'; expected one of 'active', 'literal'"),
        (
            lambda A: ConditionalDifferenceMap.from_dense([[float("nan")]]),
            "the values of a map hold NaN or infinity; expected finite numbers",
        ),
        (
            lambda A: ConditionalDifferenceMap.from_dense([0.5]),
            r"a dense map has shape \(1,\); expected \[d_in, d_out\]",
        ),
        (
            lambda A: ConditionalDifferenceMap([0], [0, 1], [3], [0.5], (1, 3)),
            "the arrays of a map of shape 1 x 3 contradict each other",
        ),
        (
            lambda A: A - ConditionalDifferenceMap.from_dense([[0.5]]),
            "one map is 4 x 3 and the other 1 x 1; expected two maps of the same SAEs",
        ),
        (
            lambda A: small(provenance={"input_layer": 1}) - small(provenance={"input_layer": 2}),
            "fitted with input layer 1, but the other map has input layer 2",
        ),
        (
            lambda A: small(prompt_tokens="all") - small(prompt_tokens="content"),
            "one map counts prompt tokens as 'all' and the other as 'content'",
        ),
    ],
)
def test_refusals(call, sentence: str) -> None:
    with pytest.raises(MapError, match=sentence):
        call(small())


@pytest.mark.parametrize(
    ("here", "sentence"),
    [
        ({"model_id": "big"}, "fitted with model tiny, but it is used with model big; use the one"),
        ({"revision": "2"}, "fitted with model revision 1, but it is used with model revision 2"),
        ({"output_layer": 4}, "output layer 3, but it is used with output layer 4"),
        (
            {"input_sae_sha256": "e" * 64},
            "input SAE with SHA-256 aaaaaaaaaaaa, but it is used with input SAE with SHA-256 eee",
        ),
    ],
)
def test_a_map_of_another_model_or_sae(here: dict, sentence: str) -> None:
    A = small(provenance=PROVENANCE)
    A.check(model_id="tiny", revision=None, input_sae_sha256="a" * 64, output_layer=3)
    with pytest.raises(MapError, match=sentence):
        A.check(**here)
    small().check(**here)  # a map that does not know is accepted


def test_other_entries_in_the_same_map() -> None:
    map = random_counts(2, 9).fit(percentile=50, max_entries=11, sparsify="rows", k_diff=2)
    map.defaults = {"alpha": 0.5}
    other = map.with_entries(map.rows, map.indptr, map.columns, -map.values, control="swapped")
    assert torch.equal(other.to_dense(), -map.to_dense())
    assert other.provenance == map.provenance | {"control": "swapped"}
    assert (other.fitted, other.defaults) == (map.fitted, map.defaults)
    for name in ("tau", "gate_mean"):
        assert torch.equal(getattr(other, name), getattr(map, name))


def test_a_misspelt_keyword_of_a_map_is_refused_with_the_nearest_name() -> None:
    misspelt: dict[str, Any] = {"tresh": 0.5}
    with pytest.raises(
        MapError, match=r"ConditionalDifferenceMap takes no tresh \(did you mean 't"
    ):
        small(**misspelt)


def test_looking_at_a_map() -> None:
    A = small()
    assert [tuple(entry) for entry in A.top(3)] == [(0, 1, 0.5), (3, 1, -0.5), (2, 0, -0.25)]
    assert repr(A.top(1)).splitlines()[1].split() == ["0", "1", "+0.50000"]
    assert A.column_sums().tolist() == [-0.25, 0, 0.125]
    assert A.columns_used().tolist() == [0, 1, 2]
    frame = A.to_pandas()
    assert list(frame.columns) == ["row", "column", "value"]
    assert frame["row"].tolist() == [0, 2, 2, 3]
    assert frame["value"].tolist() == [0.5, -0.25, 0.125, -0.5]


def test_restrict() -> None:
    A = small(provenance=PROVENANCE, defaults={"alpha": 1.0})
    part = A.restrict(rows=[2, 0, 2], columns=torch.tensor([0, 1]))
    assert part.to_dense().tolist() == [[0, 0.5, 0], [0, 0, 0], [-0.25, 0, 0], [0, 0, 0]]
    assert part.provenance["restricted"] == {"rows": 2, "columns": 2}
    assert part.defaults == {"alpha": 1.0}
    assert part.tau is not None
    assert A.tau is not None
    assert torch.equal(part.tau, A.tau)
    assert torch.equal(A.to_dense(), DENSE)
    assert len(A.restrict(rows=[]).values) == 0


@pytest.mark.parametrize("latents", [[True, False], torch.tensor([True, False]), [0.5]])
def test_restrict_takes_latents_by_number_not_a_mask(latents) -> None:
    kind = "float64" if latents == [0.5] else "bool"
    with pytest.raises(MapError, match=rf"^columns holds values of type {kind}; expected latents"):
        small().restrict(columns=latents)


def test_restrict_takes_any_list_of_numbers() -> None:
    wanted = small().restrict(columns=[0, 1]).to_dense()
    for latents in ({0, 1}, range(2), torch.tensor([1, 0]), iter([0, 1])):
        assert torch.equal(small().restrict(columns=latents).to_dense(), wanted)
    assert not len(small().restrict(columns=[]).values)


def test_scores_of_sparse_counts() -> None:
    counts = np.array([[1] * small().shape[0], [0] * small().shape[0]])
    assert torch.equal(small().score(csr_array(counts)), small().score(counts))


def test_the_difference_of_two_maps() -> None:
    one = small(provenance=PROVENANCE, n_triples=3)
    other = ConditionalDifferenceMap.from_dense(
        torch.ones(4, 3) / 2, tau=one.tau, provenance=PROVENANCE | {"data_sha256": "f" * 64}
    )
    difference = one - other
    assert torch.equal(difference.to_dense(), DENSE - 0.5)
    assert difference.provenance["sum"] == [
        {"coefficient": 1.0, "provenance": one.provenance},
        {"coefficient": -1.0, "provenance": other.provenance},
    ]
    assert difference.provenance["model_id"] == "tiny"
    assert "data_sha256" not in difference.provenance
    assert difference.tau is not None
    assert one.tau is not None
    assert torch.equal(difference.tau, one.tau)
    assert difference.gate_mean is None
    assert len((one - one).values) == 0
    assert "-1 x unknown triples, 12 entries" in repr(difference)


def test_saved_maps_are_loaded_whole(tmp_path: Path) -> None:
    A = random_counts(0, 9).fit(percentile=75, k_diff=2, max_entries=20, gate="literal")
    A.defaults = {"alpha": 0.5, "prompt_rule": "gated"}
    A.save(tmp_path / "map")
    again = ConditionalDifferenceMap.load(str(tmp_path / "map"))
    for name in ("rows", "indptr", "columns", "values", "tau", "gate_mean"):
        assert torch.equal(getattr(A, name), getattr(again, name))
        assert getattr(A, name).dtype == getattr(again, name).dtype
    for name in (
        "shape", "gate", "percentile", "k_diff", "sparsify", "max_entries", "threshold",
        "prompt_tokens", "n_triples", "provenance", "defaults",
    ):  # fmt: skip
        assert getattr(A, name) == getattr(again, name)
    assert repr(A) == repr(again)
    small(tau=None, gate_mean=None).save(tmp_path / "map")
    assert ConditionalDifferenceMap.load(tmp_path / "map").tau is None


def test_damaged_maps(tmp_path: Path) -> None:
    small().save(tmp_path)
    about = json.loads((tmp_path / "map.json").read_text())
    (tmp_path / "map.json").write_text(json.dumps(about | {"version": 3}))
    with pytest.raises(FileError, match=r"schema version 3, newer than 2, the newest that this"):
        ConditionalDifferenceMap.load(tmp_path)
    (tmp_path / "map.json").write_text(json.dumps(about)[:-9])
    with pytest.raises(FileError, match="was cut short or changed since it was saved"):
        ConditionalDifferenceMap.load(tmp_path)


def test_maps_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small().save(tmp_path)
    asked = []

    def download(name: str, **_: object) -> str:
        asked.append(name)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert torch.equal(ConditionalDifferenceMap.load("someone/map").to_dense(), DENSE)
    assert asked == ["someone/map"]

    def offline(name: str, **_: object) -> str:
        raise ConnectionError

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(FileError, match=r"someone/map is no folder here, and the hub does not"):
        ConditionalDifferenceMap.load("someone/map")
    with pytest.raises(FileError, match=r"holds no map\.json"):
        ConditionalDifferenceMap.load("./nowhere")


def test_a_person_can_read_it() -> None:
    A = small(
        provenance=PROVENANCE, n_triples=250, percentile=90, k_diff=16, sparsify="paper",
        threshold=0.125, max_entries=1000,
    )  # fmt: skip
    assert repr(A) == (
        "ConditionalDifferenceMap: 4 x 3, 3 rows, 4 entries (33.3 %) in 3 columns\n"
        "  fitted from 250 triples of tiny, layers 1 -> 3\n"
        "  percentile 90, gate 'active', prompt tokens 'content', k_diff 16, sparsify 'paper' "
        "(|value| >= 0.125, at most 1,000 entries)"
    )
