"""Encoders that this project's trainer (`usjepa`) made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from model_zoo import pooling
from model_zoo.cards import Card
from model_zoo.checkpoints import exports
from model_zoo.checkpoints import files as checkpoints
from model_zoo.checkpoints.exports import ClipSizes, EncoderSizes, Export
from model_zoo.clip_rule import ClipRule
from model_zoo.encoder import RANDOM
from model_zoo.released import ViTEncoder
from model_zoo.transforms import InputRule
from model_zoo.video_vit import VideoTransformer
from model_zoo.vit import ConvolutionalStem, VisionTransformer
from model_zoo.vjepa import ClipViTEncoder
from ultrabench_eval.core.errors import UserError

_PROJECTION = 512  # of an untrained network
_EARLIER = "until 2026-11-30 this name was a network of 192 x 8, SHA-256 "
_WITHOUT_CLASS_TOKEN = ("mean", "mean_prenorm", "last4", "all+std")


class Student(ViTEncoder):
    """Any network that `usjepa` exports: features [B, D], tokens [B, N, D].

    Sizes, input rule and card are those of the file. Of a file, "cls" is for networks with a class
    token; `weights="random"` is a network of the nano size, with what the pooling wants.
    "projected" is "all+std" through the linear layer that the training ended with
    (`usjepa.projection`), for files that have one.

    With a convolutional stem there are two maps: that of the stem's last convolution but one, at
    half the side of a patch, and the patch tokens after each of the last four blocks side by side.
    """

    poolings = (*ViTEncoder.poolings, "all+std", "projected")
    sizes: EncoderSizes | ClipSizes = EncoderSizes()
    shipped: ClassVar[str | None] = None
    """Name of the export in `exports.SHIPPED` that is meant without `weights`."""
    chosen: ClassVar[str | None] = None
    """The pooling that validation images chose, which a bare name stands for; None: the first."""
    earlier: ClassVar[str] = ""
    """What this name stood for before, for its card."""
    heads = ()  # an export holds its network and nothing else
    input_rule = InputRule(224, grey=True, stretch=(2, 98))
    card = Card(
        title="Student of `usjepa train`",
        paper=exports.PAPERS["salt"],
        code_licence="Apache-2.0",
        weights_licence="that of your checkpoint",
        weights_from=exports.TRAINED,
        pretraining="that of your checkpoint, by the card beside it",
        parameters=3_744_576,
        dim=192,
        status=exports.STATUS[False],
        note="sizes, input and features are those of the file; stated here: the nano ones",
    )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.shipped and (export := exports.look(exports.SHIPPED / f"{cls.shipped}.safetensors")):
            cls.sizes, cls.input_rule = export.sizes, export.header.input
            cls.patch_size = export.sizes.patch_size
            if clip := export.header.clip:
                cls.clip_rule, cls.tubelet = clip.rule, clip.tubelet
            if not export.sizes.class_token:
                cls.poolings = _WITHOUT_CLASS_TOKEN
            if export.header.projection:
                cls.poolings = (*cls.poolings, "projected")
            cls.card = cls._card(export, checked=False)
        if first := cls.chosen:
            cls.poolings = (first, *(name for name in cls.poolings if name != first))

    @classmethod
    def _card(cls, export: Export, *, checked: bool = True) -> Card:
        """The export's card, with the width of the pooling that the bare name stands for."""
        card = export.card(checked)
        if cls.earlier and export.path.parent == exports.SHIPPED:
            card = replace(card, note=f"{card.note}; {cls.earlier}")
        if cls.chosen == "projected" and export.header.projection:
            return replace(card, dim=export.header.projection)
        return card

    def make(self) -> nn.Module:
        """The network, untrained."""
        sizes: Any = self.sizes
        return VisionTransformer(*sizes)

    def decoded(self, content: dict[str, Any]) -> dict[str, Any]:
        """Weights that were stored in 8 bits as numbers."""
        return exports.decoded(content)

    def _forward(self, x: Tensor) -> Tensor:
        if self.pooling != "projected":
            return super()._forward(x)
        pooled = self._of_blocks(x, pooling.mean_and_deviation)
        projection: nn.Linear = self.network.projection  # type: ignore[assignment]
        projected: Tensor = projection(pooled.to(projection.weight.dtype))
        return projected

    def _maps(self, x: Tensor) -> list[Tensor]:
        stem = self.network.patch_embed
        if not isinstance(stem, ConvolutionalStem):
            return super()._maps(x)
        tokens: list[Tensor] = []
        fine: list[Tensor] = []
        watched = stem.convolutions[-2].register_forward_hook(
            lambda layer, given, found: fine.append(relu(found))
        )
        try:
            self.network.unnormed(x, each=lambda x: tokens.append(x[:, self._prefix :]))  # type: ignore[operator]
        finally:
            watched.remove()
        return [fine[0], self._grid(torch.cat(tokens[-4:], dim=2), x)]

    def build(self, weights: Path | str | None) -> nn.Module:
        """The network as the file describes it, and filled from that."""
        if weights == RANDOM:
            if "cls" in self.pooling and isinstance(self.sizes, EncoderSizes):
                self.sizes = self.sizes._replace(class_token=True)
            if self.pooling == "projected" and isinstance(self.sizes, EncoderSizes):
                self.sizes = self.sizes._replace(projection=self.sizes.projection or _PROJECTION)
            return self.make()
        shipped = exports.SHIPPED / f"{self.shipped}.safetensors"
        if weights is None and self.shipped and shipped.is_file():
            weights = shipped
        source = checkpoints.find(self.name, exports.in_folder(weights))
        if source is None:
            return super().build(None)  # which says where to get weights
        self._become(_export(source.path, self.name))
        return super().build(str(source))

    def _become(self, export: Export) -> None:
        head, path = export.header, export.path
        kind = "usjepa" if head.clip is None else "usjepa-clip"
        if (head.clip is not None) != (self.takes == "clip"):
            trained = "stills" if head.clip is None else "clips"
            raise UserError(
                f"the network in {path} was trained on {trained}; open it as model '{kind}': "
                f"--weights {kind}={path}"
            )
        if self.shipped and head.name != self.name:
            raise UserError(
                f"{path} was trained as '{head.name}', not as '{self.name}'; open it as model "
                f"'{kind}': --weights {kind}={path}"
            )
        if self.pooling == "projected" and not head.projection:
            raise UserError(
                f"the network in {path} has no projection; train with a section `projection`, or "
                f"use another pooling of model '{self.name}', such as 'all+std'"
            )
        if "cls" in self.pooling and not head.class_token:
            raise UserError(
                f"the network in {path} has no class token for the pooling '{self.pooling}' of "
                f"model '{self.name}'; use the pooling 'mean'"
            )
        self.sizes, self.input_rule, self.patch_size = export.sizes, head.input, head.patch_size
        self.card = self._card(export)

    def _wrapper_identity(self) -> str:
        # Heads change features, but no tensor.
        return f"{super()._wrapper_identity()}, {self.sizes.heads} heads"


class ClipStudent(ClipViTEncoder, Student):
    """Any network of clips that `usjepa` exports: features [B, D], tokens [B, N, D].

    Sizes, input and clip rule and card are those of the file.
    """

    sizes = ClipSizes()
    clip_rule = ClipRule(8)
    patch_size = 8
    batch_size = 8
    input_rule = InputRule(64, grey=True)
    card = Card(
        title="Student of `usjepa train`, of clips",
        paper=exports.PAPERS["vjepa"],
        code_licence="Apache-2.0",
        weights_licence="that of your checkpoint",
        weights_from=exports.TRAINED,
        pretraining="that of your checkpoint, by the card beside it",
        parameters=1_271_936,
        dim=128,
        status=exports.STATUS[True],
        note="sizes, input and features are those of the file; stated here: the nano ones",
    )

    def make(self) -> nn.Module:
        """The network, untrained."""
        return VideoTransformer(*self.sizes)  # type: ignore[arg-type]

    def _become(self, export: Export) -> None:
        super()._become(export)
        if export.header.clip is not None:
            self.clip_rule, self.tubelet = export.header.clip.rule, export.header.clip.tubelet


class VJEPANano(ClipStudent):
    """V-JEPA scaled down, trained here on public videos."""

    shipped = "vjepa-nano"
    card = replace(ClipStudent.card, title="V-JEPA, nano")


class VJEPALocNano(ClipStudent):
    """V-JEPA scaled down, with the localisation loss of arXiv 2507.18424."""

    shipped = "vjepa-loc-nano"
    card = replace(
        ClipStudent.card,
        title="V-JEPA with 3D localisation, nano",
        paper=exports.PAPERS["vjepa"] + exports.LOCALISED,
    )


class USJEPANano(Student):
    """US-JEPA scaled down: ViT 256 wide and 4 deep after convolutions, trained here."""

    shipped = "us-jepa-nano"
    chosen = "projected"
    earlier = _EARLIER + "908bf8121e51362db4208979972d0008a0b6dfbfbc19898d6a235ef5a232283f"


class USrcJEPANano(Student):
    """USrc-JEPA scaled down: as `USJEPANano`, masks inside the scanned region."""

    shipped = "usrc-jepa-nano"
    chosen = "projected"
    earlier = _EARLIER + "69bc744ee078ecba2b493939af9a1162766960bbbb3f7e11d8b0d9d1f6441a0f"


class IJEPANano(Student):
    """I-JEPA scaled down, ViT 192 wide and 8 deep: the teacher is an average of the student."""

    shipped = "ijepa-nano"


class MAENano(Student):
    """A masked autoencoder's encoder of I-JEPA nano's size, on the same frames."""

    shipped = "mae-nano"


def _export(path: Path, name: str) -> Export:
    export = exports.look(path)
    if export is None:
        checkpoints.read(path)  # tells what is wrong with a file that cannot be read at all
        raise UserError(
            f"{path} is not an export of `usjepa`, so it does not fit model '{name}'; give the "
            f"{exports.FILE} that `usjepa train` or `usjepa export` wrote"
        )
    return export
