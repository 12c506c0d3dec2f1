"""Words of latents: the tokens that a decoder row raises, through the final norm and the head."""

import pytest
import torch

from dspa_nn.errors import DSPAError, SteeringError
from dspa_nn.evaluation import promoted_tokens
from dspa_nn.evaluation.words import raised_logits
from tests import eval_zoo, tiny


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_logits_move_along_the_row_as_the_head_sees_it(family):
    dspa, hf = eval_zoo.dspa(family), eval_zoo.model(family)
    row = dspa.output_sae.decoder[5].float()
    scale = hf.model.norm.weight + (1 if "gemma" in family else 0)
    wanted = hf.lm_head.weight @ (scale * row)
    found = raised_logits(dspa, [5])[0]
    assert torch.nn.functional.cosine_similarity(found, wanted, dim=0) > 1 - 1e-5


def test_tokens_are_the_highest_and_words_are_told_apart():
    dspa = eval_zoo.dspa()
    found = promoted_tokens(dspa, [5, 9], most=4, words_only=False)
    best = raised_logits(dspa, [5, 9]).topk(4).indices
    tokenizer = dspa.facts.tokenizer
    for latent, tokens in zip((5, 9), best.tolist(), strict=True):
        special = set(dspa.facts.special_ids)
        told = ["" if token in special else tokenizer.decode([token]) for token in tokens]
        assert found[latent] == told
    assert promoted_tokens(dspa, []) == {}


def test_words_are_told_from_other_tokens_and_named_once(monkeypatch):
    dspa = eval_zoo.dspa()
    order = raised_logits(dspa, [5])[0].argsort(descending=True).tolist()
    spelled = dict(
        zip(order, [" Sun", "sun", "!", " a", "1st", " moon", "SUN ", " née"] * 99, strict=False)
    )
    monkeypatch.setattr(dspa.facts.tokenizer, "decode", lambda ids: spelled[ids[0]])
    assert promoted_tokens(dspa, [5], most=3)[5] == ["Sun", "moon", "née"]


def test_what_is_not_there_is_refused():
    dspa = eval_zoo.dspa()
    width = len(dspa.output_sae.decoder)
    with pytest.raises(DSPAError) as caught:
        promoted_tokens(dspa, [width])
    assert str(caught.value) == (
        f"output latent {width} came, and the SAE has {width}; give one from 0 to {width - 1}"
    )
    with pytest.raises(SteeringError, match="most"):
        promoted_tokens(dspa, [1], most=0)
