"""What the network's own numbers say: layers that were never trained, heads, and the input that
its batch normalisations remember."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from model_zoo.encoder import Encoder
from model_zoo.forensics.clues import Clue
from model_zoo.forensics.given import NORMALISATIONS, Enough
from model_zoo.transforms import InputRule

# ---- layers at their initial values ------------------------------------------------------------

SMALLEST = 200  # numbers in a matrix that can be judged
INDEPENDENT = 5.0  # standard deviations from what independent draws would give
_NORMS = (nn.LayerNorm, nn.BatchNorm2d, nn.GroupNorm)


def untrained(encoder: Encoder, ran: set[str]) -> list[Clue]:
    """Layers that look as they were made, in a network whose others do not.

    A matrix that was never trained is independent draws: its rows and columns are of one length up
    to chance, its values normal or uniform, its largest singular value where the law of Marchenko
    and Pastur has its edge. Training leaves none of that. A norm that was never trained holds ones
    and zeros.

    Args:
        encoder: any.
        ran: names of the modules that took part in a forward pass.
    """
    fresh: list[str] = []
    trained: list[str] = []
    for name, tensor in encoder.named_parameters():
        if name.rpartition(".")[0] in ran and _is_matrix(tensor):
            (fresh if is_independent(tensor.detach()) else trained).append(name)
    plain: list[str] = []
    filled: list[str] = []
    blank: list[str] = []
    for name, module in encoder.named_modules():
        if name in ran and isinstance(module, _NORMS):
            if module.weight is not None:
                constant = _is(module.weight, 1) and (module.bias is None or _is(module.bias, 0))
                (plain if constant else filled).append(name)
            mean = getattr(module, "running_mean", None)
            if mean is not None and _is(mean, 0) and _is(module.running_var, 1):
                blank.append(name)
    judged = len(fresh) + len(trained)
    if encoder.random_weights or not judged:
        return []
    if len(trained) < judged / 5:
        if (plain or blank) and not filled:
            return [_untrained("the whole network looks as it was made", "certain")]
        return []  # numbers by a rule, as in tests, or too few matrices to compare with
    clues = []
    if fresh:
        saw = f"{len(fresh)} of {judged} matrices look like independent draws ({_listed(fresh)})"
        clues.append(_untrained(saw, "certain" if len(fresh) > 1 else "likely"))
    if blank:
        saw = f"the running mean and variance of {len(blank)} batch norms are 0 and 1"
        clues.append(_untrained(f"{saw} ({_listed(blank)})", "certain"))
    norms = len(plain) + len(filled)
    if plain and len(plain) > max(1, norms / 20):
        saw = f"the weights of {len(plain)} of {norms} norms are all 1, their biases all 0"
        clues.append(_untrained(f"{saw} ({_listed(plain)})", "likely"))
    return clues


def _untrained(saw: str, sure: Any) -> Clue:
    return Clue(
        "initial-values",
        saw,
        sure,
        "compare the checkpoint's keys with the network's, and load it by model_zoo.fill, which "
        "refuses a file that leaves a layer out",
    )


def _is(tensor: Any, value: float) -> bool:
    return bool((tensor == value).all())


def _is_matrix(tensor: Tensor) -> bool:
    rows, columns = _as_matrix(tensor).shape
    return tensor.ndim > 1 and tensor.numel() >= SMALLEST and rows > 3 and columns > 3


def _as_matrix(tensor: Tensor) -> Tensor:
    while tensor.ndim > 2 and tensor.shape[0] == 1:  # a table of positions
        tensor = tensor[0]
    return tensor.flatten(1) if tensor.ndim > 1 else tensor[None]


def is_independent(tensor: Tensor) -> bool:
    """Whether a matrix looks like draws of one law, independent of each other."""
    matrix = _as_matrix(tensor).double()
    rows, columns = matrix.shape
    square = matrix.square()
    power = square.mean()
    if power == 0 or (spread := (square - power).square().mean()) == 0:
        return False
    scores = []
    for size, across, sums, squares in (
        (rows, columns, matrix.sum(1), square.sum(1)),
        (columns, rows, matrix.sum(0), square.sum(0)),
    ):
        scores.append((squares.var() / (across * spread) - 1) / (2 / (size - 1)) ** 0.5)
        scores.append((sums.square().mean() / (across * power) - 1) * (size / 2) ** 0.5)
    if max(map(float, scores)) > INDEPENDENT:
        return False
    centred = matrix - matrix.mean()
    kurtosis = float(centred.pow(4).mean() / centred.square().mean() ** 2 - 3)
    allowed = INDEPENDENT * (24 / matrix.numel()) ** 0.5 + 0.03
    # Normal, uniform, and normal cut at two deviations.
    if min(abs(kurtosis - law) for law in (0.0, -1.2, -0.63)) > allowed:
        return False
    edge = power.sqrt() * (rows**0.5 + columns**0.5)
    return bool(_largest(matrix) < edge * (1 + 1.5 / min(rows, columns) ** (2 / 3)))


def _largest(matrix: Tensor) -> Tensor:
    """The largest singular value, from below, by 30 steps of the power method."""
    vector = torch.ones(matrix.shape[1], dtype=matrix.dtype)
    for _ in range(30):
        vector = matrix.T @ (matrix @ vector)
        vector = vector / vector.norm()
    largest: Tensor = (matrix @ vector).norm()  # type: ignore[no-untyped-call]
    return largest


def _listed(names: Sequence[str]) -> str:
    short = [name.removeprefix("network.") for name in names]
    return ", ".join(short[:3]) + (f" and {len(short) - 3} more" if len(short) > 3 else "")


# ---- heads -------------------------------------------------------------------------------------

NARROWEST, PENALTY, MARGIN = 8, 2.5, 50.0


_PARTS = ("query", "q_proj", "q"), ("key", "k_proj", "k"), ("value", "v_proj", "v")


class _Attention(NamedTuple):
    heads: int
    rows: np.ndarray
    """[kinds, width]: log lengths of the rows of query, key and value, and columns of the output
    projection."""


def heads(encoder: Encoder) -> list[Clue]:
    """Whether attention was trained with another number of heads.

    Rows of one head share their scale: a head matters more or less as a whole. The number of groups
    of neighbouring rows that explains the rows' lengths best is that of the heads (analysis of
    variance, penalised by the number of groups).
    """
    found: dict[tuple[int, int], list[np.ndarray]] = {}
    for one in _attentions(encoder):
        found.setdefault((one.heads, one.rows.shape[1]), []).append(one.rows)
    clues = []
    for (stated, width), layers in found.items():
        gains = {n: _gain(layers, n) for n in range(2, width // NARROWEST + 1) if width % n == 0}
        gains[stated] = _gain(layers, stated)
        best = max(gains, key=gains.__getitem__)
        if min(gains[best], gains[best] - gains[stated]) > MARGIN:
            saw = (
                f"attention of width {width} is run with {stated} heads, but its weights fall into "
                f"{best} groups (score {gains[best]:.0f}, of {stated}: {gains[stated]:.0f})"
            )
            clues.append(
                Clue(
                    "heads",
                    saw,
                    "likely",
                    f"make the network with {best} heads (a key list "
                    "cannot tell: all numbers of heads have the same keys)",
                )
            )
    return clues[:1]


def _gain(layers: Sequence[np.ndarray], groups: int) -> float:
    """By how much groups of neighbours explain rows better than none do."""
    total = 0.0
    for layer in layers:
        for rows in layer:
            split = rows.reshape(groups, -1)
            within = ((split - split.mean(1, keepdims=True)) ** 2).sum()
            whole = ((rows - rows.mean()) ** 2).sum()
            if whole > 0 and within > 0:
                total += len(rows) * np.log(whole / within) - PENALTY * (groups - 1)
    return float(total)


def _attentions(encoder: Encoder) -> Iterator[_Attention]:
    for module in encoder.modules():
        name = next(
            (
                name
                for name in ("heads", "num_heads", "num_attention_heads", "n_heads")
                if isinstance(getattr(module, name, None), int)
            ),
            None,
        )
        if name is None:
            continue
        stated = int(getattr(module, name))
        children = dict(module.named_children())
        whole = _weight(children.get("qkv")) if "qkv" in children else None
        if whole is None and isinstance(getattr(module, "in_proj_weight", None), Tensor):
            whole = module.in_proj_weight.detach()  # type: ignore[union-attr,operator]
        parts: list[Tensor] = []
        if whole is not None and whole.shape[0] == 3 * whole.shape[1]:
            parts = list(whole.chunk(3))
        else:
            for names in (
                ("query", "q_proj", "q"),
                ("key", "k_proj", "k"),
                ("value", "v_proj", "v"),
            ):
                one = next((_weight(children[n]) for n in names if n in children), None)
                if one is not None:
                    parts.append(one)
        if len(parts) != 3 or len({len(part) for part in parts}) != 1:
            continue
        rows = [part.double().norm(dim=1) for part in parts]
        out = next((_weight(children[n]) for n in ("proj", "out_proj") if n in children), None)
        if out is not None and out.ndim == 2 and out.shape[1] == len(parts[0]):
            rows.append(out.double().norm(dim=0))
        stacked = torch.stack(rows).clamp(min=1e-12).log().numpy()
        if stated > 0 and stacked.shape[1] % stated == 0:
            yield _Attention(stated, stacked)


def _weight(module: nn.Module | None) -> Tensor | None:
    weight = getattr(module, "weight", None)
    return weight.detach() if isinstance(weight, Tensor) and weight.ndim == 2 else None


# ---- the input that batch normalisation remembers ----------------------------------------------

FITS, SPEAKS, BETTER = 0.15, 0.1, 3.0


def remembered(encoder: Encoder, kinds: Sequence[Sequence[np.ndarray]]) -> list[Clue]:
    """Whether the first batch norm would be happier with another normalisation.

    It keeps mean and variance of what it saw in training. The divergence of what it sees now from
    that (of two normal laws, the median over channels) is small for the right input: 0.01 for a
    network of photographs and images like them, 0.4 and more with another usual normalisation.

    Args:
        encoder: any.
        kinds: images like photographs, and like ultrasound: the network may know either.
    """
    rule = encoder.input_rule
    if rule is None or not any(_remembers(one) for one in encoder.modules()):
        return []
    inputs = [[encoder.prepare(image) for image in images] for images in kinds]
    if any(x.ndim != 3 or x.shape[0] != 3 for kind in inputs for x in kind):
        return []

    def divergence(change: Callable[[Tensor], Tensor]) -> float:
        return min(_divergence(encoder, [change(x) for x in kind]) for kind in inputs)

    now = divergence(lambda x: x)
    others = {name: divergence(change) for name, change in _alternatives(rule).items()}
    best = min(others, key=others.__getitem__)
    if now > SPEAKS and others[best] < min(FITS, now / BETTER):
        family = _family(best, rule)
        saw = (
            f"what reaches the first batch norm diverges by {now:.2g} from what it remembers of "
            f"its training; with {best} it would be {others[best]:.2g}"
        )
        return [
            Clue(family, saw, "likely", f"look up how it was trained, and give input_rule {best}")
        ]
    swapped = divergence(lambda x: _swapped(x, rule))
    if now > 1.5 * swapped and swapped < SPEAKS / 2:
        saw = (
            f"the first batch norm remembers colours in another order: it diverges by {now:.2g}, "
            f"and by {swapped:.2g} with red and blue exchanged"
        )
        change = "find out whether it was trained on BGR (OpenCV's order), and flip once if so"
        return [Clue("channel-order", saw, "likely", change)]
    if now > 1:
        saw = (
            f"what reaches the first batch norm diverges by {now:.2g} from what it remembers, and "
            "no usual normalisation fits better than three times"
        )
        return [Clue("normalisation-other", saw, "unsure", "look up how it was trained")]
    return []


def _remembers(module: nn.Module) -> bool:
    mean = getattr(module, "running_mean", None)
    return isinstance(module, nn.BatchNorm2d) and mean is not None and not _is(mean, 0)


def _alternatives(rule: InputRule) -> dict[str, Callable[[Tensor], Tensor]]:
    """By their names, what makes another input of the rule's."""
    mean, std = _column(rule.mean), _column(rule.std)

    def by(m: Sequence[float], s: Sequence[float], scale: float) -> Callable[[Tensor], Tensor]:
        return lambda x: (scale * (x * std + mean) - _column(m)) / _column(s)

    made = {}
    for name, (m, s) in NORMALISATIONS.items():
        words = "no normalisation (mean 0, std 1)" if name == "none" else f"{name} mean and std"
        made[re.sub(r"^0.5 and 0.5 mean and std", "mean 0.5 and std 0.5", words)] = by(m, s, 1)
    made["pixels of 0 to 255"] = by((0,) * 3, (1,) * 3, 255)
    return made


def _family(best: str, rule: InputRule) -> str:
    if "255" in best:
        return "value-range"
    plain = not any(rule.mean) and set(rule.std) == {1.0}
    return "normalisation-missing" if plain else "normalisation-other"


def _swapped(x: Tensor, rule: InputRule) -> Tensor:
    mean, std = _column(rule.mean), _column(rule.std)
    return ((x * std + mean).flip(0) - mean) / std


def _column(values: Sequence[float]) -> Tensor:
    return torch.tensor(values).view(3, 1, 1)


def _divergence(encoder: Encoder, inputs: Sequence[Tensor]) -> float:
    """Of what the first batch norm sees from what it remembers, the median over channels."""
    seen: list[Any] = []

    def look(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        x = arguments[0].detach().double()
        seen.append((module, x.mean((0, 2, 3)), x.square().mean((0, 2, 3))))
        raise Enough

    norms = [module for module in encoder.modules() if _remembers(module)]
    watched = [module.register_forward_pre_hook(look) for module in norms]
    try:
        for x in inputs:
            with suppress(Enough):
                encoder.encode_prepared(x[None])
    finally:
        for hook in watched:
            hook.remove()
    if not seen:
        return float("inf")
    module = seen[0][0]
    mean = torch.stack([one[1] for one in seen]).mean(0)
    variance = torch.stack([one[2] for one in seen]).mean(0) - mean.square() + module.eps
    kept = module.running_var.double() + module.eps
    ratio = variance.clamp(min=1e-12) / kept
    away = (mean - module.running_mean.double()).square() / kept
    return float((0.5 * (ratio + away - 1 - ratio.log())).median())
