"""Tables of what latents mean: their file, the package's own, and the words in a print."""

import pytest

from dspa_nn import FileError
from dspa_nn.files import ASSETS
from dspa_nn.saes import (
    LatentMeaning,
    Snippet,
    load_sae,
    meanings_of,
    read_meanings,
    told_in_words,
    write_meanings,
)
from dspa_nn.triples import read_demo_rows

MEANINGS = {
    3: LatentMeaning(("glad", "\u202eproud"), ("sun",), (Snippet("the ", "sun", "!", 2.5),)),
    11: LatentMeaning(explanation="light", category="Content", link="https://example.org"),
}


def test_a_table_comes_back_as_it_was_written(tmp_path) -> None:
    write_meanings(tmp_path / "t.json", MEANINGS, sae_sha256="0" * 64)
    assert read_meanings(tmp_path / "t.json") == MEANINGS


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 9, "latents": {}}',
                                  '{"schema": 1, "latents": {"x": {}}}'])  # fmt: skip
def test_what_is_no_table_is_refused(text: str, tmp_path) -> None:
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(FileError, match="holds no table of latents that can be read"):
        read_meanings(tmp_path / "t.json")


def test_unknown_saes_have_no_table() -> None:
    assert meanings_of(None) == {}
    assert meanings_of("../../" * 8) == {}
    assert told_in_words("0" * 64, [3]) is None


@pytest.mark.parametrize(("layer", "promoting"), [(9, False), (24, True)])
def test_the_embedded_saes_have_a_table_from_our_own_texts(layer: int, promoting: bool) -> None:
    sae = load_sae(ASSETS / "saes" / f"blocks.{layer}.hook_resid_post")
    table = meanings_of(sae.sha256)
    assert len(table) > 3700
    assert max(table) < sae.width
    assert all(bool(meaning.promotes) == promoting for meaning in table.values())
    assert told_in_words(sae.sha256, list(table)[:2])
    rows = [row for name in ("news", "register") for row in read_demo_rows(name)]
    ours = "\n".join(f"{row.text}\n{row.triple.chosen}\n{row.triple.rejected}" for row in rows)
    places = [one for meaning in table.values() for one in meaning.snippets]
    texts = ["".join(one[:3]) for one in places]
    own = [text for text in texts if "<|im_" not in text and "\ufffd" not in text]
    assert len(own) > 0.95 * len(texts) > 5000
    assert not [text for text in own if text.strip() not in ours]
