"""Tables of what latents mean: their file, the package's own, and the words in a print."""

import pytest

from dspa_nn import FileError
from dspa_nn.saes import (
    LatentMeaning,
    Snippet,
    meanings_of,
    read_meanings,
    told_in_words,
    write_meanings,
)

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
