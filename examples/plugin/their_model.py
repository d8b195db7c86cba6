# A model in one file: ubench run --plugin their_model.py --model theirs ...
import torch

import model_zoo


@model_zoo.register("theirs")
class Theirs(model_zoo.Encoder):
    input_rule = model_zoo.InputRule(size=64)

    def build(self, weights):
        return torch.nn.AvgPool2d(8)  # yours: the network, filled from `weights`

    def _forward(self, x):
        return self.network(x).flatten(1)  # [B, 3, 64, 64] -> [B, 192]
