"""US-JEPA and USrc-JEPA: ViT-B/16 students of a frozen URFM teacher (arXiv 2602.19322).

The paper names no place for its weights and none was found, so what is certain is the encoder:
the architecture is I-JEPA's at ViT-B/16, and this code gives the numbers of the official
implementation (tests, against `conformance/ijepa-vitb16`). Inferred, and stated in the card:
the layout of a released file, the input normalisation and the pooling.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from model_zoo import pooling
from model_zoo import weights as checkpoints
from model_zoo.encoder import RANDOM, Card, Encoder
from model_zoo.transforms import InputRule
from model_zoo.vit import VisionTransformer
from ultrabench_eval.core.errors import UserError


def _card(title: str) -> Card:
    return Card(
        title=title,
        paper="US-JEPA, arXiv 2602.19322 (2026)",
        weights_from="the paper names no place; ask its authors (UCLA Biomedical AI Research Lab)",
        pretraining="not stated file by file; see the paper's table of ultrasound data sets",
        note="inferred: ImageNet mean and std, mean over patch tokens, layout of the file",
    )


class USJEPA(Encoder):
    """The US-JEPA student, ViT-B/16 at 224 pixels without class token.

    Features [B, 768], the mean over the patch tokens after the final norm; tokens
    [B, 196, 768]. Accepted files: a bare state dict, with or without `module.` or `encoder.`
    before its keys, or a dictionary that holds one, as I-JEPA's training writes (`encoder`,
    `target_encoder`). Where several parts fit, `PATH#entry` names one; with a frozen teacher the
    student is `encoder`.
    """

    # Table of preprocessing in the paper: grey, 2nd to 98th percentile to the full range. Its
    # normalisation is not stated; the code it builds on uses ImageNet's.
    input_rule = InputRule(224, grey=True, stretch=(2, 98))
    patch_size = 16
    poolings = ("mean",)
    card = _card("US-JEPA")

    def build(self, weights: Path | str | None) -> nn.Module:
        """I-JEPA's ViT-B/16, filled from a checkpoint."""
        if weights == RANDOM:
            return VisionTransformer()
        source = checkpoints.find(self.name, weights)
        if source is None:
            raise UserError(
                f"no weights for model '{self.name}' ({self.card.weights_from}); then pass "
                f"--weights {self.name}=PATH, or put the file at "
                f"${checkpoints.FOLDER_VARIABLE}/{self.name}.safetensors"
            )
        with torch.device("meta"):  # 86 M random numbers would only be overwritten
            network = VisionTransformer()
        network = network.to_empty(device="cpu")
        tensors = checkpoints.choose(
            network,
            checkpoints.read(source.path),
            name=self.name,
            source=source,
            prefixes=("module.", "encoder."),
        )
        return checkpoints.fill(network, tensors, name=self.name, source=source)

    def _forward(self, x: Tensor) -> Tensor:
        return pooling.mean(self.network(x), prefix=0)

    def _tokens(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.network(x)
        return tokens


class USrcJEPA(USJEPA):
    """USrc-JEPA: the same network, trained on the scanned region only.

    Its percentile stretch was taken inside the scanned region; an encoder sees an image without
    that mask, so here it is taken over the whole image, as for US-JEPA.
    """

    card = _card("USrc-JEPA")
