"""`warmth`, `gladness`, `encouragement`: what they count, and that a reader would rank alike."""

import pytest

from dspa_nn.evaluation import encouragement, gladness, warmth


def test_the_examples_of_the_docstring():
    assert warmth("Oh, what lovely news, my dear! I am so proud of you!") == pytest.approx(0.75)
    assert warmth("The result represents a notable achievement.") == pytest.approx(-4 / 6)


@pytest.mark.parametrize("text", ["", "   ", "123 ...", "!!!"])
def test_text_without_words_is_neutral(text):
    assert warmth(text) == 0.0


def test_it_is_a_rate_per_word():
    text = "You are so kind! "
    assert warmth(text * 5) == pytest.approx(warmth(text))


def test_a_run_of_exclamation_marks_counts_once():
    assert warmth("Rain!!!") == warmth("Rain!") == 1.0
    assert warmth("Rain! Rain!") == 1.0


def test_case_and_typographic_apostrophes_do_not_matter():
    assert warmth("YOU\u2019RE KIND") == warmth("you're kind") == 1.0


def test_contractions_are_warm_and_possessives_are_not():
    assert warmth("it's") == warmth("don't") == 1.0
    assert warmth("the moon's orbit") == 0.0


def test_nominalisations_are_formal():
    assert warmth("salinity") == warmth("examinations") == -1.0
    assert warmth("city") == 0.0


def test_plain_statements_lie_between_warm_and_formal():
    warm = "You are going to love this, my friend!"
    plain = "The cat sat on the mat."
    formal = "Consequently, an examination of the circumstances is required."
    assert warmth(warm) > warmth(plain) > warmth(formal)


@pytest.mark.parametrize(
    ("text", "mood"),
    [
        ("That is WONDERFUL news. I\u2019m so happy for you!", 1.0),
        ("Oh no, I'm sorry. It must be hard.", -1.0),
        ("I'm sorry that you are so happy.", 0.0),
        ("The sea is salty.", 0.0),
        ("Sorry, that is great, just wonderful.", 1.0),
        ("", 0.0),
    ],
)
def test_gladness_is_decided_by_the_larger_number_of_words(text, mood):
    assert gladness(text) == mood


@pytest.mark.parametrize(
    ("text", "tone"),
    [
        ("You will LOVE it, and you\u2019ll be proud!", 1.0),
        ("Don\u2019t do it. You could get hurt.", -1.0),
        ("It is a great risk.", 0.0),
        ("The sea is salty.", 0.0),
        ("", 0.0),
    ],
)
def test_encouragement_is_decided_by_the_larger_number_of_words(text, tone):
    assert encouragement(text) == tone
