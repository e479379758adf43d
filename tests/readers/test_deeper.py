"""Containers one level deeper: structs, cells, pages, leading axes, matrices, NetCDF."""

import h5py
import numpy as np
import pytest
import scipy.io
import tifffile

from hvlabel.descriptors import Descriptor
from hvlabel.errors import RawFileError
from hvlabel.readers import open_raw

N, H, W = 6, 9, 13
CUBE = np.random.default_rng(0).integers(0, 4000, (N, H, W)).astype("uint16")
YXC = CUBE.transpose(1, 2, 0)
NM = [500.0 + 10 * k for k in range(N)]


def read(path, **more):
    return open_raw(path, Descriptor(**{"wavelengths_nm": NM, **more})).read()


@pytest.mark.parametrize("compressed", [False, True])
def test_structs_and_cells_of_matlab_v5(tmp_path, compressed):
    cell = np.empty((1, 2), object)
    cell[0, 0], cell[0, 1] = YXC, np.arange(5.0)
    content = {
        "before": np.ones((300, 300)),
        "data": {"info": {"name": "x", "wavelength": np.array(NM)}, "cube": YXC, "rows": 3},
        "list": cell,
        "after": "text",
    }
    scipy.io.savemat(tmp_path / "a.mat", content, do_compression=compressed)
    for variable in ("data/cube", "list{1}"):
        np.testing.assert_array_equal(read(tmp_path / "a.mat", container="matlab", variable=variable), CUBE)
    raw = open_raw(
        tmp_path / "a.mat",
        Descriptor(container="matlab", variable="data/cube", wavelength_variable="data/info/wavelength"),
    )
    assert raw.wavelengths_nm == tuple(NM)
    with pytest.raises(RawFileError, match=r"2 three-dimensional.*data/cube.*list"):
        read(tmp_path / "a.mat", container="matlab")
    many = np.array([(YXC, 1), (YXC + 1, 2)], dtype=[("cube", object), ("k", object)])
    scipy.io.savemat(tmp_path / "b.mat", {"s": many}, do_compression=compressed)
    np.testing.assert_array_equal(read(tmp_path / "b.mat", container="matlab", variable="s(2)/cube"), CUBE + 1)


def test_every_truncation_of_a_struct_is_a_sentence(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"data": {"cube": YXC}}, do_compression=True)
    whole = (tmp_path / "a.mat").read_bytes()
    for keep in range(100, len(whole) - 1, 97):
        (tmp_path / "a.mat").write_bytes(whole[:keep])
        with pytest.raises(RawFileError):
            read(tmp_path / "a.mat", container="matlab", variable="data/cube")


def test_cells_of_matlab_v73(tmp_path):
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
        file["#refs#/a"] = YXC.transpose(2, 1, 0)
        cell = file.create_dataset("list", (1, 1), dtype=h5py.ref_dtype)
        cell[0, 0] = file["#refs#/a"].ref
        cell.attrs["MATLAB_class"] = np.bytes_("cell")
        file["s/cube"] = YXC.transpose(2, 1, 0) + 1
    np.testing.assert_array_equal(read(tmp_path / "a.mat", container="matlab", variable="list{1}"), CUBE)
    np.testing.assert_array_equal(read(tmp_path / "a.mat", container="matlab", variable="s/cube"), CUBE + 1)


def test_matlab_v4_is_told_by_name(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"x": np.ones((40, 50))}, format="4")
    with pytest.raises(RawFileError, match=r"MATLAB v4.*-v7"):
        read(tmp_path / "a.mat", container="matlab")


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("metadata", [None, {}])
def test_tiff_written_page_by_page(tmp_path, compression, metadata):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for band in CUBE:
            writer.write(band, compression=compression, metadata=metadata)
    np.testing.assert_array_equal(read(tmp_path / "a.tif", container="tiff", axes="cyx"), CUBE)


@pytest.mark.parametrize("pages", [True, False])
@pytest.mark.parametrize("preview", [np.zeros((4, 5, 3), "u1"), np.zeros((20, 20), "u1")])
def test_a_preview_before_the_bands_is_passed_over(tmp_path, pages, preview):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(preview)
        if pages:
            for band in CUBE:
                writer.write(band, compression="zlib")
        else:
            writer.write(CUBE, photometric="minisblack")
    np.testing.assert_array_equal(read(tmp_path / "a.tif", container="tiff", axes="cyx"), CUBE)


def test_two_equal_cubes_in_a_tiff_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(CUBE, photometric="minisblack")
        writer.write(CUBE + 1, photometric="minisblack")
    with pytest.raises(RawFileError, match="2 images of 6x9x13"):
        read(tmp_path / "a.tif", container="tiff", axes="cyx")


@pytest.mark.parametrize("planar", ["separate", "contig"])
@pytest.mark.parametrize("part", [np.s_[:, :1], np.s_[:, :, :1], np.s_[:, :1, :1]])
def test_one_row_and_one_column_of_a_tiff(tmp_path, planar, part):
    values = CUBE[part]
    stored, axes = (values, "cyx") if planar == "separate" else (values.transpose(1, 2, 0), "yxc")
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="minisblack", planarconfig=planar)
    np.testing.assert_array_equal(read(tmp_path / "a.tif", container="tiff", axes=axes), values)


def test_leading_axes_of_length_one(tmp_path):
    np.save(tmp_path / "a.npy", CUBE[None, None])
    np.testing.assert_array_equal(read(tmp_path / "a.npy", container="npy", axes="cyx"), CUBE)
    np.savez(tmp_path / "a.npz", cube=YXC[None])
    np.testing.assert_array_equal(read(tmp_path / "a.npz", container="npy"), CUBE)
    scipy.io.savemat(tmp_path / "a.mat", {"cube": YXC[None]})
    np.testing.assert_array_equal(read(tmp_path / "a.mat", container="matlab"), CUBE)
    for name, options in {"plain": {}, "chunked": {"chunks": (1, 1, 2, 4, 5), "compression": "gzip"}, "lzf": {"chunks": (1, 1, 2, 4, 5), "compression": "lzf"}}.items():  # fmt: skip
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file.create_dataset("cube", data=CUBE[None, None], **options)
        np.testing.assert_array_equal(read(tmp_path / f"{name}.h5", container="hdf5", axes="cyx"), CUBE)


def npy(folder, matrix):
    np.save(folder / "a.npy", matrix)
    return folder / "a.npy", "npy"


def npz(folder, matrix):
    np.savez(folder / "a.npz", V=matrix, other=np.ones(5))
    return folder / "a.npz", "npy"


def hdf5_plain(folder, matrix):
    with h5py.File(folder / "a.h5", "w") as file:
        file["V"] = matrix
    return folder / "a.h5", "hdf5"


def hdf5_chunked(folder, matrix):
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("V", data=matrix, chunks=(2, 5), compression="gzip")
    return folder / "a.h5", "hdf5"


@pytest.mark.parametrize("write", [npy, npz, hdf5_plain, hdf5_chunked])
def test_matrices_of_bands_and_pixels_in_rows(tmp_path, write):
    path, container = write(tmp_path, CUBE.reshape(N, -1))  # pixel = row * columns + column
    np.testing.assert_array_equal(read(path, container=container, shape=[H, W]), CUBE)
    path, container = write(tmp_path, CUBE.reshape(N, -1).T)
    np.testing.assert_array_equal(read(path, container=container, shape=[H, W]), CUBE)
    with pytest.raises(RawFileError, match=r"120 pixels|descriptor\.shape"):
        read(path, container=container, shape=[10, 12])
    with pytest.raises(RawFileError, match="shape"):
        read(path, container=container)


@pytest.mark.parametrize("bands_first", [True, False])
def test_matrices_of_matlab_run_down_the_columns(tmp_path, bands_first):
    matrix = CUBE.transpose(0, 2, 1).reshape(N, -1)  # pixel = row + rows * column, as MATLAB's reshape gives it
    matrix = matrix if bands_first else matrix.T
    scipy.io.savemat(tmp_path / "a.mat", {"V": matrix, "nRow": H, "nCol": W, "maxValue": 4000})
    np.testing.assert_array_equal(read(tmp_path / "a.mat", container="matlab"), CUBE)  # the file says its own size
    scipy.io.savemat(tmp_path / "a.mat", {"V": matrix})
    np.testing.assert_array_equal(read(tmp_path / "a.mat", container="matlab", shape=[H, W]), CUBE)
    along_rows = CUBE.reshape(N, -1)
    scipy.io.savemat(tmp_path / "a.mat", {"V": along_rows})
    np.testing.assert_array_equal(read(tmp_path / "a.mat", container="matlab", shape=[H, W], axes="cxy"), CUBE)


@pytest.mark.parametrize("version", [1, 2])
def test_netcdf_v3(tmp_path, version):
    with scipy.io.netcdf_file(tmp_path / "a.nc", "w", version=version) as file:
        for name, size in (("band", N), ("y", H), ("x", W)):
            file.createDimension(name, size)
        file.createVariable("reflectance", "i2", ("band", "y", "x"))[:] = CUBE.astype("i2")
        file.variables["reflectance"]._FillValue = np.int16(-1)
        file.variables["reflectance"].scale_factor = 0.0001
        file.createVariable("wavelength", "f8", ("band",))[:] = np.array(NM) / 1000
        file.variables["wavelength"].units = "um"
    raw = open_raw(tmp_path / "a.nc", Descriptor(container="netcdf", axes="cyx"))
    np.testing.assert_array_equal(raw.read(), CUBE)
    np.testing.assert_allclose(raw.wavelengths_nm, NM)
    assert (raw.scale, raw.ignore_values) == (pytest.approx(0.0001), (-1,))
    with scipy.io.netcdf_file(tmp_path / "b.nc", "w", version=version) as file:  # records of two variables take turns
        for name, size in (("band", None), ("y", H), ("x", W)):
            file.createDimension(name, size)
        file.createVariable("reflectance", "f4", ("band", "y", "x"))[:] = CUBE.astype("f4")
        file.createVariable("wavelength", "f8", ("band",))[:] = NM
    records = open_raw(tmp_path / "b.nc", Descriptor(container="netcdf", axes="cyx"))
    np.testing.assert_array_equal(records.read(), CUBE)
    assert records.wavelengths_nm == tuple(NM)
    whole = (tmp_path / "a.nc").read_bytes()
    for keep in (3, 50, 300, len(whole) // 2):
        (tmp_path / "a.nc").write_bytes(whole[:keep])
        with pytest.raises(RawFileError, match=r"a\.nc"):
            open_raw(tmp_path / "a.nc", Descriptor(container="netcdf", axes="cyx")).read()


def test_netcdf_v4_is_hdf5(tmp_path):
    with h5py.File(tmp_path / "a.nc", "w") as file:
        file["cube"], file["wavelength"] = CUBE, NM
    np.testing.assert_array_equal(open_raw(tmp_path / "a.nc", Descriptor(container="netcdf", axes="cyx")).read(), CUBE)


def test_a_matrix_of_known_size_goes_before_pictures_and_maps(tmp_path):
    matrix = CUBE.transpose(0, 2, 1).reshape(N, -1)
    beside = {"nRow": H, "nCol": W, "rgb": np.zeros((H, W, 3), "u1"), "abundances": np.zeros((H, W, 3))}
    scipy.io.savemat(tmp_path / "a.mat", {"V": matrix, **beside})
    np.testing.assert_array_equal(read(tmp_path / "a.mat", container="matlab"), CUBE)
    scipy.io.savemat(tmp_path / "a.mat", {"Y": matrix, "A": np.ones((3, H * W)), "nRow": H, "nCol": W})
    np.testing.assert_array_equal(read(tmp_path / "a.mat", container="matlab"), CUBE)
    scipy.io.savemat(tmp_path / "a.mat", {"Y": matrix, "Z": matrix, "nRow": H, "nCol": W})
    with pytest.raises(RawFileError, match="2 matrices"):
        read(tmp_path / "a.mat", container="matlab")
    scipy.io.savemat(tmp_path / "a.mat", {"Y": matrix, "nRow": np.nan, "nCol": W})
    with pytest.raises(RawFileError, match=r"descriptor\.shape"):
        read(tmp_path / "a.mat", container="matlab")


def test_opaque_objects_beside_the_cube_are_passed_over(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"cube": YXC})
    content = bytearray((tmp_path / "a.mat").read_bytes())

    def element(kind, data):
        return np.array([kind, len(data)], "<u4").tobytes() + data + bytes(-len(data) % 8)

    flags = element(6, np.array([17, 0], "<u4").tobytes())
    body = flags + element(1, b"names   ") + element(1, b"MCOS    ") + element(1, b"string  ")
    (tmp_path / "a.mat").write_bytes(bytes(content) + element(14, body))
    np.testing.assert_array_equal(read(tmp_path / "a.mat", container="matlab"), CUBE)


def test_netcdf_quirks(tmp_path):
    with scipy.io.netcdf_file(tmp_path / "a.nc", "w") as file:
        for name, size in (("time", None), ("band", N), ("y", H), ("x", W)):
            file.createDimension(name, size)
        file.createVariable("never", "f4", ("time",))  # a record variable without records
        file.createVariable("cube", "i2", ("band", "y", "x"))[:] = CUBE.astype("i2")
    np.testing.assert_array_equal(read(tmp_path / "a.nc", container="netcdf", axes="cyx"), CUBE)
    (tmp_path / "b.nc").write_bytes(b"CDF\x05" + bytes(100))
    with pytest.raises(RawFileError, match="CDF-5"):
        read(tmp_path / "b.nc", container="netcdf")
    with scipy.io.netcdf_file(tmp_path / "c.nc", "w") as file:
        for name, size in (("band", N), ("y", H), ("x", W)):
            file.createDimension(name, size)
        file.createVariable("cube", "i2", ("band", "y", "x"))[:] = CUBE.astype("i2")
        file.variables["cube"]._Unsigned = "true"
    with pytest.raises(RawFileError, match="_Unsigned"):
        read(tmp_path / "c.nc", container="netcdf", axes="cyx")
