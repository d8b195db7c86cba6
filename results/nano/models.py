"""Models that only this comparison needs: `--plugin results/nano/models.py`."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from safetensors.torch import load_file
from torch import Tensor

import model_zoo
from model_zoo import pooling
from model_zoo.efficientnet_lite import Lite0
from model_zoo.students import Student
from usjepa import config

LAYERS = config.load("us_jepa_nano").teacher.layers
BLOCKS = range(16)
FINE, COARSE = (4, 10), 14
"""Blocks of EfficientNet-Lite0 with the last map of 28 x 28, one of 14 x 14, and one of 7 x 7."""
SEVERAL = (8, 10, 12, 14)


class Watched(Lite0):
    """EfficientNet-Lite0 whose parts can be watched while it runs."""

    @contextmanager
    def watching(self, names: list[str]) -> Iterator[dict[str, list[Tensor]]]:
        """What each part of the network gives inside, by its name, one tensor for each chunk."""
        given: dict[str, list[Tensor]] = {name: [] for name in names}
        handles = [
            self.network.get_submodule(name).register_forward_hook(
                lambda _, __, output, name=name: given[name].append(output)
            )
            for name in names
        ]
        try:
            yield given
        finally:
            for handle in handles:
                handle.remove()

    def outputs(self, x: Tensor, names: list[str]) -> list[Tensor]:
        """Maps [B, D, h, w] of some parts."""
        with self.watching(names) as given:
            super()._forward(x)
        return [torch.cat(given[name]) for name in names]


def several(encoder: Watched, x: Tensor) -> Tensor:
    """What `lite0-projected` projects, [B, P], of prepared images."""
    return statistics(encoder.outputs(x, [f"_blocks.{block}" for block in SEVERAL]))


def statistics(maps: list[Tensor]) -> Tensor:
    """Mean and deviation over the places of each map, side by side."""
    tokens = (one.flatten(2).mT for one in maps)
    return torch.cat([pooling.mean_and_deviation(one, 0) for one in tokens], dim=1)


@model_zoo.register("salt-targets")
class SaltTargets(Watched):
    """What the nano students are taught: the means of the teacher's maps side by side.

    EfficientNet-Lite0, `teacher.layers` of `us_jepa_nano`, of images prepared as in training.
    """

    input_rule = model_zoo.InputRule(
        224, Lite0.input_rule.mean, Lite0.input_rule.std, grey=True, stretch=(2, 98)
    )

    def _forward(self, x):
        return torch.cat([one.mean((2, 3)) for one in self.outputs(x, list(LAYERS))], dim=1)


@model_zoo.register("lite0-layer")
class OneLayer(Watched):
    """EfficientNet-Lite0 after one of its blocks: `lite0-layer/12`, or with deviations `12+std`."""

    poolings = tuple(f"{block}{more}" for block in BLOCKS for more in ("", "+std"))

    def _forward(self, x):
        block, _, more = self.pooling.partition("+")
        found = self.outputs(x, [f"_blocks.{block}"])
        return statistics(found) if more else found[0].mean((2, 3))


@model_zoo.register("lite0-fine")
class FineMaps(Watched):
    """EfficientNet-Lite0 for dense probes, with a map of stride 8 beside those of 16 and 32."""

    def _maps(self, x):
        return self.outputs(x, [f"_blocks.{block}" for block in (*FINE, COARSE)])


@model_zoo.register("lite0-projected")
class Projected(SaltTargets):
    """Means and deviations of four of EfficientNet-Lite0's maps, projected as the students' are.

    The network is the ImageNet one; `--weights lite0-projected=FILE` is the projection that
    `results/nano/project_teacher.py` wrote.
    """

    poolings = ("projected",)

    def build(self, weights):
        """The network of the package, and the layer."""
        network = super().build(None)
        layer = load_file(str(weights))
        network.projection = torch.nn.Linear(*reversed(layer["weight"].shape))
        network.projection.load_state_dict(layer)
        return network

    def _forward(self, x):
        layer = self.network.projection
        return layer(several(self, x).to(layer.weight.dtype))


class Trained(Student):
    """A network of `study.sh` that is not part of the package: `--weights NAME=RUN`."""

    chosen = "projected"


SEEDS = [f"{kind}-study-{seed}" for kind in ("usrc", "us") for seed in range(5)]
for name in ("distillation-nano", "mae-equal", "untrained-nano", *SEEDS):
    model_zoo.register(name)(Trained)
