"""The logistic probe: multinomial regression to convergence, for a grid of costs at once.

What scikit-learn's `LogisticRegression` minimises, by L-BFGS (Liu & Nocedal 1989) on the stacked
weights of all costs: an iteration is two matrix products over the training images. Features are
turned to their principal axes first, where the curvature at the start is known and nearly diagonal,
and every step is divided by it: features of very different spread cost no more steps than others.

S is the number of costs, C of classes, D the feature width, K of axes (D, or N if that
is far less), N and M the numbers of training and validation images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

from ultrabench_eval.probes.heads import Head, LinearProbes, ProbeData, Stream, fit_each, one_thread
from ultrabench_eval.probes.probe import Probe
from ultrabench_eval.protocol import Protocol

TOLERANCE = 1e-5
"""A cost has converged when `_MEMORY` steps together lower its objective by less than this part of
it. What one step promises says too little where classes come apart and curvature fades."""
ITERATIONS = 2000
_MEMORY = 10  # pairs of steps and slope changes that L-BFGS keeps
_ARMIJO = 1e-4  # part of the promised descent that a step must give
_HALVINGS = 30

Objective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Values [S] and slopes [S, P] of parameters [S, P], for penalties [S]."""


def train(data: ProbeData, draws: Sequence[Stream], protocol: Protocol) -> LinearProbes:
    """Fit a multinomial logistic regression for each subset and cost.

    Nothing is random: seeds differ by their subsets alone. Computed in float64.
    """
    with one_thread():
        return fit_each(draws, lambda stream: _fit(stream, data, protocol))


def _fit(stream: Stream, data: ProbeData, protocol: Protocol) -> LinearProbes:
    scaler, x, y, validation_x, validation_y = data.of(stream, protocol.standardize)
    costs = torch.tensor(protocol.costs, dtype=x.dtype, device=x.device)
    mean = x.mean(0)  # centring changes the bias alone
    weight, bias = solve(x - mean, one_hot(y, data.classes).to(x), 1 / (len(x) * costs))
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


def solve(x: Tensor, target: Tensor, penalties: Tensor) -> tuple[Tensor, Tensor]:
    """Minimise mean cross-entropy + penalty / 2 x squared norm of the weights.

    Args:
        x: centred features, float64 [N, D].
        target: one-hot classes [N, C].
        penalties: [S].

    Returns:
        Weights [S, C, D] and biases [S, C].
    """
    (count, width), classes = x.shape, target.shape[1]
    back = None
    if 2 * count < width:  # weights lie in the space that the images span
        back, rest = torch.linalg.qr(x.T)
        x = rest.T
    spread, axes = torch.linalg.eigh(x.T @ x)
    x = pad(x @ axes, (0, 1), value=1.0)
    # A class that no image has gets a bias too, low and finite.
    share = (target.sum(0) + 0.5) / (count + classes / 2)
    curvature = (share * (1 - share)).unsqueeze(1) * pad(
        spread.clamp(min=0) / count, (0, 1), value=1.0
    )
    inverse = 1 / (curvature + pad(penalties.view(-1, 1, 1).expand(-1, 1, x.shape[1] - 1), (0, 1)))
    start = x.new_zeros(len(penalties), classes, x.shape[1])
    start[..., -1] = share.log()
    found = minimise(_objective(x, target), start.flatten(1), penalties, inverse.flatten(1))
    found = found.view_as(start)
    weight = found[..., :-1] @ axes.T
    return weight if back is None else weight @ back.T, found[..., -1]


def _objective(x: Tensor, target: Tensor) -> Objective:
    """Of features [N, K] whose last is 1, that of the bias, which is not penalised."""
    (count, width), classes = x.shape, target.shape[1]
    target = target.unsqueeze(1)

    def objective(parameters: Tensor, penalties: Tensor) -> tuple[Tensor, Tensor]:
        stack = parameters.view(len(penalties), classes, width)
        logits = (x @ stack.flatten(0, 1).T).view(count, -1, classes)
        likelihood = logits.log_softmax(-1)
        loss = -(likelihood * target).sum(-1).mean(0)
        error = (likelihood.exp() - target) / count
        slope = (error.view(count, -1).T @ x).view_as(stack)
        shrunk = penalties.view(-1, 1, 1) * stack
        shrunk[..., -1] = 0
        value = loss + (shrunk * stack).sum((1, 2)) / 2
        return value, (slope + shrunk).flatten(1)

    return objective


def minimise(objective: Objective, start: Tensor, penalties: Tensor, inverse: Tensor) -> Tensor:
    """Minima [S, P] of S convex functions, by L-BFGS with steps halved until they descend.

    Args:
        objective: the functions.
        start: where to begin, [S, P].
        penalties: that of each function, [S].
        inverse: roughly the inverse of each one's second derivatives, [S, P].
    """
    found, left = start.clone(), torch.arange(len(start), device=start.device)
    at = start
    value, slope = objective(at, penalties)
    steps: list[Tensor] = []
    changes: list[Tensor] = []
    before: list[Tensor] = []  # values
    for _ in range(ITERATIONS):
        direction = -_inverse_hessian(slope, inverse, steps, changes)
        descent = (direction * slope).sum(1)
        found[left] = at
        moving = torch.ones_like(left, dtype=torch.bool)
        if len(before) == _MEMORY:
            moving = before[0] - value > TOLERANCE * value
        if not moving.any():
            break
        if not moving.all():
            left, at, value, slope = left[moving], at[moving], value[moving], slope[moving]
            penalties, inverse = penalties[moving], inverse[moving]
            direction, descent = direction[moving], descent[moving]
            steps, changes, before = (
                [one[moving] for one in all_] for all_ in (steps, changes, before)
            )
        size = torch.ones_like(value)
        for _ in range(_HALVINGS):
            there = at + size.unsqueeze(1) * direction
            new_value, new_slope = objective(there, penalties)
            enough = new_value <= value + _ARMIJO * size * descent
            if enough.all():
                break
            size = torch.where(enough, size, size / 2)
        there = torch.where(enough.unsqueeze(1), there, at)
        new_value = torch.where(enough, new_value, value)
        new_slope = torch.where(enough.unsqueeze(1), new_slope, slope)
        if there.equal(at):  # as low as the arithmetic can tell
            break
        steps, changes = [*steps, there - at][-_MEMORY:], [*changes, new_slope - slope][-_MEMORY:]
        before = [*before, value][-_MEMORY:]
        at, value, slope = there, new_value, new_slope
    found[left] = at
    return found


def _inverse_hessian(
    slope: Tensor, inverse: Tensor, steps: Sequence[Tensor], changes: Sequence[Tensor]
) -> Tensor:
    """The two-loop recursion: the inverse Hessian, as the last steps show it, times the slope."""
    result = slope.clone()
    curvatures = [(s * c).sum(1, keepdim=True) for s, c in zip(steps, changes, strict=True)]
    # A function that did not move says nothing.
    ones = [torch.where(c > 0, 1 / c, 0.0) for c in curvatures]
    parts = []
    for step, change, one in reversed(list(zip(steps, changes, ones, strict=True))):
        part = one * (step * result).sum(1, keepdim=True)
        result -= part * change
        parts.append(part)
    result *= inverse
    if steps:
        length = (changes[-1].square() * inverse).sum(1, keepdim=True)
        result *= torch.where(curvatures[-1] > 0, curvatures[-1] / length, 1.0)
    for step, change, one, part in zip(steps, changes, ones, reversed(parts), strict=True):
        result += step * (part - one * (change * result).sum(1, keepdim=True))
    return result


PROBE = Probe(
    train,
    uses=lambda protocol: {"costs": protocol.costs, "tolerance": TOLERANCE},
    tried=lambda protocol: len(protocol.costs),
    seconds=0.1,
)
