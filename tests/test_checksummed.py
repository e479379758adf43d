"""A file that holds its own checksum: any flipped bit is noticed, also one in the checksum or its name."""

import json

from hypothesis import given
from hypothesis import strategies as st

from hvlabel.checksummed import BLANK, FIELD, is_whole, stamped

values = st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(values, st.data())
def test_one_flipped_bit_is_noticed(value, data):
    content = stamped(json.dumps({"value": value, FIELD: BLANK}).encode())
    assert json.loads(content)["value"] == value
    assert is_whole(content) is True
    flipped = bytearray(content)
    flipped[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    # None only where the field's own name was hit: whoever knows which fields there may be sees that
    assert is_whole(bytes(flipped)) is not True
    if is_whole(bytes(flipped)) is None:
        assert f'"{FIELD}"'.encode() not in flipped


def test_a_file_without_a_checksum_says_so():
    assert is_whole(b'{"a": 1}') is None
