"""The predictor: from what the student saw to what the teacher says of the hidden blocks (eq. 1).

Parameters have the names of facebookresearch/ijepa's `vit_predictor`; the last layer is the linear
adapter to the teacher's width (section 4.4).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model_zoo import video_vit
from model_zoo.video_vit import Grid
from model_zoo.vit import EPS, Block, Rotate, initialise, sine_cosine_table
from usjepa.student import attention_bias


class _Predictor(nn.Module):
    """What the predictors of stills and of clips share; they differ in mask tokens and positions.

    Args:
        table: positions, [N, width]; None for rotary ones.
        mask_tokens: how many there are; None for the one of stills, which has another name.
        student_width: width of the context tokens.
        target_width: width of the predictions, D.
        depth: number of blocks.
        width: inside.
        heads: attention heads.
    """

    def __init__(
        self,
        table: Tensor | None,
        mask_tokens: int | None,
        student_width: int,
        target_width: int,
        depth: int,
        width: int,
        heads: int,
    ) -> None:
        super().__init__()
        self.predictor_embed = nn.Linear(student_width, width)
        tokens = [nn.Parameter(torch.zeros(1, 1, width)) for _ in range(mask_tokens or 1)]
        if mask_tokens is None:
            self.mask_token = tokens[0]
        else:
            self.mask_tokens = nn.ParameterList(tokens)
        # Stored and loaded rather than recomputed, as in the official checkpoints.
        self.predictor_pos_embed = (
            None if table is None else nn.Parameter(table[None], requires_grad=False)
        )
        self.predictor_blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.predictor_norm = nn.LayerNorm(width, eps=EPS)
        self.predictor_proj = nn.Linear(width, target_width)
        self.apply(initialise)

    def asking(self, kind: int) -> Tensor:
        """The mask token of a kind of mask, [1, 1, width]."""
        raise NotImplementedError

    def turning(self, index: Tensor) -> Rotate | None:
        """Rotary positions of tokens at places [B, L]; None where there is a table."""
        return None

    def forward(
        self,
        context: Tensor,
        context_index: Tensor,
        targets: Tensor,
        context_real: Tensor | None = None,
        targets_real: Tensor | None = None,
        kind: int = 0,
    ) -> Tensor:
        """Predictions for every target patch, [B, T, K, D].

        See `everywhere` for how, and for the arguments.
        """
        x = self._blocks(context, context_index, targets, context_real, targets_real, kind)
        return self._projected(x[:, -targets.shape[-1] :], targets.shape)

    def everywhere(
        self,
        context: Tensor,
        context_index: Tensor,
        targets: Tensor,
        context_real: Tensor | None = None,
        targets_real: Tensor | None = None,
        kind: int = 0,
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
            kind: number of the kind of mask, from 0.
        """
        x = self._blocks(context, context_index, targets, context_real, targets_real, kind)
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
        kind: int,
    ) -> Tensor:
        """Tokens after the last block, [B * T, C + K, width]: the context before each block."""
        count, targets = targets.shape[1], targets.flatten(0, 1)
        seen = self.predictor_embed(context)  # [B, C, width]
        asked = self.asking(kind)  # [1, 1, width]
        rotate = None
        if self.predictor_pos_embed is None:
            asked = asked.expand(*targets.shape, -1)
            places = context_index.repeat_interleave(count, dim=0)
            rotate = self.turning(torch.cat([places, targets], dim=1))
        else:
            table = self.predictor_pos_embed[0]
            seen, asked = seen + table[context_index], asked + table[targets]
        # Images first, their blocks side by side: block t of image b is row b * T + t.
        seen = seen.repeat_interleave(count, dim=0)
        x = torch.cat([seen, asked.to(seen.dtype)], dim=1)
        bias = None
        if context_real is not None or targets_real is not None:
            if context_real is None:
                context_real = torch.ones_like(context_index, dtype=torch.bool)
            if targets_real is None:
                targets_real = torch.ones_like(targets, dtype=torch.bool)
            real = [context_real.repeat_interleave(count, 0), targets_real.view(targets.shape)]
            bias = attention_bias(torch.cat(real, dim=1), x.dtype)
        for block in self.predictor_blocks:
            x = block(x, bias, rotate)
        return x

    def _projected(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """[B * T, L, width] -> [*shape, D], `shape` being [B, T, L]."""
        predicted: Tensor = self.predictor_proj(self.predictor_norm(x))
        return predicted.reshape(*shape, -1)


class Predictor(_Predictor):
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
        table = sine_cosine_table(grid, width)
        super().__init__(table, None, student_width, target_width, depth, width, heads)
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def asking(self, kind: int) -> Tensor:
        """The mask token, [1, 1, width]."""
        return self.mask_token


class VideoPredictor(_Predictor):
    """The predictor of clips, with the parameter names of V-JEPA (`VisionTransformerPredictor`).

    V-JEPA 2 sorts tokens by place before its blocks and back after them; with rotary positions that
    changes nothing but rounding, and is left out.

    Args:
        grid: places of the tokens along time, rows and columns.
        student_width: width of the context tokens.
        target_width: width of the predictions, D.
        depth: number of blocks.
        width: inside.
        heads: attention heads.
        mask_tokens: how many there are, which start at zero; kinds of masks beyond share the first.
        rotary: V-JEPA 2's positions, and no table.
    """

    def __init__(
        self,
        grid: Grid,
        student_width: int,
        target_width: int,
        depth: int = 12,
        width: int = 384,
        heads: int = 12,
        mask_tokens: int = 2,
        rotary: bool = False,
    ) -> None:
        table = None if rotary else video_vit.sine_cosine_table(grid, width)
        super().__init__(table, mask_tokens, student_width, target_width, depth, width, heads)
        self.grid, self.heads = grid, heads

    def asking(self, kind: int) -> Tensor:
        """The mask token of a kind of mask, [1, 1, width]."""
        token: Tensor = self.mask_tokens[kind if kind < len(self.mask_tokens) else 0]
        return token

    def turning(self, index: Tensor) -> Rotate | None:
        """Rotary positions of tokens at places [B, L]."""
        width = self.predictor_embed.out_features // self.heads
        return video_vit.rotation(index, self.grid, width)
