"""What objects show in a notebook, as HTML that holds whatever text as text."""

import importlib
from typing import Any

import matplotlib as mpl
import pytest

from dspa_nn import DSPAError
from dspa_nn.shown import check_axes, facts_html, pyplot, shaded_html, shown, table_html, visible

HOSTILE = "<script>\u202e\ud800{{ 1 }}\x00 \u200d"


@pytest.mark.parametrize(
    "html",
    [
        facts_html({HOSTILE: HOSTILE}),
        table_html([HOSTILE], [[HOSTILE]], HOSTILE),
        shown(HOSTILE),
        shaded_html([(HOSTILE, 1.0, HOSTILE), (HOSTILE, 0.0, "")]),
    ],
)
def test_every_part_escapes_what_it_is_given(html: str) -> None:
    html.encode("utf-8")
    assert "<script" not in html
    assert "&lt;script&gt;⟨U+202E⟩⟨U+D800⟩{{ 1 }}⟨U+0000⟩ \u200d" in html


def test_readable_text_stays_as_it_is() -> None:
    for text in ("plain", "né\u200dé", "שלום", "a\nb\tc", "👩\u200d🚀"):
        assert visible(text) == text


def test_without_matplotlib_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(DSPAError, match="matplotlib is not installed, and plot draws with it"):
        pyplot()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("wanted", [1, 2])
def test_a_picture_is_drawn_on_axes_alone(wanted: int) -> None:
    mpl.use("agg")
    one, two = pyplot().subplots()[1], pyplot().subplots(2)[1]
    for good in (None, two if wanted == 2 else one):
        check_axes(good, wanted)
    for wrong in ("left", 3, [], two[:1], one if wanted == 2 else two):
        with pytest.raises(DSPAError, match=r"axes is .*; expected .* of matplotlib's Axes, as"):
            check_axes(wrong, wanted)
