"""What the models with a released checkpoint have in common: how one is found and filled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from model_zoo import pooling
from model_zoo.checkpoints import files as checkpoints
from model_zoo.checkpoints import hub, layouts
from model_zoo.checkpoints.layouts import Filled, Layout
from model_zoo.checkpoints.parts import HEADS
from model_zoo.encoder import RANDOM, Encoder
from ultrabench_eval.core.errors import UserError


class ReleasedEncoder(Encoder):
    """An encoder that is filled, to the last key, from the file its authors released.

    Subclasses say what the network is (`make`) and how files hold it.
    """

    entries: ClassVar[tuple[str, ...]] = ("state_dict", "model", "")
    """Wrappers to look in, see `layouts.fill`; "" is the top level."""
    layouts: ClassVar[tuple[Layout, ...]] = (Layout(),)
    prefixes: ClassVar[tuple[str, ...]] = ("module.",)
    heads: ClassVar[tuple[str, ...]] = HEADS
    """Patterns of a classifier's keys, which a file may hold in addition."""
    trunk: ClassVar[str] = "unnormed"
    """The network's method that all features and tokens are computed from."""
    reduced = True
    filled: Filled | None = None
    """Which part of the file was used; None for random weights."""

    def make(self) -> nn.Module:
        """The network, untrained."""
        raise NotImplementedError

    def decoded(self, content: dict[str, Any]) -> dict[str, Any]:
        """What a file holds, as the network's numbers; as it is, unless a format packs them."""
        return content

    def build(self, weights: Path | str | None) -> nn.Module:
        """The network, filled from a checkpoint; untrained only if that was asked for."""
        if weights == RANDOM:
            return self.make()
        source = checkpoints.find(self.name, weights)
        if source is None:
            raise UserError(
                f"no weights for model '{self.name}'; get them by hand "
                f"(where: {self.card.weights_from}) and {hub.by_hand(self.name)}"
            )
        self.weights_file = source.path
        content = self.decoded(checkpoints.read(source.path))
        with _WithoutDraws():
            network = self.make()
        self.filled = layouts.fill(
            network,
            content,
            name=self.name,
            source=source,
            entries=self.entries,
            layouts=self.layouts,
            prefixes=self.prefixes,
            heads=self.heads,
        )
        return network


class ViTEncoder(ReleasedEncoder):
    """A vision transformer: its network gives tokens [B, P + N, D], the P prefix tokens first.

    The network has `unnormed(x, each=...)`, the tokens before the final norm, `norm` and `prefix`.
    Poolings are of tokens after that norm, but `mean_prenorm`, and `last4`: the means over the
    patch tokens after each of the last four blocks, before the norm, side by side [B, 4 D], as
    I-JEPA's linear evaluation takes them. "all+std", where it is offered, has those after every
    block, each with the deviations over the patches beside it [B, 2 D x blocks].
    """

    poolings: ClassVar[tuple[str, ...]] = ("mean", "cls", "cls+mean", "mean_prenorm", "last4")
    patch_size = 16

    def _forward(self, x: Tensor) -> Tensor:
        if self.pooling == "last4":
            return self._of_blocks(x, pooling.mean, 4)
        if self.pooling == "all+std":
            return self._of_blocks(x, pooling.mean_and_deviation)
        tokens: Tensor = self.network.unnormed(x)  # type: ignore[operator]
        if self.pooling == "mean_prenorm":
            return pooling.mean(tokens, self._prefix)
        return pooling.pool(self.pooling, self._normed(tokens), self._prefix)

    def _of_blocks(self, x: Tensor, pool: Callable[[Tensor, int], Tensor], last: int = 0) -> Tensor:
        """Pooled tokens after each of the `last` blocks, or of all, side by side."""
        pooled: list[Tensor] = []
        self.network.unnormed(  # type: ignore[operator]
            x, each=lambda tokens: pooled.append(pool(tokens, self._prefix))
        )
        return torch.cat(pooled[-last:], dim=1)

    def _tokens(self, x: Tensor) -> Tensor:
        return self._normed(self.network.unnormed(x))[:, self._prefix :]  # type: ignore[operator]

    def _normed(self, tokens: Tensor) -> Tensor:
        normed: Tensor = self.network.norm(tokens)  # type: ignore[operator]
        return normed

    @property
    def _prefix(self) -> int:
        return int(self.network.prefix)  # type: ignore[arg-type]


class _WithoutDraws(torch.overrides.TorchFunctionMode):
    """Skips the random fills of initialisers: a billion numbers would only be overwritten."""

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        """Leave a tensor as it is where numbers would be drawn for it."""
        if getattr(func, "__name__", "") in ("uniform_", "normal_", "erfinv_"):
            return args[0] if args else kwargs["tensor"]  # nn.init passes it by name
        return func(*args, **(kwargs or {}))
