"""Prompts longer than the context: cut at a message boundary, skipped, or refused."""

from typing import Any

import pytest

from dspa_nn.counts import prepare
from dspa_nn.errors import TripleError
from dspa_nn.prompts import SKIPPED, TRUNCATED, Overlong, fit_to_context, render, render_to_fit
from dspa_nn.triples import PreferenceTriple, as_messages
from tests.chat_zoo import CHATML, GEMMA, byte_level

SYSTEM = {"role": "system", "content": "Be kind."}
TURNS = [
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": "three"},
    {"role": "assistant", "content": "four"},
    {"role": "user", "content": "five"},
]
TOKENIZER: Any = byte_level(merges=False, template=CHATML)


def length(prompt: Any) -> int:
    return render(TOKENIZER, prompt).prompt_length


def test_what_fits_is_left_alone() -> None:
    triple = PreferenceTriple(TURNS, "yes", "no")
    fitted, reason = fit_to_context(TOKENIZER, triple, length(TURNS) + 3, "error")
    assert fitted is triple
    assert reason is None


@pytest.mark.parametrize("how", ["truncate", "skip"])
def test_the_longer_response_counts(how: Overlong) -> None:
    triple = PreferenceTriple(TURNS[:1], "y", "a longer one")
    limit = length(TURNS[:1]) + 12
    assert fit_to_context(TOKENIZER, triple, limit, how) == (triple, None)
    assert fit_to_context(TOKENIZER, triple, limit - 1, how) == (None, SKIPPED)


def test_the_oldest_turns_go_first_and_the_system_message_stays() -> None:
    messages = as_messages([SYSTEM, *TURNS])
    triple = PreferenceTriple(messages, "yes", "no")
    for kept in (3, 5):
        rest = (messages[0], *messages[kept:])
        fitted, reason = fit_to_context(TOKENIZER, triple, length(rest) + 3, "truncate")
        assert fitted == PreferenceTriple(rest, "yes", "no")
        assert reason == TRUNCATED
    last = length((messages[0], messages[5])) + 3
    assert fit_to_context(TOKENIZER, triple, last - 1, "truncate") == (None, SKIPPED)
    assert fit_to_context(TOKENIZER, triple, last, "skip") == (None, SKIPPED)


def test_the_rest_opens_with_the_role_that_the_whole_opened_with() -> None:
    # Gemma's template refuses a conversation that opens with the assistant.
    tokenizer = byte_level(merges=False, template=GEMMA)
    limit = render(tokenizer, TURNS).prompt_length - 1
    fitted, reason = fit_to_context(tokenizer, TURNS, limit, "truncate")
    assert fitted == as_messages(TURNS[2:])
    assert reason == TRUNCATED


def test_a_string_or_a_single_message_has_no_boundary_to_be_cut_at() -> None:
    assert fit_to_context(TOKENIZER, "far too long", 5, "truncate") == (None, SKIPPED)
    assert fit_to_context(TOKENIZER, TURNS[:1], 5, "truncate") == (None, SKIPPED)
    assert fit_to_context(TOKENIZER, "short", 5, "truncate") == ("short", None)


class Counting:
    """A tokenizer that counts how often it is called."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return self._tokenizer(*args, **kwargs)


def test_every_text_is_tokenised_once() -> None:
    tokenizer = Counting(TOKENIZER)
    triples = [PreferenceTriple(TURNS, "yes", "no"), PreferenceTriple("a string", "yes", "no")]
    jobs, skipped = prepare(triples, tokenizer, 8192, "error")
    assert tokenizer.calls == 3 * len(triples)
    assert not skipped
    for job, triple in zip(jobs, triples, strict=True):
        assert job.prompt.show() == render(TOKENIZER, triple.prompt).show()
        for end, text in zip(job.ends, (triple.chosen, triple.rejected), strict=True):
            assert end.show() == render(TOKENIZER, triple.prompt, text).show()


def test_a_shortened_prompt_is_tokenised_once_more_and_its_responses_are_not() -> None:
    tokenizer, triple = Counting(TOKENIZER), PreferenceTriple(TURNS, "yes", "no")
    fitted = render_to_fit(tokenizer, triple, length(TURNS[2:]) + 3, "truncate")
    assert tokenizer.calls == 4
    assert fitted.item == PreferenceTriple(TURNS[2:], "yes", "no")
    assert fitted.prompt is not None
    assert fitted.prompt.show() == render(TOKENIZER, TURNS[2:]).show()
    for end, text in zip(fitted.ends, ("yes", "no"), strict=True):
        wanted = render(TOKENIZER, TURNS[2:], text)
        assert end.show() == wanted.show()
        assert end.ids.tolist() == wanted.ids.tolist()
        assert end.text == wanted.text


@pytest.mark.usefixtures("unchecked")
def test_refusals() -> None:
    triple = PreferenceTriple("prompt", "yes", "no")
    cases: Any = (
        (
            (8, "error"),
            "a prompt of 6 tokens with a response of 3 came, where 8 together were expected at "
            "most: choose 'truncate' or 'skip', or shorten it",
        ),
        (
            (8, "cut"),
            "how='cut' came, where 'truncate', 'skip' or 'error' was expected: give one of them",
        ),
        (
            (0, "skip"),
            "a limit of 0 tokens came, where at least 1 was expected: give the length of the "
            "model's context",
        ),
    )
    for arguments, message in cases:
        with pytest.raises(TripleError) as caught:
            fit_to_context(TOKENIZER, triple, *arguments)
        assert str(caught.value) == message
