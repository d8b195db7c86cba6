"""A trainable copy of an encoder: its differentiable ways, its blocks by depth, its norm layers.

B is the batch, D the feature width, h and w the sides of a map.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ultrabench_eval.core.errors import UserError

if TYPE_CHECKING:
    from model_zoo.encoder import Encoder

_LEAST = 0.5  # part of the parameters that numbered modules must hold to be a network's blocks
_CONTAINERS = (nn.ModuleList, nn.Sequential)
_ATTENTION = re.compile(r"(?:^|\.)\w*att\w*(?:\.\w+)*\.(?:\w*qkv\w*|[qv](?:_proj)?|query|value)$")


class Unfrozen(nn.Module):
    """A copy of an encoder that gives gradients; the encoder itself stays as it is.

    It begins with every parameter trainable and in evaluation mode. Buffers, such as the statistics
    of batch normalisation, change in training mode only.

    Args:
        encoder: the frozen one, in float32.

    Raises:
        UserError: it cannot be copied, has no parameters, or its features do not depend on them by
            operations that have a gradient.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.name = encoder.name
        try:
            self.wrapper = copy.deepcopy(encoder)
        except Exception as error:  # a model may be anyone's code
            raise self._refusal("its network cannot be copied") from error
        vars(self.wrapper).pop("_forward", None)  # a compiled one
        _make_normal(self.wrapper)
        self.wrapper.requires_grad_(True)

    @property
    def network(self) -> nn.Module:
        """What the wrapper's author built, the part that is trained."""
        return self.wrapper.network

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.wrapper.device

    def pooled(self, x: Tensor) -> Tensor:
        """Pooled features, float32 [B, D], of prepared images."""
        return self.wrapper._forward(x.to(self.device)).float()

    def maps(self, x: Tensor, at: Tensor | None = None) -> list[Tensor]:
        """Feature maps, each float32 [B, D, h, w], of prepared images; as `Encoder.maps_prepared`.

        Raises:
            NotImplementedError: the model has no maps.
        """
        return [one.float() for one in self.wrapper._maps_at(x.to(self.device), at)]

    def train(self, mode: bool = True) -> Self:
        """As of any module; the encoder inside would stay in evaluation mode."""
        self.training = mode
        self.network.train(mode)
        return self

    def check_gradients(self, x: Tensor) -> None:
        """See that pooled features of prepared images have a gradient.

        Raises:
            UserError: they have none.
        """
        parameters = [p for p in self.parameters() if p.requires_grad]
        if not parameters:
            raise self._refusal("it has no weights")
        try:
            found = torch.autograd.grad(self.pooled(x).sum(), parameters, allow_unused=True)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            reason = str(error).partition("\n")[0]
            if "does not require grad" in reason:
                reason = "its features do not lead back to its weights"
            raise self._refusal(reason) from error
        if all(one is None for one in found):
            raise self._refusal("its features do not lead back to its weights")

    def _refusal(self, reason: str) -> UserError:
        return UserError(
            f"model '{self.name}' gives no gradients ({reason}), so it cannot be fine-tuned; leave "
            "it out, or take a protocol of frozen features such as --protocol paper"
        )

    # ---- its parts --------------------------------------------------------------------------

    def norms(self) -> list[nn.Module]:
        """The layers that normalise, of whatever library."""
        own = (_NormBase, nn.LayerNorm, nn.GroupNorm)
        return [
            module
            for module in self.network.modules()
            if isinstance(module, own)
            or ("norm" in type(module).__name__.lower() and not list(module.children()))
        ]

    def blocks(self) -> list[list[nn.Parameter]]:
        """Parameters of its blocks from the input to the features; none if no blocks are found.

        Blocks are modules of one parent that are numbered, as those of lists and `layer1`,
        `layer2` ..., and hold the most of the network's parameters, more than half of all. Lists
        inside of such a list are taken apart.
        """
        best: list[nn.Module] = []
        most = int(_LEAST * sum(p.numel() for p in self.network.parameters()))
        for parent in self.network.modules():
            for members in _numbered(parent):
                size = sum(p.numel() for one in members for p in one.parameters())
                if len(members) > 1 and size > most:
                    best, most = members, size
        return [list(block.parameters()) for one in best for block in _apart(one)]

    def depths(self) -> list[tuple[str, nn.Parameter, int]]:
        """Every parameter with its name and depth: 0 before the blocks, 1 ... n in block 1 ... n,
        and n + 1 behind them, in the order in which the network lists them.

        All are of depth 0 where no blocks are found.
        """
        blocks = self.blocks()
        of_block = {id(p): place + 1 for place, block in enumerate(blocks) for p in block}
        found, behind = [], False
        for name, parameter in self.network.named_parameters():
            behind = behind or id(parameter) in of_block
            last = len(blocks) + 1 if behind else 0
            found.append((name, parameter, of_block.get(id(parameter), last)))
        return found

    def attention(self) -> list[str]:
        """Names of the linear layers that project to queries and values."""
        return [
            name
            for name, module in self.network.named_modules()
            if isinstance(module, nn.Linear) and _ATTENTION.search(name)
        ]


def _numbered(parent: nn.Module) -> Iterator[list[nn.Module]]:
    """Children with parameters whose names differ in a number only."""
    groups: dict[str, list[nn.Module]] = {}
    for name, child in parent.named_children():
        if re.search(r"\d", name) and next(child.parameters(), None) is not None:
            groups.setdefault(re.sub(r"\d+", "#", name), []).append(child)
    yield from groups.values()


def _apart(module: nn.Module) -> Sequence[nn.Module]:
    """The modules in a list of lists."""
    if not isinstance(module, _CONTAINERS):
        return [module]
    with_parameters = [one for one in module if next(one.parameters(), None) is not None]
    return [part for one in with_parameters for part in _apart(one)]


def _make_normal(module: nn.Module) -> None:
    """Tensors that were made in inference mode cannot take part in training; copies can."""
    for one in module.modules():
        for held in (vars(one), one._buffers):
            for name, value in list(held.items()):
                if isinstance(value, Tensor) and value.is_inference():
                    held[name] = value.clone()
