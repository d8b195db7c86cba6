"""Replay reference vectors: a wrapper is right if it gives the numbers of the authors' own code.

For each model there is a description (`<model>.json`: the keys of the released file, the wrapper
around them, the rule's seed strings) and a few output arrays of the reference (`<model>.npz`), and
the same once more for other weights and another input (`second/`). A checkpoint is filled by a
rule from its key names, written in the released layout, and opened by the public `load()`; nothing
is mocked.
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

import model_zoo
from model_zoo.checkpoints import files
from model_zoo.checkpoints.files import matches
from model_zoo.checkpoints.parts import dictionaries
from model_zoo.encoder import Encoder
from ultrabench_eval.core.errors import UserError

TOLERANCE = 1e-4  # in float32 on a GPU, where sums run in another order; features are of order 1
COSINE = 0.999  # in anything shorter
SCALE = 0.02  # of the fill rule, where a description has no other
NEAR = 2e-3  # of the largest number: features as near to those of a known mistake have it
MISTAKES = "mistakes"  # the array of what known mistakes give


class Difference(NamedTuple):
    """How far an array is from its reference."""

    array: str
    largest: float
    cosine: float
    """The least one over the array's vectors."""
    allowed: float | None
    """The largest difference that agrees; None: the cosine decides, `COSINE`."""
    mistake: str = ""
    """The known mistake that gives these numbers, as a sentence; "" if none does."""

    @property
    def agrees(self) -> bool:
        """True if the array is near enough."""
        if self.allowed is None:
            return self.cosine >= COSINE
        return self.largest <= self.allowed


class Vectors(NamedTuple):
    """The reference of one model."""

    model: str
    described: dict[str, Any]
    expected: dict[str, Tensor]
    mistakes: Tensor | None = None
    """What each of the description's `mistakes` gives for the first image: [mistakes, 64], the
    first numbers of the feature; None where no such numbers are kept."""

    @property
    def images(self) -> Tensor:
        """The reference's input, float32 [B, 3, S, S] in [0, 1), or clips [B, T, 3, S, S].

        Noise; a clip that `moves` is `_moving`. `channels_first` says that noise of clips was drawn
        as [B, 3, T, S, S].
        """
        given = self.described["input"]
        batch, size, frames = given["batch"], given["size"], given.get("frames")
        generator = np.random.Generator(np.random.PCG64(given["seed"]))
        if frames:
            first = given.get("channels_first", False)
            shape = (batch, 3, frames) if first else (batch, frames, 3)
            clips = generator.random((*shape, size, size))
            clips = clips.swapaxes(1, 2) if first else clips
            return torch.from_numpy((_moving(clips) if given.get("moves") else clips).astype("f4"))
        drawn = generator.random((batch, 3, size, size))
        images = torch.from_numpy(drawn.astype(np.float32))
        return images[:, :1].repeat(1, 3, 1, 1) if given["grey"] else images


def _moving(noise: np.ndarray) -> np.ndarray:
    """Clips with waves that move, other in each channel and clip, from noise [B, T, 3, S, S]."""
    b, t, c, y, x = np.ogrid[tuple(slice(one) for one in noise.shape)]
    frames, size = noise.shape[1], noise.shape[-1]
    phase = 2 * x / size + 3 * y / size - t / frames + c / 9 + b / 5
    beat = x / size - y / (2 * size) + 2 * t / frames
    waves = np.sin(2 * np.pi * phase) * np.cos(2 * np.pi * beat)
    return np.asarray(0.5 + 0.3 * waves + 0.2 * (noise - 0.5))


VECTORS = Path(__file__).resolve().parent / "conformance"


def names() -> list[str]:
    """Models that have vectors."""
    return sorted(path.stem for path in VECTORS.glob("*.json"))


def read(name: str, second: bool = False) -> Vectors:
    """The reference of a model.

    Args:
        name: one of `names()`.
        second: the one with other weights and another input.

    Raises:
        UserError: there is none, or no such model.
    """
    folder = VECTORS
    if name not in names():
        status = model_zoo.card(name).status
        raise UserError(
            f"there are no reference vectors for model '{name}' (status: {status}), so it cannot "
            f"be verified here; there are: {', '.join(names())}"
        )
    described = json.loads((folder / f"{name}.json").read_text())
    if second:
        folder /= "second"
        described |= json.loads((folder / f"{name}.json").read_text())  # the keys are the same
    with np.load(folder / f"{name}.npz") as arrays:
        expected = {key: torch.from_numpy(value) for key, value in arrays.items()}
    return Vectors(name, described, expected, expected.pop(MISTAKES, None))


def replay(
    name: str, *, device: str = "auto", dtype: str = "float32", wrapper: str | None = None
) -> list[Difference]:
    """Compare a model's features and tokens with both references.

    Args:
        name: one of `names()`.
        device: see `model_zoo.load`.
        dtype: "float32" is held to the reference's tolerance, the others to `COSINE`.
        wrapper: another model, a plugin's, that claims to be this one and reads its released file.

    Raises:
        UserError: no vectors for this model.
    """
    results = []
    for second in (False, True):
        vectors = read(name, second)
        with tempfile.TemporaryDirectory() as temporary:
            file = Path(temporary) / "checkpoint.pth"
            write_checkpoint(vectors, file)
            encoder = model_zoo.load(wrapper or name, file, device, dtype)
            found = compare(encoder, vectors)
            if wrapper and not all(one.agrees or one.mistake for one in found):
                why = not_filled(encoder, files.read(file))
                found = [one._replace(mistake=one.mistake or why) for one in found]
        if second:
            found = [one._replace(array=f"{one.array}, second") for one in found]
        results += found
    return results


def compare(encoder: Encoder, vectors: Vectors) -> list[Difference]:
    """Compare a loaded encoder with the reference, in one pass through its network.

    Args:
        encoder: filled by `write_checkpoint`.
        vectors: the reference.
    """
    images = vectors.images
    allowed = None
    if encoder.dtype == torch.float32:
        on_cpu = encoder.device.type == "cpu"
        allowed = vectors.described["tolerance"] if on_cpu else TOLERANCE
    outputs = vectors.described["outputs"]
    # A wrapper of somebody else has poolings of its own: its default is compared with ours.
    own = encoder.name == vectors.model
    results = []
    with one_pass(encoder) if own else nullcontext():
        for output in outputs if own else outputs[:1]:
            wanted = vectors.expected[output["array"]]
            given = _output(encoder, images, output, vectors, own)[: len(wanted)]
            if given.shape != wanted.shape:
                results.append(Difference(output["array"], math.inf, 0.0, allowed,
                                          _of_shape(given, wanted)))  # fmt: skip
                continue
            cosine = cosine_similarity(given, wanted, dim=-1).min().item()
            largest = (given - wanted).abs().max().item()
            one = Difference(output["array"], largest, cosine, allowed)
            if not one.agrees and output["of"] == "features":
                one = one._replace(mistake=mistake(given[0], output["array"], vectors))
            results.append(one)
    return results


def mistake(given: Tensor, array: str, vectors: Vectors) -> str:
    """The known mistake that gives these features of the first image; "" if none does.

    Args:
        given: [D], of a wrapper that was filled by `write_checkpoint`.
        array: name of the reference that they differ from.
        vectors: the reference.
    """
    if vectors.mistakes is None:
        return ""
    near = []
    for known, numbers in zip(vectors.described["mistakes"], vectors.mistakes, strict=True):
        if known["of"] == array:
            apart = (given[: len(numbers)] - numbers).abs().max().item()
            if apart <= NEAR * numbers.abs().max().item():
                near.append((apart, known["sentence"]))
    return min(near)[1] if near else ""


def not_filled(encoder: Encoder, content: Mapping[str, Any]) -> str:
    """Which parameters of a network hold no number of a checkpoint, as a sentence; "" if none.

    By the first number of each: that of a tensor of the file, also where tensors were joined.

    Args:
        encoder: filled from `content` by somebody else's code.
        content: a checkpoint, as `files.read` gives it, in which no two numbers are alike.
    """
    known = {
        tensor.flatten()[0].item()
        for _, tensors in dictionaries(content)
        for tensor in tensors.values()
        if tensor.numel()
    }
    own = {key: one for key, one in encoder.network.named_parameters() if one.numel()}
    left = [key for key, one in own.items() if one.flatten()[0].item() not in known]
    if not left:
        return ""
    return (
        f"{len(left)} of {len(own)} parameters of the network hold no number of the file "
        f"({files.shortened(left)}): they keep their initial values, as strict=False leaves them "
        "where names differ."
    )


def _of_shape(given: Tensor, wanted: Tensor) -> str:
    return (
        f"The features have the shape {list(given.shape)}, and those of the authors' code "
        f"{list(wanted.shape)}: another part of the network is given out."
    )


@contextmanager
def one_pass(encoder: Encoder) -> Iterator[None]:
    """Inside, the network runs once for an input, however many features are pooled from it."""
    network, trunk = encoder.network, getattr(encoder, "trunk", "")
    run = getattr(network, trunk)
    known: list[Tensor] = []

    def remembered(x: Tensor, *more: Any, **options: Any) -> Any:
        if any(one is not None for one in (*more, *options.values())):
            return run(x, *more, **options)
        if not known or not torch.equal(known[0], x):
            known[:] = [x, run(x)]
        return known[1]

    network.__dict__[trunk] = remembered
    try:
        yield
    finally:
        del network.__dict__[trunk]


def write_checkpoint(vectors: Vectors, path: Path) -> None:
    """Write a checkpoint as the authors' file is laid out, its numbers by the fill rule."""
    described = vectors.described
    content: dict[str, Any] = dict(described["beside"])
    constants = _constants(vectors.model)
    for entry, part in described["parts"].items():
        tensors = {
            part["prefix"] + key: constants[key] if key in constants else _filled(part, key, shape)
            for key, shape in described["keys"]
        }
        content |= {entry: tensors} if entry else tensors
    torch.save(content, path, _use_new_zipfile_serialization=not described["old_format"])


def _filled(part: dict[str, Any], key: str, shape: list[int]) -> Tensor:
    # What must not be read is one zero, repeated: it takes no room in the file.
    if not part["filled"] or matches(key, part.get("unread", ())):
        return torch.zeros(1).expand(shape)
    return by_rule(part["rule"] + key, shape, part.get("scale", SCALE))


def by_rule(key: str, shape: list[int], scale: float = SCALE) -> Tensor:
    """The fill rule: numbers, float32, that follow from the key's text and the shape.

    `scale` is the spread of tensors of two or more dimensions. Counters of BatchNorm are 0, int64.
    """
    last = key.rpartition(".")[2]
    if last == "num_batches_tracked":
        return torch.zeros((), dtype=torch.int64)
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little")
    x = np.random.Generator(np.random.PCG64(seed)).standard_normal(shape).astype(np.float32)
    if len(shape) > 1:
        x = x * np.float32(scale)
    elif key.endswith("weight") or last.startswith("gamma"):
        x = np.float32(1) + np.float32(0.1) * x
    elif last == "running_var":
        x = np.float32(1) + np.float32(0.1) * np.abs(x)
    else:
        x = np.float32(0.02) * x
    return torch.from_numpy(x)


def _constants(name: str) -> dict[str, Tensor]:
    """Tables that a file must hold as they are; the reference's outputs prove them."""
    layouts: Iterable[Any] = getattr(model_zoo.registry.get(name), "layouts", ())
    return {key: value for layout in layouts for key, value in layout.constants.items()}


def _output(
    encoder: Encoder, images: Tensor, output: dict[str, Any], vectors: Vectors, own: bool
) -> Tensor:
    """Features [B, D] or tokens [B, places, D] at one of the model's poolings, if it is `own`."""
    if own:
        encoder.pooling = output["pooling"]
    if output["of"] == "tokens":
        return encoder.tokens(images).cpu()[:, torch.tensor(output["places"])]
    if not vectors.described["input"]["prepared"]:
        return encoder.encode(images).cpu()
    # The reference did not prepare images as this model does: they are only normalised.
    rule = encoder.input_rule
    if rule is None:
        raise ValueError(f"'{encoder.name}' has no input rule")
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (rule.mean, rule.std))
    return encoder.encode_prepared((images - mean) / std).cpu()
