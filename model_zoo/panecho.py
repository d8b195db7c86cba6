"""PanEcho's encoder of stills: a ConvNeXt-Tiny trained on echocardiograms (JAMA 2025)."""

from __future__ import annotations

import re
from typing import ClassVar

from torch import Tensor, nn

from model_zoo.cards import Card
from model_zoo.checkpoints.layouts import Layout, Recipe
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
