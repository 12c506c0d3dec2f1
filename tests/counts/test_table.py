import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dspa_nn.counts import ActivationCounts, CountRows
from dspa_nn.errors import CountsError, DSPAWarning, FileError, MapError
from dspa_nn.maps import Gate, PromptTokens, Sparsification
from tests.count_zoo import (
    PROVENANCE,
    naive_map,
    naive_sparsify,
    random_block,
    random_counts,
    seeds,
)
from tests.examples import examples

quick = settings(max_examples=examples(25), deadline=None)

# Two triples over two input and three output latents, small enough to fit by hand.
BY_HAND = CountRows(
    index=[4, 2],
    content=[[2, 0], [1, 3]],
    markup=[[1, 1], [0, 1]],
    chosen=[[3, 0, 0], [0, 1, 0]],
    rejected=[[0, 1, 0], [2, 0, 0]],
    content_length=[2, 4],
    markup_length=[1, 2],
    chosen_length=[4, 2],
    rejected_length=[2, 4],
)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def same(one: ActivationCounts, other: ActivationCounts, folder: Path) -> bool:
    one.save(folder / "one")
    other.save(folder / "other")
    return contents(folder / "one") == contents(folder / "other")


def altered(counts: ActivationCounts, **provenance: object) -> ActivationCounts:
    return ActivationCounts(counts.rows, provenance=counts.provenance | provenance)


@pytest.mark.filterwarnings("ignore:the map is fitted on:dspa_nn.DSPAWarning")
def test_by_hand() -> None:
    counts = ActivationCounts(BY_HAND)
    assert counts.index.tolist() == [2, 4]
    # Densities: triple 2 is (1/4, 3/4), triple 4 is (1, 0). Differences: (-1/2, 1/2, 0) and
    # (3/4, -1/2, 0). At p = 100 a gate is open where its density is the largest.
    A = counts.fit(percentile=100, sparsify="none")
    assert A.to_dense().tolist() == [[0.375, -0.25, 0], [-0.25, 0.25, 0]]
    assert A.tau is not None
    assert A.gate_mean is not None
    assert A.tau.tolist() == [1, 0.75]
    assert A.gate_mean.tolist() == [0.5, 0.5]
    # At p = 0 every density reaches the smallest one; the active gate still needs rho > 0.
    A = counts.fit(percentile=0, sparsify="none")
    assert A.to_dense().tolist() == [[0.125, 0, 0], [-0.25, 0.25, 0]]
    A = counts.fit(percentile=0, sparsify="none", gate="literal")
    assert A.to_dense().tolist() == [[0.125, 0, 0], [0.125, 0, 0]]
    assert A.gate_mean is not None
    assert A.gate_mean.tolist() == [1, 1]


def test_content_and_all_prompt_tokens() -> None:
    counts = ActivationCounts(BY_HAND)
    table, lengths = counts.prompt("all")
    assert table.toarray().tolist() == [[1, 4], [3, 1]]
    assert lengths.tolist() == [6, 3]
    table, lengths = counts.prompt()
    assert table.toarray().tolist() == [[1, 3], [2, 0]]
    assert lengths.tolist() == [4, 2]


@pytest.mark.filterwarnings("ignore:the map is fitted on:dspa_nn.DSPAWarning")
@quick
@given(
    seeds, st.integers(1, 12), st.sampled_from([0, 50, 75, 90, 100]),
    st.sampled_from(["active", "literal"]), st.sampled_from(["content", "all"]),
    st.sampled_from(["paper", "rows", "none"]), st.integers(1, 5),
)  # fmt: skip
def test_fit_is_the_naive_one(
    seed: int, n: int, p: int, gate: Gate, tokens: PromptTokens, rule: Sparsification, k: int
) -> None:
    counts = random_counts(seed, n)
    found = counts.fit(percentile=p, gate=gate, prompt_tokens=tokens, sparsify=rule, k_diff=k)
    expected, t = naive_sparsify(naive_map(counts, p, gate, tokens), rule, k)
    np.testing.assert_array_equal(found.to_dense().numpy(), expected)
    assert found.threshold == t


def test_differences_too_large_to_hold_are_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = random_counts(1, 8)
    held = counts.fit(k_diff=2, percentile=50)
    monkeypatch.setattr("dspa_nn.maps.difference_sums._KEPT_BYTES", 0)
    again = counts.fit(k_diff=2, percentile=50)
    assert len(held.values)
    assert torch.equal(held.to_dense(), again.to_dense())
    assert held.threshold == again.threshold


@pytest.mark.filterwarnings("ignore:the map is fitted on:dspa_nn.DSPAWarning")
@quick
@given(seeds, st.integers(1, 12))
def test_the_order_of_rows_does_not_matter(seed: int, n: int) -> None:
    block = random_block(seed, n)
    order = np.random.default_rng(seed).permutation(n)
    shuffled = CountRows(*(np.asarray(array)[order] for array in block))
    one, other = (ActivationCounts(b).fit(percentile=50, k_diff=2) for b in (block, shuffled))
    for name in ("rows", "indptr", "columns", "values", "tau", "gate_mean"):
        assert torch.equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_merged_equals_whole_byte_for_byte(order: tuple[int, ...], tmp_path: Path) -> None:
    whole = random_counts(0, 20)
    pieces = [whole.subset(whole.index[start::3]) for start in range(3)]
    first, *others = (pieces[i] for i in order)
    assert same(whole, first.merge(*others), tmp_path)
    stepwise = ActivationCounts.concatenate([first.merge(others[0]), others[1]])
    assert same(whole, stepwise, tmp_path / "stepwise")
    maps = [counts.fit(percentile=50, k_diff=2) for counts in (whole, stepwise)]
    for k, made in enumerate(maps):
        made.save(tmp_path / f"map{k}")
    assert contents(tmp_path / "map0") == contents(tmp_path / "map1")


@pytest.mark.parametrize("kind", ["numpy", "torch", "sparse"])
def test_blocks_of_any_kind_make_the_same_table(kind: str, tmp_path: Path) -> None:
    from scipy.sparse import coo_array

    block = random_block(5, 9)
    whole = ActivationCounts(block, provenance=PROVENANCE, skipped={"empty response": 2})

    def convert(name: str, array: np.ndarray) -> object:
        if kind == "torch":
            return torch.as_tensor(array)
        return coo_array(array) if kind == "sparse" and array.ndim == 2 else array

    pieces = [
        CountRows(
            *(
                convert(name, a[at : at + 4])
                for name, a in zip(CountRows._fields, block, strict=True)
            )
        )
        for at in (4, 8, 0)
    ]
    built = ActivationCounts.from_rows(
        iter(pieces), d_in=7, d_out=9, provenance=PROVENANCE, skipped={"empty response": 2}
    )
    assert same(whole, built, tmp_path)
    assert built.content.dtype == np.int32


def test_skipped_triples_add_up() -> None:
    one = ActivationCounts(random_counts(0, 3).rows, skipped={"a": 1, "b": 2})
    none = ActivationCounts.from_rows([], d_in=7, d_out=9, skipped={"b": 3})
    assert one.merge(none).skipped == none.merge(one).skipped == {"a": 1, "b": 5}
    assert one.merge(none).fit().provenance["skipped"] == {"a": 1, "b": 5}


def test_other_provenance_is_kept_of_all_sides() -> None:
    whole = random_counts(0, 6)
    parts = [
        altered(whole.subset(whole.index[[2 * k, 2 * k + 1]]), batch_plan=k, dtype="bfloat16")
        for k in range(3)
    ]
    a, b, c = parts
    merged = [a.merge(b, c), c.merge(a).merge(b), b.merge(c.merge(a))]
    assert [m.provenance["batch_plan"] for m in merged] == 3 * [{"merged": [0, 1, 2]}]
    assert merged[0].provenance["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model_id": "big"}, "model tiny and another with model big"),
        ({"model_revision": "2"}, "model revision 1 and another with model revision 2"),
        ({"input_layer": 2}, "input layer 1 and another with input layer 2"),
        (
            {"output_sae_sha256": "f" * 64},
            "output SAE with SHA-256 bbbbbbbbbbbb and another with output SAE with SHA-256 ffff",
        ),
        ({"input_sae_sha256": None, "input_sae": "x"}, "input SAE in and another with input SAE x"),
        ({"data_sha256": "f" * 64}, "data with SHA-256 cccccccccccc and another with data with"),
        ({"template_sha256": "f" * 64}, "chat template with SHA-256 dddddddddddd and another"),
    ],
)
def test_merging_what_was_counted_otherwise(change: dict, sentence: str) -> None:
    whole = random_counts(0, 4)
    one, other = whole.subset(whole.index[:2]), whole.subset(whole.index[2:])
    with pytest.raises(CountsError, match=f"{sentence}.*; merge only counts of the same model"):
        one.merge(altered(other, **change))


def test_merging_the_same_triple_or_other_widths() -> None:
    counts = random_counts(0, 4)
    first = counts.index[0]
    sentence = rf"^triple {first} is in two of the tables \(1 such\); merge tables of different"
    with pytest.raises(CountsError, match=sentence):
        counts.merge(counts.subset([first]))
    with pytest.raises(CountsError, match=r"has 7 input latents and another 8; merge only"):
        counts.merge(random_counts(1, 2, d_in=8))
    with pytest.raises(CountsError, match="there are no counts to merge; pass at least one"):
        ActivationCounts.concatenate([])


def test_subset() -> None:
    counts = random_counts(0, 6)
    part = counts.subset(counts.index[[5, 1, 1]])
    assert part.index.tolist() == counts.index[[1, 5]].tolist()
    assert (part.chosen.toarray() == counts.chosen.toarray()[[1, 5]]).all()
    with pytest.raises(CountsError, match=r"triple 999 is not among these 6 counts \(1 such\)"):
        counts.subset([counts.index[0], 999])


def test_saved_counts_are_loaded_whole(tmp_path: Path) -> None:
    counts = ActivationCounts(random_block(3, 11), provenance=PROVENANCE, skipped={"long": 4})
    counts.save(tmp_path / "counts")
    loaded = ActivationCounts.load(tmp_path / "counts")
    assert same(counts, loaded, tmp_path)
    assert loaded.skipped == {"long": 4}
    differences: Any = loaded.differences()
    assert (differences != counts.differences()).nnz == 0
    table = loaded.chosen  # on disk: neither owns its memory, nor does what it is a view of
    for array in (table.data, table.indices):
        while isinstance(array, np.ndarray):
            assert not array.flags.owndata
            array = array.base
    empty = ActivationCounts.from_rows([], d_in=3, d_out=2)
    empty.save(tmp_path / "empty")
    assert len(ActivationCounts.load(tmp_path / "empty")) == 0


def test_damaged_counts(tmp_path: Path) -> None:
    random_counts(3, 11).save(tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 4]))
    with pytest.raises(FileError, match="it was cut short or changed; save or copy it again"):
        ActivationCounts.load(tmp_path)
    with pytest.raises(FileError, match=r"holds no counts\.json"):
        ActivationCounts.load(tmp_path / "nowhere")


def test_prompts_in_which_no_token_counts() -> None:
    block = random_block(0, 5)
    block.content[2], block.content_length[2] = 0, 0
    block.markup_length[2] = 2
    counts = ActivationCounts(block)
    kept = counts.subset(np.delete(counts.index, np.searchsorted(counts.index, block.index[2])))
    found = counts.fit(percentile=50)
    assert found.n_triples == 4
    assert found.provenance["skipped"] == {"no counted prompt token": 1}
    assert torch.equal(found.to_dense(), kept.fit(percentile=50).to_dense())
    tau: tuple[Any, Any] = found.tau, kept.fit(percentile=50).tau
    assert torch.equal(*tau)
    assert counts.fit(prompt_tokens="all", strict=True).n_triples == 5
    sentence = rf"^triple {block.index[2]} has a prompt in which no token counts \(1 such with "
    with pytest.raises(CountsError, match=sentence):
        counts.fit(strict=True)


def test_a_map_of_so_few_triples_that_gates_mean_nothing_is_told_of() -> None:
    for n, said in ((1, "1 triple"), (2, "2 triples")):
        with pytest.warns(DSPAWarning, match=f"the map is fitted on {said}, and with fewer than 3"):
            random_counts(0, n).fit()
    random_counts(0, 3).fit()
    # Those in whose prompt no token counts are none.
    block = random_block(0, 3)
    block.content[1], block.content_length[1] = 0, 0
    with pytest.warns(DSPAWarning, match="the map is fitted on 2 triples"):
        ActivationCounts(block).fit()


def test_nothing_to_fit_from() -> None:
    empty = ActivationCounts.from_rows([], d_in=3, d_out=2)
    with pytest.raises(CountsError, match=r"no triple to fit from \(0 counted, .*; count some"):
        empty.fit()
    with pytest.raises(MapError, match="k_diff is 0; expected"):
        empty.fit(k_diff=0)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"index": [4, 4]}, "triple 4 was counted twice; expected each triple of the source once"),
        ({"content_length": [1, 4]}, "content holds a count below 0 or above its row's number"),
        ({"chosen": [[3, 0, -1], [0, 1, 0]]}, "chosen holds a count below 0 or above its row's"),
        ({"chosen": [[0.5, 0, 0], [0, 1, 0]]}, "type float64 and holds what is no whole number"),
        ({"chosen": [[3, 0, 0]]}, "chosen has 1 rows and 2 lengths for 2 triples"),
        ({"markup": [[1], [0]]}, "content has 2 latents and markup 1; expected the width of one"),
        ({"rejected": [[0], [2]]}, "chosen has 3 latents and rejected 1; expected the width of"),
        (
            {"rejected": [[0, 0, 0], [2, 0, 0]], "rejected_length": [0, 4]},
            "a response of no tokens has no densities; leave that triple out",
        ),
    ],
)
def test_arrays_that_contradict_each_other(change: dict, sentence: str) -> None:
    with pytest.raises(CountsError, match=sentence):
        ActivationCounts(BY_HAND._replace(**change))


def test_provenance_that_is_no_json() -> None:
    with pytest.raises(CountsError, match="provenance of counts cannot be written as JSON"):
        ActivationCounts(BY_HAND, provenance={"model": object()})


def test_a_person_can_read_it() -> None:
    counts = ActivationCounts(BY_HAND, provenance=PROVENANCE, skipped={"empty response": 3})
    assert repr(counts) == (
        "ActivationCounts: 2 triples of tiny, layers 1 -> 3, latents 2 -> 3, 0.0 MB\n"
        "  tokens: prompts 6 content and 3 markup, chosen 6, rejected 6; skipped: 3 empty response"
    )
    assert len(counts) == 2
    assert counts.nbytes > 9 * 2 * 8
