"""Files of figures: the same bytes for the same figure, letters as letters, sheets of any shape."""

from __future__ import annotations

import io
import re

import numpy as np
import PIL.Image
import pytest

from ultrabench_eval.core import drawing, sheets
from ultrabench_eval.core.sheets import SheetRow, Tile

pytestmark = pytest.mark.usefixtures("every_format")


def curve(word: str = "macro F1") -> dict[str, bytes]:
    figure = drawing.new(3, 2)
    ax = figure.subplots()
    ax.plot([1, 2, 3], [1, 3, 2], label=word)
    ax.set_title(drawing.plain(word))
    ax.legend()
    return drawing.files(figure, "figures/one")


def test_equal_figures_are_equal_bytes_without_dates_and_with_letters() -> None:
    made = curve()
    assert set(made) == {"figures/one.svg", "figures/one.png", "figures/one.pdf"}
    assert made == curve()
    assert made != curve("another")
    pdf = made["figures/one.pdf"]
    assert pdf.startswith(b"%PDF")
    assert b"CreationDate" not in pdf
    assert b"/Type0" in pdf  # how fonts of type 42 are embedded
    assert b"/Type3" not in pdf
    assert b"<dc:date>" not in made["figures/one.svg"]


def test_a_dollar_is_a_dollar() -> None:
    assert b"dollar" not in curve("3 $ and 4 $")["figures/one.svg"]


def tile(height: int, width: int, caption: str = "", mask: bool = False) -> Tile:
    pixels = np.full((height, width), 128, np.uint8)
    inside = np.zeros((height, width), bool)
    inside[: height // 2] = True
    return Tile(pixels, caption, [(inside, "#ff0000")] if mask else ())


@pytest.mark.parametrize("shape", [(40, 40), (20, 80), (90, 30), (1, 1), (900, 1200)])
def test_pictures_keep_their_shape(shape: tuple[int, int]) -> None:
    rows = [
        SheetRow("a", [tile(*shape, "x", mask=True), tile(40, 60)]),
        SheetRow("b", [tile(*shape)]),
    ]
    figure = sheets.sheet(["title"], rows, ["one", "two"], [("#ff0000", "mask")])
    width, height = figure.get_size_inches()
    for ax, (h, w) in zip(figure.axes, (shape, (40, 60), shape), strict=True):
        box = ax.get_position()
        assert box.width * width / (box.height * height) == pytest.approx(w / h)
        assert 0 <= box.x0 < box.x1 <= 1
        assert 0 <= box.y0 < box.y1 <= 1


def test_no_text_of_a_sheet_leaves_it_or_meets_another() -> None:
    long = "a name that is far longer than there is room for, whatever the picture's width is"
    rows = [SheetRow(long, [tile(40, 60, long)] * columns) for columns in (4, 2)]
    figure = sheets.sheet([long, long], rows, [f"severity {n}" for n in range(4)])
    drawing.files(figure, "x")
    boxes = [text.get_window_extent() for text in figure.texts]
    page = figure.bbox
    for number, box in enumerate(boxes):
        assert box.x0 >= page.x0
        assert box.x1 <= page.x1
        assert box.y1 <= page.y1
        assert not any(box.overlaps(other) for other in boxes[number + 1 :])


def test_borders_of_masks_are_lines_and_none_of_an_empty_one() -> None:
    def lines(mask: np.ndarray) -> int:
        pixels = np.zeros(mask.shape, np.uint8)
        rows = [SheetRow("", [Tile(pixels, "", [(mask, "#12ab34")])])]
        svg = drawing.files(sheets.sheet([""], rows), "x")["x.svg"].decode()
        return len(re.findall("stroke: #12ab34", svg))

    assert lines(np.zeros((30, 40), bool)) == 0
    assert lines(np.ones((30, 40), bool)) == 1
    assert lines(np.ones((1300, 900), bool)) == 1


def test_the_png_shows_the_pixels() -> None:
    rows = [SheetRow("", [Tile(np.full((50, 50, 3), (200, 30, 90), np.uint8))])]
    png = drawing.files(sheets.sheet(["t"], rows), "x", dpi=100)["x.png"]
    shown = np.asarray(PIL.Image.open(io.BytesIO(png)).convert("RGB"))
    assert (shown == (200, 30, 90)).all(axis=-1).mean() > 0.1
