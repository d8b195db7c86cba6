"""Windows of a feature map, as SAM and Swin cut it for their attention.

B is the batch, H and W the map's sides, S the side of a window, D the width.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import pad


def cut(x: Tensor, side: int) -> Tensor:
    """[B, H, W, D] -> [B * windows, S, S, D]; zeros fill up the right and the bottom."""
    x = filled_up(x, side)
    batch, height, width, channels = x.shape
    x = x.view(batch, height // side, side, width // side, side, channels)
    return x.transpose(2, 3).reshape(-1, side, side, channels)


def join(windows: Tensor, height: int, width: int) -> Tensor:
    """The inverse of `cut`: [B * windows, S, S, D] -> [B, H, W, D], without what was filled up."""
    side, channels = windows.shape[1], windows.shape[3]
    rows, columns = -(-height // side), -(-width // side)
    x = windows.view(-1, rows, columns, side, side, channels).transpose(2, 3)
    return x.reshape(-1, rows * side, columns * side, channels)[:, :height, :width]


def filled_up(x: Tensor, side: int) -> Tensor:
    """[B, H, W, D] with zeros at the right and the bottom, to multiples of `side`."""
    _, height, width, _ = x.shape
    return pad(x, (0, 0, 0, -width % side, 0, -height % side))
