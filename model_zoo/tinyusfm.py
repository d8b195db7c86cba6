"""TinyUSFM: USFM distilled into a ViT of 5.5 M numbers (arXiv 2510.19239)."""

from __future__ import annotations

from torch import nn

from model_zoo.cards import Card
from model_zoo.released import ViTEncoder
from model_zoo.transforms import InputRule
from model_zoo.vit import VisionTransformer


class TinyUSFM(ViTEncoder):
    """ViT-Tiny/16 of 12 heads: features [B, 192], tokens [B, 196, 192].

    Timm's `vit_tiny_patch16_224` has the same tensors but 3 heads, so that it takes the file and is
    another network.
    """

    input_rule = InputRule(224, interpolation="bilinear")
    # Of the class that holds the network, as the authors' and a third party's loaders know it.
    prefixes = ("module.", "model.", "backbone.")
    card = Card(
        title="TinyUSFM",
        paper="Ma et al., IEEE Journal of Biomedical and Health Informatics 2026, "
        "doi 10.1109/JBHI.2026.3678309, arXiv 2510.19239",
        code_licence="Apache-2.0 by the README; the licence file it names is not there",
        weights_licence="Apache-2.0 by the README; the licence file it names is not there",
        licence_kind="open",
        weights_from="Google Drive file 1P_wDuU-StALLJEBaymioaYu52CScW-l-, TinyUSFM.pth (linked "
        "in the README of github.com/MacDunno/TinyUSFM)",
        pretraining="distilled from USFM on 200,000 images; data sets not stated here",
        parameters=5_524_416,
        dim=192,
        status="verified by the authors' code",
        verified="authors' code",
        verified_with="MacDunno/TinyUSFM at 39b832a with timm 0.5.4, in float32 on a CPU",
        inferred=(
            "pooling",
            "that the file holds the final norm (norm.weight, norm.bias)",
            "that its keys begin with `model.`; `module.` and no prefix are read as well",
        ),
        note="chosen: mean of patch tokens after the released norm (the authors fine-tune on the "
        "mean before it, through a new norm: mean_prenorm)",
    )

    def make(self) -> nn.Module:
        """ViT-Tiny with heads of 16 channels."""
        return VisionTransformer(width=192, heads=12, class_token=True)
