"""Struct arrays of both MATLAB formats: the same values; other content told in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tasks import matlab
from ultrabench_eval.core.errors import UserError

Records = list[dict[str, np.ndarray]]
CLASSES = {"float64": "double", "float32": "single", "bool": "logical"}


def liver(count: int = 55, frames: tuple[int, int, int] = (10, 43, 64)) -> Records:
    """What FATTY LIVER's `data` holds, but smaller; the pixels are noise."""
    random = np.random.default_rng(0)
    return [
        {
            "id": np.full((1, 1), float(i + 1)),
            "class": np.full((1, 1), float(i % 3 > 0)),
            "fat": np.full((1, 1), 5.0 * (i % 3)),
            "images": random.integers(0, 256, frames, np.uint8),
        }
        for i in range(count)
    ]


def save_own(path: Path, records: Records, shape: tuple[int, ...] | None = None) -> Path:
    """Version 5, by scipy."""
    data = np.empty(len(records), dtype=[(name, object) for name in records[0]])
    for i, record in enumerate(records):
        for name, value in record.items():
            data[i][name] = value
    shape = shape or (1, len(records))
    scipy.io.savemat(path, {"data": data.reshape(shape, order="F")}, do_compression=True)
    return path


def save_hdf5(path: Path, records: Records, shape: tuple[int, ...] | None = None) -> Path:
    """Version 7.3, in the layout that MATLAB writes."""
    with h5py.File(path, "w", userblock_size=512, libver="earliest") as file:
        refs, group = file.create_group("#refs#"), file.create_group("data")
        # MATLAB's first reference is this one, whatever the file holds.
        empty = refs.create_dataset("a", data=np.zeros(2, np.uint64))
        empty.attrs["MATLAB_class"] = np.bytes_("canonical empty")
        empty.attrs["MATLAB_empty"] = np.uint8(1)
        group.attrs["MATLAB_class"] = np.bytes_("struct")
        letters = np.empty(len(records[0]), dtype=object)
        for i, name in enumerate(records[0]):
            letters[i] = np.array([letter.encode() for letter in name], dtype="S1")
        group.attrs.create("MATLAB_fields", letters, dtype=h5py.vlen_dtype(np.dtype("S1")))
        for name in sorted(records[0]):
            if len(records) == 1:
                put(group, name, records[0][name]).attrs["H5PATH"] = np.bytes_("/data")
                continue
            column = np.empty(len(records), dtype=h5py.ref_dtype)
            for i, record in enumerate(records):
                node = put(refs, f"{name}_{i}", record[name])
                node.attrs["H5PATH"] = np.bytes_("/#refs#")
                column[i] = node.ref
            reverse = tuple(reversed(shape or (1, len(records))))
            group.create_dataset(name, data=column.reshape(reverse), dtype=h5py.ref_dtype)
    head = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Tue Nov 24 12:00:00 2026"
    with path.open("r+b") as raw:
        raw.write((head + b" HDF5 schema 1.00 .").ljust(116) + bytes(8) + b"\x00\x02IM")
    return path


def put(group: h5py.Group, name: str, value: np.ndarray) -> h5py.Dataset:
    """A value as MATLAB stores it: axes reversed, large ones in compressed chunks."""
    if value.dtype.kind == "U":
        text = np.array([[ord(c) for c in row] for row in value.tolist()], dtype=np.uint16)
        node = group.create_dataset(name, data=text.T)
        node.attrs["MATLAB_class"] = np.bytes_("char")
        node.attrs["MATLAB_int_decode"] = np.int32(2)
        return node
    if value.size == 0:
        node = group.create_dataset(name, data=np.array(value.shape, np.uint64))
        node.attrs["MATLAB_empty"] = np.uint8(1)
    else:
        stored = value.T.astype(np.uint8) if value.dtype == bool else value.T
        chunked: dict[str, Any] = {"chunks": True, "compression": "gzip", "compression_opts": 3}
        node = group.create_dataset(name, data=stored, **(chunked if value.size > 1000 else {}))
    node.attrs["MATLAB_class"] = np.bytes_(CLASSES.get(value.dtype.name, value.dtype.name))
    if value.dtype == bool:
        node.attrs["MATLAB_int_decode"] = np.int32(1)
    return node


def same(one: list[tuple[Any, ...]], other: list[tuple[Any, ...]]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert (x.dtype, x.shape) == (y.dtype, y.shape)
            assert np.array_equal(x, y, equal_nan=x.dtype.kind == "f")


def test_fatty_liver_is_the_same_from_both(tmp_path: Path) -> None:
    records = liver()
    hdf5 = matlab.read_struct_array(save_hdf5(tmp_path / "7.mat", records), "data", fields=4)
    same(hdf5, [tuple(record.values()) for record in records])  # id, class, fat, images
    assert hdf5[0][3].shape == (10, 43, 64)
    assert hdf5[0][3].dtype == np.uint8
    assert hdf5[0][3].flags.c_contiguous
    same(matlab.read_struct_array(save_own(tmp_path / "5.mat", records), "data", fields=4), hdf5)


@pytest.mark.parametrize("shape", [(1, 6), (6, 1), (2, 3), (1, 1)])
def test_elements_come_in_the_order_of_matlab(tmp_path: Path, shape: tuple[int, int]) -> None:
    records = liver(shape[0] * shape[1], (2, 3, 4))
    read = [
        matlab.read_struct_array(save(tmp_path / "x.mat", records, shape), "data")
        for save in (save_own, save_hdf5)
    ]
    same(*read)
    assert [element[0][0, 0] for element in read[0]] == list(range(1, len(records) + 1))


VALUES = st.one_of(
    hnp.arrays(
        st.sampled_from(
            [np.float64, np.float32, np.uint8, np.int16, np.int32, np.uint64, np.bool_]
        ),
        hnp.array_shapes(min_dims=2, max_dims=4, min_side=0, max_side=4),
    ),
    st.text("abcé ä", min_size=1, max_size=5).map(lambda text: np.array([text])),
)


@settings(max_examples=40)
@given(
    names=st.lists(st.text("abXYz", min_size=1, max_size=6), min_size=1, max_size=4, unique=True),
    data=st.data(),
)
def test_any_numbers_and_text(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("mat")
    count = data.draw(st.integers(1, 3))
    records = [{name: data.draw(VALUES) for name in names} for _ in range(count)]
    own = matlab.read_struct_array(save_own(folder / "5.mat", records), "data")
    hdf5 = matlab.read_struct_array(save_hdf5(folder / "7.mat", records), "data")
    same(own, hdf5)
    same(own, [tuple(record.values()) for record in records])


def refused(path: Path, message: str, fields: int = 1) -> None:
    with pytest.raises(UserError, match=message) as raised:
        matlab.read_struct_array(path, "data", fields=fields)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x" * 1000,
        b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(64),
        b"\x89HDF\r\n\x1a\n" + bytes(600),
        bytes(512) + b"\x89HDF\r\n\x1a\n" + bytes(600),
    ],
)
def test_files_of_no_format(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.mat"
    path.write_bytes(content)
    refused(path, "cannot read .*; copy it again from the release")


@pytest.mark.parametrize("save", [save_own, save_hdf5])
def test_cut_off_or_damaged(tmp_path: Path, save: Any) -> None:
    path = save(tmp_path / "x.mat", liver(3, (10, 30, 40)))
    data = path.read_bytes()
    for part in (0.3, 0.9, 0.999):
        path.write_bytes(data[: int(len(data) * part)])
        refused(path, "cannot read|is not as released")


@pytest.mark.parametrize("save", [save_own, save_hdf5])
def test_other_content(tmp_path: Path, save: Any) -> None:
    path = save(tmp_path / "x.mat", liver(3, (2, 3, 4)))
    refused(path, "is not as released .'data' is not a struct array of 5 fields", fields=5)
    with pytest.raises(UserError, match="no variable 'other'"):
        matlab.read_struct_array(path, "other")
    with pytest.raises(UserError, match="not found"):
        matlab.read_struct_array(tmp_path / "no.mat", "data")


def test_other_types(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    scipy.io.savemat(path, {"data": np.zeros(3)})
    refused(path, "'data' is not a struct array")
    with h5py.File(path, "w", userblock_size=512) as file:
        put(file, "data", np.zeros((1, 3)))
    refused(path, "'data' is not a struct array")


def changed(path: Path, change: Any) -> Path:
    with h5py.File(save_hdf5(path, liver(3, (2, 3, 4))), "r+") as file:
        change(file)
    return path


def test_what_is_not_read_of_hdf5(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    node = "#refs#/fat_1"

    def cell(file: h5py.File) -> None:
        file[node].attrs["MATLAB_class"] = np.bytes_("cell")

    def unordered(file: h5py.File) -> None:
        del file["data"].attrs["MATLAB_fields"]

    def complex_(file: h5py.File) -> None:
        del file[node]
        file[node] = np.zeros((1, 1), dtype=[("real", "f8"), ("imag", "f8")])
        file[node].attrs["MATLAB_class"] = np.bytes_("double")
        file["data/fat"][1, 0] = file[node].ref

    def dangling(file: h5py.File) -> None:
        file["data/fat"][1, 0] = h5py.Reference()

    def uneven(file: h5py.File) -> None:
        column = file["data/fat"][:2]
        del file["data/fat"]
        file["data"].create_dataset("fat", data=column, dtype=h5py.ref_dtype)

    refused(changed(path, uneven), "cannot read")
    refused(changed(path, cell), "#refs#/fat_1 is of MATLAB type 'cell'")
    refused(changed(path, unordered), "order of the fields of 'data' is not stored")
    refused(changed(path, complex_), "holds complex numbers")
    refused(changed(path, dangling), "cannot read")


def test_a_cell_in_a_single_struct(tmp_path: Path) -> None:
    path = save_hdf5(tmp_path / "x.mat", liver(1, (2, 3, 4)))
    with h5py.File(path, "r+") as file:
        reference = file["data/id"].ref
        del file["data/fat"]
        node = file["data"].create_dataset("fat", (1, 1), h5py.ref_dtype)
        node[0, 0] = reference
        node.attrs["MATLAB_class"] = np.bytes_("cell")
    refused(path, "/data/fat is of MATLAB type 'cell'")
