import pytest

from dspa_nn.errors import DSPAError
from dspa_nn.triples import ultrafeedback_rows


def test_rule_11_splits_are_the_agreed_rows_and_disjoint():
    fit, dev, test = (ultrafeedback_rows(split) for split in ("fit", "dev", "test"))
    assert (fit, dev, test) == (range(400), range(400, 500), range(500, 800))


def test_another_split_is_refused_in_one_sentence():
    with pytest.raises(DSPAError) as caught:
        ultrafeedback_rows("train")
    assert str(caught.value) == "there is no split 'train'; the splits are fit, dev, test"
