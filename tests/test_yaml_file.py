"""YAML files from anywhere: plain values or one sentence, in bounded time and memory."""

import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from verbs import hvlabel

from hvlabel.config.tree import load_config
from hvlabel.descriptors import load_descriptor
from hvlabel.errors import ConfigError
from hvlabel.yaml_file import MAX_BYTES, MAX_LEVELS, MAX_VALUES, read_yaml

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 12)
)
MERGED = "a0: &a0 {x: 1}\n" + "".join(f"a{k}: &a{k}\n  <<: [{', '.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 12))
BOMBS = {
    "aliases": (LAUGHS, "aliases written out"),
    "merged mappings": (MERGED, "aliases written out"),
    "itself": ("datasets: &a {b: *a}", "an alias that stands for itself"),
    "lists in lists": ("a: " + "[" * 100_000, "nested more than"),
    "mappings in mappings": ("".join(" " * k + "a:\n" for k in range(500)), "nested more than"),
    "many values": ("a: [" + "1," * (MAX_VALUES + 9) + "]", "more than"),
    "a long value": ("a: " + "x" * 20_000, "characters"),
    "a long number": ("a: " + "9" * 9_000, "not valid YAML"),
    "a large number": ("a: 0x" + "f" * 40, "64 bits"),
    "a long time": ("a: 1" + ":59" * 3_000, "64 bits"),
    "a long time with a point": ("a: 1" + ":59" * 3_000 + ".5", "not valid YAML"),
    "a large file": ("#" + "x" * MAX_BYTES, "larger than 1 MiB"),
    "a day that there is not": ("a: 2001-99-99", "not valid YAML"),
    "no number": ('a: !!int ""', "not valid YAML"),
    "no truth": ("a: !!bool perhaps", "not valid YAML"),
    "a Python object": ("a: !!python/object/apply:os.system [touch pwned]", "not valid YAML"),
    "a Python name": ("a: !!python/name:os.system", "not valid YAML"),
    "a list as key": ("{[1]: 2}", "not valid YAML"),
    "no UTF-8": (b"a: \xff", "not valid YAML"),
    "nothing but a null byte": (b"\x00", "not valid YAML"),
}


def written(tmp_path, content):
    path = tmp_path / "bomb.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_one_sentence_at_once(tmp_path, name):
    content, said = BOMBS[name]
    path = written(tmp_path, content)
    begun = time.process_time()
    for read in (read_yaml, load_config, lambda p: load_descriptor("d", str(p))):
        with pytest.raises(ConfigError) as error:
            read(path)
        assert str(error.value).startswith(f"{path}: ")
        assert said in str(error.value)
        assert "\n" not in str(error.value)
    assert time.process_time() - begun < 60  # one alone is far below; an unbounded one would never end


def test_a_verb_says_it_in_one_line(tmp_path):
    path = written(tmp_path, LAUGHS)
    said = hvlabel("scan", "--config", path)
    assert said.status == 2
    assert said.err.startswith(f"hvlabel: error: {path}: not valid YAML (more than {MAX_VALUES} values")


def test_what_is_within_the_bounds_is_read(tmp_path):
    deep = "[" * (MAX_LEVELS - 2) + "1" + "]" * (MAX_LEVELS - 2)
    assert read_yaml(written(tmp_path, f"a: {deep}"))["a"] is not None
    assert len(read_yaml(written(tmp_path, "a: [" + "1," * 40_000 + "]"))["a"]) == 40_000
    assert read_yaml(written(tmp_path, b"\xef\xbb\xbfa: \xc2\xb5m")) == {"a": "µm"}
    assert read_yaml(written(tmp_path, "a: &x {b: 1}\nc: {<<: *x, d: 0x1f}")) == {"a": {"b": 1}, "c": {"b": 1, "d": 31}}


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(PLAIN)
def test_plain_values_come_back_as_they_were_written(tmp_path_factory, tree):
    path = tmp_path_factory.getbasetemp() / "plain.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    assert read_yaml(path) == tree


@given(st.text(alphabet="{}[]&*!<>|:-?,'\"#% \n\tabc019.e~_x", max_size=60) | st.binary(max_size=30))
def test_anything_is_values_or_one_sentence(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    try:
        read_yaml(path)
    except ConfigError as error:
        assert str(error).startswith(f"{path}: not valid YAML")  # noqa: PT017 (one of two right answers)
