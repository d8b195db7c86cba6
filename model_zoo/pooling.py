"""From tokens to one vector per image: pure functions with names.

B is the batch, P the prefix tokens (class token first, then registers), N the patches, D the
width.
"""

from __future__ import annotations

import torch
from torch import Tensor


def cls(tokens: Tensor, prefix: int) -> Tensor:
    """The class token, [B, D], of tokens [B, P + N, D].

    Raises:
        ValueError: the model has none.
    """
    if prefix < 1:
        raise ValueError("these tokens have no class token; pool with 'mean'")
    return tokens[:, 0]


def mean(tokens: Tensor, prefix: int) -> Tensor:
    """The mean over the patch tokens, [B, D], of tokens [B, P + N, D]."""
    return tokens[:, prefix:].mean(dim=1)


def cls_mean(tokens: Tensor, prefix: int) -> Tensor:
    """Class token and patch mean side by side, [B, 2 D], of tokens [B, P + N, D].

    Raises:
        ValueError: the model has no class token.
    """
    return torch.cat([cls(tokens, prefix), mean(tokens, prefix)], dim=1)


def mean_and_deviation(tokens: Tensor, prefix: int) -> Tensor:
    """Mean and deviation over the patch tokens side by side, float32 [B, 2 D]."""
    variance, mean = torch.var_mean(tokens[:, prefix:].float(), dim=1, correction=0)
    # A little added, so that the root has a gradient where all patches are alike.
    return torch.cat([mean, (variance + 1e-6).sqrt()], dim=1)


POOLINGS = {"cls": cls, "mean": mean, "cls+mean": cls_mean}


def pool(name: str, tokens: Tensor, prefix: int) -> Tensor:
    """Pool tokens [B, P + N, D] by the function called `name`.

    Raises:
        ValueError: unknown name, or a class token is asked for where there is none.
    """
    if name not in POOLINGS:
        raise ValueError(f"unknown pooling '{name}'; it is one of {', '.join(POOLINGS)}")
    return POOLINGS[name](tokens, prefix)
