"""Triples in two sets: the same, or with a prompt in common."""

from dspa_nn.triples import PreferenceTriple, shared


def test_a_prompt_is_the_same_as_text_and_as_one_message_and_spaces_do_not_count():
    one = PreferenceTriple("Hail?", "Yes.", "no")
    chat = PreferenceTriple([{"role": "user", "content": " Hail? "}], "Yes. ", "no")
    assert shared([one], [chat]) == ([0], [])
    turned = PreferenceTriple("Hail?", "no", "Yes.")
    other = PreferenceTriple("Sun?", "Yes.", "no")
    assert shared([other, turned, chat], [one]) == ([2], [1])
    assert shared([], [one]) == ([], [])
