"""Three models that only this comparison needs: `--plugin results/nano/models.py`."""

import torch

import model_zoo
from model_zoo.efficientnet_lite import Lite0
from model_zoo.students import Student
from usjepa import config

LAYERS = config.load("us_jepa_nano").teacher.layers


@model_zoo.register("salt-targets")
class SaltTargets(Lite0):
    """What the nano students are taught: features [B, 304].

    The mean over each of the teacher's two maps (EfficientNet-Lite0, `teacher.layers` of
    `us_jepa_nano`), side by side, of images prepared as in training.
    """

    input_rule = model_zoo.InputRule(
        224, Lite0.input_rule.mean, Lite0.input_rule.std, grey=True, stretch=(2, 98)
    )

    def _forward(self, x):
        pooled = {name: [] for name in LAYERS}
        handles = [
            self.network.get_submodule(name).register_forward_hook(
                lambda _, __, output, name=name: pooled[name].append(output.mean((2, 3)))
            )
            for name in LAYERS
        ]
        super()._forward(x)
        for handle in handles:
            handle.remove()
        return torch.cat([torch.cat(pooled[name]) for name in LAYERS], dim=1)


@model_zoo.register("us-jepa-nano-from-mae")
class FromMAE(Student):
    """As us-jepa-nano, but taught by mae-nano: `--weights NAME=RUN`."""


@model_zoo.register("usrc-jepa-nano-from-mae")
class FromMAEWithRegions(Student):
    """As usrc-jepa-nano, but taught by mae-nano: `--weights NAME=RUN`."""
