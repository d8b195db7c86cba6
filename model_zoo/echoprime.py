"""EchoPrime's video encoder: an MViTv2-S trained with reports (arXiv 2410.09704)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torchvision.models import video

from model_zoo import pooling
from model_zoo.cards import Card
from model_zoo.checkpoints.layouts import Layout
from model_zoo.clip_rule import ClipRule
from model_zoo.released import ReleasedEncoder
from model_zoo.transforms import InputRule

# The authors' are of values from 0 to 255.
MEAN = (29.110628 / 255, 28.076836 / 255, 29.096405 / 255)
STD = (47.989223 / 255, 46.456997 / 255, 47.20083 / 255)


class MViT(nn.Module):
    """torchvision's MViTv2-S with a projection to 512, which also gives its tokens."""

    def __init__(self) -> None:
        super().__init__()
        made = video.mvit_v2_s()
        self.conv_proj, self.pos_encoding = made.conv_proj, made.pos_encoding
        self.blocks, self.norm = made.blocks, made.norm
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(768, 512))

    def tokens(self, clips: Tensor) -> Tensor:
        """[B, 3, 16, 224, 224] -> [B, 1 + 8 x 7 x 7, 768] after the norm, the class token first."""
        x: Tensor = self.pos_encoding(self.conv_proj(clips).flatten(2).transpose(1, 2))
        grid = (self.pos_encoding.temporal_size, *self.pos_encoding.spatial_size)
        for block in self.blocks:
            x, grid = block(x, grid)
        normed: Tensor = self.norm(x)
        return normed


class EchoPrime(ReleasedEncoder):
    """EchoPrime's MViTv2-S: features [B, 512], tokens [B, 8 x 7 x 7, 768].

    Poolings: `projected`, what the authors call the embedding of a video, not scaled to length one;
    `cls` and `mean`, of the tokens before it, both [B, 768].
    """

    input_rule = InputRule(224, MEAN, STD)
    takes = "clip"
    clip_rule = ClipRule(16, "stride", step=2)
    tubelet = 2
    patch_size = 32
    batch_size = 2
    poolings: ClassVar[tuple[str, ...]] = ("projected", "cls", "mean")
    entries = ("",)
    heads = ()
    trunk = "tokens"
    layouts = (Layout("torchvision"),)
    card = Card(
        title="EchoPrime, video encoder",
        paper="Vukadinovic et al., 2024, arXiv 2410.09704",
        code_licence="MIT",
        weights_licence="MIT",
        weights_from="github.com/echonet/EchoPrime, release v1.0.0: model_data.zip, in it "
        "model_data/weights/echo_prime_encoder.pt",
        pretraining="echocardiogram videos of Cedars-Sinai (12 million) with their reports",
        parameters=34_623_872,
        dim=512,
        saw=(),
        status="verified by the authors' code",
        verified="authors' code",
        verified_with="torchvision 0.29.1, as echonet/EchoPrime at 45609cd builds it, in float32 "
        "on a CPU",
        inferred=(
            "the mean and std belong to red, green, blue in this order",
            "a video of fewer than 32 frames ends with its last frame again and again; the authors "
            "fill up with the mean colour",
        ),
        note="every second of the first 32 frames. The whole frame is squashed to 224 squares; the "
        "authors mask what is outside the scan, crop to a square and cut a tenth off each side",
    )

    def make(self) -> nn.Module:
        """An MViTv2-S and its projection."""
        return MViT()

    def _all(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.network.tokens(x.transpose(1, 2))  # type: ignore[operator]
        return tokens

    def _forward(self, x: Tensor) -> Tensor:
        tokens = self._all(x)
        if self.pooling != "projected":
            return pooling.pool(self.pooling, tokens, 1)
        projected: Tensor = self.network.head(tokens[:, 0])  # type: ignore[operator]
        return projected

    def _tokens(self, x: Tensor) -> Tensor:
        return self._all(x)[:, 1:]
