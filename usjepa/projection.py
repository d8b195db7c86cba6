"""The linear layer that a training may end with: features whose directions weigh more alike.

Pooled tokens vary mostly along a handful of directions, which drown all others in a distance, and
in a probe with a fixed learning rate. Here each direction of the frames that were trained on is
divided by a power of its deviation, without any label. The network itself stays as it is.

D is the student's width, P that of its pooled tokens, K the projection's, N the number of frames.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from model_zoo import pooling
from model_zoo.vit import VisionTransformer
from ultrabench_eval.core.hashing import seed_for
from usjepa.config import Config, ProjectionSettings
from usjepa.export import input_rule
from usjepa.frames.store import Frames

_BATCH = 32
_LEAST = 0.1  # of the mean variance, that each direction is taken to have beside its own


def empty(config: Config) -> nn.Linear:
    """The layer, not yet fitted."""
    assert config.projection is not None
    pooled = 2 * config.model.width * config.model.depth
    return nn.Linear(pooled, config.projection.width)


def fitted(network: VisionTransformer, config: Config, frames: Frames) -> nn.Linear:
    """The layer for a trained network.

    Args:
        network: in float32; on its device.
        config: of the run, with a section `projection`.
        frames: the index.
    """
    settings = config.projection
    assert settings is not None
    rows = _pooled(network, config, frames, _drawn(len(frames), settings, config.seed))
    weight, bias = directions(rows, settings, config.seed)
    layer = empty(config)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer


def directions(rows: Tensor, settings: ProjectionSettings, seed: int) -> tuple[Tensor, Tensor]:
    """Weight float64 [K, P] and bias [K] for pooled tokens float64 [N, P].

    Features are standardised and turned to their principal directions, of which the K first are
    kept; each is divided by (its variance + a little) to the power `whitening` / 2, all by one
    number, so that the mean variance is 1, and turned again at random: a probe that standardises
    would otherwise blow up the last directions.
    """
    mean, deviation = rows.mean(0), rows.std(0, correction=0)
    deviation = deviation.clamp_min(1e-6 * deviation.max())
    standard = (rows - mean) / deviation
    variance, vectors = torch.linalg.eigh(standard.mT @ standard / len(rows))
    variance, vectors = variance.flip(0).clamp_min(0), vectors.flip(1)
    least = _LEAST * variance.mean()
    variance, vectors = variance[: settings.width], vectors[:, : settings.width]
    scale = (variance + least) ** (-settings.whitening / 2)
    scale = scale / (variance * scale**2).mean().sqrt()
    weight = _turn(settings.width, seed) @ (scale[:, None] * vectors.mT) / deviation
    return weight, -weight @ mean


def _turn(width: int, seed: int) -> Tensor:
    """A random orthogonal matrix, float64 [K, K]."""
    generator = np.random.default_rng(seed_for(seed, "projection, turn"))
    orthogonal, upper = np.linalg.qr(generator.standard_normal((width, width)))
    return torch.from_numpy(orthogonal * np.sign(np.diag(upper)))


def _drawn(count: int, settings: ProjectionSettings, seed: int) -> np.ndarray:
    """Numbers of the frames that are looked at, ascending."""
    if count <= settings.frames:
        return np.arange(count)
    generator = np.random.default_rng(seed_for(seed, "projection, frames"))
    return np.sort(generator.choice(count, settings.frames, replace=False))


@torch.no_grad()
def _pooled(
    network: VisionTransformer, config: Config, frames: Frames, numbers: np.ndarray
) -> Tensor:
    """Pooled tokens, float64 [N, P], of whole frames as the exported encoder prepares images."""
    rule, device = input_rule(config), network.pos_embed.device
    made = []
    for start in range(0, len(numbers), _BATCH):
        images = [image(frames, number) for number in numbers[start : start + _BATCH].tolist()]
        parts: list[Tensor] = []
        network.unnormed(
            torch.stack([rule.apply(image) for image in images]).to(device),
            each=lambda tokens, parts=parts: parts.append(  # type: ignore[misc]
                pooling.mean_and_deviation(tokens, network.prefix)
            ),
        )
        made.append(torch.cat(parts, dim=1).double().cpu())
    return torch.cat(made)


def image(frames: Frames, number: int) -> np.ndarray:
    """A frame, uint8 [H, W, 3]."""
    pixels = frames.read(number).pixels
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
