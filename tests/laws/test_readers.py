"""Laws of all readers: what is written is read, in whole and in strips; what is cut off is one sentence."""

from typing import get_args

import numpy as np
import pytest
import raw_files
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_files import data_file
from raw_kinds import KINDS

from hvlabel.descriptors import Container, Descriptor
from hvlabel.errors import RawFileError
from hvlabel.readers import first_line, open_raw, raw_sha256

MEMORY_BYTES = 1 << 17  # little enough that the larger cubes come in several strips
ONE_FOLDER = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def any_values(kind, shape, dtype):
    """Every bit pattern of a type is as likely, NaN and infinities included; where values are computed: finite ones."""
    rng = np.random.default_rng(0)
    if kind.computed:
        return rng.normal(0, 1000, shape).astype(dtype)
    n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer(rng.bytes(n_bytes), dtype).reshape(shape)


@st.composite
def stored_forms(draw, kind):
    """((C, H, W), dtype, axes, byte order): what a container of this kind can hold."""
    n_bands = kind.side**2 if kind.side else draw(st.integers(kind.least_bands, 7))
    shape = n_bands, draw(st.integers(1, 24)), draw(st.integers(1, 24))
    return shape, *(draw(st.sampled_from(choice)) for choice in (kind.dtypes, kind.axes, kind.orders))


def small_cube(kind, dtype=None):
    """A sound cube without symmetry."""
    n_bands = kind.side**2 if kind.side else 6
    values = np.random.default_rng(0).integers(1, 120, (n_bands, 9, 13))
    return values.astype(dtype or kind.dtypes[-1])


def written(kind, folder):
    """Path of a sound file, its cube and its descriptor."""
    cube = small_cube(kind)
    path = kind.write(folder / kind.file_name, cube, kind.axes[0], kind.orders[0])
    return path, cube, kind.descriptor(len(cube), axes=kind.axes[0])


def outcome(path, descriptor):
    """("", the whole cube), or (the sentence of a refusal, None)."""
    try:
        return "", open_raw(path, descriptor).read()
    except RawFileError as error:
        return str(error), None


def test_every_container_takes_part():
    assert {kind.container for kind in KINDS.values()} == set(get_args(Container))


@pytest.mark.parametrize("name", KINDS)
@given(data=st.data())
@ONE_FOLDER
def test_values_come_back_whatever_type_axes_order_and_turn(tmp_path_factory, name, data):
    kind = KINDS[name]
    shape, dtype, axes, order = data.draw(stored_forms(kind), "stored")
    n_bands, height, _ = shape
    rot90 = data.draw(st.integers(0, 3), "rot90")
    gone_rows = data.draw(st.sets(st.integers(0, height - 1), max_size=height - 1), "drop_rows")
    gone_bands = data.draw(st.sets(st.integers(0, n_bands - 1), max_size=n_bands - 1), "drop_bands")
    cube = any_values(kind, shape, dtype)
    path = kind.write(tmp_path_factory.mktemp("kind") / kind.file_name, cube, axes, order)
    kept = np.delete(np.delete(cube, sorted(gone_bands), axis=0), sorted(gone_rows), axis=1)
    upright = np.rot90(kept, rot90, axes=(1, 2))
    descriptor = kind.descriptor(
        len(upright), axes=axes, rot90=rot90, drop_rows=sorted(gone_rows), drop_bands=sorted(gone_bands)
    )

    image = open_raw(path, descriptor)
    sizes = dict(zip(image.stored.axes, image.stored.array.shape, strict=True))
    assert (sizes["c"], sizes["y"], sizes["x"]) == cube.shape  # the reader says its axes
    assert image.shape == upright.shape
    assert image.dtype == cube.dtype.newbyteorder("=")
    np.testing.assert_array_equal(image.read(), upright)
    np.testing.assert_array_equal(first_line(image), upright[0, 0])

    side_px = data.draw(st.sampled_from([1, 4, 16]), "side_px")
    axis, end = None, 0
    for strip in image.strips(side_px, MEMORY_BYTES, path.parent):
        assert strip.start == end  # without gaps
        assert axis in (None, strip.axis)
        axis, end = strip.axis, strip.start + strip.values.shape[strip.axis]
        part = (slice(None), slice(strip.start, end)) if axis == 1 else np.s_[:, :, strip.start : end]
        np.testing.assert_array_equal(strip.values, upright[part])
    assert end == upright.shape[axis]


@pytest.mark.parametrize("name", KINDS)
def test_the_files_of_an_image_are_named_and_hashed(tmp_path, name):
    path, _, descriptor = written(KINDS[name], tmp_path)
    image = open_raw(path, descriptor)
    assert image.files[0] in (path, *path.glob("*"))
    assert data_file(path) in image.files
    assert image.wavelengths_nm == tuple(descriptor.wavelengths_nm)
    before = raw_sha256(image.files)
    content = data_file(path).read_bytes()
    data_file(path).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert raw_sha256(image.files) != before


@pytest.mark.parametrize("name", KINDS)
def test_a_file_that_ends_early_is_one_sentence_naming_it(tmp_path, name):
    path, cube, descriptor = written(KINDS[name], tmp_path)
    victim = data_file(path)
    content = victim.read_bytes()
    heads = range(0, min(len(content), 240), 8)
    parts = [len(content) * k // 40 for k in range(40)]
    n_sentences = 0
    for keep in sorted({*heads, *parts, len(content) - 1}):
        victim.write_bytes(content[:keep])
        sentence, values = outcome(path, descriptor)
        if values is None:
            n_sentences += 1
            assert "\n" not in sentence
            assert victim.name in sentence or path.name in sentence
        else:  # only what no reader needs was cut off
            np.testing.assert_array_equal(values, cube)
            assert keep > 0.8 * len(content), keep
    assert n_sentences >= 40


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("more", [-1, 1])
def test_another_number_of_bands_is_one_sentence(tmp_path, name, more):
    path, cube, _ = written(KINDS[name], tmp_path)
    kind = KINDS[name]
    n_bands = len(cube)
    with pytest.raises(
        RawFileError,
        match=rf"{n_bands + more} wavelengths for {n_bands} bands|{n_bands} PNG files for {n_bands + more} bands",
    ) as refused:
        open_raw(path, kind.descriptor(n_bands + more, axes=kind.axes[0]))
    assert path.name in str(refused.value)


@pytest.mark.parametrize("name", KINDS)
def test_a_file_that_is_not_there_is_one_sentence(tmp_path, name):
    kind = KINDS[name]
    with pytest.raises(RawFileError, match=r"no such (file|folder)") as refused:
        open_raw(tmp_path / kind.file_name, kind.descriptor(6))
    assert kind.file_name in str(refused.value)


@pytest.mark.parametrize("axes", [2, 4])
@pytest.mark.parametrize(
    ("write", "container"),
    [
        (lambda folder, a: raw_files.npy(folder / "a.npy", a), "npy"),
        (lambda folder, a: raw_files.npz(folder / "a.npz", cube=a), "npy"),
        (lambda folder, a: raw_files.mat5(folder / "a.mat", cube=a), "matlab"),
        (lambda folder, a: raw_files.mat73(folder / "a.mat", cube=a), "matlab"),
        (lambda folder, a: raw_files.hdf5(folder / "a.h5", {"cube": a}), "hdf5"),
        (lambda folder, a: raw_files.hdf5(folder / "a.nc", {"cube": a}), "netcdf"),
    ],
    ids=["npy", "npz", "mat5", "mat73", "hdf5", "netcdf4"],
)
def test_an_array_that_has_not_three_axes_is_one_sentence(tmp_path, write, container, axes):
    path = write(tmp_path, np.ones((5, 7, 6, 2)[:axes], "f4"))
    descriptor = Descriptor(
        container=container,
        variable=None if container == "npy" else "cube",
        wavelengths_nm=np.linspace(500, 600, 6).tolist(),
    )
    sentence, _ = outcome(path, descriptor)
    assert "three" in sentence
    assert path.name in sentence
