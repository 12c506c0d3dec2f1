"""What steering does to log p token by token, against the oracle, and how it is printed."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from dspa_nn.errors import DSPAError
from dspa_nn.evaluation import TokenChanges, margins, token_changes
from dspa_nn.steering import DSPAMethod
from tests import eval_zoo, steer_zoo
from tests.oracle import model as oracle


class Spelled:
    """A tokenizer of given pieces, of bytes: a character may be cut in two."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces

    def decode(self, ids: list[int]) -> str:
        return b"".join(self.pieces[index] for index in ids).decode("utf-8", errors="replace")


def changes(pieces: list[str] | list[bytes], values: list[float]) -> TokenChanges:
    spelled = Spelled(*(one if isinstance(one, bytes) else one.encode() for one in pieces))
    none = np.zeros(len(values))
    return TokenChanges(
        torch.arange(len(values)), none, np.array(values), none.astype(np.int64), none, spelled
    )


@pytest.mark.parametrize("positions", ["response", "all"])
@pytest.mark.parametrize("family", ["gemma2", "llama"])
def test_changes_are_the_oracles(family: str, positions: Any) -> None:
    lab = steer_zoo.lab(family, "add")
    given: Any = {**steer_zoo.SETTINGS, "positions": positions}
    texts = list(zip(lab.prompts(3), ("sun moon", "a grey sea", "x"), strict=True))
    responses = [lab.dspa.render(prompt, text) for prompt, text in texts]
    method = DSPAMethod("", lab.dspa, lab.map, given)
    found = token_changes(lab.dspa, responses, method, token_budget=90)
    rows = [one.ids.tolist() for one in responses]
    inputs = steer_zoo.padded(lab, rows, "right")
    lengths = [one.prompt_length for one in responses]
    plans = steer_zoo.plans(lab, inputs, {**given, "prompt_length": lengths})
    plain, steered = (
        oracle.steered_forward(
            lab.hf, lab.sae_out, lab.layers[1], plans, *inputs.values(),
            alpha=alpha, prompt_length=lengths, positions=positions, bos_id=lab.tok.bos_token_id,
        )
        for alpha in (0.0, given["alpha"])
    )  # fmt: skip
    edits = [(edit.row, edit.position) for edit in steered.edits]
    for row, (changes, response) in enumerate(zip(found, responses, strict=True)):
        predicting = range(lengths[row] - 1, len(response.ids) - 1)
        for got, run in ((changes.unsteered, plain), (changes.steered, steered)):
            log_probs = run.logits[row].double().log_softmax(-1)[predicting]
            wanted = log_probs.gather(-1, response.response_ids[:, None])[:, 0]
            assert got == pytest.approx(wanted.numpy(), abs=2e-5)
        assert changes.edits.tolist() == [edits.count((row, place)) for place in predicting]
        assert ((changes.share > 0) == (changes.edits > 0)).all()
        assert "".join(changes.tokens) == texts[row][1]
    assert max(np.abs(one.change).max() for one in found) > 1e-3


def test_margins_hold_the_same_changes():
    dspa, triples = eval_zoo.dspa(), eval_zoo.triples(3)
    method = DSPAMethod("", dspa, eval_zoo.counts().fit(percentile=50), eval_zoo.STEER)
    plain, steered = margins(dspa, triples, [method])
    for name in ("chosen", "rejected"):
        part = getattr(steered, name)
        responses = [dspa.render(one.prompt, getattr(one, name)) for one in triples]
        alone = token_changes(dspa, responses, method)
        for row, changes in enumerate(part.tokens):
            assert changes.change == pytest.approx(alone[row].change, abs=2e-5)
            assert changes.change.mean() == pytest.approx(part.change[row])
            assert changes.steered.mean() == pytest.approx(part.log_prob[row])
        assert not any(changes.change.any() for changes in getattr(plain, name).tokens)
        frame = part.tokens[0].to_pandas()
        assert len(frame) == len(part.tokens[0])
        assert frame.change.tolist() == part.tokens[0].change.tolist()


def test_a_response_that_is_empty_is_refused():
    dspa = eval_zoo.dspa()
    with pytest.raises(DSPAError, match="sequence 0 has no response"):
        token_changes(dspa, [dspa.render("sun moon")], None)


def test_the_largest_changes_have_their_number_and_a_word_is_one():
    found = changes(
        [" It", " is", " regul", "ated", " by", " it", "."], [0.1, -0.3, -1.5, -0.7, 0.6, 0, -0.9]
    )
    assert found.words() == [
        (" It", 0.1), (" is", -0.3), (" regulated", -2.2), (" by", 0.6), (" it", 0.0), (".", -0.9)
    ]  # fmt: skip
    assert str(found) == " It is regulated[-2.2] by[+0.6] it.[-0.9]"
    assert found.marked(most=2).plain == " It is regulated[-2.2] by it.[-0.9]"
    assert found.marked(most=0).plain == " It is regulated by it."
    assert found.marked(least=1.0).plain == " It is regulated[-2.2] by it."
    styles = {found.marked().plain[s.start : s.end]: s.style for s in found.marked().spans}
    assert styles == {
        "is": "red", "regulated[-2.2]": "bold red", "by[+0.6]": "green", ".[-0.9]": "red"
    }  # fmt: skip


def test_rich_prints_the_marked_text():
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(changes(["a", " b"], [0.0, 1.25]))
    assert console.export_text() == "a b[+1.2]\n"


def test_characters_of_several_tokens_are_whole():
    whole = "née ☃!"
    data = whole.encode()
    found = changes([data[:2], data[2:5], data[5:6], data[6:]], [0.0] * 4)
    assert "".join(found.tokens) == whole
    assert "\ufffd" not in "".join(found.tokens)
    assert changes(["", "x"], [1.0, 1.0]).words() == [("x", 2.0)]
    assert changes(["x", " ", "y"], [0.0, 1.0, 1.0]).marked().plain == "x y[+2.0]"
    assert changes([], []).marked().plain == ""
