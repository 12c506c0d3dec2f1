"""Words of latents: the tokens that a decoder row raises, through the final norm and the head."""

import numpy as np
import pytest
import torch

from dspa_nn.errors import DSPAError, SteeringError
from dspa_nn.evaluation import promoted_tokens
from dspa_nn.evaluation.words import raised_logits
from tests import eval_zoo, tiny


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_logits_are_those_of_the_rows_against_all_other_rows(family):
    dspa, hf = eval_zoo.dspa(family), eval_zoo.model(family)
    rows = dspa.output_sae.decoder.detach().float()
    rows = rows / rows.norm(dim=-1, keepdim=True)
    scale = hf.model.norm.weight.detach() + (1 if "gemma" in family else 0)
    logits = (scale * rows) @ hf.lm_head.weight.detach().T
    spread = logits.std(0, correction=0).clamp(min=1e-6)  # padding has a row of zeros
    wanted = (logits - logits.mean(0)) / spread
    assert torch.allclose(raised_logits(dspa, [5, 0]), wanted[[5, 0]], atol=1e-3)


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
    order = np.argsort(-raised_logits(dspa, [5])[0].numpy(), kind="stable").tolist()
    order = [token for token in order if token not in dspa.facts.special_ids]
    texts = [" Sun", "ning", " sun", "!", " an", " 1st", " moon", " SUN", " n\u00e9e"]
    spelled = dict(zip(order, texts * 99, strict=False))
    tokenizer = dspa.facts.tokenizer
    monkeypatch.setattr(tokenizer, "decode", lambda ids: spelled.get(ids[0], ""))
    monkeypatch.setattr(
        tokenizer, "convert_ids_to_tokens", lambda token: spelled[token].replace(" ", "\u0120")
    )
    assert promoted_tokens(dspa, [5], most=3)[5] == ["Sun", "moon", "n\u00e9e"]


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
