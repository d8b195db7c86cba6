"""Encoders of clips that this project's trainer (`usjepa`) made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from model_zoo.checkpoints import exports
from model_zoo.checkpoints.exports import ClipInput, EncoderSizes, Export
from model_zoo.clip_rule import ClipRule
from model_zoo.students import Student
from model_zoo.transforms import InputRule
from model_zoo.video_vit import VideoTransformer
from model_zoo.vjepa import ClipViTEncoder


class ClipStudent(ClipViTEncoder, Student):
    """Any network of clips that `usjepa` exports: features [B, D], tokens [B, N, D].

    As `Student`, of clips; `weights="random"` is a network of the nano size.
    """

    sizes = EncoderSizes(64, 8, 128, 6, 2)
    clip = ClipInput(ClipRule(8, "stride", 2), tubelet=2, rotary=False)
    clip_rule = clip.rule
    input_rule = InputRule(64, grey=True, interpolation="bilinear")
    patch_size = 8
    batch_size = 16
    card = replace(
        Student.card,
        title="Student of `usjepa train`, of clips",
        paper=exports.PAPERS["vjepa"],
        parameters=1_271_936,
        dim=128,
    )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        export = exports.look(exports.SHIPPED / f"{cls.shipped}.safetensors")
        if export is not None and (clip := export.header.clip) is not None:
            cls.clip, cls.clip_rule, cls.tubelet = clip, clip.rule, clip.tubelet

    def make(self) -> nn.Module:
        """The network, untrained."""
        sizes, clip = self.sizes, self.clip
        return VideoTransformer(
            sizes.image_size,
            clip.rule.frames,
            sizes.patch_size,
            clip.tubelet,
            sizes.width,
            sizes.depth,
            sizes.heads,
            clip.rotary,
        )

    def _become(self, export: Export) -> None:
        super()._become(export)
        assert export.header.clip is not None
        self.clip = export.header.clip
        self.clip_rule, self.tubelet = self.clip.rule, self.clip.tubelet


class VJEPANano(ClipStudent):
    """V-JEPA scaled down: 64 pixels, 8 frames."""

    shipped = "vjepa-nano"


class VJEPALocNano(ClipStudent):
    """V-JEPA with the localisation loss of arXiv 2507.18424, of the same size."""

    shipped = "vjepa-loc-nano"


class VideoMAENano(ClipStudent):
    """A VideoMAE's encoder of the same size."""

    shipped = "videomae-nano"
