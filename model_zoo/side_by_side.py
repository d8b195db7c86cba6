"""One feature map of a network whose maps get coarser from stage to stage.

B is the batch, D the width of a map, h and w its sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log2

import torch
from torch import Tensor
from torch.nn.functional import interpolate

STRIDES = (16, 32)  # pixels of the input per place


def side_by_side(stages: Sequence[Tensor], size: int) -> Tensor:
    """Float32 [B, D + D', h, w]: the map of stride 16 and that of stride 32, resized to it.

    Resized bilinearly, so that both lie over the whole input. Where a network has no such strides
    it is those that come nearest; if that is the same map twice, that map alone.

    Args:
        stages: maps [B, D, h, w] of all stages, the finest first; the last of a size counts.
        size: height of the input in pixels.
    """
    fine, coarse = (
        min(reversed(stages), key=lambda x: abs(log2(size / x.shape[-2] / stride)))
        for stride in STRIDES
    )
    if coarse is fine:
        return fine.float()
    resized = interpolate(coarse.float(), fine.shape[-2:], mode="bilinear", align_corners=False)
    return torch.cat([fine.float(), resized], 1)
