"""BiomedCLIP's image tower (arXiv 2303.00915), without the text tower its library would fetch."""

from __future__ import annotations

from torch import Tensor, nn

from model_zoo import pooling
from model_zoo.cards import Card, HubFile
from model_zoo.checkpoints.layouts import Layout, Recipe
from model_zoo.released import ViTEncoder
from model_zoo.transforms import InputRule
from model_zoo.vit import VisionTransformer

_MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP's
_STD = (0.26862954, 0.26130258, 0.27577711)


class ProjectedViT(VisionTransformer):
    """ViT-B/16 whose class token is projected to the space it shares with text."""

    def __init__(self) -> None:
        super().__init__(class_token=True)
        self.projection = nn.Linear(768, 512, bias=False)


def _visual(key: str) -> Recipe:
    if key == "projection.weight":
        return Recipe(("visual.head.proj.weight",))
    return Recipe((f"visual.trunk.{key}",))


class BiomedCLIP(ViTEncoder):
    """BiomedCLIP's ViT-B/16: features [B, 512], tokens [B, 196, 768].

    The default pooling, `projected`, is the class token after norm and projection, CLIP's image
    feature; the others are those of the trunk, [B, 768].
    """

    input_rule = InputRule(224, _MEAN, _STD)
    poolings = ("projected", "cls", "mean", "cls+mean", "mean_prenorm", "last4")
    layouts = (Layout("open_clip", _visual, leftovers=("text.*", "logit_scale", "logit_bias")),)
    card = Card(
        title="BiomedCLIP",
        paper="Zhang et al., arXiv 2303.00915 (2023)",
        code_licence="MIT",
        weights_licence="MIT",
        weights_from="huggingface.co/microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224: "
        "open_clip_pytorch_model.bin",
        pretraining="PMC-15M, figures and captions of PubMed Central",
        hub=HubFile(
            "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
            "open_clip_pytorch_model.bin",
        ),
        parameters=86_191_872,
        dim=512,
        saw=(),
        status="verified by an equivalent implementation",
        verified_with="open_clip's TimmModel with the same numbers",
        note="the whole image is squashed to 224 squares; open_clip would crop its centre",
    )

    def make(self) -> nn.Module:
        """The trunk and its projection."""
        return ProjectedViT()

    def _forward(self, x: Tensor) -> Tensor:
        if self.pooling != "projected":
            return super()._forward(x)
        tokens: Tensor = self.network.unnormed(x)  # type: ignore[operator]
        projected: Tensor = self.network.projection(  # type: ignore[operator]
            pooling.cls(self._normed(tokens), self._prefix)
        )
        return projected
