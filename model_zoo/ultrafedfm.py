"""UltraFedFM: a masked autoencoder trained by several hospitals together (arXiv 2411.16380)."""

from __future__ import annotations

from torch import nn

from model_zoo.cards import Card
from model_zoo.checkpoints.layouts import Layout
from model_zoo.released import ViTEncoder
from model_zoo.transforms import InputRule
from model_zoo.vit import VisionTransformer


class UltraFedFM(ViTEncoder):
    """Plain ViT-B/16 with a class token: features [B, 768], tokens [B, 196, 768].

    The released file is a training checkpoint; `model` in it is the autoencoder, averaged over the
    hospitals, whose decoder is left out.
    """

    input_rule = InputRule(224)
    entries = ("model", "")
    layouts = (
        Layout(
            leftovers=("mask_token", "decoder_*"),
            leftover_shapes={"decoder_embed.weight": (512, 768)},  # `dec512d8b`
        ),
    )
    card = Card(
        title="UltraFedFM",
        paper="Jiang et al., npj Digital Medicine 8 (2025) 714, arXiv 2411.16380",
        code_licence="Apache-2.0",
        weights_licence="Apache-2.0 (the licence file of the repository)",
        licence_kind="open",
        weights_from="Google Drive file 13cczqVFk84c_9QDP2OLURU1jWryCky5f (linked in the README "
        "of github.com/yuncheng97/UltraFedFM), or the mirror huggingface.co/fmassimo/UltraFedFM",
        pretraining="more than 1 million images of 19 organs, of 16 institutions in 9 countries; "
        "public data sets are among them, not stated here",
        parameters=85_798_656,
        dim=768,
        status="verified by the authors' code",
        verified="authors' code",
        verified_with="yuncheng97/UltraFedFM at 19bbbcb with timm 0.9.2, in float32 on a CPU",
        inferred=(
            "pooling",
            "that the published file is the training checkpoint as the authors' code saves it",
        ),
        note="the whole image is squashed to 224 squares; the authors enlarge its shorter side to "
        "256 and take the centre. Chosen: mean of patch tokens after the released norm (the "
        "authors fine-tune on the mean before it, through a new norm: mean_prenorm)",
    )

    def make(self) -> nn.Module:
        """MAE's ViT-B/16."""
        return VisionTransformer(class_token=True)
