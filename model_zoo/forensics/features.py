"""What comes out: features and tokens of a fixed panel, and what they follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from model_zoo.encoder import Encoder
from model_zoo.forensics import panel
from model_zoo.forensics.clues import Clue

BATCH = 4
SAME = 1e-3  # of features' length, as when a model is loaded
COPIES, CONSTANT = 0.15, 0.25  # shares of dimensions
CONTENT = 0.02  # of what brightness and size do to features


class Outputs(NamedTuple):
    """Features and tokens of some images."""

    features: Tensor
    """Float64 [B, D]."""
    tokens: Tensor | None
    """Float64 [B, N, D], or None."""
    places: Tensor | None
    """Places of the finest map, float64 [B, h w, D]; None where tokens are."""


def outputs(encoder: Encoder, images: Sequence[np.ndarray]) -> Outputs:
    """Encode images in small batches."""
    features, tokens, places = [], [], []
    for batch in _batches(encoder, images):
        features.append(encoder.encode_prepared(batch).cpu())
        try:
            tokens.append(encoder.tokens_prepared(batch).cpu())
        except NotImplementedError:
            if encoder.has_maps:
                places.append(encoder.maps_prepared(batch)[-1].cpu().flatten(2).mT)
    joined = [torch.cat(one).double() if one else None for one in (tokens, places)]
    return Outputs(torch.cat(features).double(), *joined)


def encode(encoder: Encoder, images: Sequence[np.ndarray]) -> Tensor:
    """Features, float64 [B, D]."""
    batches = _batches(encoder, images)
    return torch.cat([encoder.encode_prepared(batch).cpu() for batch in batches]).double()


def _batches(encoder: Encoder, images: Sequence[np.ndarray]) -> list[Tensor]:
    prepared = [encoder.prepare(image) for image in images]
    size = min(BATCH, encoder.batch_size)
    return [torch.stack(prepared[i : i + size]) for i in range(0, len(prepared), size)]


def repeated(encoder: Encoder, images: Sequence[np.ndarray]) -> list[Clue]:
    """Whether the same image gives the same features again, and beside other images."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first = encode(encoder, images)
        torch.manual_seed(1)
        again = encode(encoder, images)
        torch.manual_seed(2)
        alone = torch.cat([encode(encoder, [image]) for image in images])
    for now, words, change in (
        (
            again,
            "the same images give other features when they come again",
            "a dropout that is left on, or random masks, crops or noise: switch that off",
        ),
        (
            alone,
            "an image gives other features beside other images",
            "a normalisation over the "
            "batch: put its layers into evaluation mode, with the running statistics of training",
        ),
    ):
        apart = float(((now - first).norm(dim=1) / first.norm(dim=1).clamp(min=1e-12)).max())
        if apart > SAME:
            return [
                Clue("two-passes", f"{words} (by {apart:.2g} of their length)", "certain", change)
            ]
    return []


def content(encoder: Encoder, few: bool) -> list[Clue]:
    """Whether features follow what an image shows, or only how bright and large it is.

    Args:
        encoder: any.
        few: whether it is slow, so that fewer images must do.
    """
    shown, more = panel.contents()[: 2 if few else 4], 1 if few else 2
    features = encode(encoder, shown)
    lit = encode(encoder, panel.brighter(shown[0])[:more])
    sized = encode(encoder, panel.resized(shown[0])[:more])
    spread = _spread(features)
    brightness, size = (_spread(torch.cat([features[:1], one])) for one in (lit, sized))
    if max(brightness, size) == 0:
        return constant(features)
    if spread < CONTENT * max(brightness, size):
        what = "brightness" if brightness > size else "size"
        saw = (
            f"images of other content, but one size and brightness, differ "
            f"{100 * spread / max(brightness, size):.2g} % as much as one image of other {what}"
        )
        change = "see what _prepare makes of an image, and that pixels reach the network"
        return [Clue("size-brightness", saw, "certain", change)]
    return []


def constant(features: Tensor) -> list[Clue]:
    """Features [B, D] of images that have nothing in common, and are the same."""
    if _spread(features) > 1e-10 * (float(features.square().sum(1).mean()) + 1e-30):
        return []
    saw = "all images give the same features"
    change = "see whether the image reaches the network, and what is pooled"
    return [Clue("dimensions", saw, "certain", change)]


def _spread(features: Tensor) -> float:
    return float((features - features.mean(0)).square().sum(1).mean())


def dimensions(features: Tensor) -> list[Clue]:
    """Dead, constant, doubled and collinear dimensions of features [B, D]."""
    count, width = features.shape
    clues = []
    centred = features - features.mean(0)
    spread = centred.norm(dim=0)
    still = spread < 1e-6 * features.abs().amax().clamp(min=1e-30)
    share = float(still.double().mean())
    if share > CONSTANT:
        zero = float((features[:, still] == 0).double().mean())
        words = "zero" if zero > 0.99 else "constant"
        saw = f"{share:.0%} of {width} dimensions are {words} for all {count} images"
        change = "see what is done to features after the network, and whether a layer is dead"
        clues.append(Clue("dimensions", saw, "certain" if share > 0.5 else "likely", change))
    moving = centred[:, ~still]
    if moving.shape[1] > 1:
        unit = moving / moving.norm(dim=0)
        rounded = (unit * unit[unit.abs().argmax(0), torch.arange(unit.shape[1])].sign()).round(
            decimals=5
        )
        copies = 1 - len(torch.unique(rounded, dim=1).mT) / unit.shape[1]
        values = torch.linalg.svdvals(unit)
        rank = int((values > 1e-4 * values[0]).sum())
        full = min(count - 1, moving.shape[1])
        level = len(torch.unique(features)) if features.numel() > 64 else 99
        change = "see what is done to features after the network (a projection head, a bottleneck)"
        if rank < full / 2:
            saw = f"{width} dimensions of {count} images span {rank}, of {full} that they could"
            clues.append(Clue("dimensions", saw, "certain", change))
        elif copies > COPIES:
            saw = f"{copies:.0%} of the moving dimensions are copies of others"
            clues.append(Clue("dimensions", saw, "certain", change))
        elif level <= 16:
            saw = f"all features together take {level} values"
            clues.append(Clue("dimensions", saw, "certain", "take out what saturates or rounds"))
    return clues


def pooling(found: Outputs) -> list[Clue]:
    """Features that are one token, the largest of all, or a mean over the wrong axis."""
    features, tokens = found.features, found.tokens if found.tokens is not None else found.places
    clues = []
    if features.shape[1] < 8:
        saw = f"an image becomes {features.shape[1]} numbers"
        clues.append(Clue("pooling", saw, "likely", "pool over places, not over the width"))
    if tokens is None or tokens.shape[1] < 2:
        return clues
    count = tokens.shape[1]
    if tokens.shape[2] == features.shape[1]:
        near = (tokens - features[:, None]).abs().amax((0, 2))
        scale = 1e-4 * features.abs().amax()
        if float(near.min()) < scale and float(tokens.std(1).mean()) > scale:
            which = int(near.argmin())
            saw = f"features are the token of one place (number {which} of {count}), not of all"
            change = "take the class token if there is one, else the mean of all tokens"
            clues.append(Clue("pooling", saw, "certain", change))
        elif float((tokens.amax(1) - features).abs().max()) < scale:
            saw = "features are the largest value over all places, not their mean"
            clues.append(Clue("pooling", saw, "likely", "take the mean, unless it was trained so"))
    if count == features.shape[1]:
        apart = (tokens.mean(2) - features).abs().max()
        if float(apart) < 1e-4 * float(features.abs().amax()):
            saw = f"features are a mean over the width: one number for each of {count} places"
            clues.append(Clue("pooling", saw, "certain", "take the mean over dim 1, not dim 2"))
    return clues


def one_token(tokens: Tensor | None) -> list[Clue]:
    """What an attentive probe gets: one token, or the same many times."""
    if tokens is None:
        return []
    change = "let _tokens give the patch tokens [B, N, D] before any pooling"
    if tokens.shape[1] == 1:
        saw = "_tokens gives one token for an image: an attentive probe has nothing to choose from"
        return [Clue("one-token", saw, "certain", change)]
    if float(tokens.std(1).amax()) < 1e-6 * float(tokens.abs().amax().clamp(min=1e-30)):
        saw = f"the {tokens.shape[1]} tokens of an image are all the same"
        return [Clue("one-token", saw, "certain", change)]
    return []
