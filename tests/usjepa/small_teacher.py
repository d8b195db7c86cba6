"""A small encoder of the zoo's kind, and the small model that goes with it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from model_zoo.encoder import Encoder
from model_zoo.transforms import InputRule
from model_zoo.vit import VisionTransformer
from usjepa.config import ModelSettings

MODEL = ModelSettings(image_size=32, patch_size=8, width=24, depth=2, heads=2)  # 4 x 4 patches


def scrambled(network: nn.Module) -> nn.Module:
    """The same network, in which no parameter keeps its starting value, norms' included."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    return network


class SmallViT(Encoder):
    """16 patch tokens of 20 numbers; another normalisation than the student's."""

    input_rule = InputRule(32, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    poolings = ("mean",)

    def build(self, weights: Path | str | None) -> nn.Module:
        return scrambled(VisionTransformer(32, 8, 20, 3, 2, class_token=True))

    def _forward(self, x: Tensor) -> Tensor:
        return self._tokens(x).mean(1)

    def _tokens(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.network(x)
        return tokens[:, 1:]


def small() -> SmallViT:
    return SmallViT(name="small", weights="random")
