"""Replay reference vectors: a wrapper is right if it gives the numbers of the authors' own code.

For each model there is a description (`<model>.json`: the keys of the released file, the wrapper
around them, the rule's seed strings) and a few output arrays of the reference (`<model>.npz`). A
checkpoint is filled by a rule from its key names, written in the released layout, and opened by the
public `load()`; nothing is mocked.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

import model_zoo
from model_zoo.encoder import Encoder
from ultrabench_eval.core.errors import UserError

TOLERANCE = 1e-4  # on float32; features are of order 1
COSINE = 0.999  # on anything shorter


class Difference(NamedTuple):
    """How far an array is from its reference."""

    array: str
    largest: float
    cosine: float
    """The least one over the array's vectors."""
    agrees: bool


def vectors_folder() -> Path:
    """Where the vectors are: beside the installed package, or in the repository's tests.

    Raises:
        UserError: in neither place.
    """
    here = Path(__file__).resolve().parent
    for folder in (here / "conformance", here.parent / "tests" / "conformance"):
        if folder.is_dir():
            return folder
    raise UserError(f"the reference vectors are not in {here / 'conformance'}; install again")


def names() -> list[str]:
    """Models that have vectors."""
    return sorted(path.stem for path in vectors_folder().glob("*.json"))


def tolerance(dtype: str) -> str:
    """What is asked of a dtype, in words."""
    if dtype == "float32":
        return f"asked for: differences of at most {TOLERANCE:g}"
    return f"asked for: cosines of at least {COSINE:g} ({dtype} has no fixed differences)"


def replay(
    name: str, *, device: str = "auto", dtype: str = "float32", folder: Path | None = None
) -> list[Difference]:
    """Compare a model's features and tokens with the reference.

    Args:
        name: one of `names()`.
        device: see `model_zoo.load`.
        dtype: "float32" is held to `TOLERANCE`, the others to `COSINE`.
        folder: where the vectors are; default `vectors_folder()`.

    Raises:
        UserError: no vectors for this model.
    """
    folder = folder or vectors_folder()
    path = folder / f"{name}.json"
    if not path.is_file():
        listed = ", ".join(sorted(p.stem for p in folder.glob("*.json")))
        raise UserError(f"there are no reference vectors for model '{name}'; there are: {listed}")
    described = json.loads(path.read_text())
    expected = {
        key: torch.from_numpy(value) for key, value in np.load(folder / f"{name}.npz").items()
    }
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "checkpoint.pth"
        write_checkpoint(name, described, file)
        encoder = model_zoo.load(name, file, device, dtype)
    images = reference_images(described["input"])
    results = []
    for output in described["outputs"]:
        given = outputs(encoder, images, output, prepared=described["input"]["prepared"])
        wanted = expected[output["array"]]
        results.append(_difference(output["array"], given[: len(wanted)], wanted, dtype))
    return results


def write_checkpoint(name: str, described: dict[str, Any], path: Path) -> None:
    """Write a checkpoint as the authors' file is laid out, its numbers by the fill rule."""
    content: dict[str, Any] = dict(described["beside"])
    constants = _constants(name)
    for entry, part in described["parts"].items():
        keys = described["keys"] if part["keys"] else []
        tensors = {
            part["prefix"] + key: constants[key] if key in constants else _filled(part, key, shape)
            for key, shape in keys
        }
        content |= {entry: tensors} if entry else tensors
    torch.save(content, path, _use_new_zipfile_serialization=not described["old_format"])


def _filled(part: dict[str, Any], key: str, shape: list[int]) -> Tensor:
    return by_rule(part["rule"] + key, shape) if part["filled"] else torch.zeros(shape)


def by_rule(key: str, shape: list[int]) -> Tensor:
    """The fill rule: numbers, float32, that follow from the key's text and the shape."""
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little")
    x = np.random.Generator(np.random.PCG64(seed)).standard_normal(shape).astype(np.float32)
    if len(shape) > 1:
        x = x * np.float32(0.02)
    elif key.endswith("weight") or key.rpartition(".")[2].startswith("gamma"):
        x = np.float32(1) + np.float32(0.1) * x
    else:
        x = np.float32(0.02) * x
    return torch.from_numpy(x)


def _constants(name: str) -> dict[str, Tensor]:
    """Tables that a file must hold as they are; the reference's outputs prove them."""
    layouts: Iterable[Any] = getattr(model_zoo.registry.get(name), "layouts", ())
    return {key: value for layout in layouts for key, value in layout.constants.items()}


def reference_images(given: dict[str, Any]) -> Tensor:
    """The reference's input, float32 [B, 3, S, S] in [0, 1)."""
    size, batch = given["size"], given["batch"]
    generator = np.random.Generator(np.random.PCG64(given["seed"]))
    drawn = generator.random((batch, 3, size, size)).astype(np.float32)
    images = torch.from_numpy(drawn)
    return images[:, :1].repeat(1, 3, 1, 1) if given["grey"] else images


def outputs(encoder: Encoder, images: Tensor, output: dict[str, Any], prepared: bool) -> Tensor:
    """Features [B, D] or tokens [B, places, D] at one of the model's poolings.

    Args:
        encoder: the model.
        images: from `reference_images`.
        output: "of" features or tokens, "pooling", and for tokens the "places" wanted.
        prepared: the model prepares images in a way the reference did not, so they are only
            normalised here, and features are asked for past that step.
    """
    encoder.pooling = output["pooling"]
    if output["of"] == "tokens":
        places = torch.tensor(output["places"])
        return encoder.tokens(images).cpu()[:, places]
    if prepared:
        rule = encoder.input_rule
        assert rule is not None
        mean, std = (torch.tensor(x).view(3, 1, 1) for x in (rule.mean, rule.std))
        return encoder.encode_prepared((images - mean) / std).cpu()
    return encoder.encode(images).cpu()


def _difference(array: str, given: Tensor, wanted: Tensor, dtype: str) -> Difference:
    largest = (given - wanted).abs().max().item()
    cosine = cosine_similarity(given, wanted, dim=-1).min().item()
    agrees = largest <= TOLERANCE if dtype == "float32" else cosine >= COSINE
    return Difference(array, largest, cosine, agrees)
