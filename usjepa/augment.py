"""From a stored frame to what the student sees: stretch, crop, flips, blur, contrast, speckle.

Table 5 names the changes, `usjepa.config.Augment` their strengths. All draws come from the
generator that is given, and always in the same number, so that no setting shifts another's draws.

H, W are the frame's size, S the side of the model's input, G = S / patch size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import PIL.Image
import PIL.ImageFilter

from usjepa.config import Config
from usjepa.frames import preprocess, region
from usjepa.frames.region import View
from usjepa.frames.store import Frame

_TRIES = 10  # draws of a crop before the largest possible one is taken, as in torchvision


class Seen(NamedTuple):
    """One image, or clip, as the model gets it."""

    pixels: np.ndarray
    """uint8 [S, S], or [S, S, 3] where frames are in colour; of clips [F, S, S] or [F, S, S, 3]."""
    valid: np.ndarray | None
    """Patches with ultrasound in them, bool [G, G]; None without region conditioning."""


def training(frame: Frame, config: Config, generator: np.random.Generator) -> Seen:
    """A frame cropped and changed at random.

    Args:
        frame: as stored.
        config: of the run.
        generator: whose draws decide everything.
    """
    draws = generator.random(12 + 2 * _TRIES)
    seen = _seen(frame, config, _view(frame, config, draws))
    return seen._replace(pixels=_changed(seen.pixels, config, draws[2:10], generator))


def training_clip(frames: Sequence[Frame], config: Config, generator: np.random.Generator) -> Seen:
    """A clip with one random crop, and perhaps flips, for all its frames; see `training`."""
    return _clip(frames, config, _view(frames[0], config, generator.random(12 + 2 * _TRIES)))


def plain(frame: Frame, config: Config) -> Seen:
    """The whole frame, squeezed into the square as at test time; for validation."""
    return _seen(frame, config, View(0, 0, *frame.pixels.shape[:2]))


def plain_clip(frames: Sequence[Frame], config: Config) -> Seen:
    """Whole frames; see `plain`."""
    return _clip(frames, config, View(0, 0, *frames[0].pixels.shape[:2]))


def _view(frame: Frame, config: Config, draws: np.ndarray) -> View:
    height, width = frame.pixels.shape[:2]
    view = _crop(height, width, config, draws[10:])
    flips = draws[:2] < (config.data.augment.flip_horizontal, config.data.augment.flip_vertical)
    return view._replace(flip_horizontal=bool(flips[0]), flip_vertical=bool(flips[1]))


def _clip(frames: Sequence[Frame], config: Config, view: View) -> Seen:
    """The same view of all frames, with percentiles of all of them together."""
    height = len(frames[0].pixels)
    tower = np.concatenate([frame.pixels for frame in frames])
    region = frames[0].region
    if region is not None:
        region = np.concatenate([region] * len(frames))
    stretched = _stretched(Frame(tower, region), config).reshape(
        len(frames), height, *tower.shape[1:]
    )
    seen = np.stack([_resized(pixels, config, view) for pixels in stretched])
    return Seen(seen, _valid(frames[0], config, view))


def _seen(frame: Frame, config: Config, view: View) -> Seen:
    """A view of the stretched frame, and its valid patches."""
    pixels = _resized(_stretched(frame, config), config, view)
    return Seen(pixels, _valid(frame, config, view))


def _stretched(frame: Frame, config: Config) -> np.ndarray:
    if config.data.percentiles is None:
        return frame.pixels
    inside = frame.region if config.region_conditioning else None
    return preprocess.stretch(frame.pixels, config.data.percentiles, inside)


def _resized(pixels: np.ndarray, config: Config, view: View) -> np.ndarray:
    box = (view.left, view.top, view.left + view.width, view.top + view.height)
    size = (config.model.image_size, config.model.image_size)
    resized = PIL.Image.fromarray(pixels).resize(size, PIL.Image.Resampling.BILINEAR, box)
    seen = np.asarray(resized)
    if view.flip_horizontal:
        seen = seen[:, ::-1]
    if view.flip_vertical:
        seen = seen[::-1]
    return np.ascontiguousarray(seen)


def _valid(frame: Frame, config: Config, view: View) -> np.ndarray | None:
    conditioned, model, valid = config.region_conditioning, config.model, None
    if conditioned and frame.region is None:
        valid = np.ones((model.grid, model.grid), bool)
    elif conditioned and frame.region is not None:
        valid = region.valid_patches(frame.region, view, model.image_size, model.patch_size)
    return valid


def _crop(height: int, width: int, config: Config, draws: np.ndarray) -> View:
    """A crop of random area and aspect, as torchvision's RandomResizedCrop draws it."""
    place, draws = draws[-2:], draws[:-2].reshape(_TRIES, 2)
    (smallest, largest), (flat, tall) = config.data.crop_scale, config.data.crop_aspect
    crop_height, crop_width = height, width
    for area, aspect in draws:
        pixels = height * width * (smallest + area * (largest - smallest))
        ratio = math.exp(math.log(flat) + aspect * (math.log(tall) - math.log(flat)))
        crop_width, crop_height = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            break
    else:  # the largest part of the frame whose aspect is allowed
        crop_width = max(1, min(width, round(height * tall)))
        crop_height = max(1, min(height, round(width / flat)))
    top, left = (int(at) for at in place * (height - crop_height + 1, width - crop_width + 1))
    return View(top, left, crop_height, crop_width)


def _changed(
    pixels: np.ndarray, config: Config, draws: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Contrast about the median, blur, speckle; each with its probability and strength."""
    settings = config.data.augment
    if draws[0] < settings.contrast_probability:
        factor = _between(settings.contrast_factor, draws[1])
        middle = np.median(pixels)
        table = np.clip(middle + factor * (np.arange(256) - middle), 0, 255).round()
        pixels = table.astype(np.uint8)[pixels]
    if draws[2] < settings.blur_probability:
        blur = PIL.ImageFilter.GaussianBlur(_between(settings.blur_sigma, draws[3]))
        pixels = np.asarray(PIL.Image.fromarray(pixels).filter(blur))
    if draws[4] < settings.speckle_probability:
        sigma = _between(settings.speckle_sigma, draws[5])
        # One pattern for all colours: it is brightness that speckles.
        noise = generator.standard_normal(pixels.shape[:2], dtype=np.float32)
        noise = (1 + sigma * noise).reshape(*noise.shape, *(1,) * (pixels.ndim - 2))
        pixels = np.clip(pixels * noise + 0.5, 0, 255).astype(np.uint8)
    return pixels


def _between(bounds: tuple[float, float], draw: float) -> float:
    return bounds[0] + float(draw) * (bounds[1] - bounds[0])
