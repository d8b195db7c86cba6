"""EchoCLIP's image tower: a ConvNeXt-base trained on echocardiograms and their reports."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from model_zoo.cards import Card, HubFile
from model_zoo.checkpoints.layouts import Layout, Recipe
from model_zoo.convnext import ConvNeXt
from model_zoo.fetalclip import MEAN, STD
from model_zoo.released import ReleasedEncoder
from model_zoo.side_by_side import side_by_side
from model_zoo.transforms import InputRule

_DEPTHS = (3, 3, 27, 3)


def _open_clip(key: str) -> Recipe:
    """Where open_clip's files hold the image tower."""
    if key == "projection.weight":
        return Recipe(("visual.head.proj.weight",))
    return Recipe((f"visual.trunk.{'head.' if key.startswith('norm.') else ''}{key}",))


class EchoCLIP(ReleasedEncoder):
    """EchoCLIP's ConvNeXt-base: features [B, 512], tokens [B, 49, 1024].

    Poolings: `projected`, CLIP's image feature, not scaled to length one; `pooled`, what is
    projected: the mean over the last map after the norm; `mean`, that mean itself, both [B, 1024].
    Tokens are the places of the last map; maps [B, 1536, 14, 14].
    """

    input_rule = InputRule(224, MEAN, STD)
    patch_size = 32
    batch_size = 8
    poolings: ClassVar[tuple[str, ...]] = ("projected", "pooled", "mean")
    entries = ("state_dict", "")
    trunk = "maps"
    layouts = (
        Layout(
            "open_clip",
            _open_clip,
            leftovers=("positional_embedding", "text_projection", "logit_scale",
                       "token_embedding.*", "transformer.*", "ln_final.*"),
        ),
    )  # fmt: skip
    card = Card(
        title="EchoCLIP",
        paper="Christensen et al., Nature Medicine 30 (2024) 1481, doi 10.1038/s41591-024-02959-y",
        code_licence="academic and non-profit research only",
        weights_licence="academic and non-profit research only",
        licence_kind="non-commercial",
        weights_from="huggingface.co/mkaichristensen/echo-clip: open_clip_pytorch_model.bin",
        hub=HubFile("mkaichristensen/echo-clip", "open_clip_pytorch_model.bin"),
        pretraining="1,032,975 echocardiogram videos of Cedars-Sinai with their reports; "
        "began from CLIP weights",
        parameters=88_090_752,
        dim=512,
        saw=(),
        status="verified by the authors' code",
        verified="authors' code",
        verified_with="open_clip 2.20.0 with timm 0.9.5, as the authors pin them, in float32 on a "
        "CPU; the config on the hub was not seen",
        inferred=(
            "that the network is open_clip's convnext_base (by the size of the file)",
            "CLIP's mean and std, 224 pixels",
            "names of the file's tensors",
        ),
        note="the whole image is squashed to 224 squares; the authors crop frames to a square and "
        "zoom in by a tenth on each side. Their examples give blue first, which makes no "
        "difference for grey images",
    )

    def make(self) -> nn.Module:
        """A ConvNeXt-base and its projection."""
        return ConvNeXt(128, _DEPTHS, projected=512)

    def _last(self, x: Tensor) -> Tensor:
        last: Tensor = self.network.maps(x)[-1]  # type: ignore[operator]
        return last

    def _forward(self, x: Tensor) -> Tensor:
        features = self._last(x).mean((2, 3))
        if self.pooling != "mean":
            features = self.network.norm(features)  # type: ignore[operator]
        if self.pooling == "projected":
            features = self.network.projection(features)  # type: ignore[operator]
        return features

    def _tokens(self, x: Tensor) -> Tensor:
        return self._last(x).flatten(2).mT

    def _maps(self, x: Tensor) -> list[Tensor]:
        return [side_by_side(self.network.maps(x), x.shape[-2])]  # type: ignore[operator]
