"""Taking a picture: scene, scanner, speckle, screen and furniture put together."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import PIL.Image
import PIL.ImageDraw
from scipy import ndimage

from tasks.phantom import furniture, machine, simulator
from tasks.phantom.geometry import Canvas
from tasks.phantom.machine import Machine, Style, generator
from tasks.phantom.scene import Scene

Finding = TypeVar("Finding")


@dataclass(frozen=True)
class Picture(Generic[Finding]):
    """A picture and what is known of it.

    Args:
        image: uint8 RGB [H, W, 3].
        canvas: turns mm into its pixels.
        shift: where the probe stood, (x, z) in mm.
        finding: what the anatomy returned.
    """

    image: np.ndarray
    canvas: Canvas
    shift: tuple[float, float]
    finding: Finding

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Points (x, z) of the body in mm, [N, 2], as pixel positions (column, row), [N, 2]."""
        return self.canvas.to_pixels(np.asarray(points) - self.shift)

    def mask(self, polygon: np.ndarray) -> np.ndarray:
        """The inside of a polygon of the body (mm, [N, 2]) as a bool mask [H, W]."""
        mask = PIL.Image.new("1", (self.canvas.width, self.canvas.height))
        corners = [(float(x), float(y)) for x, y in self.pixels(polygon)]
        PIL.ImageDraw.Draw(mask).polygon(corners, fill=1)
        return np.array(mask)

    def box(self, polygon: np.ndarray) -> tuple[int, int, int, int]:
        """Bounding box (left, top, right, bottom) in pixels of a polygon of the body in mm."""
        points = self.pixels(polygon)
        limits = (self.canvas.width - 1, self.canvas.height - 1)
        low = np.clip(np.floor(points.min(axis=0)), 0, limits)
        high = np.clip(np.ceil(points.max(axis=0)), 0, limits)
        return int(low[0]), int(low[1]), int(high[0]), int(high[1])


@dataclass(frozen=True)
class Motion:
    """How a frame differs from the first one of its sweep.

    Args:
        frame: number of the frame, from 0.
        shift: movement of the probe (x, z) in mm.
        keep: correlation of its speckle with the sweep's common part, 0 to 1.
    """

    frame: int = 0
    shift: tuple[float, float] = (0.0, 0.0)
    keep: float = 1.0


@dataclass(frozen=True)
class Study:
    """One sweep over one body: what all its frames have in common.

    Args:
        seed: the suite's seed.
        name: unique name of the sweep; all its randomness is (seed, name, use).
        style: the scanners it may have been taken with.
        scale: multiplies the pixels.
        patient: name that anatomy is drawn for, if several studies share a body; else `name`.
    """

    seed: int
    name: str
    style: Style
    scale: float = 1.0
    patient: str | None = None

    def machine(self) -> Machine:
        """The scanner of this study."""
        return machine.draw(generator(self.seed, f"{self.name}/machine"), self.style, self.scale)

    def take(
        self,
        build: Callable[[Scene, np.random.Generator], Finding],
        motion: Motion | None = None,
        scanner: Machine | None = None,
    ) -> Picture[Finding]:
        """Take one picture.

        Args:
            build: paints the scene; the generator is the same for every frame of the study.
            motion: which frame; the first one unless told.
            scanner: instead of the study's own.
        """
        motion = motion or Motion()
        scanner = scanner or self.machine()
        scene = Scene(scanner.canvas.probe, scanner.samples, scanner.lines, motion.shift)
        finding = build(scene, generator(self.seed, f"{self.patient or self.name}/anatomy"))
        grey = self._grey(scene, scanner, motion)
        image = np.rint(grey[..., None] * (255 * np.asarray(scanner.tint))).astype(np.uint8)
        # Settings stay on the screen for the whole sweep, hence no frame number in the purpose.
        image = furniture.burn_in(
            image,
            generator(self.seed, f"{self.name}/furniture"),
            self.style.words,
            self.style.clutter or {},
            1 / scanner.canvas.pixel,
        )
        return Picture(image, scanner.canvas, motion.shift, finding)

    def _grey(self, scene: Scene, scanner: Machine, motion: Motion) -> np.ndarray:
        speckle = simulator.scatterers(
            generator(self.seed, f"{self.name}/speckle"),
            (scanner.samples, scanner.lines),
            motion.keep,
            motion.frame,
        )
        speckle = _moved(speckle, scene, motion)
        noise = generator(self.seed, f"{self.name}/noise/{motion.frame}")
        envelope = simulator.received(scene, scanner.beam, speckle, noise)
        return shown(envelope, scanner)


def shown(envelope: np.ndarray, scanner: Machine, gain: float = 0.0) -> np.ndarray:
    """An envelope [D, L] on the screen of a scanner, float32 [H, W] in [0, 1]; `gain` dB are added
    to the scanner's own."""
    sliders = np.interp(
        np.linspace(0, 1, scanner.samples),
        np.linspace(0, 1, len(scanner.sliders)),
        scanner.sliders,
    )
    envelope = envelope * 10 ** (sliders[:, None].astype(np.float32) / 20)
    grey = simulator.log_compress(
        envelope, scanner.dynamic_range, scanner.gain + gain, scanner.gamma
    )
    grey = ndimage.gaussian_filter(grey, scanner.smoothing, mode="nearest")
    return scanner.canvas.convert(grey)


def _moved(speckle: np.ndarray, scene: Scene, motion: Motion) -> np.ndarray:
    """Scatterers after the probe has moved and tissue has slid, to the nearest grid cell."""
    samples, lines = speckle.shape
    rows = round(motion.shift[1] / scene.probe.depth * (samples - 1))
    width = 2 * scene.reach[0]
    columns = -round(motion.shift[0] / width * lines)
    if rows or columns:
        speckle = np.roll(speckle, (-rows, columns), axis=(0, 1))
    if isinstance(scene.sliding, np.ndarray):
        beams = np.rint(scene.sliding / width * lines).astype(int)
        source = (np.arange(lines)[None, :] - beams) % lines
        speckle = np.take_along_axis(speckle, source, axis=1)
    return speckle


def jpeg(image: np.ndarray, quality: int = 90) -> bytes:
    """JPEG bytes of a uint8 RGB [H, W, 3] image."""
    return _encoded(PIL.Image.fromarray(image), "JPEG", quality=quality)


def png(image: np.ndarray) -> bytes:
    """PNG bytes of an image: uint8 RGB [H, W, 3], uint8 grey [H, W], or bool [H, W]."""
    return _encoded(PIL.Image.fromarray(image), "PNG")


def grey(image: np.ndarray) -> np.ndarray:
    """Luma of a uint8 RGB [H, W, 3] image, uint8 [H, W]."""
    return np.asarray(PIL.Image.fromarray(image).convert("L"))


def fitted(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """`image` cut or padded with black about its centre to `shape`."""
    fitted = np.zeros(shape, image.dtype)
    source, target = [], []
    for have, want in zip(image.shape, shape, strict=True):
        length = min(have, want)
        source.append(slice((have - length) // 2, (have - length) // 2 + length))
        target.append(slice((want - length) // 2, (want - length) // 2 + length))
    fitted[tuple(target)] = image[tuple(source)]
    return fitted


def _encoded(image: PIL.Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
