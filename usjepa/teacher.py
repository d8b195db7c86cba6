"""A frozen teacher: any encoder of the zoo, asked for one vector a patch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import model_zoo
from model_zoo.encoder import Encoder
from ultrabench_eval.core.errors import UserError
from usjepa import config


class FrozenTeacher:
    """Gives target tokens [B, N, D]; holds no parameter that an optimiser could find.

    Not a torch module on purpose: nothing that walks over an objective's parameters, buffers or
    state sees it.

    Args:
        encoder: of the zoo; it does its own normalisation, not the student's.
        layer: dotted name of a part of the encoder's network, whose output is taken instead of
            the encoder's patch tokens.

    Raises:
        UserError: the encoder has no patch tokens, or no such part.
    """

    def __init__(self, encoder: Encoder, layer: str | None = None) -> None:
        self.encoder = encoder
        self.layer = layer
        self._part = None if layer is None else self._find(layer)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Tokens in raster order, float32 [B, N, D] on the images' device, without gradient.

        Args:
            images: [B, 3, S, S] in [0, 1].
        """
        x = self._prepared(images)
        if self._part is None:
            try:
                tokens = self.encoder.tokens_prepared(x)
            except NotImplementedError as error:
                raise UserError(
                    f"teacher '{self.encoder.name}' has no patch tokens; choose another, or one "
                    "of its layers with teacher.layer"
                ) from error
        else:
            tokens = self._output(x, self._part)
        # A copy, as tensors made in inference mode must not meet autograd.
        return tokens.to(images.device).clone()

    def check(self, image_size: int, grid: int, width: int | None = None) -> int:
        """The teacher's width, if its patches are the student's.

        Args:
            image_size: side of the student's input in pixels.
            grid: the student's patches along a side.
            width: what the configuration says that the teacher's is; None if nothing.

        Raises:
            UserError: another grid, or another width.
        """
        tokens = self(torch.zeros(1, 3, image_size, image_size))
        places, found = tokens.shape[1:]
        if places != grid * grid:
            raise UserError(
                f"teacher '{self.encoder.name}' gives {places} vectors an image, but the student "
                f"has {grid} x {grid} patches; choose another teacher or teacher.layer"
            )
        if width not in (None, found):
            raise UserError(
                f"teacher '{self.encoder.name}' is {found} wide, but predictor.target_width is "
                f"{width}; set it to {found}"
            )
        return int(found)

    def _prepared(self, images: Tensor) -> Tensor:
        """The encoder's input; on the images' device where only the normalisation is left to do."""
        rule = self.encoder.input_rule
        plain = type(self.encoder)._prepare is Encoder._prepare
        if rule is None or not plain or rule.stretch is not None:
            return self._prepared_one_by_one(images)
        if images.shape[-2:] != (rule.size, rule.size):
            return self._prepared_one_by_one(images)
        if rule.grey and not bool((images == images[:, :1]).all()):
            return self._prepared_one_by_one(images)
        mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (rule.mean, rule.std))
        return (images - mean) / std

    def _prepared_one_by_one(self, images: Tensor) -> Tensor:
        return torch.stack([self.encoder.prepare(image) for image in images])

    def _find(self, layer: str) -> nn.Module:
        try:
            return self.encoder.network.get_submodule(layer)
        except AttributeError as error:
            parts = ", ".join(name for name, _ in self.encoder.network.named_children())
            raise UserError(
                f"teacher '{self.encoder.name}' has no part '{layer}' (teacher.layer); its "
                f"network has {parts}"
            ) from error

    def _output(self, x: Tensor, part: nn.Module) -> Tensor:
        """What the part gives for prepared images, as tokens [B, N, D]."""
        caught: list[Tensor] = []
        handle = part.register_forward_hook(lambda _, __, output: caught.append(output.clone()))
        try:
            self.encoder.encode_prepared(x)
        finally:
            handle.remove()
        found = torch.cat(caught).float()  # several where an encoder goes through x in parts
        if found.ndim == 4 and len(found) == len(x):
            return found.flatten(2).transpose(1, 2)
        if found.ndim == 3 and len(found) == len(x):
            return found[:, int(getattr(self.encoder.network, "prefix", 0)) :]
        raise UserError(
            f"part '{self.layer}' of teacher '{self.encoder.name}' gives {tuple(found.shape)} for "
            f"{len(x)} images, neither tokens [B, N, D] nor a map [B, D, H, W]; choose another "
            "teacher.layer"
        )


def load(settings: config.Teacher, device: str = "auto") -> FrozenTeacher:
    """The teacher of a run, in float32.

    Args:
        settings: which.
        device: see `model_zoo.load`.

    Raises:
        UserError: unknown name, no weights, no such layer.
    """
    encoder = model_zoo.load(settings.name, settings.weights, device, "float32")
    return FrozenTeacher(encoder, settings.layer)
