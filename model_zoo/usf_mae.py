"""USF-MAE: the encoder of a masked autoencoder on ultrasound (arXiv 2510.22990)."""

from __future__ import annotations

from torch import nn

from model_zoo.cards import Card
from model_zoo.checkpoints.layouts import Layout
from model_zoo.released import ViTEncoder
from model_zoo.transforms import InputRule
from model_zoo.vit import VisionTransformer


class USFMAE(ViTEncoder):
    """Plain ViT-B/16 with a class token: features [B, 768], tokens [B, 196, 768].

    The file is the bare state dict of the whole autoencoder; its decoder is left out. Nearest
    resampling is what the authors' data code does.
    """

    input_rule = InputRule(224, interpolation="nearest")
    layouts = (
        Layout(
            leftovers=("mask_token", "decoder_*"),
            leftover_shapes={"decoder_embed.weight": (512, 768)},  # `dec512d8b`
        ),
    )
    card = Card(
        title="USF-MAE",
        paper="Megahed et al., Biomedical Signal Processing and Control 122 (2026) 110313, "
        "arXiv 2510.22990",
        code_licence="MIT",
        weights_licence="not stated; training began from FAIR's MAE weights (CC BY-NC 4.0)",
        licence_kind="non-commercial",
        weights_from="Google Drive file 1ZPu_7KhMEuaq-XdLhVp2EEgMgLJ4dKhr (100 epochs, "
        "recommended; linked in the README of github.com/Yusufii9/USF-MAE)",
        pretraining="OpenUS-46, 43 of its 46 data sets by the file's name (the README says both); "
        "AUL and POCUS are among them, BUS-BRA and MMOTU were held out",
        parameters=85_798_656,
        dim=768,
        saw=("aul", "pocus"),
        status="verified by the authors' code",
        verified="authors' code",
        verified_with="FAIR's MAE class, which the authors train, with timm 0.3.2 as they pin it",
        inferred=("pooling", "nearest resampling downstream, as in pretraining"),
    )

    def make(self) -> nn.Module:
        """MAE's ViT-B/16."""
        return VisionTransformer(class_token=True)
