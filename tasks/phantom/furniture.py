"""What scanners burn into their pictures: text, calipers, grey bar, depth ticks, Doppler gates.

All of it is drawn from the size of the screen and a generator alone. It never sees the scene, so
that it cannot tell the class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

KINDS = ("text", "calipers", "bar", "ticks", "box")
_CALIPER_COLOURS = ((250, 230, 60), (240, 240, 240), (90, 230, 90), (90, 220, 240))
_TEXT_COLOURS = ((235, 235, 235), (250, 230, 60), (170, 170, 180), (90, 110, 240))


def burn_in(
    image: np.ndarray,
    rng: np.random.Generator,
    words: Sequence[str],
    likelihood: Mapping[str, float],
    millimetre: float,
) -> np.ndarray:
    """Draw furniture into a picture.

    Args:
        image: uint8 RGB [H, W, 3].
        rng: generator; the furniture depends on it, on H, W and `millimetre` and on nothing else.
        words: phrases to pick the text from.
        likelihood: probability of each of `KINDS`; absent ones are 0.
        millimetre: pixels a millimetre.

    Returns:
        uint8 RGB [H, W, 3], a new array.
    """
    picture = PIL.Image.fromarray(image)
    draw = PIL.ImageDraw.Draw(picture)
    shown = {kind: rng.random() < likelihood.get(kind, 0.0) for kind in KINDS}
    if shown["bar"]:
        _bar(draw, rng, picture.size)
    if shown["ticks"]:
        _ticks(draw, rng, picture.size, millimetre)
    if shown["box"]:
        _box(draw, rng, picture.size)
    if shown["calipers"]:
        _calipers(draw, rng, picture.size, millimetre)
    if shown["text"] and words:
        _text(draw, rng, picture.size, words)
    return np.asarray(picture)


def _font(
    rng: np.random.Generator, height: int
) -> PIL.ImageFont.FreeTypeFont | PIL.ImageFont.ImageFont:
    return PIL.ImageFont.load_default(size=max(7, height * float(rng.uniform(0.03, 0.048))))


def _pick(
    rng: np.random.Generator, options: Sequence[tuple[int, int, int]]
) -> tuple[int, int, int]:
    return options[int(rng.integers(len(options)))]


def _bar(draw: PIL.ImageDraw.ImageDraw, rng: np.random.Generator, size: tuple[int, int]) -> None:
    """Grey scale, white on top, at the left or right edge."""
    width, height = size
    length, thick = int(height * rng.uniform(0.2, 0.5)), max(3, int(width * 0.02))
    left = 2 if rng.random() < 0.7 else width - thick - 3
    top = int(rng.uniform(2, height - length - 2))
    for row in range(length):
        grey = round(255 * (1 - row / length))
        draw.line([(left, top + row), (left + thick, top + row)], fill=(grey, grey, grey))


def _ticks(
    draw: PIL.ImageDraw.ImageDraw,
    rng: np.random.Generator,
    size: tuple[int, int],
    millimetre: float,
) -> None:
    """Depth marks every 5 or 10 mm along one edge, with numbers now and then."""
    width, height = size
    step = 10 if millimetre * 5 < 9 else 5
    column = width - 6 if rng.random() < 0.6 else 4
    numbered = rng.random() < 0.4
    font = PIL.ImageFont.load_default(size=8)
    for number in range(1, int(height / (step * millimetre)) + 1):
        row = number * step * millimetre
        long = number * step % 50 == 0
        draw.line([(column - (3 if long else 1), row), (column + 2, row)], fill=(200, 200, 200))
        if numbered and long:
            offset = -14 if column > width / 2 else 6
            text = str(number * step // 10)
            draw.text((column + offset, row - 5), text, fill=(200, 200, 200), font=font)


def _box(draw: PIL.ImageDraw.ImageDraw, rng: np.random.Generator, size: tuple[int, int]) -> None:
    """Outline of a Doppler gate."""
    width, height = size
    x = np.sort(rng.uniform(0.15, 0.85, 2)) * width
    z = np.sort(rng.uniform(0.15, 0.85, 2)) * height
    lean = rng.uniform(-0.1, 0.1) * width
    corners = [(x[0], z[0]), (x[1], z[0]), (x[1] + lean, z[1]), (x[0] - lean, z[1])]
    draw.line([*corners, corners[0]], fill=(60, 170, 60))


def _calipers(
    draw: PIL.ImageDraw.ImageDraw,
    rng: np.random.Generator,
    size: tuple[int, int],
    millimetre: float,
) -> None:
    """One or two measured distances, at a random place: crosses, a dotted line, a read-out."""
    width, height = size
    colour = _pick(rng, _CALIPER_COLOURS)
    font = _font(rng, height)
    dotted, slanted = rng.random() < 0.5, rng.random() < 0.4
    arm = max(2, round(height * 0.012))
    centre = np.array([rng.uniform(0.3, 0.7) * width, rng.uniform(0.25, 0.7) * height])
    turn = rng.uniform(0, np.pi)
    for number in range(1, int(rng.integers(1, 3)) + 1):
        half = rng.uniform(0.06, 0.2) * height * np.array([np.cos(turn), np.sin(turn)])
        for end in (centre - half, centre + half):
            x, z = (float(v) for v in end)
            a, b = (arm, arm) if slanted else (arm, 0)
            draw.line([(x - a, z - b), (x + a, z + b)], fill=colour)
            a, b = (arm, -arm) if slanted else (0, arm)
            draw.line([(x - a, z - b), (x + a, z + b)], fill=colour)
        if dotted:
            for share in np.arange(-1, 1, 4 / max(float(np.hypot(*half)), 4)):
                x, z = (float(v) for v in centre + share * half)
                draw.point((x, z), fill=colour)
        length = 2 * float(np.hypot(*half)) / millimetre
        label = f"{number} D {length / 10:.2f}cm" if dotted else f"D{number} {length:.1f}mm"
        place = (width * 0.62, height - (3 - number) * 1.5 * height * 0.045)
        draw.text(place, label, fill=colour, font=font)
        turn += np.pi / 2


def _text(
    draw: PIL.ImageDraw.ImageDraw,
    rng: np.random.Generator,
    size: tuple[int, int],
    words: Sequence[str],
) -> None:
    """A heading of settings in a corner, and a label somewhere in the lower half."""
    width, height = size
    colour = _pick(rng, _TEXT_COLOURS)
    font = _font(rng, height)
    if rng.random() < 0.5:
        settings = (
            f"Gn {rng.integers(-9, 20)}",
            f"F{rng.uniform(2, 14):.1f}",
            f"DR{rng.integers(40, 90)}",
            f"{rng.integers(10, 60)}Hz",
            f"MI {rng.uniform(0.4, 1.4):.1f}",
        )
        left = width * (0.01 if rng.random() < 0.5 else 0.84)
        for row in range(int(rng.integers(2, 6))):
            draw.text((left, 2 + row * height * 0.045), settings[row], fill=colour, font=font)
    label = words[int(rng.integers(len(words)))]
    place = (rng.uniform(0.05, 0.6) * width, rng.uniform(0.6, 0.92) * height)
    draw.text(place, label, fill=colour, font=font)
