"""MobileFetalCLIP's image tower: FetalCLIP distilled into a FastViT (arXiv 2603.05421).

The network is timm's `fastvit_mci0`; the file holds it under the names of Apple's own code.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

import timm
from torch import Tensor, nn

from model_zoo.cards import Card, HubFile
from model_zoo.checkpoints.layouts import Layout, Recipe
from model_zoo.released import ReleasedEncoder
from model_zoo.side_by_side import side_by_side
from model_zoo.transforms import InputRule

# Of timm's names and Apple's, whose stages and the steps between them are numbered together.
_WORDS = {
    **{"stem": "patch_embed", "final_conv": "conv_exp", "head.fc": "head"},
    **{"conv_kxk": "rbr_conv", "conv_scale": "rbr_scale", "identity": "rbr_skip"},
    **{"large_conv": "lkb_origin", "mlp": "convffn"},
    **{"conv_exp.se.fc1": "conv_exp.se.reduce", "conv_exp.se.fc2": "conv_exp.se.expand"},
}
_LAST = 3  # the stage that adds positions before its blocks


def apples(key: str) -> str:
    """What Apple's code calls a tensor of timm's `fastvit_mci0`."""
    if found := re.match(r"stages\.(\d)\.(blocks|downsample|pos_emb\.pos_enc)", key):
        stage, part = int(found[1]), found[2]
        where = {
            "blocks": f"{2 * stage + (stage == _LAST)}",
            "downsample": f"{2 * stage - 1}",
            "pos_emb.pos_enc": f"{2 * stage}.pe",
        }
        key = f"network.{where[part]}{key[found.end() :]}"
    for ours, theirs in _WORDS.items():
        key = re.sub(rf"(^|\.){re.escape(ours)}(\.|$)", rf"\g<1>{theirs}\g<2>", key)
    return re.sub(r"(layer_scale(_\d)?)\.gamma$", r"\1", key)


def _trunk(key: str) -> Recipe:
    return Recipe((f"visual.trunk.{apples(key)}",))


class MobileFetalCLIP(ReleasedEncoder):
    """MobileFetalCLIP's FastViT at 256 pixels: features [B, 512], tokens [B, 64, 1024].

    The default pooling, `projected`, is CLIP's image feature, not scaled to length one; `mean` is
    what is projected, the mean over the last map, [B, 1024]. Tokens are the places of that map;
    maps [B, 768, 16, 16].
    """

    input_rule = InputRule(256, fit="square")
    patch_size = 32
    poolings: ClassVar[tuple[str, ...]] = ("projected", "mean")
    entries = ("state_dict", "")
    trunk = "forward_features"
    layouts = (Layout("official", _trunk, leftovers=("text.*", "logit_scale")),)
    card = Card(
        title="MobileFetalCLIP",
        paper="Saeed et al., arXiv 2603.05421 (2026)",
        code_licence="CC BY-NC 4.0",
        weights_licence="CC BY-NC 4.0",
        licence_kind="non-commercial",
        weights_from="huggingface.co/numansaeed/MobileFetalCLIP: mobile_fetal_clip_weights.pt",
        hub=HubFile("numansaeed/MobileFetalCLIP", "mobile_fetal_clip_weights.pt"),
        pretraining="distilled from FetalCLIP on its 210,035 fetal images with texts; "
        "FETAL_PLANES_DB and HC18 are among its authors' test sets",
        parameters=11_406_976,
        dim=512,
        status="verified by the authors' code",
        verified="authors' code",
        verified_with="numanai/MobileFetalCLIP at b2b837d with open_clip 3.3.0 and timm 1.0.31, "
        "in float32 on a CPU",
        inferred=(
            "that the file holds the training form, under the names of the authors' code",
            "the feature for probing",
        ),
        note="images are put in the middle of a black square, as the authors' evaluation does. "
        "timm calls the same network's tensors by other names: loaded there with strict=False, "
        "nothing of the file is used",
    )

    def make(self) -> nn.Module:
        """FastViT MCi0 with its projection, which has a bias."""
        network: nn.Module = timm.create_model("fastvit_mci0", num_classes=512)
        return network

    def _last(self, x: Tensor) -> Tensor:
        last: Tensor = self.network.forward_features(x)  # type: ignore[operator]
        return last

    def _forward(self, x: Tensor) -> Tensor:
        network: Any = self.network
        features: Tensor = network.forward_head(self._last(x), pre_logits=self.pooling == "mean")
        return features

    def _tokens(self, x: Tensor) -> Tensor:
        return self._last(x).flatten(2).mT

    def _maps(self, x: Tensor) -> list[Tensor]:
        network: Any = self.network
        stages = network.forward_intermediates(x, intermediates_only=True)
        return [side_by_side(stages, x.shape[-2])]
