"""The nearest-neighbour probe: the most alike training images vote.

Nothing is trained but the number of neighbours, on validation. N is the number of training images,
M of those to classify, C of classes, D the feature width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from ultrabench_eval.probes.heads import Head, ProbeData, Probes, Scaler, Stream
from ultrabench_eval.probes.probe import Probe
from ultrabench_eval.protocol import Protocol

TEMPERATURE = 0.07  # of the votes' weights, exp(cosine / temperature), as in DINO
_BLOCK = 4096  # images classified at a time, which bounds the memory


@dataclass(frozen=True)
class _Memory:
    """The labelled images of a stream: unit features [N, D] and class indicators [N, C]."""

    scaler: Scaler
    features: Tensor
    votes: Tensor

    def probabilities(self, x: Tensor, neighbours: Sequence[int]) -> Tensor:
        """[numbers of neighbours, M, C] of features [M, D].

        One more neighbour, as near as the nearest, votes for all classes alike, so that no class
        is ever impossible.
        """
        most, labels = min(max(neighbours), len(self.features)), self.votes.argmax(1)
        parts = []
        for block in torch.split(normalize(self.scaler(x)), _BLOCK):
            cosine, place = (block @ self.features.T).topk(most, dim=1)  # [M, k], nearest first
            weight, voted = ((cosine - cosine[:, :1]) / TEMPERATURE).exp().double(), labels[place]
            ballots = weight.new_zeros(len(block), self.votes.shape[1])
            heard, known = 0, {}
            for k in sorted(neighbours):
                end = min(k, most)
                ballots.scatter_add_(1, voted[:, heard:end], weight[:, heard:end])
                heard, known[k] = end, ballots.to(cosine.dtype, copy=True)
            counts = torch.stack([known[k] for k in neighbours])
            counts += 1 / self.votes.shape[1]
            parts.append(counts / counts.sum(-1, keepdim=True))
        return torch.cat(parts, 1)


@dataclass(frozen=True)
class NeighbourProbes(Probes):
    """One labelled memory a stream, and the numbers of neighbours.

    Args:
        memories: that of each head.
    """

    memories: tuple[_Memory, ...]

    def tensors(self) -> dict[str, Tensor]:
        """Each memory once, and which of them a head has."""
        known = list({id(memory): memory for memory in self.memories}.values())
        found = {
            f"{name}.{place}": tensor
            for place, one in enumerate(known)
            for name, tensor in (
                ("mean", one.scaler.mean),
                ("deviation", one.scaler.deviation),
                ("features", one.features),
                ("votes", one.votes),
            )
        }
        places = {id(memory): place for place, memory in enumerate(known)}
        return {**found, "memory": torch.tensor([places[id(m)] for m in self.memories])}

    @classmethod
    def restored(cls, heads: tuple[Head, ...], tensors: Mapping[str, Tensor]) -> NeighbourProbes:
        """As of `tensors`."""
        places = tensors["memory"].tolist()
        known = {
            n: _Memory(
                Scaler(tensors[f"mean.{n}"], tensors[f"deviation.{n}"]),
                tensors[f"features.{n}"],
                tensors[f"votes.{n}"],
            )
            for n in set(places)
        }
        return cls(heads, tuple(known[n] for n in places))

    def predict(self, x: Tensor) -> Tensor:
        """Class probabilities [H, N, C] of features [N, D]."""
        known: dict[int, dict[int, Tensor]] = {}
        for memory in {id(m): m for m in self.memories}.values():
            asked = [
                int(h.setting["neighbours"])
                for h, m in zip(self.heads, self.memories, strict=True)
                if m is memory
            ]
            known[id(memory)] = dict(zip(asked, memory.probabilities(x, asked), strict=True))
        return torch.stack(
            [
                known[id(m)][int(h.setting["neighbours"])]
                for h, m in zip(self.heads, self.memories, strict=True)
            ]
        )


def train(data: ProbeData, draws: Sequence[Stream], protocol: Protocol) -> NeighbourProbes:
    """Classify by the weighted votes of the k nearest images (DINO, arXiv 2104.14294, 4.1).

    Cosine similarity. Nothing is random: seeds differ by their subsets alone.
    """
    memories: dict[tuple[int, int], tuple[_Memory, list[float]]] = {}
    heads, of_heads = [], []
    for stream in draws:
        if stream.images not in memories:
            memory = _memory(stream, data, protocol)
            x = data.validation_x[stream.validation_rows]
            y = data.validation_y[stream.validation_rows]
            probabilities = memory.probabilities(x, protocol.neighbours)
            losses = -probabilities[:, torch.arange(len(y)), y].log().mean(-1)
            memories[stream.images] = memory, losses.tolist()
        memory, values = memories[stream.images]
        for neighbours, loss in zip(protocol.neighbours, values, strict=True):
            heads.append(Head(stream.subset, stream.seed, {"neighbours": neighbours}, loss))
            of_heads.append(memory)
    return NeighbourProbes(tuple(heads), tuple(of_heads))


def _memory(stream: Stream, data: ProbeData, protocol: Protocol) -> _Memory:
    x, y = data.train_x[stream.rows], data.train_y[stream.rows]
    scaler = Scaler.of(x) if protocol.standardize else Scaler.neutral(x)
    return _Memory(scaler, normalize(scaler(x)), one_hot(y, data.classes).to(x))


PROBE = Probe(
    train,
    uses=lambda protocol: {"neighbours": protocol.neighbours},
    tried=lambda protocol: len(protocol.neighbours),
    seconds=0.01,
    gives=NeighbourProbes,
)
