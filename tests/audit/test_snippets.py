"""Where latents are strongest: places against a plain pass of the model, and their context."""

from typing import Any

import pytest
import torch

from dspa_nn import DSPAError, SteeringError
from dspa_nn.audit import Snippet, meaning_of_snippets, snippets
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
