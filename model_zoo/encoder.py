"""The encoder contract: a sealed `encode()` around private hooks.

A wrapper author writes `build` and `_forward`; range checks, resizing, normalisation, evaluation
mode and the absence of gradients are done here, so they cannot be forgotten.
B is the batch, D the feature width, N the number of patch tokens.
"""

from __future__ import annotations

import inspect
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self, final

import numpy as np
import torch
from torch import Tensor, nn

from model_zoo.transforms import InputRule
from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError

_SEALED = ("encode", "tokens", "prepare", "encode_prepared", "fingerprint", "train")
RANDOM = "random"  # what `weights` must say, in so many words, to get an untrained network


@dataclass(frozen=True)
class Card:
    """What is known of a model. "not stated" is a fact; an empty guess is not."""

    title: str
    """Name in print."""
    paper: str = "not stated"
    code_licence: str = "not stated"
    weights_licence: str = "not stated"
    weights_from: str = "not stated"
    """Where the weights are had from, for a human to follow."""
    pretraining: str = "not stated"
    """Data sets the weights were trained on, as stated by the authors."""
    note: str = ""
    """What a reader of a table must know, e.g. that it is a control."""


class Encoder(nn.Module):
    """A frozen image encoder.

    Subclasses set `input_rule` and write two methods, `build` and `_forward`; `_tokens` where
    the model has patch tokens. Everything else is sealed.

    Args:
        name: the name it was asked for by.
        weights: checkpoint file or folder, "random", or None for what the model ships with.
        pooling: a name of `poolings`, or None for the model's default (the first one).

    Raises:
        UserError: the checkpoint or the pooling does not fit.
    """

    input_rule: ClassVar[InputRule | None] = None
    patch_size: ClassVar[int | None] = None
    poolings: ClassVar[tuple[str, ...]] = ("default",)
    card: Card = Card("not stated")
    version: ClassVar[str] = "1"
    """Raise it when a change of the wrapper changes features: it is part of the fingerprint."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in _SEALED:
            if name in cls.__dict__:
                raise TypeError(f"{cls.__name__} must not override the sealed Encoder.{name}")

    def __init__(
        self, *, name: str, weights: Path | str | None = None, pooling: str | None = None
    ) -> None:
        super().__init__()
        if pooling is not None and pooling not in self.poolings:
            raise UserError(
                f"model '{name}' has no pooling '{pooling}'; it has {', '.join(self.poolings)}"
            )
        self.name = name
        self.pooling = pooling or self.poolings[0]
        self.random_weights = weights == RANDOM
        self.network = self.build(weights)
        self.requires_grad_(False)
        self.eval()

    # ---- what a wrapper author writes -------------------------------------------------------

    def build(self, weights: Path | str | None) -> nn.Module:
        """Make the network and fill it from `weights`; it becomes `self.network`."""
        raise NotImplementedError(f"{type(self).__name__} must write build(self, weights)")

    def _forward(self, x: Tensor) -> Tensor:
        """Pooled features [B, D] of prepared images `x` [B, 3, S, S]."""
        raise NotImplementedError(f"{type(self).__name__} must write _forward(self, x)")

    def _tokens(self, x: Tensor) -> Tensor:
        """Patch tokens [B, N, D] in raster order, no class token, of prepared images."""
        raise NotImplementedError(f"model '{self.name}' has no patch tokens")

    def _prepare(self, image: np.ndarray | Tensor) -> Tensor:
        """Input of one image; only controls that look at the raw image write their own."""
        if self.input_rule is None:
            raise TypeError(f"{type(self).__name__} must set input_rule")
        return self.input_rule.apply(image)

    # ---- what everyone calls ----------------------------------------------------------------

    @final
    @torch.inference_mode()
    def encode(self, images: Tensor) -> Tensor:
        """Pooled features, float32 [B, D] on the encoder's device.

        Args:
            images: [B, 3, H, W], floating point in [0, 1], any H and W.

        Raises:
            ValueError: wrong shape, type or range.
            UserError: the model gives NaN or infinite values.
        """
        _check_images(images)
        features = self.encode_prepared(torch.stack([self.prepare(image) for image in images]))
        if not torch.isfinite(features).all():
            raise UserError(f"model '{self.name}' gives features that are NaN or infinite")
        return features

    @final
    @torch.inference_mode()
    def tokens(self, images: Tensor) -> Tensor:
        """Patch tokens, float32 [B, N, D] in raster order; arguments as for `encode`.

        Raises:
            NotImplementedError: the model has no patch tokens.
        """
        _check_images(images)
        x = torch.stack([self.prepare(image) for image in images])
        return self._tokens(x.to(self.device, self.dtype)).float()

    @final
    def prepare(self, image: np.ndarray | Tensor) -> Tensor:
        """Resize and normalise one image as the model wants it; float32, usually [3, S, S].

        The harness calls this in its loader threads. `encode(images)` equals
        `encode_prepared` of the stacked results, to the bit.

        Args:
            image: uint8 [H, W, 3], or floating point [3, H, W] in [0, 1].
        """
        return self._prepare(image)

    @final
    @torch.inference_mode()
    def encode_prepared(self, x: Tensor) -> Tensor:
        """Pooled features, float32 [B, D], of stacked `prepare` results; not checked for NaN."""
        features = self._forward(x.to(self.device, self.dtype)).float()
        if features.ndim != 2 or len(features) != len(x):
            raise ValueError(
                f"{type(self).__name__}._forward gave shape {tuple(features.shape)} "
                f"for {len(x)} images; it must give [{len(x)}, D]"
            )
        return features

    @property
    def device(self) -> torch.device:
        parameter = next(self.parameters(), None)
        return torch.device("cpu") if parameter is None else parameter.device

    @property
    def dtype(self) -> torch.dtype:
        parameter = next(self.parameters(), None)
        return torch.float32 if parameter is None else parameter.dtype

    @cached_property
    def dim(self) -> int:
        """Feature width D."""
        blank = np.zeros((32, 32, 3), np.uint8)
        return int(self.encode_prepared(self.prepare(blank)[None]).shape[1])

    @property
    def input_size(self) -> int | None:
        """Side of the square input in pixels; None for a model that takes images as they are."""
        return self.input_rule.size if self.input_rule else None

    @property
    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over weights, preprocessing, pooling and the wrapper itself.

        Equal fingerprints give equal features. The dtype is not part of it: the feature cache
        records it separately.
        """
        return hashing.digest(
            {
                "name": self.name,
                "weights": hashing.digest_tensors(self.state_dict()),
                "input": asdict(self.input_rule) if self.input_rule else None,
                "pooling": self.pooling,
                "wrapper": self._wrapper_identity(),
            }
        )

    def _wrapper_identity(self) -> str:
        """Version of a wrapper of ours; for anyone else's, a hash of the file it stands in.

        An author who edits a plugin and runs again must not get yesterday's features.
        """
        wrapper = type(self)
        if wrapper.__module__.partition(".")[0] == "model_zoo":
            return f"{wrapper.__qualname__} {self.version}"
        source = inspect.getsourcefile(wrapper)
        if source is None:
            raise UserError(f"the source file of {wrapper} is not readable; keep it in a file")
        return hashing.digest_file(Path(source))

    @final
    def train(self, mode: bool = True) -> Self:
        """An encoder is frozen: it stays in evaluation mode whatever `mode` says."""
        return super().train(False)


def _check_images(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ValueError(
            f"images must be floating point [B, 3, H, W]; got {images.dtype} {tuple(images.shape)}"
        )
    low, high = images.amin().item(), images.amax().item()
    if not (0 <= low and high <= 1):
        raise ValueError(f"images must lie in [0, 1]; got values from {low:g} to {high:g}")


__all__ = ["RANDOM", "Card", "Encoder"]
