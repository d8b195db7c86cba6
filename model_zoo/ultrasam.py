"""UltraSam: SAM's ViT-B trained on ultrasound (arXiv 2411.16222), under mmpretrain's names."""

from __future__ import annotations

from torch import nn

from model_zoo import sam
from model_zoo.cards import Card
from model_zoo.checkpoints.layouts import Layout, Recipe
from model_zoo.transforms import InputRule

_NAMES = {
    "blocks.": "layers.",
    "patch_embed.proj": "patch_embed.projection",
    "norm": "ln",
    "neck": "channel_reduction",
    "mlp.lin1": "ffn.layers.0.0",
    "mlp.lin2": "ffn.layers.1",
}


def _bare(key: str) -> Recipe:
    for ours, theirs in _NAMES.items():
        key = key.replace(ours, theirs)
    return Recipe((key,))


def _detector(key: str) -> Recipe:
    return Recipe((f"backbone.{_bare(key).keys[0]}",))


class UltraSam(sam.SAMEncoder):
    """UltraSam at 1024 pixels: features [B, 768], tokens [B, 4096, 768].

    Input and feature are those of the authors' classification configurations: the raw image is
    padded with black before it is normalised, and the mean is taken over all places, of the map
    before the neck. The released file is the whole detector's training checkpoint; objects of
    the training library in it are not imported.
    """

    input_rule = InputRule(
        1024,
        sam.MEAN,
        sam.STD,
        interpolation="bilinear",
        fit="pad",
        padding="black",
        resizer="opencv",
    )
    version = "2"
    patch_size = 16
    batch_size = 2  # as for SAM
    layouts = (
        Layout("detector", _detector, leftovers=("bbox_head.*", "decoder.*", "prompt_encoder.*")),
        Layout("backbone only", _bare, marker="layers.0.ln1.weight"),
    )
    card = Card(
        title="UltraSam",
        paper="Meyer et al., IJCARS 2025, arXiv 2411.16222",
        code_licence="CC BY-NC-SA 4.0",
        weights_licence="not stated apart from the code's, CC BY-NC-SA 4.0",
        licence_kind="non-commercial",
        weights_from="s3.unistra.fr/camma_public/github/ultrasam/UltraSam.pth",
        pretraining="US-43d, 43 public ultrasound data sets listed in the README, AUL, BUS-BRA and "
        "MMOTU-2D among them; started from SAM",
        saw=("aul", "busbra", "mmotu"),
        parameters=89_670_912,
        dim=768,
        status="verified by the authors' code",
        verified="authors' code",
        verified_with="mmpretrain 1.2.0's ViTSAM as CAMMA-public/UltraSam configures it (458ec79)",
        note="whether BUS-BRA and MMOTU-2D, the authors' downstream sets, were held out of US-43d "
        "is not said there",
    )

    def make(self) -> nn.Module:
        """SAM's ViT-B."""
        return sam.SAMNetwork()
