"""The logistic probe: multinomial regression to convergence, for a grid of costs at once.

What scikit-learn's `LogisticRegression` minimises, by L-BFGS (Liu & Nocedal 1989) on the stacked
weights of all costs: an iteration is two matrix products over the training images.

S is the number of costs, C of classes, D the feature width, N and M the numbers of training and
validation images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

from ultrabench_eval.probes.heads import Head, LinearProbes, ProbeData, Stream, fit_each, one_thread
from ultrabench_eval.probes.probe import Probe
from ultrabench_eval.protocol import Protocol

TOLERANCE = 1e-5  # largest slope of the mean loss at which a cost has converged
ITERATIONS = 2000
_MEMORY = 10  # pairs of steps and slope changes that L-BFGS keeps
_ARMIJO = 1e-4  # part of the promised descent that a step must give
_HALVINGS = 30

Objective = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Values [S] and gradients [S, P] of parameters [S, P]."""


def train(data: ProbeData, draws: Sequence[Stream], protocol: Protocol) -> LinearProbes:
    """Fit a multinomial logistic regression for each subset and cost.

    Nothing is random: seeds differ by their subsets alone. Computed in float64.
    """
    with one_thread():
        return fit_each(draws, lambda stream: _fit(stream, data, protocol))


def _fit(stream: Stream, data: ProbeData, protocol: Protocol) -> LinearProbes:
    scaler, x, y, validation_x, validation_y = data.of(stream, protocol.standardize)
    costs = torch.tensor(protocol.costs, dtype=x.dtype, device=x.device)
    # Centred, which changes the bias alone and lets L-BFGS converge in fewer steps.
    mean = x.mean(0)
    objective = _objective(x - mean, one_hot(y, data.classes).to(x), costs)
    start = x.new_zeros(len(costs), data.classes * (x.shape[1] + 1))
    solution = minimise(objective, start).view(len(costs), data.classes, -1)
    weight, bias = solution[..., :-1], solution[..., -1]
    bias = bias - weight @ mean

    scores = torch.einsum("md,scd->smc", validation_x, weight) + bias.unsqueeze(1)
    likelihood = scores.log_softmax(-1)
    losses = -likelihood[:, torch.arange(len(validation_y)), validation_y].mean(-1)
    weight, bias = scaler.folded(weight, bias)
    return LinearProbes(
        tuple(
            Head(stream.subset, stream.seed, {"cost": cost}, float(loss))
            for cost, loss in zip(protocol.costs, losses, strict=True)
        ),
        weight.to(data.train_x),
        bias.to(data.train_x),
        torch.empty(len(costs), 0),
    )


def _objective(x: Tensor, target: Tensor, costs: Tensor) -> Objective:
    """Mean cross-entropy plus squared norm / (2 N cost); the bias is not penalised."""
    x = pad(x, (0, 1), value=1.0)
    (count, width), classes, heads = x.shape, target.shape[1], len(costs)
    penalty = (1 / (count * costs)).view(-1, 1, 1)

    def objective(parameters: Tensor) -> tuple[Tensor, Tensor]:
        stack = parameters.view(heads, classes, width)
        logits = (x @ stack.flatten(0, 1).T).view(count, heads, classes)
        likelihood = logits.log_softmax(-1)
        loss = -(likelihood * target.unsqueeze(1)).sum(-1).mean(0)
        error = (likelihood.exp() - target.unsqueeze(1)) / count
        slope = (error.view(count, -1).T @ x).view_as(stack)
        shrunk = penalty * stack
        shrunk[..., -1] = 0
        value = loss + (shrunk * stack).sum((1, 2)) / 2
        return value, (slope + shrunk).flatten(1)

    return objective


def minimise(objective: Objective, start: Tensor) -> Tensor:
    """Minima [S, P] of S convex functions, by L-BFGS with steps halved until they descend."""
    at = start
    value, slope = objective(at)
    steps: list[Tensor] = []
    changes: list[Tensor] = []
    for _ in range(ITERATIONS):
        moving = slope.abs().amax(1) > TOLERANCE
        if not moving.any():
            break
        direction = -_inverse_hessian(slope, steps, changes) * moving.unsqueeze(1)
        descent = (direction * slope).sum(1)
        size = torch.ones_like(value)
        if not steps:  # nothing is known of the curvature yet
            size = 1 / slope.norm(dim=1).clamp(min=1)
        for _ in range(_HALVINGS):
            there = at + size.unsqueeze(1) * direction
            new_value, new_slope = objective(there)
            enough = (new_value <= value + _ARMIJO * size * descent) | ~moving
            if enough.all():
                break
            size = torch.where(enough, size, size / 2)
        there = torch.where(enough.unsqueeze(1), there, at)
        new_value = torch.where(enough, new_value, value)
        new_slope = torch.where(enough.unsqueeze(1), new_slope, slope)
        if there.equal(at):  # as low as the arithmetic can tell
            break
        steps, changes = [*steps, there - at][-_MEMORY:], [*changes, new_slope - slope][-_MEMORY:]
        at, value, slope = there, new_value, new_slope
    return at


def _inverse_hessian(slope: Tensor, steps: Sequence[Tensor], changes: Sequence[Tensor]) -> Tensor:
    """The two-loop recursion: the inverse Hessian, as the last steps show it, times the slope."""
    result = slope.clone()
    curvatures = [(s * c).sum(1, keepdim=True) for s, c in zip(steps, changes, strict=True)]
    # A function that did not move says nothing.
    inverse = [torch.where(c > 0, 1 / c, 0.0) for c in curvatures]
    parts = []
    for step, change, one in reversed(list(zip(steps, changes, inverse, strict=True))):
        part = one * (step * result).sum(1, keepdim=True)
        result -= part * change
        parts.append(part)
    if steps:
        length = changes[-1].square().sum(1, keepdim=True)
        result *= torch.where(curvatures[-1] > 0, curvatures[-1] / length, 1.0)
    for step, change, one, part in zip(steps, changes, inverse, reversed(parts), strict=True):
        result += step * (part - one * (change * result).sum(1, keepdim=True))
    return result


PROBE = Probe(
    train,
    uses=lambda protocol: {"costs": protocol.costs},
    tried=lambda protocol: len(protocol.costs),
    seconds=0.1,
)
