"""What every probe has in common: heads, their choice on validation, and standardised features.

H is the number of heads, C of classes, D the feature width, N and M the numbers of training and
validation images.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import Any, Generic, NamedTuple, Self, TypeVar

import torch
from torch import Tensor

from ultrabench_eval.feature_rows import Features

# Part of the features' root mean square deviation below which a feature is not blown up: in a
# handful of images one may hardly vary by chance.
_LEAST_DEVIATION = 0.01


@dataclass(frozen=True)
class Head:
    """One trained classifier of a stack.

    Args:
        subset: position in `subsets`; 0 without any.
        seed: as asked for.
        setting: what was tried, e.g. {"learning_rate": 0.001, "weight_decay": 0.0001}.
        validation_loss: on validation, by which the setting is chosen; cross-entropy in nats for
            classes.
        best_epoch: epoch (from 0) whose weights were kept; None for a probe without epochs.
    """

    subset: int
    seed: int
    setting: Mapping[str, float]
    validation_loss: float
    best_epoch: int | None = None


@dataclass(frozen=True)
class Probes(ABC):
    """Trained classifiers. Every field of a subclass has one entry for each of the H heads.

    Args:
        heads: what each of them is: subsets x seeds x settings, the last varying fastest.
    """

    heads: tuple[Head, ...]

    @abstractmethod
    def predict(self, x: Any) -> Tensor:
        """What they say of N images, on the CPU, by their features: [N, D], or `Features`.

        By what the probe predicts: "classes", probabilities [H, N, C]; "masks", logits float16
        [H, N, C, h, w] on a grid; "numbers", float64 [H, N].
        """

    def tensors(self) -> dict[str, Tensor]:
        """All of its fields but `heads`, by name, for a file."""
        names = (field.name for field in fields(self) if field.name != "heads")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def restored(cls, heads: tuple[Head, ...], tensors: Mapping[str, Tensor]) -> Self:
        """The probes that gave these `tensors`."""
        return cls(heads, **tensors)

    def of_subset(self, subset: int) -> Self:
        """Only the heads of one subset."""
        return self._only([row for row, head in enumerate(self.heads) if head.subset == subset])

    def chosen(self) -> Self:
        """Only the setting of lowest validation loss of each subset and seed."""
        return self._only(chosen(self.heads))

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """One stack of several."""
        joined: dict[str, Any] = {}
        for name in (field.name for field in fields(cls)):
            columns = [getattr(part, name) for part in parts]
            tensors = isinstance(columns[0], Tensor)
            joined[name] = torch.cat(columns) if tensors else tuple(chain.from_iterable(columns))
        return cls(**joined)

    def _only(self, rows: list[int]) -> Self:
        kept: dict[str, Any] = {}
        for name in (field.name for field in fields(self)):
            column = getattr(self, name)
            tensor = isinstance(column, Tensor)
            kept[name] = column[rows] if tensor else tuple(column[row] for row in rows)
        return type(self)(**kept)


@dataclass(frozen=True)
class LinearProbes(Probes):
    """Linear classifiers, however they were trained.

    Args:
        weight: [H, C, D], on features as the encoder gives them.
        bias: [H, C].
        history: validation loss (nats) after every epoch, [H, E], NaN once a head has stopped;
            E is 0 for a probe without epochs.
    """

    weight: Tensor
    bias: Tensor
    history: Tensor

    def predict(self, x: Tensor) -> Tensor:
        """Class probabilities [H, N, C] of features [N, D]."""
        return torch.baddbmm(
            self.bias.unsqueeze(1), x.expand(len(self.weight), *x.shape), self.weight.mT
        ).softmax(-1)


X = TypeVar("X", Tensor, Features)


@dataclass(frozen=True)
class DataOf(Generic[X]):
    """What probes are trained on: N and M features, what is right for them, and C.

    By what the probe predicts that is: "classes", codes int64 [N]; "numbers", float64 [N]; "masks",
    float32 [N, C, h, w], which part of each place is of which class. What these lack to 1 is
    padding or ignored.
    """

    train_x: X
    train_y: Tensor
    validation_x: X
    validation_y: Tensor
    classes: int

    def of(self: DataOf[Tensor], stream: Stream, standardize: bool) -> Scaled:
        """What a stream uses."""
        x = self.train_x[stream.rows].double()
        scaler = Scaler.of(x) if standardize else Scaler.neutral(x)
        validation = stream.validation_rows
        return Scaled(
            scaler,
            scaler(x),
            self.train_y[stream.rows],
            scaler(self.validation_x[validation].double()),
            self.validation_y[validation],
        )


ProbeData = DataOf[Tensor]
"""Features [N, D] and [M, D]."""
TokenData = DataOf[Features]
"""Tokens [N, T, D] and [M, T, D], of which a batch at a time is read."""


class Scaled(NamedTuple):
    """The images of one stream, float64, standardised if the protocol says so."""

    scaler: Scaler
    x: Tensor
    y: Tensor
    validation_x: Tensor
    validation_y: Tensor


@dataclass(frozen=True, eq=False)
class Stream:
    """The images that one seed uses of one subset.

    Args:
        subset: its position.
        seed: the seed.
        rows: int64 numbers of training images.
        validation_rows: int64 numbers of validation images.
    """

    subset: int
    seed: int
    rows: Tensor
    validation_rows: Tensor

    @property
    def images(self) -> tuple[int, int]:
        """Equal for streams that share their images, as the seeds on all of them do."""
        return id(self.rows), id(self.validation_rows)


def streams(
    count: int,
    validation_count: int,
    seeds: Sequence[int],
    subsets: Sequence[Sequence[Tensor]] | None,
    validation_subsets: Sequence[Sequence[Tensor]] | None,
) -> list[Stream]:
    """Subsets x seeds, the seeds fastest.

    Args:
        count: N.
        validation_count: M.
        seeds: the seeds.
        subsets: rows of the training images in use, one tensor a seed; None is all rows, once.
        validation_subsets: the same of validation; None is all rows for each subset.
    """
    whole = [[torch.arange(count)] * len(seeds)]
    training = whole if subsets is None else subsets
    every = torch.arange(validation_count)
    validation = validation_subsets or [[every] * len(seeds)] * len(training)
    return [
        Stream(subset, seed, *rows)
        for subset, of_seeds in enumerate(zip(training, validation, strict=True))
        for seed, *rows in zip(seeds, *of_seeds, strict=True)
    ]


P = TypeVar("P", bound=Probes)


def fit_each(draws: Sequence[Stream], fit: Callable[[Stream], P]) -> P:
    """Probes without anything random: fitted once for all streams that share their images.

    Args:
        draws: subsets x seeds.
        fit: the probes of one stream, one head a setting.
    """
    known: dict[tuple[int, int], P] = {}
    parts = []
    for stream in draws:
        if stream.images not in known:
            known[stream.images] = fit(stream)
        one = known[stream.images]
        heads = (replace(h, subset=stream.subset, seed=stream.seed) for h in one.heads)
        parts.append(replace(one, heads=tuple(heads)))
    return type(parts[0]).joined(parts)


def chosen(heads: Sequence[Head]) -> list[int]:
    """Positions of the head of lowest validation loss for each (subset, seed), in their order.

    The first one wins a tie.
    """
    best: dict[tuple[int, int], int] = {}
    for place, head in enumerate(heads):
        known = best.setdefault((head.subset, head.seed), place)
        if head.validation_loss < heads[known].validation_loss:
            best[head.subset, head.seed] = place
    return list(best.values())


def at_an_edge(heads: Sequence[Head], picked: Sequence[Head]) -> list[str]:
    """A sentence for each setting that was mostly chosen at an end of its grid.

    Args:
        heads: all that were tried.
        picked: those that were chosen.
    """
    sentences = []
    for name in heads[0].setting if heads else ():
        grid = sorted({head.setting[name] for head in heads})
        values = [head.setting[name] for head in picked]
        for end, word in ((grid[0], "lowest"), (grid[-1], "highest")):
            count = values.count(end)
            if len(grid) > 1 and 2 * count > len(values):
                sentences.append(
                    f"{name.replace('_', ' ')} {end:g} is the {word} of the grid and was chosen "
                    f"{count} times of {len(values)}: a wider grid may do better"
                )
    return sentences


@dataclass(frozen=True)
class Scaler:
    """Mean [D] and deviation [D] by which features are standardised."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def neutral(cls, x: Tensor) -> Scaler:
        """The one that leaves features [N, D] as they are."""
        return cls(torch.zeros_like(x[0]), torch.ones_like(x[0]))

    @classmethod
    def of(cls, x: Tensor) -> Scaler:
        """The one of features [N, D]."""
        return cls.from_moments(x.mean(0), x.std(0, correction=0))

    @classmethod
    def from_moments(cls, mean: Tensor, deviation: Tensor) -> Scaler:
        """The one of features with this mean [D] and deviation [D]."""
        least = _LEAST_DEVIATION * deviation.square().mean().sqrt()
        if least == 0:
            return cls(mean, torch.ones_like(deviation))
        return cls(mean, deviation.clamp(min=least))

    def __call__(self, x: Tensor) -> Tensor:
        """Features [N, D], standardised; the very same where nothing is to be done."""
        if not self.mean.any() and (self.deviation == 1).all():
            return x
        return (x - self.mean) / self.deviation

    def folded(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Weights [..., C, D] and biases [..., C] that do on raw features what these do here."""
        raw = weight / self.deviation
        return raw, bias - raw @ self.mean


@contextmanager
def one_thread() -> Iterator[int]:
    """Sums in one order, whatever the number of cores, which is what is yielded."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)
