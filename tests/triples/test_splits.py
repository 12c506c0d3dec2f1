from itertools import pairwise

import pytest

from dspa_nn.errors import DSPAError
from dspa_nn.triples import SPLITS, hh_rlhf_rows, ultrafeedback_rows


def test_rule_11_splits_are_the_agreed_rows_and_disjoint():
    fit, dev, test = (ultrafeedback_rows(split) for split in ("fit", "dev", "test"))
    assert (fit, dev, test) == (range(400), range(400, 500), range(500, 800))


def test_the_splits_of_hh_rlhf_follow_one_another_and_hold_every_row_of_the_file():
    rows = [hh_rlhf_rows(split) for split in SPLITS]
    assert rows[0].start == 0
    assert rows[-1].stop == 2312
    assert all(one.stop == other.start for one, other in pairwise(rows))


@pytest.mark.parametrize("rows", [ultrafeedback_rows, hh_rlhf_rows])
def test_another_split_is_refused_in_one_sentence(rows):
    with pytest.raises(DSPAError) as caught:
        rows("train")
    assert str(caught.value) == "there is no split 'train'; the splits are fit, dev, test"
