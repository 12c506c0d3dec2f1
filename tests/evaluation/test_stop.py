"""`answer(stop=)`: an answer ends before a text, whatever else the model goes on to say."""

from dspa_nn.evaluation import answer
from tests import eval_zoo


def test_an_answer_ends_before_the_stop_and_others_are_as_without() -> None:
    dspa = eval_zoo.dspa()
    prompts = [dspa.render(triple.prompt) for triple in eval_zoo.triples(3)]
    whole = answer(dspa, prompts, max_new_tokens=12).texts
    stop = whole[0][4:6]
    cut = answer(dspa, prompts, max_new_tokens=12, stop=stop).texts
    assert cut == [text.partition(stop)[0].strip() for text in whole]
    assert cut[0] != whole[0]
    assert answer(dspa, prompts, max_new_tokens=12, stop="never said").texts == whole
