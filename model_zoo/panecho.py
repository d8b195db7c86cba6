"""PanEcho (JAMA 2025): a ConvNeXt-Tiny trained on echocardiograms, of stills and of clips."""

from __future__ import annotations

import math
import re
from typing import ClassVar

import torch
from torch import Tensor, nn

from model_zoo.cards import Card
from model_zoo.checkpoints.layouts import Layout, Recipe
from model_zoo.clip_rule import ClipRule
from model_zoo.convnext import ConvNeXt
from model_zoo.released import ReleasedEncoder
from model_zoo.side_by_side import side_by_side
from model_zoo.transforms import InputRule

_DEPTHS = (3, 3, 9, 3)
_IMAGE = "encoder.encoder.model."
_BLOCK = {"conv_dw": "block.0", "norm": "block.2", "mlp.fc1": "block.3", "mlp.fc2": "block.5"}


def _scale(parts: list[Tensor]) -> Tensor:
    return parts[0].flatten()


def torchvision(key: str) -> Recipe:
    """Where torchvision's ConvNeXt, in the authors' class, holds a tensor of ours."""
    if found := re.fullmatch(r"stages\.(\d)\.blocks\.(\d+)\.(.+?)(\.weight|\.bias)?", key):
        stage, block, part, end = found.groups()
        start = f"{_IMAGE}features.{2 * int(stage) + 1}.{block}"
        if part == "gamma":
            return Recipe((f"{start}.layer_scale",), _scale)
        return Recipe((f"{start}.{_BLOCK[part]}{end}",))
    if found := re.fullmatch(r"stages\.(\d)\.downsample\.(.+)", key):
        return Recipe((f"{_IMAGE}features.{2 * int(found[1])}.{found[2]}",))
    if key.startswith("stem."):
        return Recipe((f"{_IMAGE}features.0.{key.removeprefix('stem.')}",))
    return Recipe((f"{_IMAGE}classifier.0.{key.removeprefix('norm.')}",))


class PanEcho(ReleasedEncoder):
    """PanEcho's ConvNeXt-Tiny of stills: features [B, 768], tokens [B, 49, 768].

    Features are the mean over the last map, then the norm, as the authors' `image_encoder_only`
    gives them. Tokens are the places of that map, before the norm; maps [B, 1152, 14, 14].
    """

    input_rule = InputRule(224, interpolation="bilinear")
    patch_size = 32
    poolings: ClassVar[tuple[str, ...]] = ("default", "mean")
    entries = ("weights", "")
    trunk = "maps"
    layouts = (
        Layout(
            "official",
            torchvision,
            leftovers=("encoder.transformer.*", "encoder.time_encoder.pe", "*_head.1.weight",
                       "*_head.1.bias"),
        ),
    )  # fmt: skip
    card = Card(
        title="PanEcho (stills)",
        paper="Holste et al., JAMA 334 (2025) 306",
        code_licence="AGPL-3.0",
        weights_licence="CC BY-NC-SA 4.0",
        licence_kind="non-commercial",
        weights_from="github.com/CarDS-Yale/PanEcho, release v1.0: panecho.pt",
        pretraining="echocardiograms of the Yale New Haven Health System (more than a million "
        "videos) for 39 tasks; began from ImageNet",
        parameters=27_820_128,
        dim=768,
        saw=(),
        status="verified by the authors' code",
        verified="authors' code",
        verified_with="CarDS-Yale/PanEcho at 836c46e with torchvision 0.29.1, in float32 on a CPU",
        inferred=("bilinear squares of 224", "stills in the order red, green, blue"),
        note="only the encoder of stills, not the frame transformer. In training the authors' clip "
        "code mixes frames and channels: an `image` of it is three neighbouring frames as red, "
        "green and blue, and never a plain frame. The authors resize to 256 squares and take the "
        "centre of 224; the whole image is squashed here. Their loader gives blue first, which "
        "makes no difference for grey images",
    )

    def make(self) -> nn.Module:
        """A ConvNeXt-Tiny."""
        return ConvNeXt(96, _DEPTHS)

    def _last(self, x: Tensor) -> Tensor:
        last: Tensor = self.network.maps(x)[-1]  # type: ignore[operator]
        return last

    def _forward(self, x: Tensor) -> Tensor:
        mean = self._last(x).mean((2, 3))
        if self.pooling == "mean":
            return mean
        normed: Tensor = self.network.norm(mean)  # type: ignore[operator]
        return normed

    def _tokens(self, x: Tensor) -> Tensor:
        return self._last(x).flatten(2).mT

    def _maps(self, x: Tensor) -> list[Tensor]:
        return [side_by_side(self.network.maps(x), x.shape[-2])]  # type: ignore[operator]


WIDTH, FRAMES, HEADS, LAYERS = 768, 16, 8, 4


class FrameTransformer(nn.Module):
    """A ConvNeXt-Tiny, and a transformer over its features of the frames of a clip."""

    times: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ConvNeXt(WIDTH // 8, _DEPTHS)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, WIDTH, dropout=0.0, batch_first=True)
        self.transformer = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.register_buffer("times", time_table(FRAMES, WIDTH), persistent=False)

    def tokens(self, clips: Tensor) -> Tensor:
        """[B, 3, T, S, S] -> [B, T, D].

        The authors' code reads the memory of [3, T] planes as [T, 3], so that "frame" i is planes
        3 i, 3 i + 1 and 3 i + 2 of all red, then all green, then all blue ones. Its weights were
        trained so.
        """
        batch, colours, frames = clips.shape[:3]
        mixed = clips.reshape(batch * frames, colours, *clips.shape[3:])
        features = self.encoder.norm(self.encoder.maps(mixed)[-1].mean((2, 3)))
        tokens: Tensor = self.transformer(features.reshape(batch, frames, -1) + self.times)
        return tokens


def time_table(frames: int, width: int) -> Tensor:
    """Fixed codes of the frames' places, float32 [frames, width]: sines and cosines take turns."""
    place = torch.arange(frames)[:, None]
    frequency = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    return torch.stack([(place * frequency).sin(), (place * frequency).cos()], dim=2).flatten(1)


def _clip(key: str) -> Recipe:
    """Where the authors' file holds a tensor of `FrameTransformer`."""
    part, _, rest = key.partition(".")
    return torchvision(rest) if part == "encoder" else Recipe((f"encoder.{key}",))


class PanEchoClip(ReleasedEncoder):
    """PanEcho's frame transformer on 16 frames: features [B, 768], tokens [B, 16, 768].

    Features are the mean over the tokens, as the authors' `backbone_only` gives them. A token is of
    three planes of the clip, see `FrameTransformer`, and of no place in the image; so there are no
    maps.
    """

    input_rule = InputRule(224, interpolation="bilinear")
    takes = "clip"
    clip_rule = ClipRule(FRAMES, "stride")
    batch_size = 2
    entries = ("weights", "")
    trunk = "tokens"
    layouts = (
        Layout(
            "official",
            _clip,
            leftovers=("encoder.time_encoder.pe", "*_head.1.weight", "*_head.1.bias"),
        ),
    )
    has_maps = False
    card = Card(
        title="PanEcho (clips)",
        paper=PanEcho.card.paper,
        code_licence=PanEcho.card.code_licence,
        weights_licence=PanEcho.card.weights_licence,
        licence_kind=PanEcho.card.licence_kind,
        weights_from=PanEcho.card.weights_from,
        pretraining=PanEcho.card.pretraining,
        parameters=27_820_128 + 14_186_496,
        dim=WIDTH,
        saw=(),
        status="verified by the authors' code",
        verified="authors' code",
        verified_with=PanEcho.card.verified_with,
        inferred=("bilinear squares of 224", "one clip of a video, its first 16 frames"),
        note="frames and channels are mixed as in the authors' code, which the weights were "
        "trained with: an `image` of it is three neighbouring frames as red, green and blue. The "
        "authors take four clips of a video and average. Their loader gives blue first, which "
        "makes no difference for grey videos",
    )

    def make(self) -> nn.Module:
        """The frame transformer."""
        return FrameTransformer()

    def _forward(self, x: Tensor) -> Tensor:
        return self._tokens(x).mean(dim=1)

    def _tokens(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.network.tokens(x.transpose(1, 2))  # type: ignore[operator]
        return tokens

    def _maps(self, x: Tensor) -> list[Tensor]:
        raise NotImplementedError(f"model '{self.name}' has no feature maps")
