"""What an encoder gives for a few fixed images: a network is known by what it does too.

A fingerprint is made of code, weights and preprocessing. What it cannot see (a library that was
updated, a file that a plugin reads, another machine) shows here; and so does an encoder whose
features are not a function of the image.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool1d, adaptive_avg_pool2d

from ultrabench_eval.core import files, hashing
from ultrabench_eval.core.errors import UserError

if TYPE_CHECKING:
    from model_zoo.encoder import Encoder

_SEEDS = 16, 24  # whose first draws lie on both sides of a half, for what is done now and then
FORMAT = 1  # of what `remember` writes; raised when images or passes change


class Tolerance(NamedTuple):
    """How far apart two vectors of features may be that count as the same."""

    cosine: float
    """At least."""
    relative: float
    """Length of the difference over that of the vector, at most."""


TOLERANCES = {
    "float32": Tolerance(0.99999, 1e-3),
    "float16": Tolerance(0.9995, 1e-2),
    "bfloat16": Tolerance(0.998, 5e-2),
}
"""By the dtype of the weights."""
ELSEWHERE = Tolerance(0.9999, 1e-2)
"""Of float32 on two kinds of device, where kernels round otherwise (TF32 on a GPU)."""


@dataclass(frozen=True)
class Behaviour:
    """Features of the probe images, and what made them."""

    features: np.ndarray
    """float32 [K, D]."""
    device: str
    """ "cpu", or the GPU's name."""
    dtype: str
    """Of the weights, such as "float32"."""


def images() -> list[np.ndarray]:
    """The two probe images, uint8 [160, 208, 3] each: the same bytes on every machine.

    A fan of speckle in grey; and a disc and marks on smooth shades beside blocks of colour.
    """
    y, x = np.mgrid[:160, :208].astype(np.int64)
    noise = _noise(y, x, 0)
    fan = (abs(x - 104) * 10 < (y + 30) * 7) & ((x - 104) ** 2 + (y + 30) ** 2 < 180**2)
    speckle = np.where(fan, 30 + noise * (220 - y) // 260, 0)
    first = np.stack([speckle] * 3, axis=-1)

    disc = (x - 90) ** 2 + (y - 70) ** 2 < 55**2
    shades = (x * 255 // 207 + y * 255 // 159) // 2
    second = np.stack([shades, np.where(disc, 255 - shades, shades), shades // 2], axis=-1)
    second[120:140, 20:60] = (250, 220, 10)

    blocks = _noise(y // 20, x // 26, 1), _noise(y // 20, x // 26, 2), _noise(y // 40, x // 52, 3)
    second[:, 130:] = (np.stack(blocks, axis=-1) * 3 // 4 + (noise // 4)[..., None])[:, 130:]
    return [one.clip(0, 255).astype(np.uint8) for one in (first, second)]


def clips(frames: int) -> list[np.ndarray]:
    """The two probe images as clips that move sideways, uint8 [T, 160, 208, 3] each."""
    return [
        np.stack([np.roll(image, 4 * place, axis=1) for place in range(frames)])
        for image in images()
    ]


def _noise(y: np.ndarray, x: np.ndarray, plane: int) -> np.ndarray:
    """Values from 0 to 255 that neighbours do not share, int64 of the same shape."""
    mixed = (y * 7919 + x * 104729 + plane * 15485863 + 12345) % 2147483647
    mixed = mixed * 48271 % 2147483647
    mixed = (mixed ^ (mixed >> 13)) * 16807 % 2147483647
    return np.asarray(mixed >> 7 & 255)


def observe(encoder: Encoder) -> Behaviour:
    """Encode the probe images, in two batches of one shape, and see that nothing else matters.

    Between the two the generators of Python, numpy and torch are in other states, which are put
    back afterwards, and the second image has another neighbour. An encoder of clips is given the
    images as clips; each takes long, so the second one comes alone the second time.

    Raises:
        UserError: features are not finite, or differ between the two by more than `TOLERANCES`.
    """
    rule = encoder.clip_rule
    first, second = images() if rule is None else clips(rule.frames)
    with _other_draws(_SEEDS[0]):
        one = _encoded(encoder, [first, second])
    with _other_draws(_SEEDS[1]):
        two = _encoded(encoder, [second] if rule else [second, second])
    dtype = str(encoder.dtype).removeprefix("torch.")
    tolerance = _tolerance(dtype)
    if not (np.isfinite(one).all() and np.isfinite(two).all()):
        raise UserError(
            f"model '{encoder.name}' gives features that are NaN or infinite; look at "
            f"{_origin(encoder)}, or use --dtype float32"
        )
    if difference := _difference(one[[1] * len(two)], two, tolerance):
        raise UserError(
            f"model '{encoder.name}' gives other features each time for the same image "
            f"({difference}): a dropout that is left on, random masks or crops, or a normalisation "
            f"over the batch; switch that off in {_origin(encoder)}"
        )
    return Behaviour(one, _device_name(encoder.device), dtype)


def _origin(encoder: Encoder) -> str:
    """The files that an encoder is made of, as far as they are a user's."""
    module = type(encoder).__module__
    source = getattr(sys.modules.get(module), "__file__", None)
    own = None if module.partition(".")[0] == "model_zoo" else source
    named = [str(file) for file in (encoder.weights_file, own) if file]
    return " and ".join(named) or "its weights"


def observe_places(encoder: Encoder, kind: Literal["tokens", "maps"]) -> Behaviour:
    """What an encoder gives for the places of the probe images: means of four parts of its tokens,
    or of the quarters of its maps, which may change while pooled features stay.

    Returns:
        Features float32 [2, 4 D]; of several maps side by side.

    Raises:
        NotImplementedError: the model has none.
    """

    def parts(x: Tensor) -> Tensor:
        if kind == "tokens":
            return adaptive_avg_pool1d(encoder.tokens_prepared(x).transpose(1, 2), 4).flatten(1)
        return torch.cat(
            [adaptive_avg_pool2d(one, 2).flatten(1) for one in encoder.maps_prepared(x)], 1
        )

    rule = encoder.clip_rule
    found = _encoded(encoder, images() if rule is None else clips(rule.frames), parts)
    return Behaviour(found, _device_name(encoder.device), str(encoder.dtype).removeprefix("torch."))


def _encoded(
    encoder: Encoder,
    given: list[np.ndarray],
    encode: Callable[[Tensor], Tensor] | None = None,
) -> np.ndarray:
    """Features, float32 [K, D]; for a network of one batch size only, in a batch of that."""
    encode = encode or encoder.encode_prepared
    prepared = [encoder.prepare(image) for image in given]
    try:
        features = encode(torch.stack(prepared))
    except UserError:
        raise
    except Exception:
        if encoder.batch_size <= len(given):
            raise
        filled = [*prepared, *[prepared[-1]] * (encoder.batch_size - len(given))]
        features = encode(torch.stack(filled))[: len(given)]
    return features.cpu().numpy().astype(np.float32)


@contextmanager
def _other_draws(seed: int) -> Iterator[None]:
    """Put generators into a state that follows from `seed`, and back afterwards."""
    python, numbers = random.getstate(), np.random.get_state()  # noqa: NPY002
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with torch.random.fork_rng(gpus):
        try:
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            torch.manual_seed(seed)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numbers)  # noqa: NPY002


def compare(now: Behaviour, before: Behaviour) -> str | None:
    """By how much two behaviours differ, in words; None if not by more than may be.

    Args:
        now: of the encoder in memory.
        before: of one with the same fingerprint.
    """
    if now.features.shape != before.features.shape:
        return f"{now.features.shape[1]} numbers per image, and {before.features.shape[1]} before"
    tolerance = _tolerance(now.dtype, before.dtype)
    if now.device != before.device:
        tolerance = _wider(tolerance, ELSEWHERE)
    return _difference(before.features, now.features, tolerance)


def remember(path: Path, behaviour: Behaviour, made_by: Mapping[str, str]) -> str | None:
    """Keep a behaviour beside features, or compare it with the one that is kept.

    Args:
        path: of a safetensors file, named after what makes features: the fingerprint and the like.
        behaviour: of the encoder in memory.
        made_by: versions and machine.

    Returns:
        None if there was none, a damaged one, or the same; else part of a sentence: by how much
        they differ, and who made which.
    """
    kept = _read(path)
    if kept is None:
        _write(path, behaviour, made_by)
        return None
    before, maker = kept
    difference = compare(behaviour, before)
    if difference is None:
        return None
    return (
        f"its features of two fixed images differ from the remembered ones by {difference}; "
        f"now {_told(behaviour, made_by, maker)}, before {_told(before, maker, made_by)}"
    )


def _told(behaviour: Behaviour, maker: Mapping[str, str], other: Mapping[str, str]) -> str:
    """Device and dtype, and whatever else of the maker is not the other's."""
    differ = [f"{key} {value}" for key, value in maker.items() if other.get(key) != value]
    return ", ".join([behaviour.device, behaviour.dtype, *differ])


def _write(path: Path, behaviour: Behaviour, made_by: Mapping[str, str]) -> None:
    about = {
        "format": FORMAT,
        "device": behaviour.device,
        "dtype": behaviour.dtype,
        "made_by": dict(made_by),
        "features": _checksum(behaviour.features),
        "name": path.name,
    }
    text = hashing.canonical_json(hashing.seal(about)).decode()
    features = torch.from_numpy(np.ascontiguousarray(behaviour.features))
    with files.atomic_path(path) as temporary:
        save_file({"features": features}, temporary, {"behaviour": text})


def _read(path: Path) -> tuple[Behaviour, dict[str, str]] | None:
    """What is kept in a file, and who made it; None if it is not there or not as it was written."""
    try:
        with safe_open(path, framework="np") as opened:
            about = json.loads((opened.metadata() or {})["behaviour"])
            features = opened.get_tensor("features")
    except (OSError, SafetensorError, ValueError, KeyError, RecursionError):
        return None
    if (
        not isinstance(about, dict)
        or not hashing.sealed(about)
        or about.get("format") != FORMAT
        or about.get("name") != path.name
        or about.get("features") != _checksum(features)
    ):
        return None
    return Behaviour(features, about["device"], about["dtype"]), dict(about["made_by"])


def _checksum(features: np.ndarray) -> str:
    header = f"{features.dtype}{features.shape}".encode()
    return hashing.digest_parts([header, np.ascontiguousarray(features).tobytes()])


def _tolerance(*dtypes: str) -> Tolerance:
    return _wider(*(TOLERANCES.get(dtype, TOLERANCES["float32"]) for dtype in dtypes))


def _wider(*tolerances: Tolerance) -> Tolerance:
    return Tolerance(min(t.cosine for t in tolerances), max(t.relative for t in tolerances))


def _difference(before: np.ndarray, now: np.ndarray, tolerance: Tolerance) -> str | None:
    """The largest difference of two arrays [K, D], in words, if it is larger than may be."""
    a, b = before.astype(np.float64), now.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    longest = np.maximum(*lengths)
    # Both zero are the same; one of them zero could not be more different.
    relative = np.linalg.norm(a - b, axis=1) / np.where(longest > 0, longest, 1)
    product = lengths[0] * lengths[1]
    cosine = np.where(product > 0, (a * b).sum(1) / np.where(product > 0, product, 1), 0)
    cosine[longest == 0] = 1
    if cosine.min() >= tolerance.cosine and relative.max() <= tolerance.relative:
        return None
    return f"{relative.max():.2g} of their length, cosine {cosine.min():.6f}"


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
