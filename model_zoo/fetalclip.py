"""FetalCLIP's image tower: CLIP's ViT-L/14, trained on fetal ultrasound (arXiv 2502.14807)."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from model_zoo import pooling
from model_zoo.cards import Card, HubFile
from model_zoo.checkpoints.layouts import Layout, Recipe
from model_zoo.released import ViTEncoder
from model_zoo.transforms import InputRule
from model_zoo.vit import Block, PatchEmbed, initialise

MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP's
STD = (0.26862954, 0.26130258, 0.27577711)
_DEPTH, _EPS = 24, 1e-5


class CLIPViT(nn.Module):
    """ViT-L/14 at 224 pixels as open_clip has it: a norm before the blocks, and exact GELU."""

    grid, width, heads, prefix = 16, 1024, 16, 1

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, self.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.grid**2, self.width))
        self.patch_embed = PatchEmbed(14, self.width, bias=False)
        self.norm_pre = nn.LayerNorm(self.width, eps=_EPS)
        self.blocks = nn.ModuleList(Block(self.width, self.heads, eps=_EPS) for _ in range(_DEPTH))
        self.norm = nn.LayerNorm(self.width, eps=_EPS)
        self.projection = nn.Linear(self.width, 768, bias=False)
        self.apply(initialise)

    def unnormed(self, images: Tensor, each: Callable[[Tensor], object] | None = None) -> Tensor:
        """Tokens [B, 1 + 256, 1024] before the final norm, class token first.

        `each` is handed the tokens after each block, the last one's included.
        """
        x: Tensor = self.patch_embed(images)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        x = self.norm_pre(x + self.pos_embed)
        for block in self.blocks:
            x = block(x)
            if each is not None:
                each(x)
        return x


def _transposed(parts: list[Tensor]) -> Tensor:
    return parts[0].mT


def _as_row(parts: list[Tensor]) -> Tensor:
    return parts[0].reshape(1, -1, parts[0].shape[-1])


_NAMES = {
    "cls_token": Recipe(("visual.class_embedding",), _as_row),
    "pos_embed": Recipe(("visual.positional_embedding",), _as_row),
    "patch_embed.proj.weight": Recipe(("visual.conv1.weight",)),
    "projection.weight": Recipe(("visual.proj",), _transposed),
}
_PARTS = {
    **{"attn.qkv.weight": "attn.in_proj_weight", "attn.qkv.bias": "attn.in_proj_bias"},
    **{"attn.proj": "attn.out_proj", "norm1": "ln_1", "norm2": "ln_2"},
    **{"mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"},
}


def _open_clip(key: str) -> Recipe:
    """Where open_clip's files hold the image tower."""
    if key in _NAMES:
        return _NAMES[key]
    for ours, theirs in _PARTS.items():
        key = key.replace(f".{ours}", f".{theirs}")
    key = key.replace("blocks.", "transformer.resblocks.")
    return Recipe((f"visual.{key.replace('norm_pre.', 'ln_pre.').replace('norm.', 'ln_post.')}",))


class FetalCLIP(ViTEncoder):
    """FetalCLIP's ViT-L/14: features [B, 768], tokens [B, 256, 1024].

    The default pooling, `projected`, is the class token after norm and projection, not scaled to
    length one, as the authors probe it; the others are those of the trunk, [B, 1024].
    """

    input_rule = InputRule(224, MEAN, STD, fit="square")
    patch_size = 14
    batch_size = 8
    poolings: ClassVar[tuple[str, ...]] = (
        *("projected", "cls", "mean", "cls+mean", "mean_prenorm", "last4"),
    )
    entries = ("state_dict", "")
    layouts = (
        Layout(
            "open_clip",
            _open_clip,
            leftovers=("positional_embedding", "text_projection", "logit_scale",
                       "token_embedding.*", "transformer.*", "ln_final.*"),
            leftover_shapes={"positional_embedding": (117, 768)},  # the length of its texts
        ),
    )  # fmt: skip
    card = Card(
        title="FetalCLIP",
        paper="Maani et al., arXiv 2502.14807 (2025)",
        code_licence="CC BY-NC 4.0",
        weights_licence="CC BY-NC 4.0 (since 2026-02-05)",
        licence_kind="non-commercial",
        weights_from="huggingface.co/numansaeed/fetalclip-model: FetalCLIP_weights.pt (linked in "
        "the README of github.com/BioMedIA-MBZUAI/FetalCLIP)",
        hub=HubFile("numansaeed/fetalclip-model", "FetalCLIP_weights.pt"),
        pretraining="210,035 fetal images with texts, of Corniche Hospital (Abu Dhabi) and of a "
        "book; FETAL_PLANES_DB and HC18 are among its authors' test sets",
        parameters=303_966_208,
        dim=768,
        status="verified by the authors' code",
        verified="authors' code",
        verified_with="open_clip 2.26.1 with the authors' config (BioMedIA-MBZUAI/FetalCLIP at "
        "253a169), in float32 on a CPU",
        inferred=("that the file's keys begin with `module.`; those without it are read as well",
                  "poolings other than projected"),
        note="images are put in the middle of a black square, as the authors' own scripts do",
    )  # fmt: skip

    def make(self) -> nn.Module:
        """CLIP's ViT-L/14 and its projection."""
        return CLIPViT()

    def _forward(self, x: Tensor) -> Tensor:
        if self.pooling != "projected":
            return super()._forward(x)
        tokens: Tensor = self.network.unnormed(x)  # type: ignore[operator]
        projected: Tensor = self.network.projection(  # type: ignore[operator]
            pooling.cls(self._normed(tokens), self._prefix)
        )
        return projected
