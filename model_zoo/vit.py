"""The plain vision transformer, with the parameter names of I-JEPA, MAE and timm.

Pre-norm blocks, softmax attention with biases, exact GELU, LayerNorm epsilon 1e-6 and a stored
position table (sine-cosine unless weights say otherwise).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, relu, scaled_dot_product_attention

from model_zoo.checkpoints.exports import Stem

EPS = 1e-6  # 1e-5, torch's default, shifts tokens by 4e-5

Rotate = Callable[[Tensor], Tensor]


class Attention(nn.Module):
    """Multi-head self-attention on tokens [B, N, D]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(
        self, x: Tensor, bias: Tensor | None = None, rotate: Rotate | None = None
    ) -> Tensor:
        """[B, N, D] -> [B, N, D]; see `Block` for `bias` and `rotate`."""
        batch, length, width = x.shape
        qkv = self.qkv(x).reshape(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each [B, heads, N, D / heads]
        if rotate is not None:
            q, k = rotate(q), rotate(k)
        mixed = scaled_dot_product_attention(q, k, v, attn_mask=bias)
        joined: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, length, width))
        return joined


class MLP(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, D] -> [B, N, D]."""
        projected: Tensor = self.fc2(gelu(self.fc1(x)))
        return projected


class Block(nn.Module):
    """One pre-norm transformer block.

    Args:
        width: D.
        heads: attention heads.
        mlp_ratio: width of the hidden layer over D.
        eps: of both LayerNorms.
        layer_scale: whether a learnt vector (`gamma_1`, `gamma_2`) scales each branch.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: float = 4,
        eps: float = EPS,
        layer_scale: bool = False,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = MLP(width, int(width * mlp_ratio))
        self.gamma_1 = nn.Parameter(torch.full((width,), 0.1)) if layer_scale else None
        self.gamma_2 = nn.Parameter(torch.full((width,), 0.1)) if layer_scale else None

    def forward(
        self, x: Tensor, bias: Tensor | None = None, rotate: Rotate | None = None
    ) -> Tensor:
        """[B, N, D] -> [B, N, D].

        Args:
            x: tokens.
            bias: added to the attention's logits, [heads, N, N].
            rotate: applied to queries and keys [B, heads, N, D / heads].
        """
        attended, scale = self.attn(self.norm1(x), bias, rotate), self.gamma_1
        x = x + (attended if scale is None else scale * attended)
        mapped, scale = self.mlp(self.norm2(x)), self.gamma_2
        x = x + (mapped if scale is None else scale * mapped)
        return x


class PatchEmbed(nn.Module):
    """Cut the image into patches and project each, in raster order."""

    def __init__(self, patch_size: int, width: int, bias: bool = True) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=patch_size, stride=patch_size, bias=bias)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, N, D]."""
        patches: Tensor = self.proj(images).flatten(2).transpose(1, 2)
        return patches


class ConvolutionalStem(nn.Module):
    """Patch tokens by convolutions of 3 x 3 and stride 2, with ReLU, and a linear map (arXiv
    2106.14881, without its normalisation).

    Args:
        patch_size: a power of 2; each convolution halves the sides.
        width: D; the convolutions have ..., D / 4, D / 2 and D channels.
    """

    def __init__(self, patch_size: int, width: int) -> None:
        super().__init__()
        steps = patch_size.bit_length() - 1
        widths = [3, *(max(1, width >> left) for left in reversed(range(steps)))]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1) for before, after in pairwise(widths)
        )
        self.proj = nn.Conv2d(widths[-1], width, kernel_size=1)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, N, D]."""
        x = images.contiguous(memory_format=torch.channels_last)  # faster on a CPU
        for convolution in self.convolutions:
            x = relu(convolution(x))
        patches: Tensor = self.proj(x).flatten(2).transpose(1, 2)
        return patches


class VisionTransformer(nn.Module):
    """A plain ViT that gives its tokens after the final norm.

    Args:
        image_size: side of the square input.
        patch_size: side of a patch.
        width: D.
        depth: number of blocks.
        heads: attention heads.
        class_token: whether a class token stands before the patches.
        stem: "patches" are cut and projected; "convolutions": `ConvolutionalStem`.
        projection: width of a linear layer for pooled tokens [B, 2 D depth], which is not part of
            `forward`; 0: none.
    """

    def __init__(
        self,
        image_size: int = 224,
        patch_size: int = 16,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        class_token: bool = False,
        stem: Stem = "patches",
        projection: int = 0,
    ) -> None:
        super().__init__()
        grid = image_size // patch_size
        self.prefix = int(class_token)
        table = sine_cosine_table(grid, width)
        if class_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
            table = torch.cat([torch.zeros(1, width), table])
        # Stored and loaded rather than recomputed: released tables need not be ours.
        self.pos_embed = nn.Parameter(table[None], requires_grad=False)
        embed = PatchEmbed if stem == "patches" else ConvolutionalStem
        self.patch_embed = embed(patch_size, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.projection: nn.Linear | None = None
        if projection:
            self.projection = nn.Linear(2 * width * depth, projection)
        self.apply(initialise)

    def forward(self, images: Tensor, keep: Tensor | None = None) -> Tensor:
        """Tokens [B, P + N, D] after the final norm; arguments as for `unnormed`."""
        normed: Tensor = self.norm(self.unnormed(images, keep))
        return normed

    def unnormed(
        self,
        images: Tensor,
        keep: Tensor | None = None,
        each: Callable[[Tensor], object] | None = None,
    ) -> Tensor:
        """Tokens [B, P + N, D] of normalised images [B, 3, S, S]; the class token is the first.

        Args:
            images: at the size the network was made for.
            keep: indices of the patches to look at, [K] or [B, K]; None for all.
            each: is handed the tokens after each block, the last one's included.
        """
        x: Tensor = self.patch_embed(images) + self.pos_embed[:, self.prefix :]
        if keep is not None:
            index = keep.expand(len(x), -1)[..., None].expand(-1, -1, x.shape[-1])
            x = x.gather(1, index)
        if self.prefix:
            start = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
            x = torch.cat([start, x], dim=1)
        for block in self.blocks:
            x = block(x)
            if each is not None:
                each(x)
        return x


def sine_cosine_table(grid: int, width: int) -> Tensor:
    """Fixed positions of a grid x grid raster, float32 [grid * grid, width].

    As in MAE and I-JEPA (`get_2d_sincos_pos_embed`): the first half of the channels holds the
    column, the second the row; each is sines, then cosines, of wavelengths up to 10000.
    """
    frequency = 10000 ** -(torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    angle = torch.arange(grid, dtype=torch.float64)[:, None] * frequency
    axis = torch.cat([angle.sin(), angle.cos()], dim=1)  # [grid, width / 2]
    column = axis.repeat(grid, 1)
    row = axis.repeat_interleave(grid, dim=0)
    return torch.cat([column, row], dim=1).float()


def overlaps(module: nn.Module) -> bool:
    """Whether it is a convolution of a stem; one that cuts an image into patches is a linear layer
    of each."""
    return isinstance(module, nn.Conv2d) and module.stride != module.kernel_size


def initialise(module: nn.Module) -> None:
    """Truncated normal of spread 0.02 and zero biases, as I-JEPA starts."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        if overlaps(module):  # else a stem's image would fade, layer by layer
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        else:
            nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
