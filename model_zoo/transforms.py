"""How an image becomes a network's input: declared as data, applied by one function."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
import PIL.Image
import torch

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Fit = Literal["squash", "pad", "square"]
Padding = Literal["mean", "black"]
Resizer = Literal["pillow", "torchvision", "opencv"]

_FILTERS = {
    "nearest": PIL.Image.Resampling.NEAREST,
    "bilinear": PIL.Image.Resampling.BILINEAR,
    "bicubic": PIL.Image.Resampling.BICUBIC,
    "lanczos": PIL.Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class InputRule:
    """What a network wants to see: the whole image in a square of side `size`, normalised.

    In this order: `grey`, `stretch`, resize, `mean` and `std`. Nothing is cropped, as a crop
    would cut tissue away.

    The aspect is not kept, as UltraBench's users and most ultrasound models do, unless `fit` says
    "pad" or "square". Resizing is done on 8-bit values by the library of the pipeline the model
    comes from.
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
    fit: Fit = "squash"
    """"squash": both sides to `size`. "pad": the longer side to `size`, the aspect kept, and the
    rest filled at the right and at the bottom. "square": black is put on both sides of the shorter
    side until the image is a square, which is then resized."""
    padding: Padding = "mean"
    """What "pad" fills with: "mean" is zero after the normalisation, "black" before it."""
    resizer: Resizer = "pillow"
    """Whose arithmetic, to the bit. "pillow" antialiases, by any filter; "torchvision" too, as on
    its tensors, which may be one grey level apart; "opencv", as mmdet uses it, looks at the four
    nearest pixels only. The last two are bilinear."""

    def apply(self, image: np.ndarray | torch.Tensor) -> torch.Tensor:
        """Bring one image to the network's input, float32 [3, size, size].

        Args:
            image: uint8 [H, W, 3], or float [3, H, W] in [0, 1]. A float image that must be
                resized, stretched or made grey is first rounded to 8 bits; else it is left as
                it is.
        """
        pixels = self._resized(image)  # float32 [3, h, w] in [0, 1]; h and w are `size` or less
        mean = torch.tensor(self.mean).view(3, 1, 1)
        std = torch.tensor(self.std).view(3, 1, 1)
        if self.padding == "black":
            return (self._padded(pixels) - mean) / std
        return self._padded((pixels - mean) / std)

    def apply_clip(self, clip: np.ndarray | torch.Tensor) -> torch.Tensor:
        """Bring the frames of a clip to the network's input, float32 [T, 3, size, size].

        Each as `apply` does it, but that `stretch` takes the percentiles of the whole clip, so that
        brightness does not flicker.

        Args:
            clip: uint8 [T, H, W, 3], or float [T, 3, H, W] in [0, 1].
        """
        rule, frames = self, list(clip)
        if self.stretch is not None:
            frames = [to_uint8(one) if isinstance(one, torch.Tensor) else one for one in frames]
            if self.grey:
                frames = [_grey(one) for one in frames]
            frames = list(_stretched(np.stack(frames), *self.stretch))
            rule = replace(self, stretch=None, grey=False)
        found: list[torch.Tensor] = []
        for place, one in enumerate(frames):
            again = place > 0 and bool(
                (one == frames[place - 1]).all()
            )  # a still, or a short video
            found.append(found[-1] if again else rule.apply(one))
        return torch.stack(found)

    def told(self, stated_by: str) -> str:
        """How images are prepared, in words, and who states it."""
        mean, std = (" ".join(f"{x:.4g}" for x in values) for values in (self.mean, self.std))
        return (
            f"input {self.size} x {self.size} ({self.fit}, {self.interpolation}), mean {mean}, "
            f"std {std}, as {stated_by} has it"
        )

    def extent(self, height: int, width: int) -> tuple[float, ...]:
        """Which part of the input an image of `height` x `width` pixels takes.

        Two numbers, its height and width in parts of the input's, for an image at the top left;
        four where `fit` is "square": these, and how far down and to the right it begins. (1, 1)
        for an image that fills the input.
        """
        if self.fit == "square" and height != width:
            side = max(height, width)
            down, right = (side - height) // 2, (side - width) // 2
            return height / side, width / side, down / side, right / side
        rows, columns = self._target(height, width)
        return rows / self.size, columns / self.size

    def _padded(self, pixels: torch.Tensor) -> torch.Tensor:
        _, height, width = pixels.shape
        return torch.nn.functional.pad(pixels, (0, self.size - width, 0, self.size - height))

    def _resized(self, image: np.ndarray | torch.Tensor) -> torch.Tensor:
        if isinstance(image, torch.Tensor):
            at_size = image.shape[-2:] == (self.size, self.size)
            is_grey = not self.grey or bool((image == image[:1]).all())
            if at_size and is_grey and self.stretch is None:
                return image.detach().cpu().float()
            image = to_uint8(image)
        if self.grey:
            image = _grey(image)
        if self.stretch is not None:
            image = _stretched(image, *self.stretch)
        if self.fit == "square":
            image = _squared(image)
        height, width = self._target(*image.shape[:2])
        if image.shape[:2] == (height, width):
            return to_float(image)
        if self.resizer == "torchvision":
            return to_float(_resized_by_torchvision(image, height, width))
        if self.resizer == "opencv":
            return to_float(cv2.resize(image, (width, height)))
        resized = PIL.Image.fromarray(image).resize((width, height), _FILTERS[self.interpolation])
        return to_float(np.asarray(resized))

    def _target(self, height: int, width: int) -> tuple[int, int]:
        if self.fit != "pad":
            return self.size, self.size
        scale = self.size / max(height, width)
        # Rounded as by SAM, but cut as by mmdet, so that 239 rows become 1023 of 1024.
        more = 0.0 if self.resizer == "opencv" else 0.5
        # An image a thousand times as long as high keeps one row.
        return max(1, int(height * scale + more)), max(1, int(width * scale + more))


def _grey(image: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> its luma, repeated to three channels."""
    luma = np.asarray(PIL.Image.fromarray(image).convert("L"))
    return np.repeat(luma[:, :, None], 3, axis=2)


def _squared(image: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] in the middle of a black square; of an odd rest, the top or left is less."""
    side = max(image.shape[:2])
    before = [(side - length) // 2 for length in image.shape[:2]]
    after = [side - length - less for length, less in zip(image.shape[:2], before, strict=True)]
    return np.pad(image, (*zip(before, after, strict=True), (0, 0)))


def _resized_by_torchvision(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """`v2.Resize(antialias=True)` on a tensor: uint8 [H, W, 3] -> uint8 [height, width, 3]."""
    planes = torch.tensor(image).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(
        planes, (height, width), mode="bilinear", antialias=True
    )
    return np.asarray(resized[0].permute(1, 2, 0))


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
