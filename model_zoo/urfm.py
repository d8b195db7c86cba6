"""URFM, the teacher of US-JEPA: a ViT trained to predict BiomedCLIP features of masked patches."""

from __future__ import annotations

from torch import nn

from model_zoo.cards import Card, HubFile
from model_zoo.checkpoints.layouts import Layout
from model_zoo.released import ViTEncoder
from model_zoo.transforms import InputRule
from model_zoo.vit import VisionTransformer


class URFM(ViTEncoder):
    """Plain ViT-B/16 with a class token: features [B, 768], tokens [B, 196, 768].

    The released file is a training checkpoint of 2.3 GB, of which the averaged weights
    (`ema_state_dict`) are used; `model` in it is a string. An encoder-only file is read too.
    """

    input_rule = InputRule(224)
    entries = ("ema_state_dict", "")
    layouts = (
        Layout(
            leftovers=("mask_token", "decoder*"),
            leftover_shapes={"decoder_embed.weight": (768, 768)},  # `dec768d8b`
        ),
    )
    card = Card(
        title="URFM",
        paper="Kang et al., iScience 28 (8), 2025, 112917",
        code_licence="not seen",
        weights_licence="MIT, as stated by a mirror; the authors' card was not seen",
        weights_from="huggingface.co/QingboKang/URFM (gated) or its mirror "
        "huggingface.co/fmassimo/URFM: mae_vit_base_patch16_dec768d8b_all_biomedclip_1199.pth",
        pretraining="1 M images of 15 organs; data sets not stated here",
        hub=HubFile(
            "fmassimo/URFM",
            "mae_vit_base_patch16_dec768d8b_all_biomedclip_1199.pth",
            "a third party's unmodified mirror",
        ),
        parameters=85_798_656,
        dim=768,
        status="verified by an equivalent implementation",
        verified_with="the plain MAE ViT of MembrAI/DeblurringMIM, the first author's repository, "
        "and timm; the authors' own code was not available",
        inferred=(
            "ImageNet mean and std",
            "bicubic 224 squares",
            "pooling",
            "LayerNorm eps 1e-6",
        ),
    )

    def make(self) -> nn.Module:
        """MAE's ViT-B/16."""
        return VisionTransformer(class_token=True)
