"""The ridge probe: least squares on class indicators, in closed form; an instant preview.

One decomposition of a subset's features serves every penalty. N is the number of training images,
M of validation, D the feature width, C the number of classes, P of penalties, V of sharpnesses.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ultrabench_eval.probes.heads import Head, LinearProbes, ProbeData, Stream, fit_each
from ultrabench_eval.probes.probe import Probe
from ultrabench_eval.protocol import Protocol

# Scores are about 0 or 1; softmax of a multiple of them is a probability. The multiple is the one
# of lowest validation loss.
_SHARPNESS = torch.logspace(-1, 2, 31, dtype=torch.float64)


def train(data: ProbeData, draws: Sequence[Stream], protocol: Protocol) -> LinearProbes:
    """Fit a ridge regression (Hoerl & Kennard 1970) for each subset and penalty.

    Minimises the mean squared error of the class indicators plus penalty x mean variance x
    squared norm; the mean is not penalised. Nothing is random: seeds differ by their subsets
    alone. Computed in float64.
    """
    return fit_each(draws, lambda stream: _fit(stream, data, protocol))


def _fit(stream: Stream, data: ProbeData, protocol: Protocol) -> LinearProbes:
    scaler, x, y, validation_x, validation_y = data.of(stream, protocol.standardize)
    weight, bias = fitted(x, one_hot(y, data.classes).double(), protocol.penalties)

    # Classes first, because sums along a last dimension of a few numbers are many times slower.
    scores = torch.einsum("md,pcd->cpm", validation_x, weight) + bias.T.unsqueeze(-1)
    right = scores.gather(0, validation_y.expand(1, *scores.shape[1:])).squeeze(0)
    losses = [((scores * s).logsumexp(0) - right * s).mean(-1) for s in _SHARPNESS.tolist()]
    loss, place = torch.stack(losses).min(0)  # of [V, P]
    sharpness = _SHARPNESS.to(place.device)[place]
    weight, bias = scaler.folded(weight, bias)
    return LinearProbes(
        tuple(
            Head(stream.subset, stream.seed, {"penalty": penalty}, float(value))
            for penalty, value in zip(protocol.penalties, loss, strict=True)
        ),
        (weight * sharpness.view(-1, 1, 1)).to(data.train_x),
        (bias * sharpness.view(-1, 1)).to(data.train_x),
        torch.empty(len(loss), 0),
    )


def fitted(x: Tensor, target: Tensor, penalties: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Weights [P, C, D] and biases [P, C] for features [N, D] and targets [N, C].

    The means are not penalised.
    """
    mean, target_mean = x.mean(0), target.mean(0)
    tried = torch.tensor(penalties, dtype=torch.float64, device=x.device)
    weight = solutions(x - mean, target - target_mean, tried)
    return weight, target_mean - weight @ mean


def solutions(x: Tensor, target: Tensor, penalties: Tensor) -> Tensor:
    """Weights [P, C, D] for centred features [N, D] and targets [N, C].

    The matrix that is decomposed is the smaller one of D x D and N x N.
    """
    count, width = x.shape
    penalties = penalties * x.square().mean()  # the mean variance, because x is centred
    penalties = penalties.clamp(min=torch.finfo(x.dtype).tiny)  # of constant features
    dual = count < width
    values, vectors = torch.linalg.eigh((x @ x.T if dual else x.T @ x) / count)
    right = vectors.T @ (target if dual else x.T @ target) / count
    solved = right / (values.clamp(min=0).unsqueeze(-1) + penalties.view(-1, 1, 1))
    weight: Tensor = vectors @ solved  # [P, D or N, C]
    return (x.T @ weight if dual else weight).mT


PROBE = Probe(
    train,
    uses=lambda protocol: {"penalties": protocol.penalties},
    tried=lambda protocol: len(protocol.penalties),
    seconds=0.01,
)
