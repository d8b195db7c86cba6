"""V-JEPA's attentive classifier: a learned query looks at all tokens, then an MLP and a classifier.

The evaluation of V-JEPA (arXiv 2404.08471) and, with one block, of V-JEPA 2, as their code has it:
tokens are layer-normed (epsilon 1e-5, not the encoder's 1e-6), the query is not; what it saw is
added to it, an MLP follows, and a linear classifier reads the result:

    z = query + attention(q(query), k(norm(x)), v(norm(x)))
    z = z + MLP(norm(z))
    logits = W z + b

It has about 11 D^2 parameters (V-JEPA's dozen million at D = 1024): with few images it learns them
by heart, and the probe `attentive`, a query alone, is the better question.

As theirs: AdamW, 20 epochs, a cosine to 0, weight decay 0.01, gradients clipped at a norm of 1.
Ours: the learning rate is one of three by validation loss, the epoch of the lowest one is kept, and
a video is seen once (they average 8 segments x 3 views). That weights start as there (a truncated
normal of 0.02, the MLP's last layer smaller by the square root of 2) is inferred.

T is the number of tokens, D their width, B of images, S of settings, C of classes, K of parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import pydantic.dataclasses
import torch
from torch import Tensor, nn
from torch.nn.functional import (
    cross_entropy,
    gelu,
    layer_norm,
    linear,
    scaled_dot_product_attention,
)

from ultrabench_eval.core import hashing
from ultrabench_eval.feature_rows import Features, InMemory
from ultrabench_eval.probes.early_stopping import EarlyStopping
from ultrabench_eval.probes.heads import Probes, Stream, TokenData, one_thread
from ultrabench_eval.probes.probe import Probe
from ultrabench_eval.protocol import STRICT, Count, Decays, Gradient, Protocol, Values

_BLOCK = 64  # images whose tokens are looked at together, which bounds the memory
_EPS, _CLIP, _HEAD, _SPREAD = 1e-5, 1.0, 64, 0.02


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class AttentiveBlockSettings(Gradient):
    """How it is trained."""

    learning_rates: Values = (1e-4, 3e-4, 1e-3)
    weight_decays: Decays = (0.01,)
    batch_size: Count = 16
    max_epochs: Count = 20
    patience: Count = 20


@dataclass(frozen=True)
class AttentiveBlockProbes(Probes):
    """Trained heads; H = subsets x seeds x settings, the last varying fastest.

    Args:
        parameters: [H, K], in the order of `shapes`.
        history: validation loss (nats) after every epoch, [H, E]; NaN once a head has stopped.
    """

    parameters: Tensor
    history: Tensor

    def predict(self, x: Features | Tensor) -> Tensor:
        """Class probabilities [H, N, C] of tokens [N, T, D]."""
        x = InMemory(x) if isinstance(x, Tensor) else x
        heads = [layers_of(one, x.shape[-1]) for one in self.parameters]
        with torch.no_grad():
            blocks = [
                torch.stack([logits(one, block.to(self.parameters))[1] for one in heads])
                for block in x.batches(_BLOCK)
            ]
        return torch.cat(blocks, 1).softmax(-1)


def shapes(width: int, classes: int) -> list[tuple[int, ...]]:
    """Of the query, a norm, q, k and v together, a norm, the MLP's two layers, and the classifier;
    of each layer the weight, then the bias."""
    return [
        *((width,), (width,), (width,), (width, width), (width,)),
        *((2 * width, width), (2 * width,), (width,), (width,)),
        *((4 * width, width), (4 * width,), (width, 4 * width), (width,)),
        *((classes, width), (classes,)),
    ]


def layers_of(parameters: Tensor, width: int) -> list[Tensor]:
    """Parameters [K] in their shapes."""
    rest = sum(map(prod, shapes(width, 0)))
    form = shapes(width, (len(parameters) - rest) // (width + 1))
    parts = torch.split(parameters, [prod(shape) for shape in form])
    return [part.view(shape) for part, shape in zip(parts, form, strict=True)]


def logits(layers: Sequence[Tensor], x: Tensor, heads: int | None = None) -> tuple[Tensor, Tensor]:
    """What the classifier reads, [B, D], and its logits, [B, C].

    Args:
        layers: in their `shapes`.
        x: tokens [B, T, D].
        heads: of the attention; None: as many as are 64 wide, or the next fewer that fit.
    """
    query, norm, shift, ask, ask_bias, look, look_bias, *rest = layers
    norm2, shift2, fc1, bias1, fc2, bias2, weight, bias = rest
    batch, count, width = x.shape
    heads = heads or next(n for n in range(max(1, width // _HEAD), 0, -1) if width % n == 0)
    asked = linear(query, ask, ask_bias).view(1, heads, 1, -1).expand(batch, -1, -1, -1)
    told = linear(layer_norm(x, (width,), norm, shift, _EPS), look, look_bias)
    keys, values = told.view(batch, count, 2, heads, -1).permute(2, 0, 3, 1, 4)
    z = query + scaled_dot_product_attention(asked, keys, values).reshape(batch, width)
    z = z + linear(
        gelu(linear(layer_norm(z, (width,), norm2, shift2, _EPS), fc1, bias1)), fc2, bias2
    )
    return z, linear(z, weight, bias)


def train(data: TokenData, draws: Sequence[Stream], protocol: Protocol) -> AttentiveBlockProbes:
    """Train classifiers of this form.

    Args:
        data: its tokens, of any floating dtype; computed in float32 or, if they have it, float64.
        draws: the streams.
        protocol: `AttentiveBlockSettings`. It standardises nothing: the layer norm does.

    Raises:
        UserError: the loss of a head was never finite.
    """
    with one_thread():
        settings = protocol.of("attentive_block")
        return AttentiveBlockProbes.joined([_train(one, data, settings) for one in draws])


def _train(
    stream: Stream, data: TokenData, settings: AttentiveBlockSettings
) -> AttentiveBlockProbes:
    """All settings of a stream, on the same batches."""
    dtype, width = torch.promote_types(data.train_x.dtype, torch.float32), data.train_x.shape[-1]
    start = _initial(stream.seed, width, data.classes).to(dtype)
    heads = [start.clone().requires_grad_() for _ in settings.settings]
    optimizer = torch.optim.AdamW(
        [
            {"params": [head], "lr": rate, "weight_decay": decay}
            for head, (rate, decay) in zip(heads, settings.settings, strict=True)
        ],
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.max_epochs)
    order = torch.Generator().manual_seed(hashing.seed_for(stream.seed, "probe/order"))
    stopping, kept = EarlyStopping([stream], settings), start.repeat(len(heads), 1)
    alone = torch.zeros(1, dtype=torch.int64)  # its position
    for epoch in range(settings.max_epochs):
        shuffled = stream.rows[torch.randperm(len(stream.rows), generator=order)]
        for rows in torch.split(shuffled, settings.batch_size):
            x, y = data.train_x.rows(rows).to(dtype), data.train_y[rows]
            optimizer.zero_grad()
            for head in heads:
                torch.autograd.backward(cross_entropy(logits(layers_of(head, width), x)[1], y))
                nn.utils.clip_grad_norm_([head], _CLIP)
            optimizer.step()
        schedule.step()
        losses = torch.zeros(len(heads), dtype=torch.float64)
        with torch.no_grad():
            for rows in torch.split(stream.validation_rows, _BLOCK):
                x, y = data.validation_x.rows(rows).to(dtype), data.validation_y[rows]
                for place, head in enumerate(heads):
                    found = logits(layers_of(head, width), x)[1]
                    losses[place] += cross_entropy(found, y, reduction="sum").double().cpu()
        losses /= len(stream.validation_rows)
        (better,), goes_on = stopping.take(alone, epoch, losses.unsqueeze(0))
        for place in better.nonzero().flatten().tolist():
            kept[place] = heads[place].detach()
        if not goes_on.any():
            break
    return AttentiveBlockProbes(stopping.heads(0), kept, stopping.history[0])


def _initial(seed: int, width: int, classes: int) -> Tensor:
    """What training begins with, float32 [K]; the classifier as `torch.nn.Linear` draws it."""
    generator = torch.Generator().manual_seed(hashing.seed_for(seed, "probe/attentive_block"))
    parts = [torch.zeros(shape) for shape in shapes(width, classes)]
    for place in (0, 3, 5, 9, 11):
        nn.init.trunc_normal_(parts[place], std=_SPREAD, generator=generator)
    parts[11] /= 2**0.5
    parts[1], parts[7] = torch.ones(width), torch.ones(width)
    for place in (13, 14):
        nn.init.uniform_(parts[place], -(width**-0.5), width**-0.5, generator=generator)
    return torch.cat([part.flatten() for part in parts])


PROBE = Probe(
    train,
    settings=AttentiveBlockSettings,
    tried=lambda protocol: len(protocol.of("attentive_block").settings),
    reads="tokens",
    seconds=0.2,
    gives=AttentiveBlockProbes,
)
