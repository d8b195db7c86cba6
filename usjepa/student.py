"""The student: the zoo's plain vision transformer, of stills or clips, run on visible places only.

Its parameters have the names and shapes of `model_zoo.vit.VisionTransformer`, or of
`model_zoo.video_vit.VideoTransformer`, so that what is trained here is what the zoo opens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model_zoo.video_vit import VideoTransformer
from model_zoo.vit import VisionTransformer
from usjepa.config import Config, ModelSettings


class ImageStudent(VisionTransformer):
    """A vision transformer that can look at lists of patches of unequal length.

    Args:
        model: its sizes.
    """

    def __init__(self, model: ModelSettings) -> None:
        super().__init__(
            model.image_size,
            model.patch_size,
            model.width,
            model.depth,
            model.heads,
            model.class_token,
            model.stem,
        )

    def visible(self, images: Tensor, index: Tensor, real: Tensor | None = None) -> Tensor:
        """Patch tokens [B, C, D] after the final norm, from those patches alone.

        Positions are added before patches are left out, so each keeps its own.

        Args:
            images: normalised, [B, 3, S, S].
            index: patch numbers, int64 [B, C].
            real: False where a number is only padding, bool [B, C]; None if none is. No token
                attends to padding; its own outputs mean nothing.
        """
        if real is None:
            return self.forward(images, index)[:, self.prefix :]
        x = self.patch_embed(images) + self.pos_embed[:, self.prefix :]
        x = x.gather(1, index[..., None].expand(-1, -1, x.shape[-1]))
        if self.prefix:
            start = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
            x = torch.cat([start, x], dim=1)
            real = torch.cat([real.new_ones(len(real), self.prefix), real], dim=1)
        bias = attention_bias(real, x.dtype)
        for block in self.blocks:
            x = block(x, bias)
        normed: Tensor = self.norm(x)
        return normed[:, self.prefix :]


class VideoStudent(VideoTransformer):
    """A student of clips.

    Args:
        config: with a section `video`.
    """

    def __init__(self, config: Config) -> None:
        model, video = config.model, config.video
        assert video is not None
        super().__init__(
            model.image_size,
            video.frames,
            model.patch_size,
            video.tubelet,
            model.width,
            model.depth,
            model.heads,
            video.rotary,
        )

    def visible(self, clips: Tensor, index: Tensor, real: Tensor | None = None) -> Tensor:
        """Tokens [B, C, D] after the final norm, from those places alone.

        Args:
            clips: normalised, [B, 3, T, S, S].
            index: places, int64 [B, C].
            real: None; lists of clips are not padded.
        """
        assert real is None
        return self.forward(clips, index)


def make(config: Config) -> ImageStudent | VideoStudent:
    """The untrained student of a run."""
    return ImageStudent(config.model) if config.video is None else VideoStudent(config)


def attention_bias(real: Tensor, dtype: torch.dtype) -> Tensor:
    """What hides padding when added to attention's logits, [B, 1, 1, L].

    Args:
        real: False where a token is padding, bool [B, L].
        dtype: of the tokens.
    """
    bias = torch.zeros(real.shape, dtype=dtype, device=real.device)
    return bias.masked_fill(~real, -torch.inf)[:, None, None]
