"""Where latents are strongest: places against a plain pass of the model, and their context."""

from pathlib import Path
from typing import Any

import pytest
import torch

from dspa_nn import DSPAError, FileError, SteeringError
from dspa_nn.audit import (
    LatentMeaning,
    Snippet,
    causal_check,
    explain,
    meaning_of_snippets,
    read_meanings,
    snippets,
    steered_latents,
    votes_for,
    write_meanings,
)
from dspa_nn.graph.blocks import hidden_states
from tests import eval_zoo, tiny

TEXTS = ("sun and moon", "red or blue, red", "a cat sat", "tea")


def latents_of(text: str, at_output: bool) -> Any:
    dspa, hf = eval_zoo.dspa(), eval_zoo.model()
    seen: list[Any] = []
    layer = (tiny.LAYER_IN, tiny.LAYER_OUT)[at_output]
    handle = hf.model.layers[layer].register_forward_hook(
        lambda *call: seen.append(hidden_states(call[-1]))
    )
    with torch.no_grad():
        hf(dspa.render(text).ids[None])
    handle.remove()
    return dspa.encoders[at_output].encode(seen[0][0])[0]


@pytest.mark.parametrize("side", ["input", "output"])
def test_they_are_the_strongest_places_of_the_texts(side: Any) -> None:
    found = snippets(eval_zoo.dspa(), TEXTS, side=side, most=2, before=3, after=2)
    values = [latents_of(text, side == "output") for text in TEXTS]
    for latent in range(values[0].shape[1]):
        best = sorted((float(v[:, latent].max()) for v in values), reverse=True)[:2]
        wanted = [value for value in best if value > 0]
        assert [one.strength for one in found.get(latent, [])] == pytest.approx(wanted, rel=1e-4)
    for one in (one for entries in found.values() for one in entries):
        assert any(one.before + one.token + one.after in text for text in TEXTS)
        assert (len(one.before) <= 3, len(one.token), len(one.after) <= 2) == (True, 1, True)


def test_markup_is_left_out_of_chats_but_for_the_prompts_last_token() -> None:
    dspa = eval_zoo.dspa()
    chat = [{"role": "user", "content": "sun"}]
    found = snippets(dspa, [chat], most=1)
    places = {one.token for entries in found.values() for one in entries}
    assert places <= {"s", "u", "n", "\n"}
    inside = [one for entries in found.values() for one in entries if one.token in "sun"]
    assert all(one.before + one.token + one.after in "sun" for one in inside)


def test_some_latents_alone_and_triples_are_two_texts() -> None:
    dspa = eval_zoo.dspa()
    done: list[int] = []
    found = snippets(dspa, eval_zoo.triples(2), [3, 0], advance=done.append)
    assert list(found) == [3, 0]
    assert sum(done) == 4


def test_what_is_refused() -> None:
    dspa = eval_zoo.dspa()
    with pytest.raises(DSPAError, match="output latent 99 came, and the SAE has 40"):
        snippets(dspa, TEXTS, [99])
    with pytest.raises(DSPAError, match="given no texts; give at least one"):
        snippets(dspa, [])
    with pytest.raises(SteeringError, match="most"):
        snippets(dspa, TEXTS, most=0)


@pytest.mark.usefixtures("unchecked")
def test_one_text_is_not_read_letter_by_letter() -> None:
    with pytest.raises(DSPAError, match="one text came for texts; give a list of them"):
        snippets(eval_zoo.dspa(), "sun moon", [3])


@pytest.mark.usefixtures("unchecked")
def test_a_table_of_any_text_is_read_as_it_was_written(tmp_path: Path) -> None:
    odd = "half \ud800 \udfff, pair \U0001f680, <b> \\ud800 \u202e \x00"
    told = {3: LatentMeaning((odd,), explanation=odd, snippets=(Snippet(odd, odd, odd, 1.5),))}
    write_meanings(tmp_path / "told.json", told, sae_sha256="ab" * 32)
    assert read_meanings(tmp_path / "told.json") == told
    swapped: Any = ({3: LatentMeaning()}, tmp_path / "told.json")
    with pytest.raises(FileError, match=r"path is .*, of type dict; expected"):
        write_meanings(*swapped, sae_sha256="ab" * 32)
    words: Any = {3: "sun"}
    with pytest.raises(FileError, match=r"meanings is .*; expected Mapping"):
        write_meanings(tmp_path / "told.json", words, sae_sha256="ab" * 32)


@pytest.mark.usefixtures("unchecked")
def test_what_are_no_plans_and_maps_is_refused() -> None:
    dspa, map = eval_zoo.dspa(), eval_zoo.counts().fit(percentile=50)
    none: Any = "map"
    words: Any = {3: "sun"}
    for what, call in (
        ("plan", lambda: votes_for(none, map, 3)),
        ("map", lambda: votes_for(dspa.plan(map, "sun"), none, 3)),
        ("map", lambda: causal_check(dspa, none, eval_zoo.triples(2))),
        ("meanings", lambda: steered_latents(map, meanings=words)),
        ("dspa", lambda: explain([3], ["sun"], dspa=none)),
        ("judge", lambda: explain([3], ["sun"], dspa=dspa, judge=none)),
    ):
        with pytest.raises(DSPAError, match=f"^{what} is .*; expected "):
            call()


def test_a_meaning_names_whole_words_and_shows_no_place_twice() -> None:
    places = [
        Snippet("my Sweet", "heart", ", hello", 3.0),
        Snippet("My sweet", "heart", ", hello", 2.0),
        Snippet("oh", ",", " dear", 1.0),
        Snippet("so", " dea", "r one", 1.0),
    ]
    meaning = meaning_of_snippets(places, promotes=["love"], shown=2)
    assert meaning.fires_on == ("sweetheart", ",", "dear")
    assert [one.token for one in meaning.snippets] == ["heart", ","]
    assert meaning.words() == "love"
