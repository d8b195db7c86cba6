"""What `dtype="auto"` means: bfloat16 where it is fast and gives the same features, else float32.

The features of the first images are computed in both; the cosine between the two must be at least
`COSINE` for each image. The verdict is kept in the cache, so that all tasks of a model are encoded
alike, today and tomorrow.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn.functional import cosine_similarity

from model_zoo import Encoder
from tasks.samples.clips import Clip
from tasks.samples.images import Image
from ultrabench_eval import features, shown
from ultrabench_eval.core import files, hashing, processor
from ultrabench_eval.loading import Model

COSINE = 0.999


def settle(model: Model, images: Sequence[Image | Clip], cache: Path) -> None:
    """Decide the dtype of a model that was asked for with "auto"; nothing for any other.

    Args:
        model: its `dtype` becomes "bfloat16" or "float32", and its `info` tells why.
        images: the first `model.batch_size` of these are compared.
        cache: CACHE/precision holds the verdicts.

    Raises:
        UserError: one of the images cannot be read.
    """
    if model.dtype != "auto":
        return
    if not fast(model.processor):
        model.settle("float32")
        return
    place = _place(model)
    path = _path(cache, place)
    cosine = _known(path, place)
    if cosine is None:
        with files.locked(path, files.PATIENCE):  # so that two processes decide the same
            cosine = _known(path, place)
            if cosine is None:
                cosine = _compare(model.encoder(), images[: model.batch_size])
                verdict = hashing.seal({"of": place, "cosine": cosine})
                files.write_text(path, json.dumps(verdict) + "\n")
    if cosine >= COSINE:
        model.settle("bfloat16")
        return
    model.settle("float32")
    model.info["rounding"] = (
        f"encoded in float32, because in bfloat16 the features of the first images differ "
        f"(cosine {cosine:.5f}, {COSINE} is asked for)"
    )


def is_settled(model: Model, cache: Path) -> bool:
    """Whether `settle` would not have to encode anything."""
    if model.dtype != "auto" or not fast(model.processor):
        return True
    place = _place(model)
    return _known(_path(cache, place), place) is not None


def _place(model: Model) -> list[object]:
    """What a verdict is about."""
    return [model.fingerprint, features.device_name(model.processor), model.compile]


def _path(cache: Path, place: list[object]) -> Path:
    return cache / "precision" / f"{hashing.short(hashing.digest(place), 32)}.json"


def _known(path: Path, place: list[object]) -> float | None:
    """A verdict of before; None if there is none that is whole and of this model."""
    try:
        verdict = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(verdict, dict) or not hashing.sealed(verdict) or verdict["of"] != place:
        return None
    return float(verdict["cosine"])


def fast(device: torch.device) -> bool:
    """Whether the processor multiplies bfloat16 matrices in hardware."""
    return processor.multiplies_bfloat16(device)


def _compare(encoder: Encoder, images: Sequence[Image | Clip]) -> float:
    """The least cosine between float32 and bfloat16 features; leaves the encoder in bfloat16.

    NaN, where the model cannot be computed in bfloat16, counts as 0.
    """
    # Of a video, by an encoder of images, the first frame that it is shown.
    samples = [shown.of(image, encoder.takes, encoder.clip_rule) for image in images]
    prepared = [shown.inputs(encoder, sample).tensors[0] for sample in samples]
    exact = features.encode_batch(encoder, prepared)
    rounded = features.encode_batch(encoder.to(torch.bfloat16), prepared)
    least = cosine_similarity(exact, rounded).min().item()
    return 0.0 if math.isnan(least) else least
