"""Faults of wrappers, by family, and how they are drawn: what `forensics.py` plants in encoders.

This list was written, and committed, before any detector was. A fault is what an author of a
wrapper does by mistake; it is drawn from (seed, family, encoder) and from nothing else. Where a
mistake can be made in two ways it is drawn which:

- "declared": the `input_rule` says it, so whoever reads the wrapper sees no contradiction. Only the
  network can tell that it was trained otherwise.
- "code": the rule is right, and `_prepare` or `_forward` does something else.

Encoders to tune detectors on: TUNED_ON with the seeds from 0; for the figure: FIGURE with the
seeds from 1000. Whoever looks at a figure's encoder before the detectors are final has tuned on it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import log2
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor, nn

import model_zoo
from model_zoo.encoder import Encoder
from model_zoo.transforms import InputRule, to_uint8

TUNED_ON = ("efficientnet-lite0", "efficientnet-lite1", "us-jepa-nano", "mae-nano")
FIGURE = ("efficientnet-lite2", "usrc-jepa-nano", "ijepa-nano")  # and a timm network, if available
TUNING_SEED, FIGURE_SEED = 0, 1000

NORMALISATIONS = {
    "none": ((0.0,) * 3, (1.0,) * 3),
    "half": ((0.5,) * 3, (0.5,) * 3),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "dark": ((0.162,) * 3, (0.180,) * 3),  # of a set of ultrasound, as some authors take them
}

FAMILIES: dict[str, tuple[str, ...]] = {
    "normalisation-missing": ("declared", "code"),
    "normalisation-double": ("code",),
    "normalisation-other": (
        *("declared half", "declared imagenet", "declared clip", "declared dark"),
        *("code half", "code imagenet", "code clip", "code dark"),
    ),
    "channel-order": ("code, pixels", "code, input"),
    # Pixels of 0 to 255 or -1 to 1 where 0 to 1 is meant, pixels divided by 255 twice, and a rule
    # whose mean and std are those of 0 to 255.
    "value-range": ("code 255", "code -1 to 1", "code 1/255", "declared mean of 255"),
    # The wrapper squashes: padding, or the middle square, or the sides changed for each other.
    "resize-rule": ("declared pad", "code middle square", "code sides swapped"),
    "crop": ("code 0.875", "code 0.8", "code 0.6"),
    "interpolation": ("declared nearest", "declared bilinear", "declared opencv", "code thumbnail"),
    "heads": ("other",),  # any other number that divides the width into heads of 8 or more
    # Left at their initial values, as by strict=False on a part.
    "initial-values": ("stem", "block", "last quarter", "norms", "statistics", "positions", "all"),
    # One token (or place) for all, the largest for the mean, the mean over the width.
    "pooling": ("first token", "last token", "maximum", "over the width"),
    "two-passes": ("dropout 0.1", "dropout 0.5", "batch statistics", "noise", "random crop"),
    "dimensions": ("zero", "constant", "doubled", "collinear", "saturated"),
    "size-brightness": ("brightness", "size", "both"),
    "one-token": ("mean", "same"),
}
"""Variants by family; a seed draws one of those that the encoder can have."""


@dataclass(frozen=True)
class Fault:
    """One mistake."""

    family: str
    variant: str
    seed: int
    """Of what is drawn inside the mistake: which block, which dimensions."""

    def __str__(self) -> str:
        return f"{self.family}: {self.variant}"


def draw(seed: int, family: str, encoder: Encoder) -> Fault | None:
    """The fault of a family that a seed stands for; None if the encoder can have none of it."""
    rng = _generator(seed, family, encoder.name)
    possible = [variant for variant in FAMILIES[family] if _possible(family, variant, encoder)]
    if not possible:
        return None
    return Fault(family, str(rng.choice(possible)), int(rng.integers(2**31)))


def every(family: str, encoder: Encoder) -> list[Fault]:
    """All variants of a family that an encoder can have, each with the seed 0 inside."""
    return [Fault(family, v, 0) for v in FAMILIES[family] if _possible(family, v, encoder)]


def _generator(seed: int, *words: str) -> np.random.Generator:
    return np.random.default_rng([seed, *(zlib.crc32(word.encode()) for word in words)])


def _possible(family: str, variant: str, encoder: Encoder) -> bool:
    rule = encoder.input_rule
    assert rule is not None
    if family == "normalisation-other":
        mean, std = NORMALISATIONS[variant.split()[1]]
        return max(abs(a - b) for a, b in zip(mean + std, rule.mean + rule.std, strict=True)) > 0.02
    if family == "resize-rule" and variant == "declared pad":
        return rule.fit != "pad"
    if family == "interpolation" and variant.startswith("declared"):
        return variant.split()[1] != rule.interpolation
    if family == "heads":
        return bool(_attentions(encoder))
    if family == "initial-values":
        return bool(_left_out(encoder, variant, np.random.default_rng(0)))
    if family == "two-passes" and variant == "batch statistics":
        return any(isinstance(m, nn.BatchNorm2d) for m in encoder.modules())
    if family == "pooling":
        return encoder.has_maps
    return True


def plant(encoder: Encoder, fault: Fault) -> Encoder:
    """Put a fault into a sound encoder that nobody else uses; it comes back changed."""
    rng = np.random.default_rng(fault.seed)
    _PLANTERS[fault.family](encoder, fault.variant, rng)
    encoder.__dict__.pop("dim", None)
    return encoder


# ---- what an image becomes ---------------------------------------------------------------------


def _normalisation(encoder: Encoder, variant: str, rng: np.random.Generator) -> None:
    where, _, name = variant.partition(" ")
    rule = _rule(encoder)
    mean, std = NORMALISATIONS[name or "none"]
    if where == "declared":
        encoder.input_rule = replace(rule, mean=mean, std=std)
    else:
        _before_forward(encoder, lambda x: (_pixels(x, rule) - _column(mean)) / _column(std))


def _double(encoder: Encoder, variant: str, rng: np.random.Generator) -> None:
    rule = _rule(encoder)
    _before_forward(encoder, lambda x: (x - _column(rule.mean)) / _column(rule.std))


def _channels(encoder: Encoder, variant: str, rng: np.random.Generator) -> None:
    if variant.endswith("input"):
        _before_forward(encoder, lambda x: x.flip(1))
    else:
        _before_prepare(encoder, lambda image: np.ascontiguousarray(image[..., ::-1]))


def _range(encoder: Encoder, variant: str, rng: np.random.Generator) -> None:
    rule = _rule(encoder)
    if variant == "declared mean of 255":
        encoder.input_rule = replace(
            rule,
            mean=tuple(255 * m for m in rule.mean),  # type: ignore[arg-type]
            std=tuple(255 * s for s in rule.std),  # type: ignore[arg-type]
        )
        return
    change: dict[str, Callable[[Tensor], Tensor]] = {
        "code 255": lambda v: 255 * v,
        "code -1 to 1": lambda v: 2 * v - 1,
        "code 1/255": lambda v: v / 255,
    }
    pixels = change[variant]
    _before_forward(
        encoder, lambda x: (pixels(_pixels(x, rule)) - _column(rule.mean)) / _column(rule.std)
    )


def _resize(encoder: Encoder, variant: str, rng: np.random.Generator) -> None:
    rule = _rule(encoder)
    if variant == "declared pad":
        encoder.input_rule = replace(rule, fit="pad")
    elif variant == "code middle square":
        _before_prepare(encoder, lambda image: _middle(image, *(min(image.shape[:2]),) * 2))
    else:  # rows and columns taken for each other when the flat bytes are read
        _before_prepare(encoder, lambda image: image.reshape(image.shape[1], image.shape[0], 3))


def _crop(encoder: Encoder, variant: str, rng: np.random.Generator) -> None:
    share = float(variant.split()[1])
    _before_prepare(
        encoder, lambda image: _middle(image, *(round(share * side) for side in image.shape[:2]))
    )


def _interpolation(encoder: Encoder, variant: str, rng: np.random.Generator) -> None:
    rule = _rule(encoder)
    if variant == "code thumbnail":  # made small first, as a viewer's preview is
        _before_prepare(
            encoder, lambda image: np.asarray(PIL.Image.fromarray(image).resize((64, 64)))
        )
    elif variant == "declared opencv":
        encoder.input_rule = replace(rule, interpolation="bilinear", resizer="opencv")
    else:
        encoder.input_rule = replace(rule, interpolation=variant.split()[1])  # type: ignore[arg-type]


# ---- the network -------------------------------------------------------------------------------


def _heads(encoder: Encoder, variant: str, rng: np.random.Generator) -> None:
    found = _attentions(encoder)
    module, name = found[0]
    now, width = getattr(module, name), _width(module)
    others = [n for n in range(1, width // 8 + 1) if width % n == 0 and n != now]
    heads = int(rng.choice(others))
    for module, name in found:
        setattr(module, name, heads)
        if hasattr(module, "head_dim"):
            module.head_dim = width // heads  # type: ignore[assignment]
        if hasattr(module, "scale"):
            module.scale = (width // heads) ** -0.5  # type: ignore[assignment]


def _initial(encoder: Encoder, variant: str, rng: np.random.Generator) -> None:
    names = _left_out(encoder, variant, rng)
    blank = model_zoo.load(encoder.name, weights="random", device="cpu").network.state_dict()
    state = encoder.network.state_dict()
    for name in names:
        fresh = blank[name]
        if name.endswith("weight") and fresh.ndim > 1:  # not those of another draw alone
            fresh = fresh[torch.from_numpy(rng.permutation(len(fresh)))]
        state[name].copy_(fresh)


def _left_out(encoder: Encoder, variant: str, rng: np.random.Generator) -> list[str]:
    """Names of the tensors that were not loaded."""
    names = list(encoder.network.state_dict())
    blocks: list[str] = []  # "blocks.0." and so on, in order
    for name in names:
        parts = name.split(".")
        numbered = next((i for i, part in enumerate(parts) if part.isdigit()), None)
        if numbered is not None:
            prefix = ".".join(parts[: numbered + 1]) + "."
            if prefix not in blocks:
                blocks.append(prefix)
    first = next(name for name in names if encoder.network.state_dict()[name].ndim == 4)
    stem = first.rpartition(".")[0] + "."
    if variant == "stem":
        return [name for name in names if name.startswith(stem)]
    if variant == "block":
        chosen: tuple[str, ...] = (str(rng.choice(blocks)),)
        return [name for name in names if name.startswith(chosen)]
    if variant == "last quarter":
        chosen = tuple(blocks[-max(1, len(blocks) // 4) :])
        return [name for name in names if name.startswith(chosen)]
    norms = [
        name
        for name, module in encoder.network.named_modules()
        if isinstance(module, nn.LayerNorm | nn.BatchNorm2d | nn.GroupNorm)
    ]
    if variant == "norms":
        return [name for name in names if name.rpartition(".")[0] in norms]
    if variant == "statistics":
        return [name for name in names if "running_" in name]
    if variant == "positions":
        return [name for name in names if "pos_embed" in name]
    return names


def _pooling(encoder: Encoder, variant: str, rng: np.random.Generator) -> None:
    def flat(x: Tensor) -> Tensor:
        try:
            return encoder._tokens(x)
        except NotImplementedError:
            return encoder._maps(x)[0].flatten(2).mT

    pools: dict[str, Callable[[Tensor], Tensor]] = {
        "first token": lambda tokens: tokens[:, 0],
        "last token": lambda tokens: tokens[:, -1],
        "maximum": lambda tokens: tokens.amax(1),
        "over the width": lambda tokens: tokens.mean(2),
    }
    encoder._forward = lambda x: pools[variant](flat(x))  # type: ignore[method-assign]


# ---- what comes out ----------------------------------------------------------------------------


def _passes(encoder: Encoder, variant: str, rng: np.random.Generator) -> None:
    if variant == "batch statistics":
        for module in encoder.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.track_running_stats = False
                module.running_mean = module.running_var = None
    elif variant == "noise":
        _before_forward(encoder, lambda x: x + 0.1 * torch.randn_like(x))
    elif variant == "random crop":

        def crop(x: Tensor) -> Tensor:
            top, left = (int(torch.randint(0, max(2, side // 8), ())) for side in x.shape[-2:])
            return x.roll((-top, -left), (-2, -1))

        _before_forward(encoder, crop)
    else:
        share = float(variant.split()[1])
        _after_forward(encoder, lambda f: nn.functional.dropout(f, share, training=True))


def _dimensions(encoder: Encoder, variant: str, rng: np.random.Generator) -> None:
    width = encoder.dim
    share = float(rng.choice([0.3, 0.6, 0.9]))
    hit = torch.from_numpy(rng.random(width) < share)
    if variant == "zero":
        _after_forward(encoder, lambda f: f.masked_fill(hit, 0.0))
    elif variant == "constant":
        level = torch.from_numpy(rng.standard_normal(width).astype(np.float32))
        _after_forward(encoder, lambda f: torch.where(hit, level, f))
    elif variant == "doubled":
        source = torch.from_numpy(rng.integers(0, max(1, width // 16), width))
        _after_forward(encoder, lambda f: torch.where(hit, f[:, source], f))
    elif variant == "collinear":  # through a bottleneck, as of a projection head
        inner = int(rng.choice([1, 2, 4]))
        down, up = (rng.standard_normal(shape) for shape in ((width, inner), (inner, width)))
        matrix = torch.from_numpy((down @ up / width).astype(np.float32))
        _after_forward(encoder, lambda f: f @ matrix)
    else:  # behind a sigmoid that is far from its middle
        _after_forward(encoder, lambda f: torch.sigmoid(60 * f / f.std()).round())


def _size_brightness(encoder: Encoder, variant: str, rng: np.random.Generator) -> None:
    """The picture is a plain one of its mean grey, or tells its size, or both."""

    def blank(image: np.ndarray) -> np.ndarray:
        grey = 128 if variant == "size" else round(float(image.mean()))
        plain = np.full_like(image, grey)
        if variant != "brightness":
            height = round(255 * min(1.0, log2(image.shape[0]) / 12))
            across = round(255 * min(1.0, log2(image.shape[1]) / 12))
            plain[: len(plain) // 2, :, 0] = height
            plain[len(plain) // 2 :, :, 2] = across
        return plain

    rule = _rule(encoder)
    encoder.input_rule = replace(rule, stretch=None, grey=False)
    _before_prepare(encoder, blank)


def _one_token(encoder: Encoder, variant: str, rng: np.random.Generator) -> None:
    own = encoder._tokens

    def one(x: Tensor) -> Tensor:
        try:
            tokens = own(x)
        except NotImplementedError:
            return encoder._forward(x)[:, None]
        mean = tokens.mean(1, keepdim=True)
        return mean if variant == "mean" else mean.expand_as(tokens)

    encoder._tokens = one  # type: ignore[method-assign]


_PLANTERS: dict[str, Callable[[Encoder, str, np.random.Generator], None]] = {
    "normalisation-missing": _normalisation,
    "normalisation-double": _double,
    "normalisation-other": _normalisation,
    "channel-order": _channels,
    "value-range": _range,
    "resize-rule": _resize,
    "crop": _crop,
    "interpolation": _interpolation,
    "heads": _heads,
    "initial-values": _initial,
    "pooling": _pooling,
    "two-passes": _passes,
    "dimensions": _dimensions,
    "size-brightness": _size_brightness,
    "one-token": _one_token,
}


# ---- how it is done ----------------------------------------------------------------------------


def _rule(encoder: Encoder) -> InputRule:
    assert encoder.input_rule is not None
    return encoder.input_rule


def _column(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values).view(3, 1, 1)


def _pixels(x: Tensor, rule: InputRule) -> Tensor:
    """What was normalised, in [0, 1]."""
    return x * _column(rule.std) + _column(rule.mean)


def _before_forward(encoder: Encoder, change: Callable[[Tensor], Tensor]) -> None:
    """Both ways through the network get another input."""
    forward, tokens, maps = encoder._forward, encoder._tokens, encoder._maps
    inner: list[Any] = []  # `_forward` may call `_tokens`: the change is made once

    def once(run: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
        def changed(x: Tensor) -> Any:
            if inner:
                return run(x)
            inner.append(None)
            try:
                return run(change(x))
            finally:
                inner.clear()

        return changed

    for name, run in (("_forward", forward), ("_tokens", tokens), ("_maps", maps)):
        setattr(encoder, name, once(run))


def _after_forward(encoder: Encoder, change: Callable[[Tensor], Tensor]) -> None:
    own = encoder._forward
    encoder._forward = lambda x: change(own(x))  # type: ignore[method-assign]


def _before_prepare(encoder: Encoder, change: Callable[[np.ndarray], np.ndarray]) -> None:
    own = encoder._prepare

    def prepare(image: np.ndarray | Tensor) -> Tensor:
        pixels = to_uint8(image) if isinstance(image, Tensor) else image
        return own(change(pixels))

    encoder._prepare = prepare  # type: ignore[method-assign]


def _middle(image: np.ndarray, height: int, width: int) -> np.ndarray:
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return np.ascontiguousarray(image[top : top + height, left : left + width])


def _attentions(encoder: Encoder) -> list[tuple[nn.Module, str]]:
    """Attention modules, and by what name each keeps its number of heads."""
    names = ("heads", "num_heads", "num_attention_heads")
    found = []
    for module in encoder.modules():
        name = next((name for name in names if isinstance(getattr(module, name, None), int)), None)
        if name and any(isinstance(child, nn.Linear) for child in module.children()):
            found.append((module, name))
    return found


def _width(module: nn.Module) -> int:
    return next(m for m in module.children() if isinstance(m, nn.Linear)).in_features
