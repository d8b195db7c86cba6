"""The video transformer of V-JEPA (arXiv 2404.08471) and V-JEPA 2 (arXiv 2506.09985).

A clip is cut into tubelets, one token each, in the order time, row, column; there is one token for
every `tubelet` frames and square of `patch_size` pixels. V-JEPA adds a stored sine-cosine table;
V-JEPA 2 rotates queries and keys instead. Neither has a class token, as some of their kin have.
Blocks and parameter names are those of `model_zoo.vit`, as in both official codes. B is the batch,
T the frames, D the width, N the tokens, K the tokens that are kept, P is 1 with a class token.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from model_zoo.vit import EPS, Block, Rotate, initialise

Grid = tuple[int, int, int]  # places along time, rows and columns


class TubeletEmbed(nn.Module):
    """Cut a clip into tubelets and project each."""

    def __init__(self, patch_size: int, tubelet: int, width: int) -> None:
        super().__init__()
        sides = (tubelet, patch_size, patch_size)
        self.proj = nn.Conv3d(3, width, kernel_size=sides, stride=sides)

    def forward(self, clips: Tensor) -> tuple[Tensor, Grid]:
        """[B, 3, T, H, W] -> [B, N, D] and the grid of the N places."""
        places: Tensor = self.proj(clips)
        time, rows, columns = places.shape[2:]
        return places.flatten(2).transpose(1, 2), (time, rows, columns)


class VideoTransformer(nn.Module):
    """A plain transformer on tubelets that gives its tokens after the final norm.

    There are P + N or P + K of them: a class token, if there is one, comes first.

    Args:
        image_size: side of the square frames that the table is for.
        frames: of the clips that the table is for.
        patch_size: side of a patch.
        tubelet: frames of one token.
        width: D.
        depth: number of blocks.
        heads: attention heads.
        rotary: V-JEPA 2's rotary positions, and no table.
        uniform_power: whether the table gives time, rows and columns the same share of channels,
            as V-JEPA trains.
        mlp_ratio: width of an MLP's hidden layer over D.
        class_token: whether a class token stands before the others; not with rotary positions.
    """

    def __init__(
        self,
        image_size: int = 224,
        frames: int = 16,
        patch_size: int = 16,
        tubelet: int = 2,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        rotary: bool = False,
        uniform_power: bool = True,
        mlp_ratio: float = 4,
        class_token: bool = False,
    ) -> None:
        super().__init__()
        side = image_size // patch_size
        self.prefix = int(class_token)
        self.tubelet, self.heads = tubelet, heads
        self.grid: Grid = (frames // tubelet, side, side)
        self.pos_embed: nn.Parameter | None = None
        if not rotary:
            # Stored and loaded rather than recomputed: released tables need not be ours.
            table = sine_cosine_table(self.grid, width, uniform_power)
            if class_token:
                self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
                table = torch.cat([torch.zeros(1, width), table])
            self.pos_embed = nn.Parameter(table[None], requires_grad=False)
        self.patch_embed = TubeletEmbed(patch_size, tubelet, width)
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.apply(initialise)
        nn.init.trunc_normal_(self.patch_embed.proj.weight, std=0.02)
        nn.init.zeros_(self.patch_embed.proj.bias)  # type: ignore[arg-type]

    def forward(self, clips: Tensor, keep: Tensor | None = None) -> Tensor:
        """Tokens [B, N or K, D] after the final norm; arguments as for `unnormed`."""
        normed: Tensor = self.norm(self.unnormed(clips, keep))
        return normed

    def unnormed(
        self,
        clips: Tensor,
        keep: Tensor | None = None,
        each: Callable[[Tensor], object] | None = None,
    ) -> Tensor:
        """Tokens [B, N or K, D] of normalised clips [B, 3, T, H, W], before the final norm.

        Args:
            clips: of any number of frames and size that tubelets and patches divide; the table is
                interpolated where they are not those the network was made for.
            keep: indices of the tokens to look at, time x rows x columns, [B, K]; None for all.
            each: is handed the tokens after each block, the last one's included.

        Raises:
            ValueError: the clip has fewer frames than a tubelet.
        """
        if clips.shape[2] < self.tubelet:
            raise ValueError(
                f"a clip must have at least {self.tubelet} frames, one tubelet; got "
                f"{clips.shape[2]}"
            )
        x: Tensor
        x, grid = self.patch_embed(clips)
        if self.pos_embed is not None:
            x = x + resized_table(self.pos_embed[:, self.prefix :], self.grid, grid)
        if keep is not None:
            x = x.gather(1, keep[..., None].expand(-1, -1, x.shape[-1]))
        if self.prefix and self.pos_embed is not None:
            start = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
            x = torch.cat([start, x], dim=1)
        rotate = None
        if self.pos_embed is None:
            places = torch.arange(math.prod(grid), device=x.device) if keep is None else keep
            rotate = rotation(places, grid, x.shape[-1] // self.heads)
        for block in self.blocks:
            x = block(x, rotate=rotate)
            if each is not None:
                each(x)
        return x


def sine_cosine_table(grid: Grid, width: int, uniform_power: bool = True) -> Tensor:
    """Fixed positions of a grid of time x rows x columns, float32 [N, width].

    As in V-JEPA (`get_3d_sincos_pos_embed`): channels of time, then of rows, then of columns. With
    `uniform_power` each has a third of them, rounded up to an even number, and the sum is cut to
    `width`; otherwise time has a half and the others a quarter each.
    """
    third = math.ceil(width / 6) * 2
    shares = (third,) * 3 if uniform_power else (width // 2, width // 4, width // 4)
    places = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in grid), indexing="ij")
    axes = [
        _sine_cosine(place.flatten(), share) for place, share in zip(places, shares, strict=True)
    ]
    return torch.cat(axes, dim=1)[:, :width].float()


def _sine_cosine(place: Tensor, width: int) -> Tensor:
    """Sines, then cosines, of places [N] at wavelengths up to 10000: [N, width]."""
    frequency = 10000 ** -(torch.arange(width // 2, dtype=torch.float64) / (width / 2))
    angle = place[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def resized_table(table: Tensor, stored: Grid, grid: Grid) -> Tensor:
    """A table [1, N, D] of the grid `stored`, interpolated trilinearly to another grid."""
    if grid == stored:
        return table
    cube = table.reshape(1, *stored, -1).permute(0, 4, 1, 2, 3)
    factors = [new / old for new, old in zip(grid, stored, strict=True)]
    # By factors, as the official code: the size alone could sample other places.
    resized = interpolate(cube, scale_factor=factors, mode="trilinear")
    flat: Tensor = resized.permute(0, 2, 3, 4, 1).flatten(1, 3)
    return flat


def rotation(places: Tensor, grid: Grid, width: int) -> Rotate:
    """V-JEPA 2's rotary positions, to be applied to queries and keys [B, heads, K, width].

    Each axis turns `2 * (width // 3 // 2)` channels, in the order time, row, column; the channels
    that are left are not turned. Cosines and sines are tiled (f0 f1 .. f0 f1 ..) although
    neighbours are turned together, as in the official code (`rotate_queries_or_keys`), whose
    weights depend on it.

    Args:
        places: index of each token in the grid, [K] or [B, K].
        grid: places along time, rows and columns.
        width: channels of a head.
    """
    share = 2 * (width // 3 // 2)
    _, rows, columns = grid
    frequency = 1 / 10000 ** (torch.arange(share // 2, device=places.device) / (share / 2))
    axes = (places // (rows * columns), places // columns % rows, places % columns)
    angles = [(axis[..., None] * frequency).tile(2) for axis in axes]
    angle = torch.cat(angles, dim=-1)  # [(B,) K, 3 * share]
    if angle.ndim == 3:
        angle = angle[:, None]  # the same for every head
    cosine, sine = angle.cos(), angle.sin()

    def rotate(x: Tensor) -> Tensor:
        turned, left = x[..., : 3 * share], x[..., 3 * share :]
        even, odd = turned.reshape(*turned.shape[:-1], -1, 2).unbind(-1)
        across = torch.stack([-odd, even], dim=-1).flatten(-2)
        return torch.cat([turned * cosine.to(x) + across * sine.to(x), left], dim=-1)

    return rotate


__all__ = ["Grid", "VideoTransformer", "resized_table", "rotation", "sine_cosine_table"]
