"""How an image becomes a network's input: declared as data, applied by one function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import PIL.Image
import torch

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]

_FILTERS = {
    "nearest": PIL.Image.Resampling.NEAREST,
    "bilinear": PIL.Image.Resampling.BILINEAR,
    "bicubic": PIL.Image.Resampling.BICUBIC,
    "lanczos": PIL.Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class InputRule:
    """What a network wants to see: the whole image, both sides brought to `size`, normalised.

    In this order: `grey`, `stretch`, resize, `mean` and `std`.

    The aspect is not kept and nothing is cropped, as UltraBench's users and most ultrasound
    models do: a crop would cut tissue away. Resizing is Pillow's (antialiased) on 8-bit values,
    as in the pipelines the models were trained with.
    """

    size: int
    """Height and width of the input, in pixels."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Subtracted from each channel, in units of [0, 1]; ImageNet's by default."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Then divided by."""
    interpolation: Interpolation = "bicubic"
    grey: bool = False
    """Take the luma (ITU-R 601) first and repeat it to three channels."""
    stretch: tuple[float, float] | None = None
    """Two percentiles of the image's values that become 0 and 255, before the resize; values
    outside are clipped, and an image without contrast becomes black."""

    def apply(self, image: np.ndarray | torch.Tensor) -> torch.Tensor:
        """Bring one image to the network's input, float32 [3, size, size].

        Args:
            image: uint8 [H, W, 3], or float [3, H, W] in [0, 1]. A float image that must be
                resized or stretched is first rounded to 8 bits; else it is left as it is.
        """
        pixels = self._resized(image)  # float32 [3, S, S] in [0, 1]
        mean = torch.tensor(self.mean).view(3, 1, 1)
        std = torch.tensor(self.std).view(3, 1, 1)
        return (pixels - mean) / std

    def _resized(self, image: np.ndarray | torch.Tensor) -> torch.Tensor:
        if isinstance(image, torch.Tensor):
            at_size = image.shape[-2:] == (self.size, self.size)
            if at_size and not self.grey and self.stretch is None:
                return image.detach().cpu().float()
            image = to_uint8(image)
        if self.grey:
            luma = np.asarray(PIL.Image.fromarray(image).convert("L"))
            image = np.repeat(luma[:, :, None], 3, axis=2)
        if self.stretch is not None:
            image = _stretched(image, *self.stretch)
        if image.shape[:2] != (self.size, self.size):
            resized = PIL.Image.fromarray(image).resize(
                (self.size, self.size), _FILTERS[self.interpolation]
            )
            image = np.asarray(resized)
        return to_float(image)


def _stretched(image: np.ndarray, low: float, high: float) -> np.ndarray:
    bottom, top = np.percentile(image, (low, high))
    if top <= bottom:
        return np.zeros_like(image)
    scaled = (np.arange(256) - bottom) * (255 / (top - bottom))
    return np.asarray(scaled.round().clip(0, 255).astype(np.uint8)[image])


def to_float(image: np.ndarray) -> torch.Tensor:
    """uint8 [H, W, 3] -> float32 [3, H, W] in [0, 1]."""
    return torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32)) / 255


def to_uint8(image: torch.Tensor) -> np.ndarray:
    """Float [3, H, W] in [0, 1] -> uint8 [H, W, 3], rounded; the inverse of `to_float`."""
    values = (image.detach().cpu().float() * 255).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(values.numpy().transpose(1, 2, 0))
