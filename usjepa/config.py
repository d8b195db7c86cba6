"""The configuration of a training run: one validated object, from YAML and `a.b=c` overrides.

Every setting that can change a weight is here, in sections; the defaults are those that the paper
(US-JEPA, arXiv 2602.19322) leaves open, or its Table 5. A key that no section has is an error.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_type_hints

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)
from pydantic import model_validator as validates
from pydantic.dataclasses import dataclass

from ultrabench_eval.core import hashing, yaml_file
from ultrabench_eval.core.errors import UserError

CONFIGS = Path(__file__).parent / "configs"
# Defaults are validated too, so that 2 and 2.0 are one setting wherever they come from.
_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, validate_default=True)


def _ordered(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"the first of {pair[0]:g} and {pair[1]:g} must not be the larger")
    return pair


def _apart(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] == pair[1]:
        raise ValueError(f"the two must differ, or every image becomes black; both are {pair[0]:g}")
    return pair


# Bounds are far outside of what anyone trains with; within them nothing overflows.
_NUMBER = BeforeValidator(yaml_file.not_a_switch)
_Count = Annotated[int, _NUMBER, Field(ge=1, le=10**6)]
_Size = Annotated[int, _NUMBER, Field(ge=1, le=2**14)]
_NotNegative = Annotated[float, _NUMBER, Field(ge=0, le=1e30)]
_Positive = Annotated[float, _NUMBER, Field(ge=1e-30, le=1e30)]
_Moderate = Annotated[float, _NUMBER, Field(ge=1e-3, le=1e3)]
_Share = Annotated[float, _NUMBER, Field(ge=0, le=1)]
_PositiveShare = Annotated[float, _NUMBER, Field(gt=0, le=1)]
_ShareRange = Annotated[tuple[_PositiveShare, _PositiveShare], AfterValidator(_ordered)]
_ModerateRange = Annotated[tuple[_Moderate, _Moderate], AfterValidator(_ordered)]
_Spread = Annotated[float, _NUMBER, Field(ge=0, le=1e3)]
_SpreadRange = Annotated[tuple[_Spread, _Spread], AfterValidator(_ordered)]
_Momenta = Annotated[tuple[_Share, _Share], AfterValidator(_ordered)]
_Beta = Annotated[float, _NUMBER, Field(ge=0, lt=1)]
_Percentile = Annotated[float, _NUMBER, Field(ge=0, le=100)]


def _check_width(width: int, heads: int) -> None:
    if width % heads:
        raise ValueError(f"width {width} is not a multiple of heads {heads}")
    if width % 4:
        raise ValueError(f"width {width} is not a multiple of 4, as the position table needs")


@dataclass(frozen=True, config=_STRICT)
class ModelSettings:
    """The student, a plain vision transformer. Table 5: ViT-Base, patch 16, input 224 x 224."""

    image_size: _Size = 224
    """Side of the square input in pixels."""
    patch_size: _Size = 16
    """Side of a patch in pixels."""
    width: _Size = 768
    depth: _Size = 12
    heads: _Size = 12
    class_token: bool = False
    """MAE's has one; I-JEPA's has none."""
    first_weights: Literal["normal", "xavier"] = "normal"
    """Of linear layers: truncated normal of spread 0.02, as the I-JEPA code, or uniform by Xavier,
    as MAE, which is larger in narrow networks. `mae` and `videomae` always have the second."""
    stem: Literal["patches", "convolutions"] = "patches"
    """"convolutions": `model_zoo.vit.ConvolutionalStem`; hidden patches then show a little at the
    borders of their neighbours."""
    start: str | None = None
    """A trained model of the zoo whose network the student begins as, `NAME` or `NAME=WEIGHTS`;
    null: the first weights above."""

    @validates(mode="after")
    def _fits(self) -> Self:
        _check_width(self.width, self.heads)
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}"
            )
        if self.stem == "convolutions" and (self.patch_size < 4 or self.patch_size.bit_count() > 1):
            raise ValueError(
                f"patch_size {self.patch_size} is not 4, 8, 16 ..., as stem: convolutions needs"
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
class PredictorSettings:
    """The narrow transformer of the JEPA objectives. Table 5: depth 12, width 384, output 768."""

    depth: _Size = 12
    width: _Size = 384
    heads: _Size = 12
    """Not stated: the I-JEPA code takes the encoder's, 12; SALT has 16."""
    target_width: _Size | None = None
    """What its output is mapped to; null: the teacher's width. Checked against the teacher."""
    context_weight: _NotNegative = 0.0
    """Weight of the same loss at the visible patches (arXiv 2603.14482: tokens that are only looked
    at, never asked for, do not keep what is local). 0: none, as the paper."""
    context_by: Literal["predictor", "linear"] = "predictor"
    """What predicts at the visible patches: the predictor, or a linear map of the student's tokens,
    so that the student itself must hold what is asked for."""
    hidden_weight: _NotNegative = 1.0
    """Weight of the loss at the hidden patches. 0: there is no predictor, and with a linear map at
    the visible ones this is plain distillation."""

    @validates(mode="after")
    def _fits(self) -> Self:
        _check_width(self.width, self.heads)
        if self.context_by == "linear" and not self.context_weight:
            raise ValueError(
                "context_by: linear asks nothing of the visible patches while context_weight is 0; "
                "set context_weight: 1, or leave it out"
            )
        if not self.hidden_weight and self.context_by != "linear":
            raise ValueError(
                "hidden_weight 0 leaves nothing to learn; set context_weight: 1 and "
                "context_by: linear for plain distillation"
            )
        return self


@dataclass(frozen=True, config=_STRICT)
class Decoder:
    """The pixel decoder of `objective: mae` (arXiv 2111.06377, Table 8 and section 4)."""

    depth: _Size = 8
    width: _Size = 512
    heads: _Size = 16
    mask_share: Annotated[float, _NUMBER, Field(gt=0, lt=1)] = 0.75
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
    target_count: Annotated[int, _NUMBER, Field(ge=1, le=10**3)] = 4
    target_scale: _ShareRange = (0.075, 0.125)
    """Area of each target block over that of the grid."""
    aspect_ratio: _ModerateRange = (0.75, 1.5)
    """Height over width of the target blocks; the context block is square."""
    min_keep: Annotated[int, _NUMBER, Field(ge=0)] = 10
    """tau: patches that must be left of a block (at least so many with a region, more without)."""
    cover_edges: bool = False
    """False: as the official sampler, which never covers the last row and column of the grid and
    takes block sizes from the step alone. True: both fixed."""
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
    redraws: Annotated[int, _NUMBER, Field(ge=1, le=10**4)] = 20
    """Draws of a block before a fallback."""


@dataclass(frozen=True, config=_STRICT)
class MaskKind:
    """One kind of multi-block mask in space and time (V-JEPA, arXiv 2404.08471, section 3.2)."""

    blocks: Annotated[int, _NUMBER, Field(ge=1, le=10**3)] = 8
    """Blocks whose union is predicted; what is seen is the rest."""
    spatial_scale: _ShareRange = (0.15, 0.15)
    """Area of a block over that of the grid."""
    temporal_scale: _ShareRange = (1.0, 1.0)
    """Time steps of a block over those of the clip."""
    aspect_ratio: _ModerateRange = (0.75, 1.5)
    """Height over width of a block."""
    max_temporal_keep: _PositiveShare = 1.0
    """Time steps that may be seen over those of the clip: the first ones. All places of the others
    are predicted, beside the blocks. The official setting of that name; 1 in their runs."""


SHORT_RANGE, LONG_RANGE = MaskKind(), MaskKind(blocks=2, spatial_scale=(0.7, 0.7))


@dataclass(frozen=True, config=_STRICT)
class Video:
    """Clips in place of stills; the defaults are V-JEPA's (facebookresearch/jepa 51c59d5)."""

    frames: Annotated[int, _NUMBER, Field(ge=1, le=10**4)] = 16
    """Of a clip."""
    tubelet: Annotated[int, _NUMBER, Field(ge=1, le=10**4)] = 2
    """Frames of one token."""
    spacing: Literal["stride", "rate", "spread"] = "stride"
    """"stride": a clip is a window of `frames` x `step` frames. "rate": the step follows from the
    video's own rate (V-JEPA 2), and is `step` where that is not known. "spread": the whole video,
    evenly, its first and last frame included."""
    step: _Size = 4
    """The official loader's `frame_step`; see `usjepa.frames.clips.window`."""
    rate: Annotated[float, _NUMBER, Field(gt=0, le=1e4)] = 4.0
    """Frames a second of a clip, for `spacing: rate`."""
    random_start: bool = True
    """Whether the window begins at a random frame; else at the first."""
    rotary: bool = False
    """V-JEPA 2's rotary positions in student and predictor, and no table."""
    masks: Literal["blocks", "tubes"] = "blocks"
    """"tubes": squares of the frame are hidden at random, each for the whole clip, as VideoMAE;
    `decoder.mask_share` tells how many."""
    kinds: tuple[MaskKind, ...] = (SHORT_RANGE, LONG_RANGE)
    """Of blocks; every clip is masked by each of them in every step."""
    truncate: Literal["first", "columns"] = "first"
    """How lists are cut to the shortest of the batch. "first": the first places stay, as in the
    official code, so late times are seldom trained on. "columns": whole squares of the frame are
    left out at random, and all times stay."""
    mask_tokens: Literal["each", "one"] = "each"
    """Whether each kind has a mask token of its own, as V-JEPA, or all share one, as V-JEPA 2 on
    clips of one length."""

    @validates(mode="after")
    def _fits(self) -> Self:
        if self.frames % self.tubelet:
            raise ValueError(
                f"frames {self.frames} is not a multiple of tubelet {self.tubelet}, the frames of "
                "one token"
            )
        if not self.kinds:
            raise ValueError("kinds has no kind of mask; give one or more, or leave it out")
        return self

    @property
    def times(self) -> int:
        """Time steps of a clip."""
        return self.frames // self.tubelet


@dataclass(frozen=True, config=_STRICT)
class LocalisationSettings:
    """The auxiliary loss of arXiv 2507.18424 (eqs. 2 to 4); see `usjepa.localisation`."""

    weight: _Share = 0.25
    """lambda: of the JEPA loss; this one has 1 - lambda. 1: as if this section were not there."""
    pairs: _Count = 100
    """Of places, for each sample and kind of mask."""
    tokens: Literal["predicted", "context"] = "predicted"
    """Of which places: the predictor's outputs, or what the student sees, as DRLoc has it."""
    width: _Size = 512
    """Of the head's hidden layers; not stated, DRLoc's (arXiv 2106.03746)."""
    distance: Literal["squared", "absolute"] = "squared"
    """"absolute": DRLoc's, the mean over the axes."""
    signed: bool = True
    """False: only how far two places are apart, as DRLoc can have it."""


@dataclass(frozen=True, config=_STRICT)
class ProjectionSettings:
    """The linear layer that training ends with, for the pooling "projected"; see
    `usjepa.projection`."""

    width: _Size = 512
    """Of its output."""
    whitening: _Share = 0.5
    """0: directions of the pooled tokens keep their deviations; 1: all get the same one."""
    frames: _Count = 10_000
    """That it is fitted on, at most; drawn at random."""


@dataclass(frozen=True, config=_STRICT)
class Augment:
    """Random changes of a training image. Table 5 names them; their strengths are not stated, and
    these are ours: weaker than the mildest corruption of the tests (appendix E.2)."""

    flip_horizontal: _Share = 0.5
    """A probability, as are the next and all called so."""
    flip_vertical: _Share = 0.5
    blur_probability: _Share = 0.5
    blur_sigma: _ModerateRange = (0.1, 1.0)
    """Deviation of the Gaussian, in pixels of the cropped image."""
    speckle_probability: _Share = 0.5
    speckle_sigma: _SpreadRange = (0.0, 0.2)
    """Deviation of the multiplicative noise."""
    contrast_probability: _Share = 0.5
    contrast_factor: _ModerateRange = (0.75, 1.25)
    """Distances from the median are multiplied by it."""


@dataclass(frozen=True, config=_STRICT)
class DataSettings:
    """Frames: preprocessing and sampling (section 4.3, eq. 6), crops (Table 5)."""

    grey: bool = True
    inpaint_below: _Share = 0.05
    """Coloured marks are painted over if they take less than this share of the image."""
    percentiles: (
        Annotated[tuple[_Percentile, _Percentile], AfterValidator(_ordered), AfterValidator(_apart)]
        | None
    ) = (2, 98)
    """They become 0 and 1; inside the ultrasound region with `region_conditioning`. null: levels
    stay as they are."""
    dataset_cap: Annotated[int, _NUMBER, Field(ge=1, le=10**12)] = 50_000
    """N_t: frames of a set that count in an epoch, at most."""
    held_out: Annotated[float, _NUMBER, Field(ge=0, lt=1)] = 0.05
    """Share of the frames, whole videos at a time, for the validation loss."""
    crop_scale: _ShareRange = (0.6, 1.0)
    """Area of the random crop over that of the image."""
    crop_aspect: _ModerateRange = (0.75, 4 / 3)
    """Width over height of the crop; not stated, torchvision's default as in the I-JEPA code."""
    augment: Augment = Augment()


@dataclass(frozen=True, config=_STRICT)
class Train:
    """Optimisation (Table 5). Rates are those of the whole batch: nothing is scaled by its size."""

    epochs: _Count = 100
    warmup_epochs: Annotated[float, _NUMBER, Field(ge=0, le=10**6)] = 10
    """May be more than `epochs`: a run cut short sees the first part of its warm-up."""
    batch_size: _Count = 128
    """Images of one optimiser step, over all processes and accumulated parts."""
    accumulate: _Count = 1
    """Parts in which a process goes through its share of the batch."""
    optimizer: Literal["adamw"] = "adamw"
    betas: tuple[_Beta, _Beta] = (0.9, 0.999)
    """Not stated; the I-JEPA code leaves torch's."""
    eps: _Positive = 1e-8
    schedule: Literal["cosine", "linear"] = "cosine"
    """Linear warm-up, then half a cosine to the final rate, or a straight line, as V-JEPA 2 cools
    down; weight decay follows a cosine throughout."""
    start_learning_rate: _NotNegative = 5e-6
    learning_rate: _Positive = 5e-5
    final_learning_rate: _NotNegative = 5e-7
    weight_decay: _NotNegative = 0.04
    final_weight_decay: _NotNegative = 0.4
    ema: _Momenta = (0.996, 1.0)
    """Momentum of the averaged teacher, first and last; only `objective: ijepa` has one."""
    stretch: Annotated[float, _NUMBER, Field(ge=1, le=10**6)] = 1.0
    """`ipe_scale` of the I-JEPA code: schedules as if training were so many times as long."""
    clip: _Positive | None = None
    """Largest norm of the gradient; null: any, as I-JEPA. SALT has 0.02."""
    clip_rule: Literal["all", "vjepa"] = "all"
    """"vjepa": student, predictor and head are each clipped by themselves, and only in epochs whose
    number, from 0, is above `warmup_epochs`, as V-JEPA has it."""
    freeze_blocks: Annotated[int, _NUMBER, Field(ge=0, le=2**14)] = 0
    """The student's first blocks, and its patch embedding with them, that keep their first weights;
    see `model.start`."""
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

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=100)]
    """What the exported model is called."""
    objective: Literal["salt", "ijepa", "mae", "vjepa", "videomae"] = "salt"
    """"salt": predict a frozen teacher (US-JEPA); of clips if there is a section `video`. "ijepa":
    predict the student's own running average; "vjepa": the same of clips. "mae": reconstruct
    pixels; "videomae": those of clips."""
    region_conditioning: bool = False
    """USrc (section 4.2): masks, and the intensity stretch, keep to the ultrasound region."""
    seed: Annotated[int, _NUMBER, Field(ge=0, lt=2**63)] = 0
    model: ModelSettings = ModelSettings()
    teacher: Teacher = Teacher()
    predictor: PredictorSettings = PredictorSettings()
    decoder: Decoder = Decoder()
    masks: Blocks = Blocks()
    video: Video | None = None
    """For clips; null: stills."""
    localisation: LocalisationSettings | None = None
    """An auxiliary loss that any JEPA objective can carry; null: none."""
    projection: ProjectionSettings | None = None
    """Of stills; null: none."""
    data: DataSettings = DataSettings()
    train: Train = Train()

    @validates(mode="after")
    def _leaves_something(self) -> Self:
        patches = self.model.grid**2
        if self.video is None and self.predicts and self.masks.min_keep >= patches:
            raise ValueError(
                f"masks.min_keep {self.masks.min_keep} can never be reached, because an image has "
                f"only {patches} patches"
            )
        hides_a_share = not self.predicts or (self.video and self.video.masks == "tubes")
        if hides_a_share and int(patches * (1 - self.decoder.mask_share)) < 1:
            raise ValueError(
                f"decoder.mask_share {self.decoder.mask_share:g} leaves none of the {patches} "
                "patches to see"
            )
        return self

    @validates(mode="after")
    def _agrees(self) -> Self:
        objective, of_clips = self.objective, self.objective in ("vjepa", "videomae")
        if of_clips and self.video is None:
            raise ValueError(
                f"objective {objective} is for clips and there is no section `video`; add one, "
                "perhaps `video: {}`"
            )
        if self.video is not None and not of_clips and objective != "salt":
            raise ValueError(
                f"objective {objective} is for stills, but there is a section `video`; take "
                "objective vjepa, videomae or salt, or leave the section out"
            )
        if self.video is not None and self.model.class_token:
            raise ValueError("model.class_token is for stills; a student of clips has none")
        augment = self.data.augment
        if self.video is not None and (
            augment.blur_probability or augment.speckle_probability or augment.contrast_probability
        ):
            raise ValueError(
                "data.augment has blur, speckle or contrast, which are for stills; set their "
                "probabilities to 0 for clips"
            )
        if self.localisation is not None and not self.predicts:
            raise ValueError(
                f"localisation needs a predictor, which objective {objective} does not have; leave "
                "the section out"
            )
        if self.localisation is not None and not self.predictor.hidden_weight:
            raise ValueError(
                "localisation needs a predictor, which predictor.hidden_weight 0 leaves out; leave "
                "out one of the two"
            )
        if not self.predictor.hidden_weight and objective != "salt":
            raise ValueError(
                f"predictor.hidden_weight 0 is plain distillation, which wants a frozen teacher; "
                f"objective {objective} has none, take objective salt"
            )
        if self.model.stem == "convolutions" and self.video is not None:
            raise ValueError("model.stem convolutions is for stills; leave it out for clips")
        if self.projection is not None:
            self._check_projection(self.projection.width)
        if self.train.freeze_blocks > self.model.depth:
            raise ValueError(
                f"train.freeze_blocks {self.train.freeze_blocks} is more than model.depth "
                f"{self.model.depth}"
            )
        return self

    def _check_projection(self, width: int) -> None:
        if self.video is not None:
            raise ValueError("projection is for stills; leave the section out for clips")
        pooled = 2 * self.model.width * self.model.depth
        if width > pooled:
            raise ValueError(
                f"projection.width {width} is more than the {pooled} numbers of the pooled tokens; "
                "make it smaller"
            )

    @property
    def grid(self) -> tuple[int, int, int]:
        """Places of a clip's tokens along time, rows and columns; one time for stills."""
        times = 1 if self.video is None else self.video.times
        return times, self.model.grid, self.model.grid

    @property
    def predicts(self) -> bool:
        """Whether vectors are predicted, not pixels."""
        return self.objective not in ("mae", "videomae")

    @property
    def localises(self) -> LocalisationSettings | None:
        """The auxiliary loss, if it has any weight."""
        settings = self.localisation
        return None if settings is None or settings.weight == 1 else settings

    def plain(self) -> dict[str, Any]:
        """All settings as plain data, for files.

        Keys that came later are left out where they say what was before: runs keep their ids.
        """
        settings = asdict(self)
        if self.localises is None:
            settings["localisation"] = None
        for dotted, before in _LATER.items():
            *sections, key = dotted.split(".")
            place = settings
            for section in sections:
                place = place[section]
            if place[key] == before:
                del place[key]
        for kind in settings["video"]["kinds"] if "video" in settings else ():
            if kind["max_temporal_keep"] == 1:
                del kind["max_temporal_keep"]
        return settings

    @property
    def id(self) -> str:
        """12 digits of the SHA-256 of all settings but the name: equal ids give equal runs."""
        settings = self.plain()
        del settings["name"]
        return hashing.short(hashing.digest(settings))


_LATER = {
    "video": None,
    "localisation": None,
    "projection": None,
    "model.start": None,
    "model.stem": "patches",
    "predictor.context_by": "predictor",
    "predictor.hidden_weight": 1.0,
    "train.clip_rule": "all",
    "train.freeze_blocks": 0,
}


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
    content = yaml_file.read(path, "configuration")
    if not content:
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
        value = yaml_file.parse(text)
    except ValueError as error:
        raise UserError(
            f"cannot read the value of override '{override}' ({error}); put texts in quotes"
        ) from error
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
        given = repr(first["input"])
        message += f", not {given if len(given) <= 60 else given[:60] + '...'}"
    place = f"{dotted}: " if dotted else ""
    return f"{place}{message}; fix it"


def _keys(path: list[str]) -> list[str]:
    """Keys of the section at `path`."""
    section: Any = Config
    for part in path:
        if not part.isdigit():  # else a place in a list of sections
            section = get_type_hints(section)[part]
            section = next(iter(get_args(section)), section)  # of `X | None`, and of a list
    return [field.name for field in fields(section)]


def _hint(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    return f" (did you mean '{near[0]}'?)" if near else ""
