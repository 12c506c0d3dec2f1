"""Maps and counts in a notebook: HTML, and the picture of a map's entries."""

import matplotlib as mpl
import numpy as np
import pytest

from dspa_nn import ConditionalDifferenceMap, MapError
from dspa_nn.shown import as_html
from tests import eval_zoo

mpl.use("agg")


def test_a_map_shows_what_its_repr_says_and_its_strongest_entries() -> None:
    map = eval_zoo.counts().fit(percentile=50)
    for one in (map, map + 0.5 * map.restrict(columns=[1, 2])):
        html = one._repr_html_()
        assert as_html(repr(one).split("\n")[0]) in html
        first = one.top(1)[0]
        assert f">{first.row}</td>" in html
        assert f"{first.value:+.4f}" in html
        assert len(html) < 10_000


def test_a_picture_holds_the_entries_of_the_strongest_latents() -> None:
    dense = np.zeros((5, 4), dtype=np.float32)
    dense[1, 2], dense[3, 0], dense[3, 2] = -1.0, 0.25, 0.5
    axes = ConditionalDifferenceMap.from_dense(dense).plot(n=2)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2", "0"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["1", "3"]
    assert axes.images[0].get_array().tolist() == [[-1.0, 0.0], [0.5, 0.25]]
    ConditionalDifferenceMap.from_dense(np.zeros((3, 3), dtype=np.float32)).plot()
    with pytest.raises(MapError, match="n"):
        ConditionalDifferenceMap.from_dense(dense).plot(n=0)


def test_counts_show_their_tokens() -> None:
    counts = eval_zoo.counts()
    html = counts._repr_html_()
    assert f"ActivationCounts: {len(counts)} triples" in html
    assert f"{int(counts.chosen_length.sum()):,}" in html
    assert "content" in html
    assert counts.subset([])._repr_html_()
