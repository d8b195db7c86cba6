"""The configuration of a training run: one validated object, from YAML and `a.b=c` overrides.

Every setting that can change a weight is here, in sections; the defaults are those that the paper
(US-JEPA, arXiv 2602.19322) leaves open, or its Table 5. A key that no section has is an error.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_type_hints

import yaml
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic import model_validator as validates
from pydantic.dataclasses import dataclass

from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError

CONFIGS = Path(__file__).parent / "configs"
# Defaults are validated too, so that 2 and 2.0 are one setting wherever they come from.
_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, validate_default=True)


def _ordered(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"the first of {pair[0]:g} and {pair[1]:g} must not be the larger")
    return pair


_Count = Annotated[int, Field(ge=1)]
_NotNegative = Annotated[float, Field(ge=0)]
_Positive = Annotated[float, Field(gt=0)]
_Share = Annotated[float, Field(ge=0, le=1)]
_PositiveShare = Annotated[float, Field(gt=0, le=1)]
_ShareRange = Annotated[tuple[_PositiveShare, _PositiveShare], AfterValidator(_ordered)]
_PositiveRange = Annotated[tuple[_Positive, _Positive], AfterValidator(_ordered)]
_Range = Annotated[tuple[_NotNegative, _NotNegative], AfterValidator(_ordered)]
_Momenta = Annotated[tuple[_Share, _Share], AfterValidator(_ordered)]
_Beta = Annotated[float, Field(ge=0, lt=1)]
_Percentile = Annotated[float, Field(ge=0, le=100)]


def _check_width(width: int, heads: int) -> None:
    if width % heads:
        raise ValueError(f"width {width} is not a multiple of heads {heads}")
    if width % 4:
        raise ValueError(f"width {width} is not a multiple of 4, as the position table needs")


@dataclass(frozen=True, config=_STRICT)
class Model:
    """The student, a plain vision transformer. Table 5: ViT-Base, patch 16, input 224 x 224."""

    image_size: _Count = 224
    """Side of the square input in pixels."""
    patch_size: _Count = 16
    """Side of a patch in pixels."""
    width: _Count = 768
    depth: _Count = 12
    heads: _Count = 12
    class_token: bool = False
    """MAE's has one; I-JEPA's has none."""
    first_weights: Literal["normal", "xavier"] = "normal"
    """Of linear layers: truncated normal of spread 0.02, as the I-JEPA code, or uniform by Xavier,
    as MAE, which is larger in narrow networks. `objective: mae` always has the second."""

    @validates(mode="after")
    def _fits(self) -> Self:
        _check_width(self.width, self.heads)
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}"
            )
        return self

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.image_size // self.patch_size


@dataclass(frozen=True, config=_STRICT)
class Teacher:
    """The frozen teacher of `objective: salt`, and what is done to the targets of any teacher."""

    name: str = "urfm"
    """A model of the zoo (section 4.1: URFM)."""
    weights: str | None = None
    """Its checkpoint; null: where the zoo looks for it; "random" only if you mean it."""
    layers: tuple[str, ...] = ()
    """None: the model's patch tokens. Else dotted names of parts of its network, such as
    `blocks.8`, whose outputs (tokens, or feature maps) are the targets instead, side by side."""
    enlarge: bool = False
    """Feature maps of fewer cells than the student has patches are enlarged to them, bilinearly;
    else they do not fit."""
    layer_norm: bool = True
    """Targets are brought to mean 0 and deviation 1 over the channels of each layer, as the I-JEPA
    code does; the paper does not say. Also for the averaged teacher of `objective: ijepa`."""


@dataclass(frozen=True, config=_STRICT)
class Predictor:
    """The narrow transformer of the JEPA objectives. Table 5: depth 12, width 384, output 768."""

    depth: _Count = 12
    width: _Count = 384
    heads: _Count = 12
    """Not stated: the I-JEPA code takes the encoder's, 12; SALT has 16."""
    target_width: _Count | None = None
    """What its output is mapped to; null: the teacher's width. Checked against the teacher."""
    context_weight: _NotNegative = 0.0
    """Weight of the same loss at the visible patches (arXiv 2603.14482: tokens that are only looked
    at, never asked for, do not keep what is local). 0: none, as the paper."""

    @validates(mode="after")
    def _fits(self) -> Self:
        _check_width(self.width, self.heads)
        return self


@dataclass(frozen=True, config=_STRICT)
class Decoder:
    """The pixel decoder of `objective: mae` (arXiv 2111.06377, Table 8 and section 4)."""

    depth: _Count = 8
    width: _Count = 512
    heads: _Count = 16
    mask_share: Annotated[float, Field(gt=0, lt=1)] = 0.75
    """Share of the patches that are hidden and reconstructed."""
    normalize_pixels: bool = True
    """Each patch is brought to mean 0 and deviation 1 before it becomes the target."""

    @validates(mode="after")
    def _fits(self) -> Self:
        _check_width(self.width, self.heads)
        return self


@dataclass(frozen=True, config=_STRICT)
class Blocks:
    """Multi-block masks of the JEPA objectives (Table 5; see `usjepa.masks`)."""

    context_count: Literal[1] = 1
    context_scale: _ShareRange = (0.85, 1.0)
    """Area of the context block over that of the grid."""
    target_count: _Count = 4
    target_scale: _ShareRange = (0.075, 0.125)
    """Area of each target block over that of the grid."""
    aspect_ratio: _PositiveRange = (0.75, 1.5)
    """Height over width of the target blocks; the context block is square."""
    min_keep: Annotated[int, Field(ge=0)] = 10
    """tau: patches that must be left of a block (at least so many with a region, more without)."""
    cover_edges: bool = False
    """False: as the official sampler, which never covers the last row and column of the grid and
    takes block sizes from the step alone. True: both mended."""
    targets: Literal["pad", "truncate"] = "pad"
    """Target lists of unequal length (only with regions): padded, without weight in the loss, or
    cut to the shortest of the batch, as the official code does, which favours top rows."""
    context: Literal["pad", "truncate"] = "truncate"
    """Likewise the context lists, which are unequal in every batch; padding is not attended to."""
    allow_overlap: bool = False
    """The official sampler's switch of that name: target places stay in the context. With a frozen
    teacher nothing can collapse, and a small student learns faster."""
    context_limit: _Count | None = None
    """Longer context lists are thinned to so many patches, drawn at random, which saves most of a
    step's time; null: kept whole, as the paper."""
    redraws: _Count = 20
    """Draws of a block before a fallback."""


@dataclass(frozen=True, config=_STRICT)
class Augment:
    """Random changes of a training image. Table 5 names them; their strengths are not stated, and
    these are ours: weaker than the mildest corruption of the tests (appendix E.2)."""

    flip_horizontal: _Share = 0.5
    """A probability, as are the next and all called so."""
    flip_vertical: _Share = 0.5
    blur_probability: _Share = 0.5
    blur_sigma: _PositiveRange = (0.1, 1.0)
    """Deviation of the Gaussian, in pixels of the cropped image."""
    speckle_probability: _Share = 0.5
    speckle_sigma: _Range = (0.0, 0.2)
    """Deviation of the multiplicative noise."""
    contrast_probability: _Share = 0.5
    contrast_factor: _PositiveRange = (0.75, 1.25)
    """Distances from the median are multiplied by it."""


@dataclass(frozen=True, config=_STRICT)
class Data:
    """Frames: preprocessing and sampling (section 4.3, eq. 6), crops (Table 5)."""

    grey: bool = True
    inpaint_below: _Share = 0.05
    """Coloured marks are painted over if they take less than this share of the image."""
    percentiles: Annotated[tuple[_Percentile, _Percentile], AfterValidator(_ordered)] = (2, 98)
    """They become 0 and 1; inside the ultrasound region with `region_conditioning`."""
    dataset_cap: _Count = 50_000
    """N_t: frames of a set that count in an epoch, at most."""
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the frames, whole videos at a time, for the validation loss."""
    crop_scale: _ShareRange = (0.6, 1.0)
    """Area of the random crop over that of the image."""
    crop_aspect: _PositiveRange = (0.75, 4 / 3)
    """Width over height of the crop; not stated, torchvision's default as in the I-JEPA code."""
    augment: Augment = Augment()


@dataclass(frozen=True, config=_STRICT)
class Train:
    """Optimisation (Table 5). Rates are those of the whole batch: nothing is scaled by its size."""

    epochs: _Count = 100
    warmup_epochs: _NotNegative = 10
    """May be more than `epochs`: a run cut short sees the first part of its warm-up."""
    batch_size: _Count = 128
    """Images of one optimiser step, over all processes and accumulated parts."""
    accumulate: _Count = 1
    """Parts in which a process goes through its share of the batch."""
    optimizer: Literal["adamw"] = "adamw"
    betas: tuple[_Beta, _Beta] = (0.9, 0.999)
    """Not stated; the I-JEPA code leaves torch's."""
    eps: _Positive = 1e-8
    schedule: Literal["cosine"] = "cosine"
    """Linear warm-up, then a cosine to the final rate; weight decay follows a cosine throughout."""
    start_learning_rate: _NotNegative = 5e-6
    learning_rate: _Positive = 5e-5
    final_learning_rate: _NotNegative = 5e-7
    weight_decay: _NotNegative = 0.04
    final_weight_decay: _NotNegative = 0.4
    ema: _Momenta = (0.996, 1.0)
    """Momentum of the averaged teacher, first and last; only `objective: ijepa` has one."""
    stretch: Annotated[float, Field(ge=1)] = 1.0
    """`ipe_scale` of the I-JEPA code: schedules as if training were so many times as long."""
    clip: _Positive | None = None
    """Largest norm of the gradient; null: any, as I-JEPA. SALT has 0.02."""
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    compile: bool = False

    @validates(mode="after")
    def _fits(self) -> Self:
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of accumulate {self.accumulate}"
            )
        return self


@dataclass(frozen=True, config=_STRICT)
class Config:
    """A training run."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
    """What the exported model is called."""
    objective: Literal["salt", "ijepa", "mae"] = "salt"
    """"salt": predict a frozen teacher (US-JEPA). "ijepa": predict the student's own running
    average. "mae": reconstruct pixels."""
    region_conditioning: bool = False
    """USrc (section 4.2): masks, and the intensity stretch, keep to the ultrasound region."""
    seed: Annotated[int, Field(ge=0)] = 0
    model: Model = Model()
    teacher: Teacher = Teacher()
    predictor: Predictor = Predictor()
    decoder: Decoder = Decoder()
    masks: Blocks = Blocks()
    data: Data = Data()
    train: Train = Train()

    @property
    def id(self) -> str:
        """12 digits of the SHA-256 of all settings but the name: equal ids give equal runs."""
        settings = asdict(self)
        del settings["name"]
        return hashing.short(hashing.digest(settings))


def names() -> list[str]:
    """Names of the configurations that come with the package."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def load(source: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration.

    Args:
        source: a name of `names()`, or a YAML file.
        overrides: `section.key=value` each, later ones over earlier ones; the value is YAML.

    Raises:
        UserError: no such configuration, an unknown key, or a value out of range.
    """
    path = Path(source)
    if path.suffix not in (".yaml", ".yml"):
        if str(source) not in names():
            raise UserError(
                f"there is no configuration '{source}'{_hint(str(source), names())}; there are "
                f"{', '.join(names())}, or a .yaml file"
            )
        path = CONFIGS / f"{source}.yaml"
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"configuration not found: {path}; name an existing file") from error
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"cannot read configuration {path} ({reason}); mend the file") from error
    if not isinstance(content, dict):
        raise UserError(f"configuration {path} holds no keys; write `name: ...` and more into it")
    for override in overrides:
        _override(content, override)
    return validate({"name": path.stem, **content}, str(path))


def validate(content: Mapping[str, Any], where: str = "given") -> Config:
    """A configuration from plain data, such as `dataclasses.asdict` of one.

    Args:
        content: sections and keys.
        where: what an error calls it, after the word "configuration".

    Raises:
        UserError: an unknown key, or a value out of range.
    """
    try:
        config: Config = TypeAdapter(Config).validate_python(dict(content))
    except ValidationError as error:
        raise UserError(f"configuration {where}: {_sentence(error)}") from error
    return config


def _override(content: dict[str, Any], override: str) -> None:
    """Set one dotted key of nested dictionaries."""
    dotted, equals, text = override.partition("=")
    path = dotted.strip().split(".")
    if not equals or not all(path):
        raise UserError(f"cannot read override '{override}'; write it as section.key=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"the value of override '{override}' is no YAML; quote it") from error
    *parents, last = path
    for parent in parents:
        inner = content.setdefault(parent, {})
        if inner is None:
            inner = content[parent] = {}
        if not isinstance(inner, dict):
            raise UserError(
                f"override '{override}': '{parent}' holds a value, not keys; write {parent}=value"
            )
        content = inner
    content[last] = value


def _sentence(error: ValidationError) -> str:
    """The first of pydantic's complaints, with a near name for an unknown key."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    dotted = ".".join(path)
    if first["type"] == "unexpected_keyword_argument":
        known = _keys(path[:-1])
        return f"unknown key '{dotted}'{_hint(path[-1], known)}; it may be {', '.join(known)}"
    message = first["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    # A whole section, or what a check of ours has told already, is not repeated.
    if first["type"] != "value_error" and not isinstance(first["input"], dict):
        message += f", not {first['input']!r}"
    return f"{dotted}: {message}; mend it"


def _keys(path: list[str]) -> list[str]:
    """Keys of the section at `path`."""
    section: Any = Config
    for part in path:
        section = get_type_hints(section)[part]
    return [field.name for field in fields(section)]


def _hint(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    return f" (did you mean '{near[0]}'?)" if near else ""
