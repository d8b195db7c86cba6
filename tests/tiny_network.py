"""A small network with blocks, norm layers and maps, to be fine-tuned in tests within a second."""

from __future__ import annotations

from pathlib import Path

# `tiny` has 3 blocks; `no-gradient` goes through numpy; `explodes` gives NaN once it has changed;
# `stops` kills its process at a forward pass in training, as the file `passes` beside it says.
PLUGIN = '''
import os, signal
from pathlib import Path
import torch
from torch import nn
import model_zoo

HERE = Path(__file__).parent

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.norm = nn.BatchNorm2d(8)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.GELU())
                                    for _ in range(3))
        self.drop = nn.Dropout(0.1)
        self.last = nn.LayerNorm(8)

    def maps(self, x):
        x = self.norm(self.stem(x))
        for block in self.blocks:
            x = x + block(x)
        return self.last(self.drop(x).movedim(1, -1)).movedim(-1, 1)

@model_zoo.register("tiny")
class Tiny(model_zoo.Encoder):
    """Random weights, always the same."""
    input_rule = model_zoo.InputRule(size=16, grey=True)

    def build(self, weights):
        return Net()

    def _maps(self, x):
        return [self.network.maps(x)]

    def _forward(self, x):
        return 3 * self.network.maps(x).mean((2, 3))

@model_zoo.register("other")
class Other(Tiny):
    """The same weights, and the largest value of each map."""
    def _forward(self, x):
        return self.network.maps(x).amax((2, 3))

@model_zoo.register("no-gradient")
class NoGradient(Tiny):
    """Its features come back from numpy."""
    def _forward(self, x):
        return torch.from_numpy(super()._forward(x).detach().numpy())

@model_zoo.register("explodes")
class Explodes(Tiny):
    """Finite as long as it is as it was made."""
    def build(self, weights):
        network = super().build(weights)
        self.first = network.stem.weight.detach().clone()
        return network

    def _forward(self, x):
        moved = (self.network.stem.weight - self.first).abs().sum() > 0
        return super()._forward(x) * (float("nan") if moved else 1)

@model_zoo.register("stops")
class Stops(Tiny):
    """Counts its passes with a gradient down, and dies at the last."""
    def _forward(self, x):
        if torch.is_grad_enabled() and self.network.stem.weight.requires_grad:
            left = int((HERE / "passes").read_text())
            (HERE / "passes").write_text(str(left - 1))
            if left == 1:
                os.kill(os.getpid(), signal.SIGKILL)
        return super()._forward(x)
'''


def plugin(folder: Path) -> Path:
    """The plugin file, written into a folder."""
    path = folder / "tiny_plugin.py"
    path.write_text(PLUGIN)
    (folder / "passes").write_text("-1")
    return path
