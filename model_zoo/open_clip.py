"""`open_clip/<name>` and `open_clip/<name>/<tag>`: image towers of open_clip as frozen encoders.

Mean, std, size and filter are the library's for that model; the whole image is squashed to the
square, where the library would crop its centre, because a crop cuts tissue away.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
from torch import Tensor, nn

from model_zoo.cards import Card
from model_zoo.checkpoints import files as checkpoints
from model_zoo.checkpoints import parts, settings
from model_zoo.encoder import RANDOM, Encoder
from model_zoo.side_by_side import side_by_side
from ultrabench_eval.core.errors import UserError


class ImageTower(nn.Module):
    """The image tower under the name it has in files."""

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual


class OpenCLIPModel(Encoder):
    """An image tower of open_clip: features [B, D], tokens [B, N, D'].

    Pooling `default` is CLIP's image feature, projected but not scaled to length one; `mean` the
    mean over the last patch tokens, before the projection.
    """

    poolings = ("default", "mean")
    reduced = True
    card = Card(
        title="open_clip",
        paper="see github.com/mlfoundations/open_clip",
        code_licence="MIT",
        weights_licence="see the tag in open_clip's documentation",
        weights_from="open_clip's pretrained tags",
        pretraining="see the tag in open_clip's documentation",
        status="library code",
    )

    def build(self, weights: Path | str | None) -> nn.Module:
        """The image tower, filled to the last key; sets input rule, patch size and card."""
        architecture, _, tag = self.name.removeprefix("open_clip/").partition("/")
        if architecture not in open_clip.list_models():
            near = difflib.get_close_matches(architecture, open_clip.list_models(), n=3)
            hint = " or ".join(f"open_clip/{name}" for name in near)
            raise UserError(
                f"open_clip {open_clip.__version__} has no model '{architecture}'; "
                + (f"did you mean {hint}?" if hint else "open_clip.list_models() lists all")
            )
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        if tag and tag not in tags:
            listed = ", ".join(tags) or "none"
            raise UserError(
                f"open_clip/{architecture} has no pretrained tag '{tag}'; it has: {listed}"
            )
        source = None if weights == RANDOM else checkpoints.find(self.name, weights)
        if source is None and weights != RANDOM and not tag:
            listed = ", ".join(tags) or "none"
            raise UserError(
                f"no weights for model '{self.name}'; name a tag behind it ({listed}), or pass "
                f"--weights {self.name}=PATH"
            )
        download = source is None and weights != RANDOM
        model = self._create(architecture, tag, download)
        tower = ImageTower(model.visual)
        saved = source.path.with_name("open_clip_config.json") if source else None
        given = dict(model.visual.preprocess_cfg)
        if saved is not None and saved.is_file():
            given |= self._saved(architecture, saved)
        self._describe(architecture, tag, model.visual, given)
        if source is not None and self.input_rule is not None:
            stated = saved is not None and saved.is_file()
            self.assumed = (self.input_rule.told(f"{saved}" if stated else "open_clip"),)
            self.used = len(tower.state_dict())
            self._fill(tower, model, source)
        return tower

    def _create(self, architecture: str, tag: str, download: bool) -> Any:
        """The library's model; with a tag its settings, and its weights if they are wanted."""
        try:
            with _quiet():
                return open_clip.create_model(
                    architecture, pretrained=tag or None, load_weights=download
                )
        except Exception as error:  # of whichever library it fetches with
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"model '{self.name}' cannot be made by open_clip ({type(error).__name__}: "
                f"{reason}); fetch its weights elsewhere and pass --weights {self.name}=PATH"
            ) from error

    def _fill(self, tower: ImageTower, model: Any, source: checkpoints.WeightsSource) -> None:
        own = tower.state_dict()
        others = tuple(key for key in model.state_dict() if key not in own)
        leftovers = (*others, "text.*", "logit_scale", "logit_bias")
        parts.fill(tower, str(source), self.name, leftovers)
        self.weights_file = source.path

    def _saved(self, architecture: str, file: Path) -> dict[str, Any]:
        """Preprocessing as open_clip describes it beside the weights."""
        told = settings.read(file)
        known = open_clip.get_model_config(architecture) or {}
        model = told.get("model_cfg") or {}
        for part in ("embed_dim", "vision_cfg", "quick_gelu"):
            if model and model.get(part) != known.get(part):
                raise UserError(
                    f"{file} states another {part} than model '{self.name}' has; name the model "
                    "that these weights are of"
                )
        given = dict(told.get("preprocess_cfg") or {})
        for key, check in (("mean", settings.channels), ("std", settings.spreads)):
            if key in given:
                given[key] = check(given[key], key, file)
        return given

    def _describe(self, architecture: str, tag: str, visual: Any, given: Mapping[str, Any]) -> None:
        size = given["size"]
        sides = {size} if isinstance(size, int) else set(size)
        if len(sides) != 1:
            raise UserError(
                f"model '{self.name}' wants input of size {size}; only square inputs are "
                "supported: choose another model"
            )
        self.input_rule = settings.library_rule(self.name, sides.pop(), given)
        patch = getattr(visual, "patch_size", None)
        if patch is not None and hasattr(visual, "forward_intermediates"):
            self.patch_size = patch if isinstance(patch, int) else patch[0]
        self.card = replace(
            self.card, title=architecture, pretraining=f"open_clip's tag: {tag or 'none'}"
        )

    def _forward(self, x: Tensor) -> Tensor:
        if self.pooling == "mean":
            return self._last(x).mean(1)
        features: Tensor = self.network.visual(x)  # type: ignore[operator]
        return features

    def _tokens(self, x: Tensor) -> Tensor:
        return self._last(x)

    def _maps(self, x: Tensor) -> list[Tensor]:
        return [side_by_side(self._stages(x, 1 if self.patch_size else None), x.shape[-2])]

    def _last(self, x: Tensor) -> Tensor:
        """Normed tokens of the last block, [B, N, D']; of a convolutional tower, its places."""
        return self._stages(x, 1)[-1].flatten(2).transpose(1, 2)

    def _stages(self, x: Tensor, count: int | None) -> list[Tensor]:
        """Normed maps [B, D', h, w] after the last `count` blocks or stages; None for all."""
        visual: Any = self.network.visual
        if not hasattr(visual, "forward_intermediates"):
            raise NotImplementedError(f"model '{self.name}' has no patch tokens")
        output = visual.forward_intermediates(
            x,
            indices=count,
            normalize_intermediates=True,
            intermediates_only=True,
            output_fmt="NCHW",
        )
        maps: list[Tensor] = output["image_intermediates"]
        return maps


@contextmanager
def _quiet() -> Iterator[None]:
    """Without open_clip's warning of random weights: they are asked for, or filled afterwards."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
