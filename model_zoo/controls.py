"""Controls: what an encoder must beat before its score means anything.

An untrained network, a thumbnail, a few statistics of the image, the shape of the scanned region,
what stands around it, and nothing at all. A task that one of them solves can be solved without
looking at tissue.

One is for clips and sees nothing but motion.

Three more are for maps, and say what segmentation scores without any structure being recognised:
the brightness at each place, the place itself, and both. Their pooled features are means over
places.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from scipy import ndimage
from torch import Tensor, nn

from model_zoo.cards import Card
from model_zoo.clip_rule import ClipRule
from model_zoo.encoder import RANDOM, Encoder
from model_zoo.transforms import InputRule, to_uint8
from model_zoo.vit import VisionTransformer
from ultrabench_eval.core.errors import UserError

_CONTROL: dict[str, Any] = {
    "code_licence": "Apache-2.0",
    "weights_licence": "none: there are no weights",
    "licence_kind": "open",
    "weights_from": "nowhere: there are none",
    "parameters": 0,
    "saw": (),
    "status": "control",
}

DARK = 12  # grey level up to which JPEG rings in a black surround


class _Control(Encoder):
    """A control takes no weights."""

    def build(self, weights: Path | str | None) -> nn.Module:
        """Nothing to fill; asking for a checkpoint is a mistake worth telling."""
        if weights not in (None, RANDOM):
            raise UserError(
                f"model '{self.name}' is a control and takes no weights; leave out --weights for it"
            )
        self.random_weights = False  # even if "random" was asked for: there are none
        return self._network()

    def _network(self) -> nn.Module:
        return nn.Identity()


class RandomViTTiny(_Control):
    """A ViT-Tiny/16 that was never trained: what architecture and input size alone give.

    Features [B, 192]: the mean over patch tokens after the final norm; tokens [B, 196, 192]. The
    weights are drawn from generator seed 0; the fingerprint tells if a release of torch ever draws
    them differently.
    """

    input_rule = InputRule(224, (0.5,) * 3, (0.5,) * 3)  # the usual rule for this architecture
    patch_size = 16
    poolings = ("mean",)
    card = Card(
        title="ViT-Tiny, random",
        paper="Dosovitskiy et al., ICLR 2021 (arXiv 2010.11929), for the architecture",
        pretraining="none: random weights on purpose",
        note="control: untrained network",
        dim=192,
        **{**_CONTROL, "parameters": 5_524_032},
    )

    def _network(self) -> nn.Module:
        self.random_weights = True
        network = VisionTransformer(width=192, heads=3)
        # As the original ViT starts: positions as small as the weights, or they drown the image.
        nn.init.trunc_normal_(network.pos_embed, std=0.02)
        network.patch_embed.proj.reset_parameters()
        return network

    def _forward(self, x: Tensor) -> Tensor:
        return self._tokens(x).mean(1)

    def _tokens(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.network(x)
        return tokens


class Pixels(_Control):
    """The image as a 16 x 16 RGB thumbnail, antialiased: [B, 768].

    In colour, because burnt-in overlays and Doppler boxes are what it is to find; 768 numbers,
    as many as a ViT-B gives, so that the probe on top is just as large.
    """

    input_rule = InputRule(16, interpolation="bilinear")
    poolings = ("flatten",)
    card = Card(
        title="Pixels 16 x 16",
        pretraining="none",
        note="control: colour thumbnail, no learning",
        dim=768,
        **_CONTROL,
    )

    def _forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def _maps(self, x: Tensor) -> list[Tensor]:
        return [x]


class ImageStats(_Control):
    """Size, aspect, grey histogram and simple moments of the image as released: [B, 32].

    In order: log2 of height, width and width / height; 16 histogram bins; mean and standard
    deviation of each channel; skewness and excess kurtosis of the grey values; entropy in bits
    / 8; share of black pixels; share of coloured ones; centre (row, column) of the brightness.
    A score above chance means that classes differ in scanner, export or crop.
    """

    poolings = ("statistics",)
    card = Card(
        title="Image statistics",
        pretraining="none",
        dim=32,
        note="control: size, aspect, histogram and moments of the raw image",
        **_CONTROL,
    )

    def _prepare(self, image: np.ndarray | Tensor) -> Tensor:
        return torch.from_numpy(image_statistics(_pixels(image)))

    def _forward(self, x: Tensor) -> Tensor:
        return x


class PixelGrid(_Control):
    """Mean and standard deviation of the grey values in 28 x 28 places: maps [B, 2, 28, 28].

    What a threshold on brightness or on speckle would find.
    """

    side = 28
    input_rule = InputRule(8 * side, (0.0,) * 3, (1.0,) * 3, interpolation="bilinear", grey=True)
    poolings = ("mean",)
    card = Card(
        title="Pixel grid",
        pretraining="none",
        dim=2,
        note="control for maps: brightness and its deviation at each place, no learning",
        **_CONTROL,
    )

    def _forward(self, x: Tensor) -> Tensor:
        return self._maps(x)[0].mean((-2, -1))

    def _maps(self, x: Tensor) -> list[Tensor]:
        grey, size = x[:, :1], x.shape[-1] // self.side
        mean, square = (nn.functional.avg_pool2d(n, size) for n in (grey, grey.square()))
        return [torch.cat([mean, (square - mean.square()).clamp(min=0).sqrt()], 1)]


class PositionPixels(PixelGrid):
    """Where a place is, and how bright: maps [B, 29, 28, 28].

    The nine products of row and column (-1 to 1) of degree 1 to 3, the two channels of `PixelGrid`,
    and each of these times each of those: a linear head can tell dark places in the middle from
    dark ones at the border.
    """

    card = Card(
        title="Position and pixels",
        pretraining="none",
        dim=29,
        note="control for maps: brightness by position in the image, no learning",
        **_CONTROL,
    )

    def _maps(self, x: Tensor) -> list[Tensor]:
        (grey,) = super()._maps(x)
        steps = (torch.arange(self.side, device=x.device) + 0.5) / self.side * 2 - 1
        row, column = torch.meshgrid(steps, steps, indexing="ij")
        powers = [(n, m) for n in range(4) for m in range(4 - n) if n + m]
        places = torch.stack([row**n * column**m for n, m in powers])
        products = (grey[:, :, None] * places).flatten(1, 2)
        return [torch.cat([places.expand(len(x), -1, -1, -1), grey, products], 1)]


class MeanMask(_Control):
    """Which of 14 x 14 places it is, and nothing of the image: maps [B, 196, 14, 14].

    A linear head on it learns one number for each class and place, so it is the mean mask of the
    training images at that grid: how much of a score comes from structures being where they
    usually are. Pooled it is the same for all images.
    """

    side = 14
    poolings = ("mean",)
    card = Card(
        title="Mean mask",
        pretraining="none",
        dim=196,
        note="control for maps: the place alone, from which a linear head learns the mean mask",
        **_CONTROL,
    )

    def _prepare(self, image: np.ndarray | Tensor) -> Tensor:
        return torch.zeros(1)

    def _forward(self, x: Tensor) -> Tensor:
        return self._maps(x)[0].mean((-2, -1))

    def _maps(self, x: Tensor) -> list[Tensor]:
        places = torch.eye(self.side**2, device=x.device, dtype=x.dtype)
        return [places.view(-1, self.side, self.side).repeat(len(x), 1, 1, 1)]


class FanMask(_Control):
    """Where the ultrasound is in the frame, as a 32 x 32 coverage map: [B, 1024] in [0, 1].

    A score above chance means that the geometry of the scan (probe, depth, crop) gives classes
    away. Its maps [B, 6, 32, 32] are the position within the scan: the coverage, how far down it is
    in the scanned part of its column, how far right in that of its row, both from -1 to 1, and the
    three products of these; the last five are 0 outside.
    """

    side = 32
    poolings = ("flatten",)
    card = Card(
        title="Fan mask",
        pretraining="none",
        dim=1024,
        note="control: shape of the scanned region only, no tissue",
        **_CONTROL,
    )

    def _prepare(self, image: np.ndarray | Tensor) -> Tensor:
        mask = PIL.Image.fromarray(scanned_region(_pixels(image)).astype(np.float32))
        coverage = mask.resize((self.side, self.side), PIL.Image.Resampling.BOX)
        return torch.from_numpy(np.array(coverage))

    def _forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def _maps(self, x: Tensor) -> list[Tensor]:
        down, right = (
            ((2 * x.cumsum(axis) - x) / x.sum(axis, keepdim=True).clamp(min=1e-6) - 1) * x
            for axis in (1, 2)
        )
        return [torch.stack([x, down, right, down**2, down * right, right**2], 1)]


class FrameDifferences(_Control):
    """What changes from frame to frame, and nothing that stays: [B, 784] of a clip.

    The mean over time of the absolute difference of neighbouring frames, grey, averaged in 28 x 28
    places. Its maps have two channels for each frame, the difference from the one before and from
    the one after. A still gives zeros. A score above chance means that motion (of tissue, of the
    probe, or the noise of a compression) gives classes away.
    """

    takes = "clip"
    clip_rule = ClipRule()
    side = 28
    input_rule = InputRule(8 * side, (0.0,) * 3, (1.0,) * 3, interpolation="bilinear", grey=True)
    batch_size = 8
    poolings = ("flatten",)
    card = Card(
        title="Frame differences",
        pretraining="none",
        dim=784,
        note="control for clips: what changes between neighbouring frames, no learning",
        **_CONTROL,
    )

    def _forward(self, x: Tensor) -> Tensor:
        return self._changes(x).mean(1).flatten(1)

    def _maps(self, x: Tensor) -> list[Tensor]:
        changes = self._changes(x)
        none = torch.zeros_like(changes[:, :1])
        return [torch.stack([torch.cat([none, changes], 1), torch.cat([changes, none], 1)], 2)]

    def _changes(self, x: Tensor) -> Tensor:
        """Of each two neighbouring frames, [B, T - 1, 28, 28]."""
        return nn.functional.avg_pool2d(x[:, :, 0].diff(dim=1).abs(), x.shape[-1] // self.side)


class Border(_Control):
    """What stands around the scanned region, as a 32 x 32 RGB thumbnail, antialiased: [B, 3072].

    The region is black: burnt-in text, marks, bars and a lit screen are left. A score above chance
    means that annotators or consoles wrote classes into the picture. What is written over the
    tissue isn't seen; an image that is scanned all over gives zeros.
    """

    version = "2"  # dark tissue is black too
    side = 32
    poolings = ("flatten",)
    card = Card(
        title="Border",
        pretraining="none",
        dim=3072,
        note="control: what stands outside the scanned region",
        **_CONTROL,
    )

    def _prepare(self, image: np.ndarray | Tensor) -> Tensor:
        pixels = _pixels(image)
        # The region is an estimate: one step of its own pixels keeps a rim of tissue out.
        region = ndimage.binary_dilation(scanned_region(pixels), np.ones((3, 3), bool))
        height, width = pixels.shape[:2]
        blank = np.asarray(PIL.Image.fromarray(region).resize((width, height)))
        # Nor may tissue show that is too dark to count as scanned.
        blank = blank | (pixels.max(axis=2) <= DARK)
        outside = PIL.Image.fromarray(np.where(blank[..., None], np.uint8(0), pixels))
        thumbnail = outside.resize((self.side, self.side), PIL.Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(thumbnail, np.float32).transpose(2, 0, 1) / 255)

    def _forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def _maps(self, x: Tensor) -> list[Tensor]:
        return [x]


class Constant(_Control):
    """The same for every image: [B, 1], a one.

    A probe on it knows the training targets alone: it predicts the most frequent class, or the mean
    of numbers. Where predictions are multiplied by what images do not show (their width in mm), its
    score is what that factor alone is worth.
    """

    poolings = ("constant",)
    card = Card(
        title="Constant",
        pretraining="none",
        dim=1,
        note="control: the same for every image, sees nothing",
        **_CONTROL,
    )

    def _prepare(self, image: np.ndarray | Tensor) -> Tensor:
        return torch.ones(1)

    def _forward(self, x: Tensor) -> Tensor:
        return x


def image_statistics(image: np.ndarray) -> np.ndarray:
    """The features of `ImageStats`, float32 [32], of one image, uint8 [H, W, 3].

    Everything is of order one, since the probe takes features as they are.
    """
    height, width = image.shape[:2]
    luma = np.asarray(PIL.Image.fromarray(image).convert("L"))
    counts = np.bincount(luma.ravel(), minlength=256).astype(np.float64)
    share = counts / counts.sum()
    levels = np.arange(256) / 255

    mean = share @ levels
    spread = np.sqrt(share @ (levels - mean) ** 2)
    scaled = (levels - mean) / spread if spread > 0 else np.zeros(256)
    present = share[share > 0]

    channels = image.reshape(-1, 3) / 255
    colour = (image.max(axis=2).astype(int) - image.min(axis=2) > 24).mean()
    total = luma.sum(dtype=np.float64)
    centre = [
        luma.sum(axis=1 - axis) @ np.linspace(-1, 1, side) / total if total else 0.0
        for axis, side in enumerate((height, width))
    ]
    return np.array(
        [
            *np.log2([height / 512, width / 512, width / height]),
            *share.reshape(16, 16).sum(axis=1),
            *channels.mean(axis=0),
            *channels.std(axis=0),
            # Heavy tails would drown the rest, so the two shape figures are squashed.
            np.tanh(share @ scaled**3 / 4),
            np.tanh(max(share @ scaled**4 - 3, -3) / 16 if spread > 0 else 0.0),
            -(present @ np.log2(present)) / 8,
            share[:8].sum(),
            colour,
            *centre,
        ],
        dtype=np.float32,
    )


def scanned_region(image: np.ndarray) -> np.ndarray:
    """An estimate of the scanned region, bool [h, w], of one image, uint8 [H, W, 3].

    The convex hull of the largest connected bright area, on a copy whose longer side is at most
    128 pixels. The hull, because a cyst that opens into the surround would otherwise draw its
    outline into the mask, which is to hold no tissue. It is a control's rough view, not a
    segmentation: dark tissue along a border still moves that border, and an image without any
    bright area counts as scanned all over.
    """
    grey = PIL.Image.fromarray(image).convert("L")
    grey.thumbnail((128, 128), PIL.Image.Resampling.BOX, reducing_gap=None)
    bright = np.asarray(grey) > DARK
    # Gaps of a twentieth of the frame are closed, then thin bridges to scales and lettering cut.
    reach = max(1, min(bright.shape) // 40)
    disc = ndimage.iterate_structure(ndimage.generate_binary_structure(2, 1), reach)
    padded = np.pad(bright, 4 * reach, mode="edge")  # neither step may eat into the border
    cleaned = ndimage.binary_opening(ndimage.binary_closing(padded, disc), disc)
    inner = slice(4 * reach, -4 * reach)
    labels, count = ndimage.label(cleaned[inner, inner])
    if count == 0:
        return np.ones_like(bright)
    largest = np.bincount(labels.ravel())[1:].argmax() + 1
    return _convex_hull(labels == largest)


def _convex_hull(mask: np.ndarray) -> np.ndarray:
    """The pixels inside all of 64 half-planes that just hold the mask."""
    angles = np.arange(64) * (2 * np.pi / 64)
    rows, columns = np.indices(mask.shape)
    hull = np.ones_like(mask)
    for down, right in zip(np.sin(angles), np.cos(angles), strict=True):
        distance = rows * down + columns * right
        hull &= distance <= distance[mask].max() + 1e-6
    return hull


def _pixels(image: np.ndarray | Tensor) -> np.ndarray:
    """The image as uint8 [H, W, 3], whichever way it came."""
    return to_uint8(image) if isinstance(image, Tensor) else np.ascontiguousarray(image)
