"""EchoFM: the encoder of a masked autoencoder on echocardiogram clips (IEEE TMI 44, 2025)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model_zoo.cards import Card, HubFile
from model_zoo.checkpoints.layouts import Layout, Recipe
from model_zoo.clip_rule import ClipRule
from model_zoo.transforms import InputRule
from model_zoo.video_vit import VideoTransformer
from model_zoo.vjepa import ClipViTEncoder


def _table(parts: list[Tensor]) -> Tensor:
    """The table of class token, places [1, 196, D] and time steps [1, 8, D]: [1, 1 + N, D]."""
    class_token, places, steps = parts
    grid = places[:, None] + steps[:, :, None]
    return torch.cat([class_token, grid.flatten(1, 2)], dim=1)


def _official(key: str) -> Recipe:
    """Names in the authors' file: queries, keys and values apart, and a table for each axis."""
    if key == "pos_embed":
        return Recipe(("pos_embed_class", "pos_embed_spatial", "pos_embed_temporal"), _table)
    if ".attn.qkv." in key:
        return Recipe(tuple(key.replace("qkv", part) for part in "qkv"))
    return Recipe((key,))


class EchoFM(ClipViTEncoder):
    """ViT-L/16 on 32 frames, four in a token: features [B, 1024], tokens [B, 8 x 14 x 14, 1024].

    The released file is the whole autoencoder; its decoder and the projector of phases are left
    out. `mean` is what the authors call video_emb.
    """

    input_rule = InputRule(224, (0, 0, 0), (1, 1, 1), interpolation="bilinear")
    clip_rule = ClipRule(32, "stride", short="wrap")
    tubelet = 4
    poolings = ("mean", "cls", "mean_prenorm", "last4")
    entries = ("model", "")
    layouts = (Layout("official", _official, leftovers=("decoder_*", "prj_norm.*", "mask_token")),)
    card = Card(
        title="EchoFM",
        paper="Kim et al., IEEE TMI 44 (2025) 10",
        code_licence="CC BY-NC-ND 4.0",
        weights_licence="CC BY-NC-ND 4.0",
        weights_from="huggingface.co/sekeun/EchoFM: echofm_vitl.pth",
        hub=HubFile("sekeun/EchoFM", "echofm_vitl.pth"),
        pretraining="echocardiogram videos",
        parameters=307_065_856,  # with one table of 1,569 positions for the three of the file
        dim=1024,
        status="verified by the authors' code",
        verified="authors' code",
        verified_with="SekeunKim/EchoFM at f5b6821, in float32 on a CPU",
        inferred=(
            "that `model` of the file holds these tensors: it could not be had",
            "the clip's first frame is the video's",
        ),
        note="32 frames one after the other; a shorter video starts again, as in the authors' "
        "loader. Pixels of 0 to 1, no mean and std. The embeddings of phases (`forward_prj`) are "
        "not given",
    )

    def make(self) -> nn.Module:
        """A ViT-L/16 with a class token."""
        return VideoTransformer(
            224, 32, tubelet=4, width=1024, depth=24, heads=16, class_token=True
        )
