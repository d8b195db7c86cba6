"""A frozen teacher: any encoder of the zoo, asked for one vector a patch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

import model_zoo
from model_zoo.encoder import Encoder
from ultrabench_eval.core.errors import UserError
from usjepa import config


class FrozenTeacher:
    """Gives target tokens [B, N, D]; holds no parameter that an optimiser could find.

    Not a torch module on purpose: nothing that walks over an objective's parameters, buffers or
    state sees it.

    Args:
        encoder: of the zoo; it does its own normalisation, not the student's. A percentile stretch
            of its own is left out, since frames have been stretched before they were cropped.
        layers: dotted names of parts of the encoder's network, whose outputs are taken instead of
            the encoder's patch tokens, side by side. The network is run no further than to them.
        enlarge_to: cells a side that feature maps with fewer are enlarged to, bilinearly; None:
            maps stay as they are.

    Raises:
        UserError: the encoder has no such part.
    """

    def __init__(
        self, encoder: Encoder, layers: Sequence[str] = (), enlarge_to: int | None = None
    ) -> None:
        self.encoder = encoder
        self.layers = tuple(layers)
        self.enlarge_to = enlarge_to
        self.widths: tuple[int, ...] = ()
        """Channels of each layer, known after the first call; their sum is D."""
        self._parts = [self._find(layer) for layer in self.layers]

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Tokens in raster order, float32 [B, N, D] on the images' device, without gradient.

        Args:
            images: [B, 3, S, S] in [0, 1], or clips [B, 3, F, S, S] for an encoder of clips.

        Raises:
            UserError: the encoder has no patch tokens, or layers give something else, or differ.
        """
        x = self._prepared(images)
        if self.layers:
            found = self._outputs(x)
        else:
            try:
                found = [self.encoder.tokens_prepared(x)]
            except NotImplementedError as error:
                raise UserError(
                    f"teacher '{self.encoder.name}' has no patch tokens; choose another, or one "
                    "of its layers with teacher.layers"
                ) from error
        self.widths = tuple(one.shape[-1] for one in found)
        # A copy, as tensors made in inference mode must not meet autograd.
        return torch.cat(found, dim=-1).to(images.device).clone()

    def check(
        self,
        image_size: int,
        grid: int,
        width: int | None = None,
        frames: int | None = None,
        times: int = 1,
    ) -> int:
        """The teacher's width, if its patches are the student's.

        Args:
            image_size: side of the student's input in pixels.
            grid: the student's patches along a side.
            width: what the configuration says that the teacher's is; None if nothing.
            frames: of a clip; None if the student sees stills.
            times: the student's time steps of a clip.

        Raises:
            UserError: another grid, another width, or a teacher of stills for clips or the reverse.
        """
        wanted = "image" if frames is None else "clip"
        if self.encoder.takes != wanted:
            raise UserError(
                f"teacher '{self.encoder.name}' looks at {self.encoder.takes}s, but the student at "
                f"{wanted}s; choose another teacher"
            )
        shape = (image_size, image_size) if frames is None else (frames, image_size, image_size)
        tokens = self(torch.zeros(1, 3, *shape))
        places, found = tokens.shape[1:]
        if places != times * grid * grid:
            sample, of_time = ("image", "") if frames is None else ("clip", f"{times} x ")
            raise UserError(
                f"teacher '{self.encoder.name}' gives {places} vectors per {sample}, but the "
                f"student has {of_time}{grid} x {grid} patches; choose another teacher or "
                "teacher.layers"
                + (", or set teacher.enlarge" if self.layers and places < grid * grid else "")
            )
        if width not in (None, found):
            raise UserError(
                f"teacher '{self.encoder.name}' is {found} wide, but predictor.target_width is "
                f"{width}; set it to {found}"
            )
        return int(found)

    def _prepared(self, images: Tensor) -> Tensor:
        """The encoder's input; on the images' device where only the normalisation is left to do."""
        if images.ndim == 5:
            return self._prepared_clips(images.transpose(1, 2))
        rule = self.encoder.input_rule
        if rule is None or type(self.encoder)._prepare is not Encoder._prepare:
            return torch.stack([self.encoder.prepare(image) for image in images])
        rule = replace(rule, stretch=None)
        grey = not rule.grey or bool((images == images[:, :1]).all())
        if not grey or images.shape[-2:] != (rule.size, rule.size):
            return torch.stack([rule.apply(image) for image in images])
        mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (rule.mean, rule.std))
        return (images - mean) / std

    def _prepared_clips(self, clips: Tensor) -> Tensor:
        """The encoder's input of clips [B, F, 3, S, S] in [0, 1]."""
        rule = self.encoder.input_rule
        if rule is None or clips.shape[-2:] != (rule.size, rule.size):
            levels = (255 * clips).round().byte().permute(0, 1, 3, 4, 2).cpu().numpy()
            return torch.stack([self.encoder.prepare(clip) for clip in levels])
        mean, std = (clips.new_tensor(values).view(3, 1, 1) for values in (rule.mean, rule.std))
        return (clips - mean) / std

    def _find(self, layer: str) -> nn.Module:
        try:
            return self.encoder.network.get_submodule(layer)
        except AttributeError as error:
            parts = ", ".join(name for name, _ in self.encoder.network.named_children())
            raise UserError(
                f"teacher '{self.encoder.name}' has no part '{layer}' (teacher.layers); its "
                f"network has {parts}"
            ) from error

    def _outputs(self, x: Tensor) -> list[Tensor]:
        """What each part gives for prepared images, as tokens [B, N, D]."""
        caught: dict[int, Tensor] = {}
        rows: list[list[Tensor]] = [[] for _ in self._parts]

        def catch(place: int, output: Tensor) -> None:
            caught[place] = output.float().clone()
            if len(caught) == len(self._parts):
                raise _Reached

        handles = [
            part.register_forward_hook(lambda _, __, output, at=at: catch(at, output))
            for at, part in enumerate(self._parts)
        ]
        done = 0
        try:
            # An encoder may go through x in pieces of its own, so one run need not see all of it.
            while done < len(x):
                caught.clear()
                with suppress(_Reached):
                    self.encoder.encode_prepared(x[done:])
                for place, parts in enumerate(rows):
                    parts.append(self._tokens(self.layers[place], caught[place], len(x) - done))
                done += len(rows[0][-1])
        finally:
            for handle in handles:
                handle.remove()
        joined = [torch.cat(parts) for parts in rows]
        if len({one.shape[1] for one in joined}) > 1:
            sizes = ", ".join(
                f"{layer} {one.shape[1]}" for layer, one in zip(self.layers, joined, strict=True)
            )
            raise UserError(
                f"layers of teacher '{self.encoder.name}' differ in their number of vectors "
                f"({sizes}); take one, or set teacher.enlarge"
            )
        return joined

    def _tokens(self, layer: str, output: Tensor, most: int) -> Tensor:
        """Tokens [B, N, D] of what a part gave for at most so many images."""
        if output.ndim == 4 and len(output) <= most:
            if self.enlarge_to is not None and output.shape[-1] < self.enlarge_to:
                output = interpolate(output, (self.enlarge_to, self.enlarge_to), mode="bilinear")
            return output.flatten(2).transpose(1, 2)
        if output.ndim == 3 and len(output) <= most:
            return output[:, int(getattr(self.encoder.network, "prefix", 0)) :]
        raise UserError(
            f"part '{layer}' of teacher '{self.encoder.name}' gives {tuple(output.shape)} for "
            f"{most} images, neither tokens [B, N, D] nor a map [B, D, H, W]; choose other "
            "teacher.layers"
        )


class _Reached(Exception):
    """Ends a forward pass whose remaining layers nobody needs."""


def load(settings: config.Teacher, device: str, grid: int) -> FrozenTeacher:
    """The teacher of a run, in float32.

    Args:
        settings: which.
        device: see `model_zoo.load`.
        grid: the student's patches along a side.

    Raises:
        UserError: unknown name, no weights, no such layer.
    """
    encoder = model_zoo.load(settings.name, settings.weights, device, "float32")
    return FrozenTeacher(encoder, settings.layers, grid if settings.enlarge else None)
