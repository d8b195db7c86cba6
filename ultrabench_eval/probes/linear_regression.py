"""The linear probe for numbers: `linear`'s stack with the squared error of standardised targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from ultrabench_eval.core.grouping import by_key
from ultrabench_eval.probes import linear
from ultrabench_eval.probes.heads import ProbeData, Stream
from ultrabench_eval.probes.linear import Loss
from ultrabench_eval.probes.number_probes import NumberProbes, in_unit, target_scaler
from ultrabench_eval.probes.probe import Probe, by_gradient, steps_tried
from ultrabench_eval.protocol import Protocol


def _target(y: Tensor, classes: int) -> Tensor:
    return y.unsqueeze(-1)


def _slope(outputs: Tensor, target: Tensor) -> Tensor:
    return 2 * (outputs - target)


def _squared(outputs: Tensor, y: Tensor) -> Tensor:
    return (outputs.squeeze(-1) - y.unsqueeze(-1).to(outputs)).square()


SQUARED = Loss(_target, _slope, _squared)


def train(data: ProbeData, draws: Sequence[Stream], protocol: Protocol) -> NumberProbes:
    """Train linear functions as `linear.fit` trains classifiers, on the mean squared error.

    Targets are standardised by the training images in use, so that a learning rate means the same
    whatever their unit; streams that share these images are trained together.

    Raises:
        UserError: the loss of a head was never finite.
    """
    alike = by_key((id(stream.rows), stream) for stream in draws)
    trained = {}
    for streams in alike.values():
        targets = target_scaler(data, streams[0])
        scaled = replace(
            data,
            train_y=targets(data.train_y.double()),
            validation_y=targets(data.validation_y.double()),
            classes=1,
        )
        for stream, one in linear.by_stream(scaled, streams, protocol, SQUARED).items():
            numbers = in_unit(targets, one.weight.double(), one.bias.double())
            trained[stream] = NumberProbes(one.heads, *numbers, one.history)
    return NumberProbes.joined([trained[stream] for stream in draws])


PROBE = Probe(
    train,
    uses=by_gradient,
    tried=steps_tried,
    predicts="numbers",
    seconds=0.2,
    gives=NumberProbes,
)
