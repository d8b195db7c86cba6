"""US-JEPA and USrc-JEPA: ViT-B/16 students of a frozen URFM teacher (arXiv 2602.19322).

The paper names no place for its weights and none was found, so what is certain is the encoder:
the architecture is I-JEPA's at ViT-B/16, and this code gives the numbers of the official
implementation (tests, against `conformance/ijepa-vitb16`). Inferred, and stated in the card:
the layout of a released file, the input normalisation and the pooling.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from torch import nn

from model_zoo.cards import Card
from model_zoo.checkpoints import exports
from model_zoo.checkpoints import files as checkpoints
from model_zoo.checkpoints.exports import EncoderSizes, Export
from model_zoo.checkpoints.layouts import Layout
from model_zoo.encoder import RANDOM
from model_zoo.released import ViTEncoder
from model_zoo.transforms import InputRule
from model_zoo.vit import VisionTransformer
from ultrabench_eval.core.errors import UserError

SIZES = EncoderSizes(224, 16, 768, 12, 12)


def _card(title: str) -> Card:
    return Card(
        title=title,
        paper="US-JEPA, arXiv 2602.19322 (2026)",
        weights_from="the paper names no place; ask its authors (UCLA Biomedical AI Research Lab)",
        pretraining="5.1 M frames of 50 public ultrasound data sets, listed in the paper's "
        "appendix A.1 (COVIDx-US and COVID-Blues among them); no task's release by its name",
        saw=(),
        parameters=85_797_120,
        dim=768,
        status="verified by an equivalent implementation",
        verified_with="facebookresearch/ijepa at 52c1ae9, ViT-B/16; the authors' own was not found",
        inferred=(
            "ImageNet mean and std",
            "mean over patch tokens",
            "layout of the file",
            "overlap with POCUS: COVIDx-US is gathered from the same web pages",
        ),
    )


class USJEPA(ViTEncoder):
    """The US-JEPA student, ViT-B/16 at 224 pixels without class token.

    Features [B, 768], the mean over the patch tokens after the final norm; tokens
    [B, 196, 768]. Accepted files: a bare state dict, with or without `module.` or `encoder.`
    before its keys, beside a teacher's and a predictor's or not, or a dictionary that holds one, as
    I-JEPA's training writes (`encoder`, `target_encoder`). With a frozen teacher the student is
    `encoder`, so that is the one; `PATH#target_encoder` names another. Also an export of this
    project's trainer, or its folder, if it is this model; the card is then that of the export.
    """

    # Table of preprocessing in the paper: grey, 2nd to 98th percentile to the full range. Its
    # normalisation is not stated; the code it builds on uses ImageNet's.
    input_rule = InputRule(224, grey=True, stretch=(2, 98))
    poolings = ("mean", "mean_prenorm", "last4")
    entries = ("encoder", "state_dict", "model", "")
    layouts = (Layout(leftovers=("target_encoder.*", "predictor.*")),)
    prefixes = ("module.", "encoder.")
    card = _card("US-JEPA")
    region_conditioning: ClassVar[bool] = False

    def build(self, weights: Path | str | None) -> nn.Module:
        """The network, filled from a released file or from an export of `usjepa`."""
        if weights == RANDOM:
            return super().build(weights)
        source = checkpoints.find(self.name, exports.in_folder(weights))
        export = exports.look(source.path) if source else None
        if export is not None:
            self._check(export)
            self.card = export.card()
        return super().build(str(source) if source else None)

    def _check(self, export: Export) -> None:
        """An export's shapes may fit although heads, input or training are others."""
        head = export.header
        found = {
            "network": (export.sizes, SIZES),
            "objective": (head.objective, "salt"),
            "region conditioning": (head.region_conditioning, self.region_conditioning),
            "input": (head.input, self.input_rule),
        }
        for what, (given, wanted) in found.items():
            if given != wanted:
                raise UserError(
                    f"{export.path} is an export of `usjepa`, '{head.name}', but not of the model "
                    f"'{self.name}', as its {what} is {given} in place of {wanted}; open it as "
                    f"model 'usjepa': --weights usjepa={export.path}"
                )

    def make(self) -> nn.Module:
        """I-JEPA's ViT-B/16."""
        return VisionTransformer()


class USrcJEPA(USJEPA):
    """USrc-JEPA: the same network, trained on the scanned region only.

    Its percentile stretch was taken inside the scanned region; an encoder sees an image without
    that mask, so here it is taken over the whole image, as for US-JEPA.
    """

    card = _card("USrc-JEPA")
    region_conditioning = True
