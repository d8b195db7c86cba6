"""Label masks: polygons filled as scikit-image fills them, files of any mode, nothing unseen."""

from __future__ import annotations

import pickle
from pathlib import Path

import nibabel
import numpy as np
import PIL.Image
import pytest

from tasks.samples import polygons
from tasks.samples.images import ImageArray, ImageFile
from tasks.samples.label_masks import (
    BINARY,
    ArrayFileMask,
    CodeImage,
    Codes,
    EmptyMask,
    PolygonMask,
    size_of,
)
from ultrabench_eval.core.errors import UserError

IMAGE = ImageArray(np.zeros((4, 6), np.uint8), "image.png")
CODES = np.array([[0, 0, 1, 1, 0, 0]] * 2 + [[0, 1, 1, 1, 1, 0]] * 2, np.uint8)


def saved(path: Path, pixels: np.ndarray, mode: str | None = None) -> Path:
    PIL.Image.fromarray(pixels).convert(mode).save(path)
    return path


# ---- polygons ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("points", "rows"),
    [
        # What skimage.draw.polygon2mask (0.26) gives for the points as [y, x].
        ([[1, 1], [1, 3], [4, 3], [4, 1]], ["000000", "011110", "011110", "011110", "000000"]),
        ([[0.5, 0.5], [5, 2], [0.5, 4.2]], ["000000", "011000", "011111", "011000", "000000"]),
        ([[0, 0], [5, 4], [5, 0], [0, 4]], ["100001", "110011", "111111", "110011", "100001"]),
        ([[-2, -2], [2, -2], [2, 2], [-2, 2]], ["111000", "111000", "111000", "000000", "000000"]),
        ([[2, 2], [2, 2], [2, 2]], ["000000", "000000", "001000", "000000", "000000"]),
    ],
)
def test_polygons_are_filled_as_scikit_image_does(
    points: list[list[float]], rows: list[str]
) -> None:
    filled = polygons.filled(polygons.of(points), (5, 6))
    assert ["".join(map(str, row)) for row in filled.astype(int)] == rows


@pytest.mark.parametrize("listed", [[], [[1, 2], [3, 4]], [[1, 2, 3]] * 3, [[1, np.nan]] * 3, "x"])
def test_what_is_no_polygon(listed: object) -> None:
    with pytest.raises(ValueError, match=r"not a list|not all|could not convert"):
        polygons.of(listed)


def test_a_polygon_of_another_copy_is_refused() -> None:
    square = polygons.of([[1, 1], [4, 1], [4, 2], [1, 2]])
    mask = PolygonMask(IMAGE, (square,), Path("1.json"))
    assert mask.read().sum() == 8
    # Of a copy of twice the size, or of the transposed image.
    for other in (2 * square, square[:, ::-1] + [[0, 3]]):
        wrong = PolygonMask(IMAGE, (other,), Path("1.json"))
        assert wrong.digest() != mask.digest()
        with pytest.raises(UserError, match=r"mask 1.json reaches to .* has 6 x 4 pixels"):
            wrong.read()


# ---- image files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA"])
def test_masks_of_0_and_255_in_every_mode(tmp_path: Path, mode: str) -> None:
    path = saved(tmp_path / "mask.png", CODES * np.uint8(255), mode)
    mask = CodeImage(IMAGE, (path,))
    assert (mask.read() == CODES).all()
    assert mask.read().dtype == np.uint8
    assert mask.spacing is None
    assert (pickle.loads(pickle.dumps(mask)).read() == CODES).all()


def test_a_palette_of_colours_holds_codes_and_one_of_greys_holds_greys(tmp_path: Path) -> None:
    codes: Codes = {0: 0, 1: 1, 2: 2}
    indexed = PIL.Image.fromarray(CODES * np.uint8(2), "P")
    indexed.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    indexed.save(tmp_path / "colours.png")
    assert (CodeImage(IMAGE, (tmp_path / "colours.png",), codes=codes).read() == 2 * CODES).all()
    turned = PIL.Image.fromarray(1 - CODES, "P")  # index 0 is white
    turned.putpalette([255, 255, 255, 0, 0, 0])
    turned.save(tmp_path / "greys.png")
    assert (CodeImage(IMAGE, (tmp_path / "greys.png",)).read() == CODES).all()


def test_lesions_in_several_files_are_united(tmp_path: Path) -> None:
    parts = [CODES * (np.arange(6) % 2 == side) for side in (0, 1)]
    paths = [saved(tmp_path / f"{n}.png", np.uint8(255) * part) for n, part in enumerate(parts)]
    both = CodeImage(IMAGE, tuple(paths))
    assert (both.read() == CODES).all()
    assert both.digest() != CodeImage(IMAGE, (paths[0],)).digest()


def test_colours_stand_for_the_classes_that_are_told(tmp_path: Path) -> None:
    colours = np.array([[0, 0, 0], [64, 0, 128]], np.uint8)[CODES]
    path = saved(tmp_path / "mask.png", colours)
    told: Codes = {(0, 0, 0): 0, (64, 0, 128): 1}
    assert (CodeImage(IMAGE, (path,), codes=told).read() == CODES).all()
    wrong = CodeImage(IMAGE, (path,), codes={(0, 0, 0): 0, (64, 128, 0): 1})
    with pytest.raises(
        UserError,
        match=r"mask\.png holds \(64, 0, 128\) at 12 of 24 pixels, but only \(0, 0, 0\), "
        r"\(64, 128, 0\) stand for classes",
    ):
        wrong.read()
    with pytest.raises(UserError, match="has colours where grey levels stand for classes"):
        CodeImage(IMAGE, (path,)).read()
    assert wrong.digest() != CodeImage(IMAGE, (path,), codes=told).digest()


def test_what_is_wrong_with_a_file_is_told(tmp_path: Path) -> None:
    turned = saved(tmp_path / "turned.png", np.ascontiguousarray(CODES.T))
    with pytest.raises(UserError, match=r"turned.png has 4 x 6 pixels, but its image image.png"):
        CodeImage(IMAGE, (turned,)).read()
    grey = saved(tmp_path / "grey.png", CODES * np.uint8(7))
    with pytest.raises(UserError, match=r"grey.png holds 7 at .* only 0, 1, 255 stand for classes"):
        CodeImage(IMAGE, (grey,)).read()
    (tmp_path / "cut.png").write_bytes(turned.read_bytes()[:40])
    with pytest.raises(UserError, match=r"cannot read mask .*cut.png: it is damaged"):
        CodeImage(IMAGE, (tmp_path / "cut.png",)).read()
    with pytest.raises(UserError, match=r"mask .*none.png is missing"):
        CodeImage(IMAGE, (tmp_path / "none.png",)).digest()


def test_what_is_decoded_is_what_was_hashed(tmp_path: Path) -> None:
    path = saved(tmp_path / "mask.png", CODES)
    mask = CodeImage(IMAGE, (path,))
    before = mask.digest()
    assert (mask.read(before) == CODES).all()
    saved(path, 1 - CODES)
    assert mask.digest() != before
    with pytest.raises(UserError, match="changed while it was being read"):
        mask.read(before)


def test_an_empty_mask_has_the_size_of_its_image(tmp_path: Path) -> None:
    mask = EmptyMask(IMAGE)
    assert mask.read().shape == (4, 6)
    assert not mask.read().any()
    upright = PIL.Image.new("L", (6, 4))
    exif = upright.getexif()
    exif[274] = 6  # shown turned by a quarter
    upright.save(tmp_path / "turned.jpg", exif=exif)
    turned = ImageFile(tmp_path / "turned.jpg", "turned.jpg")
    assert size_of(turned) == turned.read().shape[:2] == (6, 4)


# ---- volumes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("zooms", "spacing"), [((0.3, 0.5), (0.5, 0.3)), ((1.0, 1.0), None)])
def test_nifti_masks_and_their_spacing(
    tmp_path: Path, zooms: tuple[float, float], spacing: tuple[float, float] | None
) -> None:
    stored = nibabel.Nifti1Image(np.ascontiguousarray(CODES.T), np.eye(4))
    stored.header.set_zooms(zooms)
    stored.to_filename(tmp_path / "mask.nii.gz")
    mask = ArrayFileMask(IMAGE, (tmp_path / "mask.nii.gz",), codes=BINARY)
    assert (mask.read() == CODES).all()
    assert mask.spacing == (None if spacing is None else pytest.approx(spacing))
    turned = ArrayFileMask(IMAGE, (tmp_path / "mask.nii.gz",), codes=BINARY, mirrored=True)
    assert (turned.read() == CODES[:, ::-1]).all()
    assert (turned.read() == np.rot90(CODES.T, axes=(1, 0))).all()  # as UltraBench reads CAMUS
    assert turned.digest() != mask.digest()
    with pytest.raises(UserError, match="holds 1 at 12 of 24 pixels"):
        ArrayFileMask(IMAGE, (tmp_path / "mask.nii.gz",), codes={0: 0, 2: 1}).read()
