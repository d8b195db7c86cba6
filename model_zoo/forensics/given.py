"""What the network's first layer is given, beside what the wrapper's `input_rule` says.

Both are known exactly, so a difference is certain: it is found without any knowledge of the
network. Whether the rule is the one that the network was trained with is another question.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import torch
from torch import Tensor, nn

from model_zoo.encoder import Encoder
from model_zoo.forensics.clues import Clue
from model_zoo.transforms import InputRule

NORMALISATIONS = {
    "none": ((0.0,) * 3, (1.0,) * 3),
    "0.5 and 0.5": ((0.5,) * 3, (0.5,) * 3),
    "ImageNet's": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "CLIP's": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}
FLAT = 0.03
"""Spread of values, in units of the input, below which an input is all but constant."""
_SAME, _SAME_ROUNDED = 0.99999, 0.999  # R2 of inputs that differ in rounding only


class Enough(Exception):
    """The layer was reached; the rest need not run."""


def first_input(encoder: Encoder, x: Tensor) -> Tensor | None:
    """What the first layer with weights gets of one prepared image, [1, 3, H, W]; None: no such.

    Of a clip [1, 3, T, H, W] it is the first frame.
    """
    seen: list[Tensor] = []
    sides = 4 if encoder.takes == "image" else 5

    def look(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        given = arguments[0] if arguments else None
        if isinstance(given, Tensor) and given.ndim == sides and given.shape[1] == 3:
            one = given if encoder.takes == "image" else given[:, :, 0]
            seen.append(one.detach().float().cpu().clone())
            raise Enough

    watched = [
        module.register_forward_pre_hook(look)
        for module in encoder.modules()
        if next(module.parameters(recurse=False), None) is not None
    ]
    try:
        encoder.encode_prepared(x[None])
    except Enough:
        pass
    finally:
        for hook in watched:
            hook.remove()
    return seen[0] if seen else None


class Fitted(NamedTuple):
    """Actual values as a function of pixels: `gain` [3, 3] and `offset` [3]."""

    gain: np.ndarray
    offset: np.ndarray
    explained: float
    """The least R2 of the three channels."""


def look(encoder: Encoder, images: Sequence[np.ndarray]) -> list[Clue]:
    """Compare what arrives with the rule.

    Args:
        encoder: any.
        images: uint8 [H, W, 3], in colour, of several sizes.
    """
    rule = encoder.input_rule
    if rule is None:
        return []
    arrived: list[Tensor] = []
    for image in images:
        x = encoder.prepare(image)
        one, again = first_input(encoder, x), first_input(encoder, x)
        if one is None or again is None:
            return []
        if not torch.equal(one, again):
            return [
                Clue(
                    "two-passes",
                    "the first layer gets other values when the same image comes again",
                    "certain",
                    "switch off random crops, noise and masks in _prepare and _forward",
                )
            ]
        arrived.append(one[0])
    spread = float(torch.stack([one.flatten(1).std(1).max() for one in arrived]).mean())
    if spread < FLAT:
        return [
            Clue(
                "value-range",
                f"the first layer gets all but one value (spread {spread:.2g}): a mean and std for "
                "pixels of 0 to 255 where they are 0 to 1, or a division by 255 too many",
                "certain",
                "state mean and std in units of [0, 1] in input_rule, and divide by nothing else",
            )
        ]
    expected = [rule.apply(image) for image in images]
    if any(a.shape != b.shape for a, b in zip(arrived, expected, strict=True)):
        return []  # the network pads or resizes by itself
    fitted = _fit(expected, arrived, rule)
    if fitted.explained >= (_SAME if encoder.dtype == torch.float32 else _SAME_ROUNDED):
        return _values(fitted, rule)
    return _geometry(images, arrived, rule, fitted)


def _fit(expected: Sequence[Tensor], arrived: Sequence[Tensor], rule: InputRule) -> Fitted:
    """Least squares of arrived values on the pixels that the rule lets through."""
    mean, std = (np.array(one)[:, None] for one in (rule.mean, rule.std))
    pixels = np.concatenate([one.double().flatten(1).numpy() * std + mean for one in expected], 1)
    actual = np.concatenate([one.double().flatten(1).numpy() for one in arrived], 1)
    if rule.grey:  # padding is the mean of each channel, which is not grey
        image = np.ptp(pixels, axis=0) < 1e-4
        pixels, actual = pixels[:, image], actual[:, image]
    pixels, actual = pixels[:, ::7], actual[:, ::7]
    if rule.grey:
        pixels = pixels[:1]
    inputs = np.vstack([pixels, np.ones(pixels.shape[1])])
    found, *_ = np.linalg.lstsq(inputs.T, actual.T, rcond=None)
    left = ((actual - found.T @ inputs) ** 2).sum(1)
    total = ((actual - actual.mean(1, keepdims=True)) ** 2).sum(1)
    gain = found[:-1].T
    if rule.grey:  # where channels are one, each gets its own
        gain = np.diag(gain[:, 0])
    return Fitted(gain, found[-1], float((1 - left / np.maximum(total, 1e-12)).min()))


def _values(fitted: Fitted, rule: InputRule) -> list[Clue]:
    """Same places, but perhaps other values."""
    gain, offset = fitted.gain, fitted.offset
    clues = []
    own = _affine(rule.mean, rule.std)
    swapped = not rule.grey and abs(gain[0, 2]) > 5 * abs(gain[0, 0])
    if swapped:
        gain, offset = gain[:, ::-1], offset.copy()
    direct = np.diag(gain), offset
    reversed_ = own[0][::-1], own[1][::-1]
    if rule.grey:  # only by the channels' own mean and std can an exchange be told
        swapped = _near(direct, reversed_) and not _near(direct, own)
    if swapped:
        clues.append(
            Clue(
                "channel-order",
                "red arrives in the third channel of the first layer, and blue in the first",
                "likely",
                "leave images as RGB, unless the network was trained on BGR (OpenCV's order)",
            )
        )
    if _near(direct, own) or (clues and _near(direct, reversed_)):
        return clues
    stated = "none" if _plain(rule) else f"mean {_told(rule.mean)}, std {_told(rule.std)}"
    low, high = _told(direct[1]), _told(direct[0] + direct[1])
    saw = (
        f"the rule says {stated}, but black arrives at the first layer as {low} and white as {high}"
    )
    family, cause, change = _named(direct, rule)
    if family is not None:
        clues.append(Clue(family, saw + cause, "certain", change))
    return clues


def _named(direct: tuple[np.ndarray, np.ndarray], rule: InputRule) -> tuple[str | None, str, str]:
    """Family, cause and remedy of an affine map that is not the rule's."""
    own = _affine(rule.mean, rule.std)
    once = "let input_rule normalise, and nothing else"
    known = {name: _affine(*one) for name, one in NORMALISATIONS.items()}
    for name, one in known.items():
        if name == "none" and _near(direct, one):
            return (
                "normalisation-missing",
                ": no normalisation reaches the network",
                f"take out what undoes it; {once}",
            )
        if _near(direct, one):
            if _plain(rule):  # it is done in the code instead
                return None, "", ""
            return (
                "normalisation-other",
                f", which is {name} normalisation",
                f"find out which of the two it was trained with, and state that; {once}",
            )
    for name, one in {"its own": own, **known}.items():
        twice = own[0] * one[0], own[1] * one[0] + one[1]
        if name != "none" and not _plain(rule) and _near(direct, twice):
            return (
                "normalisation-double",
                f": {name} normalisation is done once more on top of the rule's",
                f"normalise once; {once}",
            )
    for words, scale, shift in (
        ("of 0 to 255", 255.0, 0.0),
        ("of -1 to 1", 2.0, -1.0),
        ("that were divided by 255 twice", 1 / 255, 0.0),
    ):
        for _, one in {"own": own, **known}.items():
            ranged = one[0] * scale, one[0] * shift + one[1]
            if _near(direct, ranged):
                return (
                    "value-range",
                    f": these are pixels {words} where 0 to 1 is meant",
                    f"give the network pixels of 0 to 1; {once}",
                )
    if _plain(rule):
        return None, "", ""
    family = "value-range" if float(np.abs(direct[0]).max()) > 100 else "normalisation-other"
    return family, ": that is another normalisation", f"find what changes x in _forward; {once}"


class _Other(NamedTuple):
    """Something else that may have been done to an image."""

    family: str
    words: str
    image: Callable[[np.ndarray], np.ndarray]
    rule: Callable[[InputRule], InputRule] = lambda rule: rule


def _middle(image: np.ndarray, height: float, width: float) -> np.ndarray:
    h, w = round(height), round(width)
    top, left = (image.shape[0] - h) // 2, (image.shape[1] - w) // 2
    return np.ascontiguousarray(image[top : top + h, left : left + w])


def _square(image: np.ndarray) -> np.ndarray:
    side = min(image.shape[:2])
    return _middle(image, side, side)


def _small(side: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda image: np.asarray(PIL.Image.fromarray(image).resize((side, side)))


def _kept(share: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda image: _middle(image, share * image.shape[0], share * image.shape[1])


def _others() -> list[_Other]:
    crops = (0.95, 0.9, 0.875, 0.85, 0.8, 0.75, 0.7, 0.6, 0.5)
    return [
        *(_Other("crop", f"the middle {100 * one:g} % of each side", _kept(one)) for one in crops),
        _Other("channel-order", "red and blue exchanged", lambda i: i[..., ::-1].copy()),
        _Other("resize-rule", "the middle square", _square),
        _Other("resize-rule", "the image padded to a square", np.asarray, _padding),
        _Other("resize-rule", "the image squashed to a square", np.asarray, _squashing),
        _Other("resize-rule", "rows and columns exchanged", lambda i: i.transpose(1, 0, 2).copy()),
        _Other(
            "resize-rule",
            "bytes read with height and width exchanged",
            lambda i: i.reshape(i.shape[1], i.shape[0], 3),
        ),
        _Other("resize-rule", "the image upside down", lambda i: i[::-1].copy()),
        _Other("resize-rule", "the image mirrored", lambda i: i[:, ::-1].copy()),
        *(
            _Other(
                "interpolation", f"an image that was first made {side} pixels wide", _small(side)
            )
            for side in (32, 48, 64, 96, 112, 128, 160, 192)
        ),
        *(
            _Other("interpolation", f"{one} interpolation", np.asarray, _interpolated(one))
            for one in ("nearest", "bilinear", "bicubic", "lanczos")
        ),
        _Other("interpolation", "bilinear interpolation without antialiasing", np.asarray, _opencv),
    ]


def _padding(rule: InputRule) -> InputRule:
    return replace(rule, fit="pad")


def _squashing(rule: InputRule) -> InputRule:
    return replace(rule, fit="squash")


def _opencv(rule: InputRule) -> InputRule:
    return replace(rule, interpolation="bilinear", resizer="opencv")


def _interpolated(name: Any) -> Callable[[InputRule], InputRule]:
    return lambda rule: replace(rule, interpolation=name, resizer="pillow")


def _geometry(
    images: Sequence[np.ndarray], arrived: Sequence[Tensor], rule: InputRule, fitted: Fitted
) -> list[Clue]:
    """Other places: which of the usual mistakes explains best what arrived."""
    scored = []
    for other in _others():
        expected = [other.rule(rule).apply(other.image(image)) for image in images]
        scored.append((_fit(expected, arrived, rule), other))
    best, other = max(scored, key=lambda one: one[0].explained)
    differs = f"{100 * (1 - max(0.0, fitted.explained)):.2g} % of what the first layer gets"
    if best.explained > 0.98 and (1 - best.explained) < 0.3 * (1 - fitted.explained):
        saw = f"{differs} is not what the rule gives, but that of {other.words}"
        advice = {
            "crop": "take the crop out: it cuts tissue away",
            "channel-order": "leave images as RGB",
            "resize-rule": "let input_rule resize; if the network wants this, say so by its fit",
            "interpolation": "let input_rule resize, once, by the interpolation that was trained",
        }
        clues = [Clue(other.family, saw, "certain", advice[other.family])]
        if best.explained >= _SAME:
            clues += _values(best, rule)
        return clues
    return [
        Clue(
            "resize-rule",
            f"{differs} is not what the rule gives, and no usual mistake explains it",
            "likely",
            "look at what _prepare and _forward do to an image besides input_rule",
        )
    ]


def _affine(mean: Sequence[float], std: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    return 1 / np.array(std), -np.array(mean) / np.array(std)


def _near(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> bool:
    """Whether black and white arrive alike, to a hundredth of their distance."""
    scale = np.abs(other[0])
    return bool(
        (np.abs(one[0] - other[0]) < 0.01 * scale).all()
        and (np.abs(one[1] - other[1]) < 0.01 * np.maximum(scale, np.abs(other[1]))).all()
    )


def _plain(rule: InputRule) -> bool:
    return not any(rule.mean) and set(rule.std) == {1.0}


def _told(values: Any) -> str:
    return ", ".join(f"{value:.3g}" for value in values)
