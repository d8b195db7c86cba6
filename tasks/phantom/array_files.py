"""NIfTI and MetaImage files of the suite: the same bytes on every machine."""

from __future__ import annotations

import gzip
import struct

import numpy as np

_UINT8, _MILLIMETRES = 2, 2  # codes of the NIfTI header


def nifti(values: np.ndarray, spacing: float, effort: int = 9) -> bytes:
    """The bytes of a .nii.gz file of uint8 values stored as [x, y] or [x, y, t].

    The header is that of https://nifti.nimh.nih.gov/nifti-1; it states `spacing` mm for x and y.
    `effort` (1 to 9) is that of the compression.
    """
    header = bytearray(352)
    sides = [*values.shape, *[1] * (7 - values.ndim)]
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, values.ndim, *sides)
    struct.pack_into("<2h", header, 70, _UINT8, 8)
    struct.pack_into("<8f", header, 76, 1, spacing, spacing, *[1] * 5)
    struct.pack_into("<3f", header, 108, 352, 1, 0)  # where values begin; slope and intercept
    struct.pack_into("<B", header, 123, _MILLIMETRES)
    header[344:348] = b"n+1\0"
    return gzip.compress(bytes(header) + values.tobytes(order="F"), effort, mtime=0)


def metaimage(values: np.ndarray) -> bytes:
    """The bytes of a .mha file of uint8 values [H, W] or planes [T, H, W], spacing not known."""
    rank = values.ndim
    fields = {
        "ObjectType": "Image",
        "NDims": rank,
        "BinaryData": True,
        "BinaryDataByteOrderMSB": False,
        "CompressedData": False,
        "ElementSpacing": " ".join(["1"] * rank),
        "DimSize": " ".join(map(str, reversed(values.shape))),
        "ElementType": "MET_UCHAR",
        "ElementDataFile": "LOCAL",
    }
    header = "".join(f"{key} = {value}\n" for key, value in fields.items())
    return header.encode() + values.tobytes()
