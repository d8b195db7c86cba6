"""Exports: the file that this project's trainer (`usjepa`) leaves.

It is one safetensors file with the names of `VisionTransformer`, or of `VideoTransformer` where it
was trained on clips. Its header holds, as JSON
under `usjepa`, what shapes do not tell: heads, how an image becomes the input, and a digest of the
weights. Beside it, under the same name with `.json`, lies a card for people: what it was trained
on, and how, with the digest of the file that it belongs to. Header and card hold digests of
themselves too. Files of format 1 have the card's digest of the file alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from model_zoo.cards import NOT_STATED, Card, Status
from model_zoo.clip_rule import ClipRule
from model_zoo.transforms import InputRule
from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError, not_found

FORMAT = 2
"""Raised whenever an older reader would misread an export."""
FILE = "encoder.safetensors"
_SCALE = ".scale"  # of a name, for what the rows of an int8 tensor are multiplied by
KEY = "usjepa"  # of the one entry in the header: the order of several would be arbitrary
SHIPPED = Path(__file__).parents[1] / "data"
"""Exports that are part of the package, each under its model's name."""

PAPERS = {
    "salt": "US-JEPA, arXiv 2602.19322 (2026), for the method",
    "ijepa": "I-JEPA, arXiv 2301.08243 (2023), for the method",
    "mae": "MAE, arXiv 2111.06377 (2021), for the method",
    "vjepa": "V-JEPA, arXiv 2404.08471 (2024), for the method",
    "videomae": "VideoMAE, arXiv 2203.12602 (2022), for the method",
}
LOCALISED = "; with the localisation loss of arXiv 2507.18424 (2025)"
STATUS: dict[bool, Status] = {  # by whether it is nano
    False: "trained by this project's trainer",
    True: "trained by this project's trainer, nano",
}
TRAINED = f"a training of one's own: `usjepa train --out DIR` leaves DIR/{FILE}"
THEIR_TERMS = "that of the data sets it was trained on, and of its teacher"
OUR_TERMS = (
    "research only, as the data sets it was trained on: POCUS is in part CC BY-NC, CAMUS is "
    "CC BY-NC-SA as far as is known, MMOTU, DDTI and BUSI state no terms, the others ask for a "
    "citation"
)
OUR_TERMS_OF_CLIPS = "research only, as POCUS, which it was trained on: in part CC BY-NC"
_Count = Annotated[int, Field(ge=1)]


Stem = Literal["patches", "convolutions"]
"""How an image becomes patch tokens; see `model_zoo.vit`."""


class EncoderSizes(NamedTuple):
    """Arguments of `VisionTransformer`; by default those of the nano configurations."""

    image_size: int = 224
    patch_size: int = 16
    width: int = 192
    depth: int = 8
    heads: int = 3
    class_token: bool = False
    stem: Stem = "patches"
    projection: int = 0

    def __str__(self) -> str:
        text = f"ViT {self.width} wide, {self.depth} deep, {self.heads} heads, "
        text += f"patch {self.patch_size} of {self.image_size}"
        text += ", class token" if self.class_token else ""
        return text + (", convolutional stem" if self.stem == "convolutions" else "")

    @property
    def nano(self) -> bool:
        """Whether it is smaller than the paper's ViT-B."""
        return self.width < 768 or self.depth < 12


class ClipSizes(NamedTuple):
    """Arguments of `VideoTransformer`; by default those of the nano configurations."""

    image_size: int = 64
    frames: int = 8
    patch_size: int = 8
    tubelet: int = 2
    width: int = 128
    depth: int = 6
    heads: int = 2
    rotary: bool = False

    @property
    def class_token(self) -> bool:
        """None of these has one."""
        return False

    def __str__(self) -> str:
        text = f"ViT {self.width} wide, {self.depth} deep, {self.heads} heads, tubelets of "
        text += f"{self.tubelet} x {self.patch_size} in {self.frames} x {self.image_size}"
        return text + (", rotary positions" if self.rotary else "")

    @property
    def nano(self) -> bool:
        """Whether it is smaller than the paper's ViT-L."""
        return self.width < 1024 or self.depth < 24


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ClipHeader:
    """What the file says of clips, where the network was trained on those."""

    tubelet: _Count
    """Frames of one token."""
    rotary: bool
    """Whether positions are V-JEPA 2's; else there is a table."""
    rule: ClipRule
    """Which frames it looks at; their number is that of training."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Header:
    """What the file itself says of the network in it."""

    name: str
    objective: str
    region_conditioning: bool
    image_size: _Count
    patch_size: _Count
    heads: _Count
    class_token: bool
    input: InputRule
    config: str
    """Id of the training's configuration."""
    tensors: str | None = None
    """`hashing.digest_tensors` of the weights; None in files of format 1."""
    clip: ClipHeader | None = None
    """Of a network of clips."""
    localisation: float | None = None
    """Weight of the JEPA loss beside the localisation loss, if that was trained with."""
    stem: Literal["convolutions"] | None = None
    """None: patches are cut and projected."""
    projection: _Count | None = None
    """Width of the linear layer for pooled tokens (`usjepa.projection`), if there is one."""

    def metadata(self) -> dict[str, str]:
        """The entry in the header of a safetensors file; the same bytes for the same header."""
        told = asdict(self)
        for name in ("clip", "localisation", "stem", "projection"):  # which earlier files have not
            if told[name] is None:
                del told[name]
        sealed = hashing.seal({"format": FORMAT, **told})
        return {KEY: hashing.canonical_json(sealed).decode()}


@dataclass(frozen=True)
class _GuardTold:
    """What the frames were searched for."""

    tasks: tuple[str, ...]


@dataclass(frozen=True)
class _Frames:
    """What the network saw."""

    sets: dict[str, int]
    saw: tuple[str, ...]
    guard: _GuardTold | None


@dataclass(frozen=True)
class _CardTold:
    """What is used of a card; there is more in one."""

    name: str
    sha256: str
    frames: _Frames
    epoch: int
    validation_loss: float | None


class Export(NamedTuple):
    """An export, of which only the header was read."""

    path: Path
    header: Header
    sizes: EncoderSizes | ClipSizes
    parameters: int

    def card(self, checked: bool = True) -> Card:
        """What is known of the encoder: from the file, and from its card where there is one.

        Args:
            checked: whether to make sure, by their digests, that the weights are as they were
                written and that the card is of this file.

        Raises:
            UserError: the weights or the card are damaged, or the card is of another file.
        """
        if checked:
            self._check_tensors()
        head, told = self.header, self._told(checked)
        shipped = self.path.parent == SHIPPED
        ours = OUR_TERMS if head.clip is None else OUR_TERMS_OF_CLIPS
        region = "USrc: " if head.region_conditioning else ""
        return Card(
            title=f"{head.name}, {self.sizes.width} x {self.sizes.depth}",
            paper=region
            + PAPERS.get(head.objective, NOT_STATED)
            + (LOCALISED if head.localisation is not None else ""),
            code_licence="Apache-2.0",
            weights_licence=ours if shipped else THEIR_TERMS,
            licence_kind="non-commercial" if shipped else "unknown",
            weights_from="part of this package" if shipped else TRAINED,
            parameters=self.parameters,
            dim=self.sizes.width,
            pretraining=_pretraining(told.frames, head) if told else NOT_STATED,
            saw=told.frames.saw if told else None,
            status=STATUS[self.sizes.nano],
            inferred=_differences(head),
            note=_progress(told, head) if told else f"objective {head.objective}; no card beside",
        )

    def _check_tensors(self) -> None:
        known = self.header.tensors
        if known is not None and hashing.digest_tensors(load_file(self.path)) != known:
            raise _damaged(self.path, ValueError("its weights do not have the digest it holds"))

    def _told(self, checked: bool) -> _CardTold | None:
        path = self.path.with_suffix(".json")
        if not path.is_file():
            return None
        told: _CardTold = TypeAdapter(_CardTold).validate_python(read_card(path))
        if checked and told.sha256 != hashing.digest_file(self.path):
            raise UserError(
                f"{path} is the card of another file than {self.path}; copy the two of one "
                f"training together, or remove {path.name} to go without"
            )
        return told


def in_folder(weights: Path | str | None) -> Path | str | None:
    """The export in a folder of training, which holds checkpoints too; else `weights` as it is."""
    if weights is None:
        return None
    file = Path(weights).expanduser() / FILE
    return file if file.is_file() else weights


def look(path: Path) -> Export | None:
    """An export's header, without its tensors; None if it is not an export, or not a file.

    Raises:
        UserError: it is one, but damaged or of a newer format.
    """
    try:
        with path.open("rb") as file:
            if file.read(9)[8:] != b"{":
                return None
        with safe_open(path, framework="pt") as opened:
            text = (opened.metadata() or {}).get(KEY)
            shapes = {key: opened.get_slice(key).get_shape() for key in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    if text is None:
        return None
    header = _header(path, text)
    sizes = _sizes(path, header, shapes)
    counted = (shape for key, shape in shapes.items() if not key.endswith(_SCALE))
    return Export(path, header, sizes, sum(map(prod, counted)))


def packed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices and kernels as int8, what each of their rows is multiplied by, and float16 vectors.

    A number is at most half a 127th of the largest of its row from what it was.
    """
    made = {}
    for key, value in tensors.items():
        if value.ndim < 2 or "pos_embed" in key:
            made[key] = value.half()
            continue
        scale = value.flatten(1).abs().amax(1).clamp_min(1e-30) / 127
        made[key] = (value / _by_rows(scale, value)).round().to(torch.int8)
        made[key + _SCALE] = scale
    return made


def decoded(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """What `packed` made, with float32 in place of int8; other tensors as they are."""
    made = dict(tensors)
    for key in [key for key in made if key.endswith(_SCALE)]:
        scale, name = made.pop(key), key.removesuffix(_SCALE)
        made[name] = made[name].float() * _by_rows(scale, made[name])
    return made


def _by_rows(scale: Tensor, value: Tensor) -> Tensor:
    return scale.view(-1, *[1] * (value.ndim - 1))


def read_card(path: Path | str) -> dict[str, Any]:
    """The card of an export, as `usjepa.export` wrote it.

    Args:
        path: the card, the export beside it, or their folder.

    Raises:
        UserError: there is none, or it is damaged or of a newer format.
    """
    path = Path(path)
    path = path / FILE if path.is_dir() else path
    path = path.with_suffix(".json")
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if _check_format(path, told) > 1:
            content = {key: value for key, value in told.items() if key != "card_sha256"}
            if told["card_sha256"] != hashing.digest(content):
                raise ValueError("its content does not have the digest it holds")
        TypeAdapter(_CardTold).validate_python(told)
    except FileNotFoundError as error:
        raise not_found("card of an export", path, "export again with `usjepa export`") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _damaged(path, error) from error
    return dict(told)


def sign_card(card: Mapping[str, Any]) -> dict[str, Any]:
    """A card with the digest of all that is in it."""
    return {**card, "card_sha256": hashing.digest(card)}


def _header(path: Path, text: str) -> Header:
    try:
        told = json.loads(text)
        if _check_format(path, told) > 1:
            if not hashing.sealed(told):
                raise ValueError("its header does not have the digest it holds")
            del told["sha256"]
        del told["format"]
        header: Header = TypeAdapter(Header).validate_python(told)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _damaged(path, error) from error
    return header


def _check_format(path: Path, told: Mapping[str, Any]) -> int:
    form = int(told["format"])
    if form > FORMAT:
        raise UserError(
            f"{path} is of format {form}, newer than the {FORMAT} that this version reads; update "
            "ultrabench-eval"
        )
    return form


def _sizes(
    path: Path, header: Header, shapes: Mapping[str, Sequence[int]]
) -> EncoderSizes | ClipSizes:
    """Width and depth follow from the shapes; the others must agree with them."""
    clip, steps = header.clip, 1
    convolutions = (key for key in shapes if key.startswith("patch_embed.convolutions."))
    halved = sum(key.endswith(".weight") for key in convolutions)
    try:
        width, _, *tubelet, patch, _ = shapes["patch_embed.proj.weight"]
        patch <<= halved
        rotary = clip is not None and clip.rotary
        places = 0 if rotary else shapes["pos_embed"][1]
    except (KeyError, ValueError, IndexError) as error:
        raise _damaged(path, error) from error
    depth = len({key.split(".")[1] for key in shapes if key.startswith("blocks.")})
    grid = header.image_size // patch
    if clip is not None:
        steps = clip.rule.frames // clip.tubelet
    if (
        (header.patch_size, header.image_size) != (patch, grid * patch)
        or tubelet != ([] if clip is None else [clip.tubelet])
        or places != (0 if rotary else steps * grid * grid + header.class_token)
        or header.input.size != header.image_size
        or width % header.heads
        or bool(halved) != (header.stem is not None)
        or shapes.get("projection.weight", [None])[0] != header.projection
    ):
        raise _damaged(path, ValueError("its header and the shapes in it contradict each other"))
    size, heads = header.image_size, header.heads
    if clip is None:
        stem: Stem = header.stem or "patches"
        projection = header.projection or 0
        return EncoderSizes(
            *(size, patch, width, depth, heads, header.class_token, stem, projection)
        )
    frames = clip.rule.frames
    return ClipSizes(size, frames, patch, clip.tubelet, width, depth, heads, clip.rotary)


def _damaged(path: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())
    return UserError(
        f"{path} is not as `usjepa` wrote it ({type(error).__name__}: {reason[:120]}); "
        "export again with `usjepa export`"
    )


# ---- words for cards ----------------------------------------------------------------------------


def _pretraining(frames: _Frames, head: Header) -> str:
    sets, tasks = frames.sets, ", ".join(frames.guard.tasks if frames.guard else ())
    listed = ", ".join(f"{name} {count:,}" for name, count in sets.items())
    searched = f"searched for test images of {tasks}" if tasks else "not searched for test images"
    what = "frames" if head.clip is None else "videos"
    return f"{sum(sets.values()):,} {what} ({listed}), {searched}"


def _differences(head: Header) -> tuple[str, ...]:
    """How images are prepared otherwise than in training, where more is known of them."""
    marks = "coloured marks are left in; in training they were painted over"
    region = "percentiles of the whole image; in training, of the scanned region"
    known = {marks: head.input.grey, region: head.region_conditioning}
    return tuple(text for text, holds in known.items() if holds)


def _progress(told: _CardTold, head: Header) -> str:
    loss = told.validation_loss
    after = f" and validation loss {loss:.4g}" if loss is not None else ""
    return f"objective {head.objective}, config {head.config}, after {told.epoch} epochs{after}"
