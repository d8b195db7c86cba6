"""What a file holds, told by its bytes: the formats that are read, and what to do with others."""

from __future__ import annotations

import re
import struct
import zlib

FORMATS = ("PNG", "JPEG", "BMP", "DIB", "TIFF", "GIF", "WEBP", "JPEG2000", "PPM")
"""Pillow's names of the formats that are read. Others may start a program (EPS calls Ghostscript),
hold drawings, or have no mark by which they are known."""
SUFFIXES = frozenset(
    (
        *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".tif", ".tiff"),
        *(".gif", ".webp", ".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c"),
        *(".ppm", ".pgm", ".pbm", ".pnm"),
    )
)
"""Suffixes of those formats, in small letters."""
STACKS = (".gif", ".tif", ".tiff", ".webp", ".apng")
"""Suffixes of those that may hold several images."""
_MASK = re.compile(r"_(mask|seg)(_\d+)?$", re.IGNORECASE)

_EXPORT = "export its frames to PNG and name those"
_CONVERT = "convert it to PNG"
_VIDEO = f"is a video: {_EXPORT}, or call the column video if whole clips are meant"
_DRAWING = f"is a document or drawing: {_CONVERT}"
_ARCHIVE = "is an archive: unpack it and name the images in it"
_HEIF = ("heic", "heix", "hevc", "heim", "heis", "hevm", "mif1", "mif2", "msf1", "avif", "avis")
# What a file begins with.
_STARTS = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the image: run `git lfs pull`"),
    (b"%PDF", _DRAWING),
    (b"%!", _DRAWING),
    (b"\xc5\xd0\xd3\xc6", _DRAWING),  # EPS with a preview
    (b"\xd7\xcd\xc6\x9a", _DRAWING),  # WMF
    (b"\x01\0\0\0\x58\0\0\0", _DRAWING),  # EMF
    (b"8BPS", f"is a Photoshop file: {_CONVERT}"),
    (b"\xff\x0a", f"is a JPEG XL file: {_CONVERT}"),
    (b"\0\0\0\x0cJXL ", f"is a JPEG XL file: {_CONVERT}"),
    (b"NRRD", f"is an NRRD file: {_EXPORT}"),
    (b"\x89HDF\r\n\x1a\n", f"is an HDF5 file: {_EXPORT}"),
    (b"MATLAB 5.0", f"is a MATLAB file: {_EXPORT}"),
    (b"\x93NUMPY", f"is a NumPy array: {_EXPORT}"),
    (b"\x1aE\xdf\xa3", _VIDEO),  # Matroska, WebM
    (b"\0\0\x01\xba", _VIDEO),  # MPEG
    (b"\0\0\x01\xb3", _VIDEO),
    (b"PK\3\4", _ARCHIVE),
    (b"7z\xbc\xaf\x27\x1c", _ARCHIVE),
    (b"Rar!", _ARCHIVE),
    (b"\x1f\x8b", _ARCHIVE),
)


def foreign(data: bytes, suffix: str) -> str | None:
    """What a file is that is not an image of `FORMATS`, and what to do: "is a DICOM file: ...".

    Args:
        data: its content.
        suffix: of its name, for kinds that have no mark of their own.

    Returns:
        None if that is not known.
    """
    suffix = suffix.lower()
    if not data:
        return "is empty: copy or download it once more"
    if not data.strip(b"\0"):
        return "holds only zero bytes: copy or download it once more"
    if data[128:132] == b"DICM" or suffix in (".dcm", ".dicom"):
        return f"is a DICOM file: {_EXPORT}, or call it .dcm if it is data of your own"
    if _is_nifti(data):
        return f"is a NIfTI file: {_EXPORT}, or call it .nii or .nii.gz if it is data of your own"
    text = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if suffix in (".mha", ".mhd") or text.startswith((b"objecttype", b"ndims")):
        return f"is a MetaImage file: {_EXPORT}, or call it .mha if it is data of your own"
    if b"<svg" in text:
        return _DRAWING
    if text.startswith((b"<!doctype html", b"<html")) or b"<html" in text:
        return "is a web page, not the image: download the image itself"
    if data[4:8] == b"ftyp":
        brands = data[8:64].decode("latin-1")
        return f"is a HEIC or AVIF file: {_CONVERT}" if brands[:4] in _HEIF else _VIDEO
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        return _VIDEO
    for start, what in _STARTS:
        if data.startswith(start):
            return what
    if text.startswith((b"<?xml", b"{", b"[")) or _is_text(data):
        return "is a text file, not an image: name the image itself"
    return None


def is_mask(stem: str) -> bool:
    """Whether a file's name says that it is the mask of another, as BUSI's "benign (1)_mask_1"."""
    return _MASK.search(stem) is not None


def bits(data: bytes) -> int | None:
    """Bits per channel that the file states, where Pillow's mode hides them; None if unknown.

    Pillow opens 16-bit colour as 8 bits and drops the rest. TIFF is asked by its tags elsewhere.
    """
    if data.startswith(b"\x89PNG\r\n\x1a\n") and len(data) > 24:
        return data[24]
    if data[:2] in (b"P2", b"P3", b"P5", b"P6"):
        words = b" ".join(line.partition(b"#")[0] for line in data[:4096].splitlines()).split()
        return int(words[3]).bit_length() if len(words) > 3 and words[3].isdigit() else None
    if data.startswith(b"\xff\x4f\xff\x51") or data[4:8] == b"jP  ":
        return _bits_of_jpeg2000(data)
    if data.startswith(b"\xff\xd8"):
        return _bits_of_jpeg(data)
    return None


def _bits_of_jpeg2000(data: bytes) -> int | None:
    """From the SIZ segment of the code stream (ISO/IEC 15444-1, A.5.1)."""
    start = data.find(b"\xff\x4f\xff\x51")
    if start < 0 or len(data) < start + 42:
        return None
    (components,) = struct.unpack_from(">H", data, start + 40)
    depths = data[start + 42 : start + 42 + 3 * components : 3]
    return max(((depth & 0x7F) + 1 for depth in depths), default=None)


def _bits_of_jpeg(data: bytes) -> int | None:
    """From the frame header (ITU-T T.81, B.2.2)."""
    at = 2
    while at + 5 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return data[at + 4]
        elif marker == 0xDA:
            return None
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _is_nifti(data: bytes) -> bool:
    """Whether it begins with a NIfTI header, compressed or not."""
    head = data[:560]
    if data.startswith(b"\x1f\x8b"):
        try:
            head = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(data[:65536], 560)
        except zlib.error:
            return False
    size = head[:4]
    return len(head) >= 348 and (
        size in (b"\x5c\1\0\0", b"\0\0\1\x5c", b"\x1c\2\0\0", b"\0\0\2\x1c")
    )


def _is_text(data: bytes) -> bool:
    try:
        text = data[:1024].decode("utf-8")
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter in "\r\n\t" for letter in text)
