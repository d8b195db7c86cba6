"""What people do to images: changes after which a copy must still be met."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFilter
import PIL.ImageFont
import PIL.ImageOps
from PIL.Image import Image

Change = Callable[[Image, np.random.Generator], Image]


def resized(factor: float) -> Change:
    def change(image: Image, generator: np.random.Generator) -> Image:
        size = (max(8, round(image.width * factor)), max(8, round(image.height * factor)))
        return image.resize(size, PIL.Image.Resampling.BICUBIC)

    return change


def stored(format: str, **options: int) -> Change:
    def change(image: Image, generator: np.random.Generator) -> Image:
        data = io.BytesIO()
        image.save(data, format, **options)
        return PIL.Image.open(data).convert("RGB")

    return change


def mapped(function: Callable[[float], float]) -> Change:
    table = [round(min(255, max(0, function(level)))) for level in range(256)] * 3
    return lambda image, generator: image.point(table)


def cropped(left: float, top: float, right: float, bottom: float) -> Change:
    """Parts of width and height that are cut off each side."""

    def change(image: Image, generator: np.random.Generator) -> Image:
        w, h = image.size
        return image.crop(
            (round(left * w), round(top * h), round((1 - right) * w), round((1 - bottom) * h))
        )

    return change


def cropped_one_side(part: float) -> Change:
    def change(image: Image, generator: np.random.Generator) -> Image:
        sides = [0.0, 0.0, 0.0, 0.0]
        sides[generator.integers(4)] = part
        return cropped(*sides)(image, generator)

    return change


def padded(part: float, level: int) -> Change:
    """Up to a fifth of the size on each side."""

    def change(image: Image, generator: np.random.Generator) -> Image:
        sizes = (image.width, image.height, image.width, image.height)
        border = tuple(round(size * generator.uniform(0, 2 * part)) for size in sizes)
        return PIL.ImageOps.expand(image, border, (level, level, level))

    return change


def squared(image: Image, generator: np.random.Generator) -> Image:
    return PIL.ImageOps.pad(image, (max(image.size),) * 2, color=(0, 0, 0))


def overlaid(image: Image, generator: np.random.Generator) -> Image:
    """Three lines of text and two calipers, anywhere."""
    image = image.copy()
    draw = PIL.ImageDraw.Draw(image)
    size = max(8, round(min(image.size) * 0.05))
    font = PIL.ImageFont.load_default(size)
    for colour in ((255, 255, 0), (255, 255, 255), (255, 255, 255)):
        x = generator.uniform(0, 0.6) * image.width
        y = generator.uniform(0, 0.95) * image.height
        draw.text((x, y), "L OVARY 12.3cm", fill=colour, font=font)
    for _ in range(2):
        x, y = generator.uniform(0.2, 0.8) * image.width, generator.uniform(0.2, 0.8) * image.height
        draw.line((x - size / 2, y, x + size / 2, y), fill=(0, 255, 0))
        draw.line((x, y - size / 2, x, y + size / 2), fill=(0, 255, 0))
    return image


def tinted(image: Image, generator: np.random.Generator) -> Image:
    grey = np.asarray(image.convert("L"))[..., None]
    return PIL.Image.fromarray((grey * np.array([1, 0.85, 0.6])).astype(np.uint8))


def blurred(sigma: float) -> Change:
    """In pixels of an image whose shorter side is 224."""
    return lambda image, generator: image.filter(
        PIL.ImageFilter.GaussianBlur(sigma * min(image.size) / 224)
    )


def chain(*changes: Change) -> Change:
    def change(image: Image, generator: np.random.Generator) -> Image:
        for one in changes:
            image = one(image, generator)
        return image

    return change


def mirrored(image: Image, generator: np.random.Generator) -> Image:
    return PIL.ImageOps.mirror(image)


def upside_down(image: Image, generator: np.random.Generator) -> Image:
    return PIL.ImageOps.flip(image)


def turned(degrees: float) -> Change:
    """Either way, at the same size, with black corners."""

    def change(image: Image, generator: np.random.Generator) -> Image:
        angle = degrees * generator.choice((-1, 1))
        return image.rotate(angle, PIL.Image.Resampling.BICUBIC)

    return change


def transposed(method: PIL.Image.Transpose) -> Change:
    return lambda image, generator: image.transpose(method)


def gamma(exponent: float) -> Change:
    return mapped(lambda level: 255 * (level / 255) ** exponent)


def brightness(factor: float) -> Change:
    return mapped(lambda level: level * factor)


def contrast(factor: float) -> Change:
    return mapped(lambda level: 128 + (level - 128) * factor)


CHANGES: dict[str, Change] = {
    "stored as PNG": stored("PNG"),
    "resized x0.5": resized(0.5),
    "resized x0.75": resized(0.75),
    "resized x1.5": resized(1.5),
    "JPEG quality 30": stored("JPEG", quality=30),
    "JPEG quality 50": stored("JPEG", quality=50),
    "JPEG quality 80": stored("JPEG", quality=80),
    "brightness x0.7": brightness(0.7),
    "brightness x1.4": brightness(1.4),
    "contrast x0.7": contrast(0.7),
    "contrast x1.4": contrast(1.4),
    "gamma 0.7": gamma(0.7),
    "gamma 1.5": gamma(1.5),
    "flipped horizontally": mirrored,
    "flipped vertically": upside_down,
    "one side cropped 5 %": cropped_one_side(0.05),
    "each side cropped 2.5 %": cropped(*[0.025] * 4),
    "each side cropped 5 %": cropped(*[0.05] * 4),
    "padded black": padded(0.1, 0),
    "padded white": padded(0.1, 255),
    "padded to a square": squared,
    "text and calipers": overlaid,
    "grey": lambda image, generator: image.convert("L").convert("RGB"),
    "tinted": tinted,
    "blur 1": blurred(1),
    "blur 2": blurred(2),
    "resized x0.5, JPEG 50, brightness": chain(
        resized(0.5), stored("JPEG", quality=50), brightness(1.25)
    ),
    "flipped, JPEG 50, gamma": chain(mirrored, stored("JPEG", quality=50), gamma(0.8)),
    "each side cropped 5 %, JPEG 50": chain(cropped(*[0.05] * 4), stored("JPEG", quality=50)),
    "cropped 2.5 %, resized x0.5, contrast": chain(
        cropped(*[0.025] * 4), resized(0.5), contrast(1.25)
    ),
    "flipped, cropped 2.5 %, JPEG 80": chain(
        mirrored, cropped(*[0.025] * 4), stored("JPEG", quality=80)
    ),
    "text, padded, JPEG 50": chain(overlaid, padded(0.1, 0), stored("JPEG", quality=50)),
    "turned 2 degrees": turned(2),
    "turned 5 degrees": turned(5),
    "turned 10 degrees": turned(10),
    "turned 90 degrees": transposed(PIL.Image.Transpose.ROTATE_90),
    "turned 180 degrees": transposed(PIL.Image.Transpose.ROTATE_180),
    "turned 270 degrees": transposed(PIL.Image.Transpose.ROTATE_270),
}
