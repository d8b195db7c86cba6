"""The predictor: from what the student saw to what the teacher says of the hidden blocks (eq. 1).

Parameters have the names of facebookresearch/ijepa's `vit_predictor`; the last layer is the linear
adapter to the teacher's width (section 4.4).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model_zoo.vit import EPS, Block, initialise, sine_cosine_table
from usjepa.student import attention_bias


class Predictor(nn.Module):
    """A narrow transformer over context tokens and mask tokens.

    Args:
        grid: patches along a side of the image.
        student_width: width of the context tokens.
        target_width: width of the predictions, D.
        depth: number of blocks.
        width: inside.
        heads: attention heads.
    """

    def __init__(
        self,
        grid: int,
        student_width: int,
        target_width: int,
        depth: int = 12,
        width: int = 384,
        heads: int = 12,
    ) -> None:
        super().__init__()
        self.predictor_embed = nn.Linear(student_width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        # Stored and loaded rather than recomputed, as in the official checkpoints.
        self.predictor_pos_embed = nn.Parameter(
            sine_cosine_table(grid, width)[None], requires_grad=False
        )
        self.predictor_blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.predictor_norm = nn.LayerNorm(width, eps=EPS)
        self.predictor_proj = nn.Linear(width, target_width)
        self.apply(initialise)
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def forward(
        self,
        context: Tensor,
        context_index: Tensor,
        targets: Tensor,
        context_real: Tensor | None = None,
        targets_real: Tensor | None = None,
    ) -> Tensor:
        """Predictions for every target patch, [B, T, K, D].

        See `everywhere` for how, and for the arguments.
        """
        x = self._blocks(context, context_index, targets, context_real, targets_real)
        return self._projected(x[:, -targets.shape[-1] :], targets.shape)

    def everywhere(
        self,
        context: Tensor,
        context_index: Tensor,
        targets: Tensor,
        context_real: Tensor | None = None,
        targets_real: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Predictions for every target patch [B, T, K, D] and every visible one [B, T, C, D].

        The context is put before each target block by itself, so that blocks of an image know
        nothing of each other, and visible patches are predicted T times.

        Args:
            context: the student's tokens, [B, C, D_student].
            context_index: their patch numbers, int64 [B, C].
            targets: patch numbers to predict, int64 [B, T, K].
            context_real: False where the context is only padding, bool [B, C]; None if nothing is.
            targets_real: likewise for `targets`, bool [B, T, K]. No token attends to padding, and
                predictions for padding mean nothing.
        """
        x = self._blocks(context, context_index, targets, context_real, targets_real)
        batch, count, length = targets.shape
        seen, asked = torch.split(x, [context.shape[1], length], dim=1)
        return (
            self._projected(asked, targets.shape),
            self._projected(seen, (batch, count, context.shape[1])),
        )

    def _blocks(
        self,
        context: Tensor,
        context_index: Tensor,
        targets: Tensor,
        context_real: Tensor | None,
        targets_real: Tensor | None,
    ) -> Tensor:
        """Tokens after the last block, [B * T, C + K, width]: the context before each block."""
        count = targets.shape[1]
        table = self.predictor_pos_embed[0]
        seen = self.predictor_embed(context) + table[context_index]  # [B, C, width]
        asked = self.mask_token + table[targets.flatten(0, 1)]  # [B * T, K, width]
        # Images first, their blocks side by side: block t of image b is row b * T + t.
        seen = seen.repeat_interleave(count, dim=0)
        x = torch.cat([seen, asked.to(seen.dtype)], dim=1)
        bias = None
        if context_real is not None or targets_real is not None:
            if context_real is None:
                context_real = torch.ones_like(context_index, dtype=torch.bool)
            if targets_real is None:
                targets_real = torch.ones_like(targets, dtype=torch.bool)
            real = [context_real.repeat_interleave(count, dim=0), targets_real.flatten(0, 1)]
            bias = attention_bias(torch.cat(real, dim=1), x.dtype)
        for block in self.predictor_blocks:
            x = block(x, bias)
        return x

    def _projected(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """[B * T, L, width] -> [*shape, D], `shape` being [B, T, L]."""
        predicted: Tensor = self.predictor_proj(self.predictor_norm(x))
        return predicted.reshape(*shape, -1)
