"""What an image file may be, and what is said of each kind that it may not be."""

from __future__ import annotations

import gzip
import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tasks.samples import images
from tasks.samples.images import ImageFile, count, decode
from tasks.task import Item, Split
from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError

WHITE = np.full((4, 6), 255, np.uint8)


def png(header: bytes, rows: bytes = b"", *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file of a header (13 bytes), other chunks, and rows with their filter bytes."""
    made = b"\x89PNG\r\n\x1a\n"
    for kind, data in [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]:
        made += struct.pack(">I", len(data)) + kind + data
        made += struct.pack(">I", zlib.crc32(kind + data))
    return made


def png16(colour_type: int, channels: int) -> bytes:
    row = b"\0" + b"\x0f\x00" * (3 * channels)
    return png(struct.pack(">IIBBBBB", 3, 2, 16, colour_type, 0, 0, 0), row * 2)


def refused(path: Path, wanted: str) -> str:
    with pytest.raises(UserError, match=wanted) as caught:
        decode(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_of_any_colour_are_refused(
    tmp_path: Path, colour_type: int, channels: int
) -> None:
    (tmp_path / "x.png").write_bytes(png16(colour_type, channels))
    refused(tmp_path / "x.png", "has 16 bits per channel.*save it with 8 bits")


def test_more_than_eight_bits_in_other_formats_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.ppm").write_bytes(b"P6\n# made\n2 1\n4095\n" + bytes(12))
    refused(tmp_path / "a.ppm", "has 12 bits per channel")
    PIL.Image.fromarray(WHITE.astype(np.uint16)).save(tmp_path / "b.tif")
    refused(tmp_path / "b.tif", "16 bits per channel|pixel mode I;16")
    PIL.Image.fromarray(WHITE.astype(np.float32)).save(tmp_path / "c.tif")
    refused(tmp_path / "c.tif", "32 bits per channel|pixel mode F")
    PIL.Image.fromarray(WHITE.astype(np.uint16)).save(tmp_path / "d.jp2")
    refused(tmp_path / "d.jp2", "16 bits per channel")
    whole = bytearray()
    PIL.Image.fromarray(WHITE).save(tmp_path / "e.jpg")
    whole[:] = (tmp_path / "e.jpg").read_bytes()
    whole[whole.index(b"\xff\xc0") + 4] = 12
    (tmp_path / "e.jpg").write_bytes(whole)
    refused(tmp_path / "e.jpg", "12 bits per channel")


def test_rgb_tiff_of_sixteen_bits_is_refused(tmp_path: Path) -> None:
    tags = [(256, 3, 1, 2), (257, 3, 1, 1), (258, 3, 3, 200), (259, 3, 1, 1), (262, 3, 1, 2)]
    tags += [(273, 4, 1, 210), (277, 3, 1, 3), (278, 3, 1, 1), (279, 4, 1, 12)]
    data = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags))
    data += b"".join(struct.pack("<HHII", *tag) for tag in tags) + b"\0" * 4
    data = data.ljust(200, b"\0") + struct.pack("<HHH", 16, 16, 16)
    (tmp_path / "x.tif").write_bytes(data.ljust(210, b"\0") + b"\xff\x0f" * 6)
    refused(tmp_path / "x.tif", "16 bits per channel")


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "webp", "tif", "jp2", "pgm"])
def test_eight_bits_are_read(tmp_path: Path, suffix: str) -> None:
    options = {"lossless": True} if suffix == "webp" else {}
    PIL.Image.fromarray(WHITE).convert("RGB" if suffix == "webp" else "L").save(
        tmp_path / f"x.{suffix}", **options
    )
    assert (decode(tmp_path / f"x.{suffix}") == 255).all()
    assert decode(tmp_path / f"x.{suffix}").shape == (4, 6, 3)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_several_images_in_a_file_are_refused(tmp_path: Path, suffix: str) -> None:
    frames = [PIL.Image.fromarray(np.full((8, 8), 20 * k, np.uint8)) for k in range(5)]
    path = tmp_path / f"x.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert count(path) == 5
    refused(path, "holds 5 images")


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_that_of_viewers(tmp_path: Path, kind: str, orientation: int) -> None:
    stored = np.zeros((16, 32), np.uint8)
    stored[:8, :16] = 200  # the first quarter is bright
    exif = PIL.Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"x.{kind}"
    PIL.Image.fromarray(stored).convert("RGB").save(path, exif=exif)
    shown = decode(path)[..., 0] > 100
    turned = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.T,
        6: stored[::-1].T,
        7: stored[::-1, ::-1].T,
        8: stored[:, ::-1].T,
    }[orientation]
    np.testing.assert_array_equal(shown, turned > 100)


def test_damaged_metadata_is_passed_over(tmp_path: Path) -> None:
    PIL.Image.fromarray(WHITE).save(tmp_path / "x.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert (decode(tmp_path / "x.jpg") == 255).all()


def test_a_limit_of_pixels_is_told_before_decoding(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 13_000, 13_000, 1, 0, 0, 0, 0)
    (tmp_path / "x.png").write_bytes(png(header, b"\0"))
    refused(tmp_path / "x.png", "13000 x 13000 pixels, more than the 50 million.*make it smaller")
    header = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 1, 0, 0, 0, 0)
    (tmp_path / "x.png").write_bytes(png(header, b"\0"))
    refused(tmp_path / "x.png", "far too many pixels")
    assert count(tmp_path / "x.png") == 1


@pytest.mark.parametrize("name", ["x.png", "x.eps", "x.jpg"])
def test_no_file_starts_a_program(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", None)
    (tmp_path / name).write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EOF\n")
    refused(tmp_path / name, "document or drawing: convert it to PNG")


NIFTI = b"\x5c\1\0\0" + bytes(444)


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("a.dcm", bytes(128) + b"DICM" + bytes(30), "a DICOM file: export its frames to PNG"),
        ("IM_0001", bytes(128) + b"DICM" + bytes(30), "a DICOM file"),
        ("a.nii", NIFTI, "a NIfTI file: export"),
        ("a.nii.gz", gzip.compress(NIFTI, mtime=0), "a NIfTI file: export"),
        ("a.mha", b"ObjectType = Image\nNDims = 2\n", "a MetaImage file: export"),
        ("a.png", b"NDims = 2\n", "a MetaImage file"),
        ("a.nrrd", b"NRRD0004\n", "an NRRD file"),
        ("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1", "a HEIC or AVIF file: convert it"),
        ("a.avif", b"\0\0\0\x18ftypavif\0\0\0\0mif1", "a HEIC or AVIF file: convert it"),
        ("a.png", b"\0\0\0\x18ftypisom\0\0\0\0mp42", "a video: export its frames"),
        ("a.png", b"<!doctype html><html>403</html>", "a web page, not the image"),
        ("a.png", b"\xef\xbb\xbf \n<HTML><body>", "a web page, not the image"),
        ("a.png", b"version https://git-lfs.github.com/spec/v1\noid", "run `git lfs pull`"),
        ("a.png", b"", "is empty"),
        ("a.png", bytes(900), "holds only zero bytes"),
        ("a.png", b"%PDF-1.4", "a document or drawing"),
        ("a.png", b'<?xml version="1.0"?><svg/>', "a document or drawing"),
        ("a.png", b"Not found\n", "a text file"),
        ("a.png", b"PK\3\4" + bytes(99), "an archive"),
        ("a.png", b"8BPS" + bytes(99), "a Photoshop file"),
    ],
)
def test_each_kind_has_a_remedy_that_fits(
    tmp_path: Path, name: str, content: bytes, wanted: str
) -> None:
    (tmp_path / name).write_bytes(content)
    told = refused(tmp_path / name, wanted)
    assert "from the release" not in told
    assert "copy it again" not in told


def test_only_damaged_images_of_a_release_are_to_be_copied_from_it(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    PIL.Image.fromarray(np.arange(4000, dtype=np.uint8).reshape(40, 100)).save(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"damaged or cut off .* copy it again from where it came"):
        ImageFile(path, "x").read()
    with pytest.raises(UserError, match=r"damaged or cut off .* copy it again from the release"):
        ImageFile(path, "x", images.RELEASE).read()


def test_what_cannot_be_opened_is_told(tmp_path: Path) -> None:
    refused(tmp_path, r"cannot read image .* \(Is a directory\)")
    refused(tmp_path / ("x" * 300), r"cannot read image .* \(File name too long\)")
    (tmp_path / "loop").symlink_to("loop")
    refused(tmp_path / "loop", r"cannot read image .*loop \(")
    refused(tmp_path / "gone.png", "is missing; restore it")


def test_the_bytes_that_are_decoded_are_those_that_were_hashed(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    PIL.Image.fromarray(WHITE).save(path)
    image = ImageFile(path, "x")
    known = image.digest()
    assert known == hashing.digest_file(path)
    assert (image.read(known) == 255).all()
    stat = path.stat()
    PIL.Image.fromarray(255 - WHITE).save(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(UserError, match=r"image .*x\.png changed while it was being read.*run aga"):
        image.read(known)
    assert (image.read() == 0).all()


def test_names_in_other_encodings_are_written_with_escapes(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"M\xfcller.png")
    PIL.Image.fromarray(WHITE).save(tmp_path / "x.png")
    shutil.move(tmp_path / "x.png", path)
    image = ImageFile(path, path.name)
    assert image.name == "M\\xfcller.png"
    assert hashing.digest(image.name)
    assert (image.read() == 255).all()
    path.unlink()
    with pytest.raises(UserError) as caught:
        image.read()
    assert "M\\xfcller.png" in str(caught.value)
    assert str(caught.value).encode()


def test_images_of_older_readers_are_looked_at_after_reading() -> None:
    class Old:
        name = "old"
        content = "a"

        def read(self) -> np.ndarray:
            return np.zeros((1, 1, 3), np.uint8)

        def digest(self) -> str:
            return hashing.digest(self.content)

    old = Old()
    (image,) = Split.of([Item(old, 0)]).images  # type: ignore[arg-type]
    known = image.digest()
    assert image.name == "old"
    assert image.read(known).shape == image.read().shape == (1, 1, 3)
    old.content = "b"
    with pytest.raises(UserError, match="image old changed while it was being read"):
        image.read(known)
