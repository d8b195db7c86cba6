"""Scan masks: the simulator's true geometry, AUL's outlines, and what must not change a mask."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial import ConvexHull

from tasks.phantom.furniture import KINDS
from tasks.phantom.geometry import Canvas
from tasks.phantom.machine import Style
from tasks.phantom.picture import Motion, Study
from tasks.phantom.releases import aul, busbra, butterfly, fatty_liver, gbcu, mmotu, pocus, tn5000
from tasks.phantom.scene import FLUID, Scene
from tasks.phantom.shapes import Blob
from tasks.samples.images import ImageArray, ImageFile
from tasks.scan import scan_mask
from tasks.scan.scan_mask import ClipMask, EstimatedMask, MaskFile, OutlineMask
from ultrabench_eval.core.errors import UserError

STYLES: dict[str, Style] = {
    "aul": aul.STYLE,
    "busbra": busbra._STYLE,
    "butterfly": butterfly.STYLE,
    "fatty_liver": fatty_liver.STYLE,
    "gbcu": gbcu.STYLE,
    "mmotu": mmotu.STYLE,
    "pocus": pocus.STYLE,
    "tn5000": tn5000.STYLE,
}
LINEAR = {"busbra", "tn5000"}
CASES = [(task, number) for task in STYLES for number in range(3)]


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def truth(canvas: Canvas) -> np.ndarray:
    """The true field of view on the screen."""
    return canvas.convert(np.ones((2, 2), np.float32)) > 0.5


def cyst(scene: Scene, rng: np.random.Generator) -> None:
    x, z = rng.uniform(-0.4, 0.4) * scene.reach[0], rng.uniform(0.4, 0.6) * scene.reach[1]
    size = 0.15 * scene.reach[1]
    scene.paint(Blob(float(x), float(z), size, size).level(scene.x, scene.z), FLUID)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    PIL.Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(PIL.Image.open(buffer).convert("RGB"))


@cache
def phantom(task: str, number: int, cluttered: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """A simulated picture of one of the tasks' scanners and its true region."""
    clutter = dict.fromkeys(KINDS, 0.7) if cluttered else None
    style = replace(STYLES[task], clutter=clutter, words=STYLES[task].words or ("LIVER",))
    picture = Study(7, f"scan/{task}/{number}", style, 1.3).take(cyst)
    return jpeg(picture.image, 90), truth(picture.canvas)


def hull_of_threshold(image: np.ndarray) -> np.ndarray:
    """The simple way: what is not dark, opened, largest component, convex hull."""
    bright = ndimage.binary_opening(image.mean(axis=2) > 8, iterations=5)
    labels, _ = ndimage.label(bright)
    largest = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    points = np.argwhere(largest)[:, ::-1]
    canvas = PIL.Image.new("1", image.shape[1::-1])
    corners = points[ConvexHull(points).vertices]
    PIL.ImageDraw.Draw(canvas).polygon([(int(x), int(y)) for x, y in corners], fill=1)
    return np.array(canvas)


# How good it is


@pytest.mark.parametrize(("task", "number"), CASES)
def test_finds_the_true_field_of_view(task: str, number: int) -> None:
    image, true = phantom(task, number)
    region = scan_mask.find(image)
    assert iou(region.mask, true) > 0.95
    assert region.kind in (("linear", "full") if task in LINEAR else ("sector",))


@pytest.mark.shared
def test_agrees_with_the_outlines_of_annotators(real_data: Path) -> None:
    # They are polygons of some ten corners, which cut the arcs: 0.97 is about the most.
    found = []
    for path in sorted((real_data / "originals_sample/aul").glob("*/image/*.jpg")):
        image = ImageFile(path, path.name)
        outline = OutlineMask(path.parents[1] / f"segmentation/outline/{path.stem}.json", image)
        found.append(iou(EstimatedMask(image).read(), outline.read()))
    assert len(found) == 15
    assert min(found) > 0.88
    assert np.mean(found) > 0.94


@pytest.mark.shared
def test_real_pictures_are_of_the_kind_that_eyes_see(real_data: Path) -> None:
    def kinds(folder: str, pattern: str, count: int) -> list[str]:
        paths = sorted((real_data / folder).glob(pattern))
        chosen = [paths[i] for i in np.linspace(0, len(paths) - 1, count).astype(int)]
        return [scan_mask.find(ImageFile(path, path.name).read()).kind for path in chosen]

    assert kinds("aul", "*/image/*.jpg", 20).count("sector") >= 19
    assert kinds("mmotu/OTU_2d/images", "*.JPG", 20).count("sector") >= 18
    assert kinds("busbra/BUSBRA/Images", "*.png", 20).count("full") >= 19
    assert kinds("ddti", "*.jpg", 20).count("linear") >= 18


# What must not change a mask


pictures = st.sampled_from(CASES).map(lambda case: phantom(*case)[0])


@settings(max_examples=20)
@given(pictures)
def test_a_mirrored_picture_has_a_mirrored_mask(image: np.ndarray) -> None:
    mirrored = scan_mask.estimate(image[:, ::-1])[:, ::-1]
    assert iou(mirrored, scan_mask.estimate(image)) > 0.98


@settings(max_examples=20)
@given(pictures, st.floats(0.7, 1.5))
def test_scaling_scales_the_mask(image: np.ndarray, factor: float) -> None:
    size = round(image.shape[1] * factor), round(image.shape[0] * factor)
    scaled = np.asarray(PIL.Image.fromarray(image).resize(size, PIL.Image.Resampling.BILINEAR))
    mask = np.asarray(PIL.Image.fromarray(scan_mask.estimate(image)).resize(size))
    assert iou(scan_mask.estimate(scaled), mask) > 0.96


@settings(max_examples=20)
@given(pictures, st.integers(70, 95))
def test_compression_changes_little(image: np.ndarray, quality: int) -> None:
    assert iou(scan_mask.estimate(jpeg(image, quality)), scan_mask.estimate(image)) > 0.95


@settings(max_examples=20)
@given(pictures, st.floats(0.7, 1.4))
def test_gain_changes_little(image: np.ndarray, gain: float) -> None:
    louder = np.clip(image * gain, 0, 255).astype(np.uint8)
    assert iou(scan_mask.estimate(louder), scan_mask.estimate(image)) > 0.96


@pytest.mark.parametrize("task", STYLES)
def test_grey_and_colour_give_the_same_mask(task: str) -> None:
    grey = phantom(task, 0)[0][..., 0]
    assert (scan_mask.estimate(grey) == scan_mask.estimate(np.dstack([grey] * 3))).all()


@settings(max_examples=40)
@given(
    st.integers(32, 300),
    st.integers(32, 300),
    st.sampled_from([(), (3,)]),
    st.sampled_from(["noise", "sparse", "halves", "blobs"]),
    st.integers(0, 2**32 - 1),
)
def test_any_picture_has_a_mask(
    height: int, width: int, channels: tuple[int, ...], kind: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, *channels), dtype=np.uint8)
    if kind == "sparse":
        image[rng.random((height, width)) < 0.97] = 0
    if kind == "halves":
        image[: int(rng.integers(height))] = int(rng.integers(256))
    if kind == "blobs":
        image[ndimage.gaussian_filter(rng.normal(size=(height, width)), 8) < 0.02] = 0
    before = image.copy()
    mask = scan_mask.estimate(image)
    assert mask.shape == (height, width)
    assert mask.dtype == bool
    assert mask.any()
    assert (mask == scan_mask.estimate(image)).all()
    assert (image == before).all()


@pytest.mark.parametrize("size", [(32, 2000), (2000, 32), (33, 32), (1500, 2000)])
def test_any_size_works(size: tuple[int, int]) -> None:
    image = np.zeros(size, np.uint8)
    image[size[0] // 8 : -size[0] // 8, size[1] // 8 : -size[1] // 8] = 120
    mask = scan_mask.estimate(image)
    assert mask.shape == size
    assert iou(mask, image > 0) > 0.6  # of 4 pixels a side in the extreme


# Furniture


def write_text(draw: PIL.ImageDraw.ImageDraw, size: tuple[int, int]) -> None:
    font = PIL.ImageFont.load_default(size=size[1] * 0.045)
    for row in range(5):
        draw.text((size[0] * 0.02, size[1] * (0.03 + 0.055 * row)), "Gn 12dB", "white", font=font)


def draw_bar(draw: PIL.ImageDraw.ImageDraw, size: tuple[int, int]) -> None:
    for row in range(size[1] // 3):
        grey = 255 - round(row * 765 / size[1])
        left, top = size[0] - 12, size[1] // 4 + row
        draw.line([(left, top), (left + 8, top)], fill=(grey, grey, 255 - grey))


def draw_calipers(draw: PIL.ImageDraw.ImageDraw, size: tuple[int, int]) -> None:
    for x in (0.05, 0.16):
        x, y = size[0] * x, size[1] * 0.4
        draw.line([(x - 5, y), (x + 5, y)], fill="yellow", width=2)
        draw.line([(x, y - 5), (x, y + 5)], fill="yellow", width=2)


def draw_trace(draw: PIL.ImageDraw.ImageDraw, size: tuple[int, int]) -> None:
    x = np.linspace(0, size[0], 400)
    y = size[1] - 8 - 10 * np.exp(-((x % 60 - 30) ** 2) / 8)
    draw.line([(float(a), float(b)) for a, b in zip(x, y, strict=True)], fill=(0, 255, 0))


@pytest.mark.parametrize("task", ["aul", "butterfly", "fatty_liver", "gbcu"])
@pytest.mark.parametrize("paint", [write_text, draw_bar, draw_calipers, draw_trace])
def test_furniture_outside_changes_less_than_two_percent(
    task: str, paint: Callable[[PIL.ImageDraw.ImageDraw, tuple[int, int]], None]
) -> None:
    clean, true = phantom(task, 1, cluttered=False)
    clean = np.pad(clean, ((10, 30), (20, 20), (0, 0)))
    picture = PIL.Image.fromarray(clean)
    paint(PIL.ImageDraw.Draw(picture), picture.size)
    painted = np.where(np.pad(true, ((10, 30), (20, 20)))[..., None], clean, np.asarray(picture))
    assert (painted != clean).any()
    assert iou(scan_mask.estimate(jpeg(painted, 90)), scan_mask.estimate(clean)) > 0.98


# Darkness inside


def darkened(
    task: str, where: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A picture with a black part, the part, and the true region; `where` of depth and side."""
    picture = Study(7, f"dark/{task}", replace(STYLES[task], zoom=(1, 1)), 1.3).take(cyst)
    canvas = picture.canvas
    x = (np.arange(canvas.width) - canvas.left)[None, :] * canvas.pixel
    z = (np.arange(canvas.height) - canvas.top)[:, None] * canvas.pixel
    depth, side = canvas.probe.beams(x, z)
    true = truth(canvas)
    part = where(depth / canvas.probe.depth, side) & true
    return np.where(part[..., None], 0, picture.image).astype(np.uint8), part, true


DARK: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "shadow in the middle": lambda depth, side: (np.abs(side) < 0.25) & (depth > 0.2),
    "shadow at the side": lambda depth, side: (side < -0.6) & (depth > 0.3),
    "dark far field": lambda depth, side: (side > 0.2) & (depth > 0.6),
    "large cyst": lambda depth, side: np.hypot(side, 2 * (depth - 0.5)) < 0.6,
}
DARKENED = ("aul", "butterfly", "fatty_liver", "mmotu", "pocus", "tn5000")


def test_beats_thresholding_and_convex_hull_in_the_dark() -> None:
    pictures = [darkened(task, where) for task in DARKENED for where in DARK.values()]
    ours, simple = (
        np.mean([iou(method(image), true) for image, _, true in pictures])
        for method in (scan_mask.estimate, hull_of_threshold)
    )
    assert ours > simple + 0.03


@pytest.mark.parametrize("task", DARKENED)
@pytest.mark.parametrize("kind", DARK)
def test_darkness_inside_stays_inside(task: str, kind: str) -> None:
    image, part, true = darkened(task, DARK[kind])
    mask = scan_mask.estimate(image)
    assert mask[part].mean() > 0.9
    assert iou(mask, true) > 0.95


# Kinds


def test_a_cropped_picture_is_full() -> None:
    for task in STYLES:
        image, true = phantom(task, 2, cluttered=False)
        rows, columns = np.nonzero(true)
        top, left = np.quantile(rows, 0.3), np.quantile(columns, 0.3)
        inside = image[int(top) : int(np.quantile(rows, 0.7)), int(left) : int(2 * left)]
        assert scan_mask.find(inside).kind == "full", task
        assert scan_mask.estimate(inside).all()


@pytest.mark.parametrize("level", [0, 20, 255])
def test_a_constant_picture_is_unknown_and_all_true(level: int) -> None:
    region = scan_mask.find(np.full((60, 80), level, np.uint8))
    assert region.kind == "unknown"
    assert region.mask.all()


# Clips


def clip(cluttered: bool = False) -> tuple[list[np.ndarray], np.ndarray]:
    style = replace(pocus.STYLE, clutter=None, zoom=(1, 1), gain=(-4, -2))
    study = Study(3, "scan/clip", style, 1.3)
    frames = [study.take(cyst, Motion(number, keep=0.7)) for number in range(5)]
    return [frame.image for frame in frames], truth(frames[0].canvas)


def test_a_clip_of_one_frame_is_an_image() -> None:
    image = phantom("pocus", 0)[0]
    assert (scan_mask.of_frames([image]) == scan_mask.estimate(image)).all()


def test_a_still_logo_is_no_part_of_a_clip() -> None:
    frames, true = clip()
    logo = np.random.default_rng(0).integers(90, 255, (true.shape[0], 160, 3), dtype=np.uint8)
    frames = [np.concatenate([logo, frame], axis=1) for frame in frames]
    mask = scan_mask.of_frames(frames)
    assert iou(mask[:, 160:], true) > 0.95
    assert mask[:, :160].mean() < 0.02
    assert scan_mask.estimate(frames[0])[:, :160].mean() > 0.5  # one frame cannot tell


def test_the_frames_of_a_clip_light_up_each_other() -> None:
    frames, true = clip()
    columns = np.arange(true.shape[1])
    shaded = []
    for number, frame in enumerate(frames):  # a band of darkness passes from left to right
        dark = np.abs(columns - true.shape[1] * number / 4) < true.shape[1] * 0.2
        shaded.append(np.where(dark[None, :, None], 0, frame).astype(np.uint8))
    assert iou(scan_mask.of_frames(shaded), true) > 0.96


def test_a_frozen_clip_is_an_image() -> None:
    image, true = phantom("pocus", 1)
    assert iou(scan_mask.of_frames([image] * 4), true) > 0.95


# What tasks hand out


def masks(folder: Path) -> list[EstimatedMask | ClipMask | OutlineMask | MaskFile]:
    pixels, true = phantom("aul", 0)
    PIL.Image.fromarray(pixels).save(folder / "7.png")
    PIL.Image.fromarray(true).save(folder / "mask.png")
    (folder / "7.json").write_text(json.dumps([[10.5, 3], [60, 50.25], [5, 80]]))
    image = ImageFile(folder / "7.png", "Benign/image/7.png")
    return [
        EstimatedMask(image),
        ClipMask((image, image), "clip"),
        OutlineMask(folder / "7.json", image),
        MaskFile(folder / "mask.png", "mask 7"),
    ]


def test_masks_travel_to_other_processes(tmp_path: Path) -> None:
    for mask in masks(tmp_path):
        copy = pickle.loads(pickle.dumps(mask))
        assert copy == mask
        assert copy.name
        assert copy.digest() == mask.digest()
        assert copy.read().dtype == bool
        assert (copy.read() == mask.read()).all()
    assert len({mask.digest() for mask in masks(tmp_path)}) == 4


def test_masks_show_what_they_are_made_of(tmp_path: Path) -> None:
    pixels, true = phantom("aul", 0)
    estimated, of_clip, outline, file = (mask.read() for mask in masks(tmp_path))
    assert (estimated == scan_mask.estimate(pixels)).all()
    assert iou(of_clip, true) > 0.95
    assert outline.shape == true.shape
    assert outline[40, 20]
    assert not outline[40, 70]
    assert outline.sum() == pytest.approx(2036, rel=0.06)  # the triangle's area and its border
    assert (file == true).all()


@pytest.mark.parametrize("inside", [1, 255])
def test_mask_files_of_both_conventions(tmp_path: Path, inside: int) -> None:
    expected = np.arange(48).reshape(6, 8) % 5 == 0
    PIL.Image.fromarray(expected.astype(np.uint8) * np.uint8(inside)).save(tmp_path / "m.png")
    assert (MaskFile(tmp_path / "m.png", "m").read() == expected).all()


@pytest.mark.parametrize(
    "content", ["[[1, 2], [3, 4]]", "[[1, 2, 3]]", '{"a": 1}', "[", "[[1], 2]"]
)
def test_a_damaged_outline_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "o.json").write_text(content)
    mask = OutlineMask(tmp_path / "o.json", ImageArray(np.zeros((20, 20), np.uint8), "x"))
    with pytest.raises(UserError, match=r"o\.json"):
        mask.read()


def test_an_outline_of_the_unresized_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "o.json").write_text("[[100, 20], [900, 30], [500, 700]]")
    mask = OutlineMask(tmp_path / "o.json", ImageArray(np.zeros((224, 299), np.uint8), "x"))
    with pytest.raises(UserError, match="was resized"):
        mask.read()


def test_files_that_are_no_mask_are_refused(tmp_path: Path) -> None:
    for name, pixels in (
        ("grey", np.arange(64, dtype=np.uint8)),
        ("empty", np.zeros(64, np.uint8)),
    ):
        PIL.Image.fromarray(pixels.reshape(8, 8)).save(tmp_path / f"{name}.png")
        with pytest.raises(UserError, match=rf"{name}\.png"):
            MaskFile(tmp_path / f"{name}.png", name).read()
    with pytest.raises(UserError, match="missing"):
        MaskFile(tmp_path / "absent.png", "absent").read()
