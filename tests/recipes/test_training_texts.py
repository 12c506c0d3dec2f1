"""What the training recipes are shown: which text stands where, and which tokens a loss counts."""

import importlib
from typing import Any

import pytest
import torch

from tests import eval_zoo, tiny
from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def recipes() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(REPOSITORY / "recipes"))
        yield {name: importlib.import_module(f"_training.{name}") for name in ("texts", "sft")}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny.tokenizer("markup")


def test_dpo_is_shown_the_chosen_response_as_chosen_and_the_end_of_its_turn(
    recipes: Any, tokenizer: Any
) -> None:
    texts, triples = recipes["texts"], eval_zoo.triples(5)
    rows = texts.preferences(tokenizer, triples, texts.Room(500))
    assert len(rows) == len(triples)
    for row, triple in zip(rows, triples, strict=True):
        prompt = eval_zoo.dspa().render(triple.prompt)
        assert row["prompt_ids"] == prompt.prompt_ids.tolist()
        assert tokenizer.decode(row["chosen_ids"]) == f"{triple.chosen}<|im_end|>"
        assert tokenizer.decode(row["rejected_ids"]) == f"{triple.rejected}<|im_end|>"


def test_a_response_that_is_cut_has_no_end_of_turn(recipes: Any, tokenizer: Any) -> None:
    texts, triple = recipes["texts"], eval_zoo.triples(1)[0]
    most = min(len(triple.chosen), len(triple.rejected)) - 1  # a token is a character
    (row,) = texts.preferences(tokenizer, [triple], texts.Room(500, most))
    assert tokenizer.decode(row["chosen_ids"]) == triple.chosen[:most]
    assert tokenizer.decode(row["rejected_ids"]) == triple.rejected[:most]


def test_rahf_shows_each_response_behind_the_instruction_that_goes_with_it(
    recipes: Any, tokenizer: Any
) -> None:
    texts, triple = recipes["texts"], eval_zoo.triples(2)[1]

    def said(ids: Any) -> tuple[str, str]:
        return tokenizer.decode(ids.prompt), tokenizer.decode(ids.response)

    plain, good, bad = (
        texts.dialogue(triple.messages, words) for words in ("", texts.GOOD, texts.BAD)
    )
    assert plain.startswith("Human: ")
    assert good == f"{texts.GOOD}\n\n{plain}"
    chosen, rejected = (f"{text}<|im_end|>" for text in (triple.chosen, triple.rejected))
    first, second = texts.contrasts(tokenizer, [triple], texts.Room(10**6))
    assert (said(first.own), said(first.other)) == ((good, chosen), (bad, chosen))
    assert (said(second.own), said(second.other)) == ((bad, rejected), (good, rejected))
    (three,) = texts.stimuli(tokenizer, [triple], texts.Room(10**6))
    assert [said(one) for one in (three.plain, three.good, three.bad)] == [
        (plain, chosen), (good, chosen), (bad, chosen)
    ]  # fmt: skip


def test_the_loss_of_fine_tuning_is_of_the_responses_tokens_alone(
    recipes: Any, tokenizer: Any
) -> None:
    texts, sft = recipes["texts"], recipes["sft"]
    model = tiny.model("llama", max_position_embeddings=2048)
    rows = texts.demonstrations(tokenizer, eval_zoo.triples(3), texts.Room(10**6))
    total, tokens = 0.0, 0
    for row in rows:
        whole = torch.tensor([[*row.prompt, *row.response]])
        labels = torch.tensor([[*[-100] * len(row.prompt), *row.response]])
        with torch.no_grad():
            total += float(model(whole, labels=labels).loss) * len(row.response)
        tokens += len(row.response)
    inputs = sft.batch(rows, tokenizer.pad_token_id, "right")
    with torch.no_grad():
        loss = sft.SFTTrainer.compute_loss(None, model, inputs)
    assert float(loss) == pytest.approx(total / tokens, rel=1e-5)
