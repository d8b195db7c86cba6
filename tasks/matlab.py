"""Struct arrays of MATLAB files, from both formats in which MATLAB saves them.

Up to version 7 a .mat file is of MATLAB's own format, which scipy reads. `save -v7.3` writes HDF5
behind 512 bytes of MATLAB's: an object for each variable, its type in the attribute
`MATLAB_class`, axes in reverse order. A struct array is a group with a dataset for each field,
which holds references to the values of the elements; `MATLAB_fields` tells the fields' order.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ultrabench_eval.core.errors import UserError, not_found

_HDF5 = b"\x89HDF\r\n\x1a\n"
_BLOCK = 512  # the HDF5 content begins here; in files not of MATLAB's making often at 0
_TYPES = {
    **{"double": "f8", "single": "f4", "logical": "?"},
    **{"int8": "i1", "int16": "i2", "int32": "i4", "int64": "i8"},
    **{"uint8": "u1", "uint16": "u2", "uint32": "u4", "uint64": "u8"},
}


def read_struct_array(path: Path, variable: str, *, fields: int = 1) -> list[tuple[Any, ...]]:
    """The elements of a struct array, in MATLAB's (column-major) order.

    Args:
        path: a .mat file of version 5 to 7.3.
        variable: name of the struct array.
        fields: how many fields it has at least.

    Returns:
        For each element the values of its fields in the struct's order: arrays of at least two
        dimensions, with MATLAB's shape and type (a number is float64 [1, 1]); text is an array of
        strings [rows]. They are the same for the same data, whatever the version; but of 7.3 only
        numbers, logicals and text are read.

    Raises:
        UserError: no such file, it is damaged or of another format, or the variable is missing or
            no such struct array.
    """
    if not path.is_file():
        raise not_found("MATLAB file", path, "check the path")
    with path.open("rb") as file:
        head = file.read(_BLOCK + len(_HDF5))
    reader = _read_hdf5 if _HDF5 in (head[_BLOCK:], head[: len(_HDF5)]) else _read_own
    try:
        elements = reader(path, variable)
    except _Foreign as error:
        raise UserError(
            f"{path} is not as released ({error}); copy the file again from the release"
        ) from error
    except Exception as error:  # both libraries raise many kinds on a damaged file
        reason = (str(error).strip().splitlines() or [""])[0][:120]
        raise UserError(
            f"cannot read {path} ({type(error).__name__}: {reason}); copy it again from the release"
        ) from error
    if not elements or len(elements[0]) < fields:
        raise UserError(
            f"{path} is not as released ('{variable}' is not a struct array of {fields} fields); "
            "copy the file again from the release"
        )
    return elements


class _Foreign(Exception):
    """What a readable file holds instead of what is asked for."""


def _read_own(path: Path, variable: str) -> list[tuple[Any, ...]]:
    """Elements of a struct array in MATLAB's own format."""
    import scipy.io

    # With MATLAB's types: it stores a float64 that is a small integer in one byte.
    content = scipy.io.loadmat(str(path), mat_dtype=True, variable_names=[variable])
    if variable not in content:
        raise _Foreign(f"no variable '{variable}'")
    data = content[variable]
    if data.dtype.names is None:
        raise _Foreign(f"'{variable}' is not a struct array")
    return [tuple(element) for element in data.ravel(order="F")]


def _read_hdf5(path: Path, variable: str) -> list[tuple[Any, ...]]:
    """Elements of a struct array in version 7.3."""
    import h5py

    with h5py.File(path, "r") as file:
        if variable not in file:
            raise _Foreign(f"no variable '{variable}'")
        group = file[variable]
        if not isinstance(group, h5py.Group) or _class(group) != "struct":
            raise _Foreign(f"'{variable}' is not a struct array")
        if "MATLAB_fields" not in group.attrs:  # HDF5 sorts names by letter
            raise _Foreign(f"the order of the fields of '{variable}' is not stored")
        columns = []
        for letters in group.attrs["MATLAB_fields"]:
            field = group[b"".join(letters).decode()]
            # A single struct has its values in place; only an array's references have no class.
            several = _class(field) == "" and h5py.check_ref_dtype(field.dtype) is h5py.Reference
            values = [file[ref] for ref in field[()].ravel()] if several else [field]
            columns.append([_value(value) for value in values])
    return list(zip(*columns, strict=True))


def _class(node: Any) -> str:
    """MATLAB's type of an HDF5 object; empty if it has none."""
    name = node.attrs.get("MATLAB_class", b"")
    return name.decode() if isinstance(name, bytes) else str(name)


def _value(node: Any) -> np.ndarray:
    """An array of an HDF5 file as scipy would give it."""
    kind = _class(node)
    if kind not in (*_TYPES, "char"):
        raise _Foreign(f"{node.name} is of MATLAB type '{kind}', no numbers or text")
    stored = node[()]
    if node.attrs.get("MATLAB_empty"):  # then the content is the shape
        stored = np.zeros(tuple(int(n) for n in reversed(stored.ravel())), np.uint16)
    if stored.dtype.names is not None:
        raise _Foreign(f"{node.name} holds complex numbers")
    values: np.ndarray = stored.T
    if kind == "char":
        return np.array(["".join(map(chr, row)) for row in values.reshape(len(values), -1)])
    return np.ascontiguousarray(values, dtype=_TYPES[kind])
