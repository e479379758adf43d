"""Compressed run lengths from files: what pycocotools would read past its end never reaches it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvlabel.errors import MaskFileError
from hvlabel.masks import decode, encode, segmentation_rle
from hvlabel.masks.rle import compressed

SIZE = (9, 7)


@given(st.integers(0, 2**32))
def test_what_was_encoded_is_taken(seed):
    mask = np.random.default_rng(seed).random(SIZE) > 0.5
    rle = encode(mask)
    assert compressed(rle["counts"].decode()) == rle["counts"]
    again = segmentation_rle("f", 0, {"size": list(SIZE), "counts": rle["counts"].decode()}, SIZE)
    assert (decode(again) == mask).all()


@pytest.mark.parametrize("counts", ["!!", "o", "0P", "~", "PPPPPPP1", "0\n", "0\u00e9"])
def test_numbers_without_an_end_and_other_characters_are_refused(counts):
    with pytest.raises(ValueError, match="no compressed run lengths"):
        compressed(counts)
    with pytest.raises(MaskFileError, match=r"neither an RLE nor polygons .*no compressed run lengths"):
        segmentation_rle("f", 0, {"size": list(SIZE), "counts": counts}, SIZE)
