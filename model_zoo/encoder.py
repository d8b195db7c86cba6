"""The encoder contract: sealed `encode()`, `tokens()` and `maps()` around private hooks.

A wrapper author writes `build` and `_forward`; range checks, resizing, normalisation, evaluation
mode and the absence of gradients are done here, so they cannot be forgotten.
B is the batch, D the feature width, N the number of patch tokens, h and w the sides of a map, T
the frames of a clip.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, final

import numpy as np
import torch
from torch import Tensor, nn

from model_zoo import code_identity, executed
from model_zoo.behaviour import Behaviour
from model_zoo.cards import Card
from model_zoo.checkpoints import files as checkpoints
from model_zoo.clip_rule import ClipRule
from model_zoo.transforms import InputRule
from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError

if TYPE_CHECKING:
    from model_zoo.unfrozen import Unfrozen

_SEALED = (
    *("encode", "tokens", "maps", "prepare", "encode_prepared", "shown", "fingerprint", "train"),
    "unfrozen",
)
RANDOM = "random"  # what `weights` must say explicitly to get an untrained network


class Encoder(nn.Module):
    """A frozen encoder of images, or of clips: videos of T frames.

    Subclasses set `input_rule` and write two methods, `build` and `_forward`; `_tokens` where
    the model has patch tokens, `_maps` where it has maps that are not those tokens. Everything
    else is sealed, but `extent`, for a model that pads images itself. `build` may set `input_rule`,
    `patch_size` and `card` on the instance where they depend on the name.

    An encoder of clips says `takes = "clip"` and has a `clip_rule`. What is [B, 3, S, S] of images
    is [B, T, 3, S, S] of clips, everywhere; its tokens come time step by time step.

    Args:
        name: the name it was asked for by.
        weights: checkpoint file or folder, "random", or None for what the model ships with.
        pooling: a name of `poolings`, or None for the model's default (the first one).

    Raises:
        UserError: the checkpoint or the pooling does not fit.
    """

    input_rule: InputRule | None = None
    """How an image becomes the input; of clips, each of its frames."""
    takes: ClassVar[Literal["image", "clip"]] = "image"
    clip_rule: ClipRule | None = None
    """Which frames of a video are looked at; of encoders of clips."""
    tubelet: int = 1
    """Frames of one time step of the tokens; of encoders of clips."""
    patch_size: int | None = None
    """Side of a square patch in input pixels; None without patch tokens on an exact grid."""
    poolings: ClassVar[tuple[str, ...]] = ("default",)
    batch_size: ClassVar[int] = 32
    """Images that the harness encodes at once; fewer where an image takes much memory."""
    card: Card = Card("not stated")
    reduced: bool = False
    """Whether `dtype="auto"` may mean bfloat16: true where that is faster and was tried."""
    compiled: bool = False
    weights_file: Path | None = None
    """The file that `build` filled the network from, if it was one; of several, their index."""
    filled: tuple[str | None, str | None] | None = None
    """Which part of that file was used, and by what layout, where that is known."""
    dropped: tuple[str, ...] = ()
    """Parts of that file that the network does not use, such as "head (2 tensors)"."""
    assumed: tuple[str, ...] = ()
    """What decides the features and was not in the file of weights, a part of a sentence each, such
    as "12 attention heads"; of models whose wrapper is general."""
    used: int | None = None
    """How many of the network's tensors are from the file, where `assumed` is known."""
    behaviour: Behaviour | None = None
    """What it gave for the probe images when it was loaded."""
    executed_from: ClassVar[str | None] = None
    """SHA-256 of the source that a user's class was executed from, if that is in a file."""
    version: ClassVar[str] = "1"
    """Raise it when a change of the wrapper changes features: it is part of the fingerprint."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.executed_from = executed.digest(cls.__module__)
        for name in _SEALED:
            # By identity, so that a mixin in front of Encoder cannot override it either.
            if getattr(cls, name) is not getattr(Encoder, name):
                raise TypeError(f"{cls.__name__} must not override the sealed Encoder.{name}")
        if (cls.takes == "clip") != (cls.clip_rule is not None):
            raise TypeError(f"{cls.__name__} must say takes = 'clip' and set clip_rule, or neither")

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
        self._given = self._content(weights)
        with _own_generator(), checkpoints.listening() as told:
            self.network = self.build(weights)
        if self._content(weights) != self._given:
            raise UserError(
                f"the weights of model '{name}' ({weights}) changed while they were being read; "
                "run again when they are complete"
            )
        self._read = told.read
        self.dropped = tuple(dict.fromkeys((*self.dropped, *told.dropped)))
        if self.weights_file is None and len(told.filled) == 1:
            self.weights_file = told.filled[0].path
        if self.filled is None and len(told.filled) == 1:
            self.filled = told.filled[0].entry or None, None
        self.requires_grad_(False)
        self.eval()

    # ---- what a wrapper author writes -------------------------------------------------------

    def build(self, weights: Path | str | None) -> nn.Module:
        """Make the network and fill it from `weights`; it becomes `self.network`.

        torch's CPU generator is seeded with 0 meanwhile and put back afterwards, so an untrained
        network is the same in every run and loading a model shifts nobody else's draws.
        """
        raise NotImplementedError(f"{type(self).__name__} must write build(self, weights)")

    def _forward(self, x: Tensor) -> Tensor:
        """Pooled features [B, D] of prepared images `x` [B, 3, S, S], or clips [B, T, 3, S, S]."""
        raise NotImplementedError(f"{type(self).__name__} must write _forward(self, x)")

    def _tokens(self, x: Tensor) -> Tensor:
        """Patch tokens [B, N, D] in raster order, no class token, of prepared images.

        Of clips time step by time step: N is steps x rows x columns.
        """
        raise NotImplementedError(f"model '{self.name}' has no patch tokens")

    def _maps(self, x: Tensor) -> list[Tensor]:
        """Feature maps [B, D, h, w] of prepared images, the finest first; by default one, of
        `_tokens`. Of clips, those of all time steps: [B, steps, D, h, w]."""
        try:
            tokens = self._tokens(x)
        except NotImplementedError as error:
            raise NotImplementedError(f"model '{self.name}' has no feature maps") from error
        if self.takes == "image":
            return [self._grid(tokens, x)]
        if tokens.shape[1] % self.steps:
            raise ValueError(
                f"{type(self).__name__} gave {tokens.shape[1]} tokens, which are not the same "
                f"number for each of {self.steps} time steps; set tubelet, or write _maps"
            )
        grid = self._grid(tokens.reshape(len(x) * self.steps, -1, tokens.shape[2]), x)
        return [grid.reshape(len(x), self.steps, *grid.shape[1:])]

    def _maps_at(self, x: Tensor, at: Tensor | None = None) -> list[Tensor]:
        """`_maps`, of clips those of one time step each, [B, D, h, w]: see `maps_prepared`."""
        maps = self._maps(x)
        if self.takes == "image":
            return maps
        if at is None:
            return [one.mean(dim=1) for one in maps]
        step = at.to(x.device).long() // self.tubelet
        return [one[torch.arange(len(one), device=x.device), step] for one in maps]

    def _grid(self, tokens: Tensor, x: Tensor) -> Tensor:
        """Tokens [B, N, D] of inputs `x` [B, 3, H, W] as a map [B, D, h, w] over them.

        Raises:
            ValueError: they are not a grid of squares.
        """
        (height, width), count = x.shape[-2:], tokens.shape[1]
        if (side := self.patch_size) and (height // side) * (width // side) == count:
            rows = height // side
        else:
            rows = round(math.sqrt(count * height / width))
            if rows * rows * width != count * height:  # places would not be as wide as high
                raise ValueError(
                    f"{type(self).__name__} gave {count} tokens for an input of {height} x "
                    f"{width} pixels, which are not a grid of squares; leave class tokens out of "
                    "them, set patch_size, or write _maps"
                )
        return tokens.mT.reshape(len(tokens), -1, rows, count // rows)

    def _prepare(self, image: np.ndarray | Tensor) -> Tensor:
        """Input of one image; only controls that look at the raw image write their own.

        Of encoders of clips, `image` is a clip of T frames and the input [T, 3, S, S].
        """
        if self.input_rule is None:
            raise TypeError(f"{type(self).__name__} must set input_rule")
        if self.clip_rule is not None:
            return self.input_rule.apply_clip(image)
        return self.input_rule.apply(image)

    # ---- what everyone calls ----------------------------------------------------------------

    @final
    @torch.inference_mode()
    def encode(self, images: Tensor) -> Tensor:
        """Pooled features, float32 [B, D] on the encoder's device.

        Args:
            images: [B, 3, H, W], floating point in [0, 1], any H and W; of encoders of clips
                [B, T, 3, H, W], and an image is a clip that stands still.

        Raises:
            ValueError: wrong shape, type or range.
            UserError: the model gives NaN or infinite values.
        """
        _check_images(images, self.takes)
        features = self.encode_prepared(torch.stack([self.prepare(image) for image in images]))
        if not torch.isfinite(features).all():
            raise UserError(f"model '{self.name}' gives features that are NaN or infinite")
        return features

    @final
    @torch.inference_mode()
    def tokens(self, images: Tensor) -> Tensor:
        """Patch tokens, float32 [B, N, D] in raster order; arguments as for `encode`.

        Of clips, N is `steps` x rows x columns.

        Raises:
            NotImplementedError: the model has no patch tokens.
        """
        _check_images(images, self.takes)
        return self.tokens_prepared(torch.stack([self.prepare(image) for image in images]))

    @final
    @torch.inference_mode()
    def tokens_prepared(self, x: Tensor) -> Tensor:
        """`tokens` of stacked `prepare` results; not checked for NaN.

        Raises:
            NotImplementedError: the model has no patch tokens.
        """
        self.eval()
        tokens = self._tokens(x.to(self.device, self.dtype)).float()
        if tokens.ndim != 3 or len(tokens) != len(x):
            raise ValueError(
                f"{type(self).__name__}._tokens gave shape {tuple(tokens.shape)} "
                f"for {len(x)} images; it must give [{len(x)}, N, D]"
            )
        return tokens

    @final
    @torch.inference_mode()
    def maps(self, images: Tensor) -> list[Tensor]:
        """Feature maps, each float32 [B, D, h, w] on the encoder's device; arguments as `encode`.

        A map lies over the whole input, its rows and columns as in the image: place (i, j) of
        h x w is the input's rectangle from (i / h, j / w) to ((i + 1) / h, (j + 1) / w), in parts
        of its height and width. Where images are padded, `extent` and `shown` say which part of
        that is the image.

        Of a ViT it is the patch tokens as a grid, without class token and registers. Of a network
        with stages it is the map of stride 16 beside that of stride 32 (`side_by_side`). There may
        be several, the finest first. Of a clip it is the mean over time steps; `maps_prepared`
        gives that of one frame.

        Raises:
            NotImplementedError: the model has no maps.
        """
        _check_images(images, self.takes)
        return self.maps_prepared(torch.stack([self.prepare(image) for image in images]))

    @final
    @torch.inference_mode()
    def maps_prepared(self, x: Tensor, at: Tensor | None = None) -> list[Tensor]:
        """`maps` of stacked `prepare` results; not checked for NaN.

        Args:
            x: images or clips.
            at: of clips, whole numbers [B]: the map is that of the time step which holds frame
                `at[b]` of clip b's T frames. None: the mean over time steps.

        Raises:
            NotImplementedError: the model has no maps.
        """
        self.eval()
        maps = [one.float() for one in self._maps_at(x.to(self.device, self.dtype), at)]
        shapes = [tuple(one.shape) for one in maps]
        if not maps or any(len(shape) != 4 or shape[0] != len(x) for shape in shapes):
            raise ValueError(
                f"{type(self).__name__}._maps gave shapes {shapes} for {len(x)} images; "
                f"it must give at least one map, each [{len(x)}, D, h, w]"
            )
        return maps

    def unfrozen(self) -> Unfrozen:
        """A copy that can be trained (`model_zoo.unfrozen`); this encoder stays as it is.

        Raises:
            UserError: the network cannot be copied.
        """
        from model_zoo.unfrozen import Unfrozen

        return Unfrozen(self)

    @property
    def has_maps(self) -> bool:
        """Whether `maps` may give any: its wrapper has written one of the methods for it."""
        own, plain = type(self), Encoder
        return own._maps is not plain._maps or own._tokens is not plain._tokens

    def extent(self, height: int, width: int) -> tuple[float, ...]:
        """Which part of the prepared input shows an image of `height` x `width` pixels.

        (1, 1) is all of it; (0.75, 1) the upper three quarters, and the rest is padding. Two more
        numbers say how far down and to the right it begins: (0.5, 1, 0.25, 0) is the middle half.
        By the input rule; a model that pads in its own `_prepare` overrides it.
        """
        return self.input_rule.extent(height, width) if self.input_rule else (1.0, 1.0)

    @final
    def shown(self, height: int, width: int, grid: tuple[int, int]) -> Tensor:
        """Share of each place of a map that shows the image, float32 [h, w] in [0, 1].

        Args:
            height: of the image in pixels.
            width: of the image in pixels.
            grid: h and w of the map.
        """
        found = self.extent(height, width)
        down, right = (
            (
                ((start + part) * places - torch.arange(places)).clamp(0, 1)
                - (start * places - torch.arange(places)).clamp(0, 1)
            )
            for part, start, places in zip(found[:2], found[2:] or (0, 0), grid, strict=True)
        )
        return down[:, None] * right

    @final
    def prepare(self, image: np.ndarray | Tensor) -> Tensor:
        """Resize and normalise one image as the model wants it; float32, usually [3, S, S].

        Of encoders of clips one clip, [T, 3, S, S]; an image becomes T equal frames.

        The harness calls this in its loader threads. `encode(images)` equals
        `encode_prepared` of the stacked results, to the bit.

        Args:
            image: uint8 [H, W, 3], or floating point [3, H, W] in [0, 1]; a clip is uint8
                [T, H, W, 3] or floating point [T, 3, H, W], of as many frames as `clip_rule` says.

        Raises:
            ValueError: wrong shape or type.
        """
        if self.clip_rule is None or image.ndim == 3:
            _check_image(image)
        if self.clip_rule is not None:
            if image.ndim == 3:
                image = _still(image, self.clip_rule.frames)
            _check_clip(image, self.clip_rule)
        return self._prepare(image)

    @final
    @torch.inference_mode()
    def encode_prepared(self, x: Tensor) -> Tensor:
        """Pooled features, float32 [B, D], of stacked `prepare` results; not checked for NaN."""
        self.eval()  # a wrapper, or whoever holds `network`, may have left a part in training mode
        features = self._forward(x.to(self.device, self.dtype))
        if features.is_complex():
            raise ValueError(
                f"{type(self).__name__}._forward gave complex numbers; it must give real ones"
            )
        features = features.float()
        if features.ndim != 2 or len(features) != len(x) or not features.shape[1]:
            raise ValueError(
                f"{type(self).__name__}._forward gave shape {tuple(features.shape)} "
                f"for {len(x)} images; it must give [{len(x)}, D]"
            )
        return features

    def compile_forward(self) -> None:
        """Put `torch.compile` around the network's way to features; tokens stay as they are.

        Numbers change in their last bits, so the harness keeps such features apart.
        """
        self._forward = torch.compile(self._forward)  # type: ignore[method-assign]
        self.compiled = True

    @property
    def device(self) -> torch.device:
        """Where the weights are; the CPU for a model without any."""
        parameter = next(self.parameters(), None)
        return torch.device("cpu") if parameter is None else parameter.device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are stored in; float32 for a model without any."""
        parameter = next(self.parameters(), None)
        return torch.float32 if parameter is None else parameter.dtype

    @property
    def steps(self) -> int:
        """Time steps that tokens have; 1 for images."""
        return self.clip_rule.frames // self.tubelet if self.clip_rule else 1

    @cached_property
    def dim(self) -> int:
        """Feature width D."""
        if self.behaviour is not None:
            return int(self.behaviour.features.shape[1])
        blank = np.zeros((32, 32, 3), np.uint8)
        return int(self.encode_prepared(self.prepare(blank)[None]).shape[1])

    @property
    def input_size(self) -> int | None:
        """Side of the square input in pixels; None for a model that takes images as they are."""
        return self.input_rule.size if self.input_rule else None

    @property
    def parameter_count(self) -> int:
        """How many numbers the network's parameters hold, without a discarded head."""
        return sum(parameter.numel() for parameter in self.parameters())

    @cached_property
    def weights_sha256(self) -> str | None:
        """SHA-256 of `weights_file`, or over all parts of it; None without one.

        Raises:
            UserError: it was replaced since the network was filled from it.
        """
        if self.weights_file is None:
            return None
        digest = checkpoints.digest(self.weights_file)
        for path, known in self._read.items():
            if not path.is_file() or checkpoints.signature(path) != known:
                raise UserError(
                    f"{path} changed after model '{self.name}' was filled from it; run again when "
                    "it is complete"
                )
        return digest

    @cached_property
    def weights_digest(self) -> str:
        """SHA-256 over all numbers of the network."""
        return hashing.digest_tensors(self.state_dict())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over weights, preprocessing, pooling and the wrapper itself.

        Equal fingerprints give equal features. The dtype is not part of it: the feature cache
        records it separately. Of a user's wrapper, the content of what `weights` names is part of
        it too, because not all weights are tensors of torch.

        Raises:
            UserError: a file of a user's wrapper was edited while it was in use.
        """
        return hashing.digest(
            {
                "name": self.name,
                "weights": self.weights_digest,
                "input": asdict(self.input_rule) if self.input_rule else None,
                "pooling": self.pooling,
                "wrapper": self._wrapper_identity(),
                **({"given": self._given} if self._given else {}),
                **({"clip": asdict(self.clip_rule)} if self.clip_rule else {}),
            }
        )

    @classmethod
    def _foreign(cls) -> list[type]:
        """The classes of this one, up to `Encoder`, that are not ours."""
        mro = cls.__mro__
        return [one for one in mro[: mro.index(Encoder)] if not executed.is_ours(one.__module__)]

    def _content(self, weights: Path | str | None) -> str | None:
        """SHA-256 of what a user's wrapper is given as weights."""
        if weights == RANDOM or not self._foreign():
            return None
        if weights is None:
            try:
                found = checkpoints.find(self.name, None)
            except UserError:  # several: the wrapper's own business
                return None
            weights = str(found) if found else None
        return checkpoints.content_digest(weights) if weights else None

    def _wrapper_identity(self) -> str:
        """Versions of wrappers of ours; for anyone else's, a digest of the code that ran.

        An author who edits a plugin and runs again must not get yesterday's features; nor may
        one who builds on a wrapper of ours after we change that.
        """
        wrappers = type(self).__mro__[: type(self).__mro__.index(Encoder)]
        ours = [one for one in wrappers if executed.is_ours(one.__module__)]
        parts = [f"{one.__qualname__} {getattr(one, 'version', '')}" for one in ours]
        if foreign := self._foreign():
            parts.insert(0, self._code_identity(foreign))
        return " < ".join(parts)

    def _code_identity(self, wrappers: list[type]) -> str:
        for one in wrappers:
            ran = vars(one).get("executed_from")
            if ran != executed.digest(one.__module__):
                raise UserError(
                    f"the file of {one.__qualname__} was imported again after an edit, but model "
                    f"'{self.name}' is made of the class before; load the model again"
                )
        members = [member for one in wrappers for member in vars(one).values()]
        used: set[Any] = {member for member in members if isinstance(member, FunctionType)}
        used |= {type(module) for module in self.modules()} - set(wrappers)
        # What lies in the same files is covered, but a prompt has no file.
        covered = {one.__module__ for one in wrappers} - {"__main__"}
        others = [one for one in used if one.__module__ not in covered]
        others = [one for one in others if executed.is_users(one.__module__ or "__main__")]
        others.sort(key=lambda one: (one.__module__ or "", one.__qualname__))
        return code_identity.of([*wrappers, *others], f"model '{self.name}'")

    @final
    def train(self, mode: bool = True) -> Self:
        """An encoder is frozen: it stays in evaluation mode whatever `mode` says."""
        return super().train(False)


@contextmanager
def _own_generator() -> Iterator[None]:
    """Seed torch's CPU generator with 0 inside, and put its state back afterwards."""
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(0)  # unlike torch.manual_seed, leaves the GPUs' alone
    try:
        yield
    finally:
        torch.set_rng_state(state)


def _check_image(image: np.ndarray | Tensor) -> None:
    if isinstance(image, Tensor):
        right = image.ndim == 3 and image.shape[0] == 3 and image.is_floating_point()
    else:
        right = image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8
    if not right or 0 in image.shape:
        raise ValueError(
            "an image must be a uint8 array [H, W, 3] or a floating point tensor [3, H, W]; "
            f"got {type(image).__name__} {image.dtype} {tuple(image.shape)}"
        )


def _still(image: np.ndarray | Tensor, frames: int) -> np.ndarray | Tensor:
    """An image `frames` times over, without a copy."""
    if isinstance(image, Tensor):
        return image.expand(frames, *image.shape)
    return np.broadcast_to(image, (frames, *image.shape))


def _check_clip(clip: np.ndarray | Tensor, rule: ClipRule) -> None:
    if clip.ndim != 4 or not len(clip):
        raise ValueError(
            "a clip must be a uint8 array [T, H, W, 3] or a floating point tensor [T, 3, H, W]; "
            f"got {type(clip).__name__} {clip.dtype} {tuple(clip.shape)}"
        )
    _check_image(clip[0])
    if len(clip) != rule.frames:
        raise ValueError(
            f"this encoder looks at clips of {rule.frames} frames, not {len(clip)}; choose them by "
            "clip_rule.positions"
        )


def _check_images(images: Tensor, takes: str = "image") -> None:
    if takes == "clip" and images.ndim == 5 and images.shape[1]:
        images = images.flatten(0, 1)
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ValueError(
            f"images must be floating point [B, 3, H, W]; got {images.dtype} {tuple(images.shape)}"
        )
    if images.numel() == 0:
        raise ValueError(f"images must hold at least one pixel; got {tuple(images.shape)}")
    low, high = images.amin().item(), images.amax().item()
    if not (low >= 0 and high <= 1):  # written so that NaN fails it
        raise ValueError(f"images must lie in [0, 1]; got values from {low:g} to {high:g}")


__all__ = ["RANDOM", "Card", "Encoder"]
