"""The ridge probe for numbers: least squares with a penalty, in closed form.

One decomposition of a subset's features serves every penalty (`ridge.solutions`). P is the number
of penalties, D the feature width, M of validation images.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ultrabench_eval.probes import ridge
from ultrabench_eval.probes.heads import Head, ProbeData, Stream, fit_each
from ultrabench_eval.probes.number_probes import NumberProbes, in_unit, target_scaler
from ultrabench_eval.probes.probe import Probe
from ultrabench_eval.protocol import Protocol


def train(data: ProbeData, draws: Sequence[Stream], protocol: Protocol) -> NumberProbes:
    """Fit a ridge regression (Hoerl & Kennard 1970) for each subset and penalty.

    Minimises the mean squared error of the targets, standardised by the training images in use,
    plus penalty x mean variance of the features x squared norm. Nothing is random: seeds differ by
    their subsets alone. Computed in float64.
    """
    return fit_each(draws, lambda stream: _fit(stream, data, protocol))


def _fit(stream: Stream, data: ProbeData, protocol: Protocol) -> NumberProbes:
    scaler, x, y, validation_x, validation_y = data.of(stream, protocol.standardize)
    targets = target_scaler(data, stream)
    weight, bias = ridge.fitted(x, targets(y.double().unsqueeze(1)), protocol.penalties)
    found = validation_x @ weight[:, 0].mT + bias[:, 0]  # [M, P]
    losses = (found - targets(validation_y.double().unsqueeze(1))).square().mean(0)
    return NumberProbes(
        tuple(
            Head(stream.subset, stream.seed, {"penalty": penalty}, float(loss))
            for penalty, loss in zip(protocol.penalties, losses, strict=True)
        ),
        *in_unit(targets, *scaler.folded(weight, bias)),
        torch.empty(len(losses), 0),
    )


PROBE = Probe(
    train,
    uses=ridge.PROBE.uses,
    tried=ridge.PROBE.tried,
    predicts="numbers",
    seconds=0.01,
    gives=NumberProbes,
)
