"""Contact sheets: one cell an image, contour and dimming where the mask says, nothing half."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tasks import contact_sheet
from tasks.samples.images import ImageArray


@dataclass(frozen=True, eq=False)
class Mask:
    pixels: np.ndarray
    name: str = "mask"

    def read(self) -> np.ndarray:
        return self.pixels

    def digest(self) -> str:
        return "0"


def left_half(height: int = 60, width: int = 80) -> Mask:
    return Mask(np.broadcast_to(np.arange(width) < width // 2, (height, width)))


def sheet(path: Path) -> np.ndarray:
    return np.asarray(PIL.Image.open(path).convert("RGB")).astype(int)


def test_the_outside_is_dimmed_and_the_contour_green(tmp_path: Path) -> None:
    grey = ImageArray(np.full((60, 80), 120, np.uint8), "one")
    contact_sheet.write(tmp_path / "a" / "sheet.png", [grey], [left_half()], columns=1, cell=86)
    pixels = sheet(tmp_path / "a" / "sheet.png")
    row = pixels[30]  # an image of 80 columns begins at column 3
    assert (row[10:38] == 120).all()
    assert (row[48:80] == 40).all()
    assert ((pixels[..., 1] == 255) & (pixels[..., 0] == 60))[30, 42]
    assert pixels.shape == (100, 86, 3)


def test_cells_stand_in_rows_with_captions_below(tmp_path: Path) -> None:
    images = [ImageArray(np.full((60, 80), 20 * i, np.uint8), f"name {i}") for i in range(1, 6)]
    masks = [Mask(np.ones((60, 80), bool))] * 5
    contact_sheet.write(tmp_path / "sheet.png", images, masks, columns=3, cell=100)
    pixels = sheet(tmp_path / "sheet.png")
    assert pixels.shape == (2 * 114, 300, 3)
    for i in range(5):
        x, y = i % 3 * 100, i // 3 * 114
        assert (pixels[y + 36, x + 50] == contact_sheet._PAPER).all()  # nearest to its own caption
        assert (pixels[y + 40 : y + 90, x + 50] == 20 * (i + 1)).all()
        assert (pixels[y + 96, x + 50] == contact_sheet._CONTOUR).all()
        caption = pixels[y + 100 : y + 114, x : x + 100]
        assert (caption.min(axis=2) > 150).sum() > 20  # light letters
    contact_sheet.write(tmp_path / "b.png", images, masks, ["other"] * 5, columns=3, cell=100)
    other = sheet(tmp_path / "b.png")
    assert (other[:97] == pixels[:97]).all()
    assert (other[97:114] != pixels[97:114]).any()


def test_label_masks_are_drawn_in_the_colour_of_their_class(tmp_path: Path) -> None:
    codes = np.zeros((60, 80), np.uint8)
    codes[10:30, 10:30] = 1
    codes[10:30, 50:70] = 2
    codes[40:50] = 255  # ignored
    grey = ImageArray(np.full((60, 80), 120, np.uint8), "one")
    everything = Mask(np.ones((60, 80), bool))
    path = tmp_path / "sheet.png"
    contact_sheet.write(path, [grey], [everything], labels=[Mask(codes)], columns=1, cell=86)
    image = sheet(path)[23:83, 3:83]
    for code, colour in ((1, contact_sheet._CLASSES[0]), (2, contact_sheet._CLASSES[1])):
        drawn = (image == colour).all(axis=-1)
        assert drawn.sum() == 4 * 19
        assert (codes[drawn] == code).all()
    assert (image[42:48, 10:70] == 120).all()


def test_a_long_caption_keeps_its_end_and_its_cell(tmp_path: Path) -> None:
    image = ImageArray(np.zeros((60, 80), np.uint8), "folder/" * 30 + "7.png")
    contact_sheet.write(tmp_path / "sheet.png", [image], [left_half()], columns=1, cell=100)
    assert sheet(tmp_path / "sheet.png").shape == (114, 100, 3)


def test_a_wrong_mask_leaves_the_old_sheet(tmp_path: Path) -> None:
    image = ImageArray(np.zeros((60, 80), np.uint8), "7.png")
    path = tmp_path / "sheet.png"
    contact_sheet.write(path, [image], [left_half()])
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"7\.png"):
        contact_sheet.write(path, [image], [left_half(30)])
    with pytest.raises(ValueError, match="shorter"):
        contact_sheet.write(path, [image, image], [left_half()])
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["sheet.png"]


def test_the_same_images_give_the_same_bytes(tmp_path: Path) -> None:
    image = ImageArray(np.arange(4800, dtype=np.uint8).reshape(60, 80), "7.png")
    for name in ("a.png", "b.png"):
        contact_sheet.write(tmp_path / name, [image] * 3, [left_half()] * 3, columns=2)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
