"""A score of a shipped network again, without the harness: timm, plain PyTorch, scikit-learn.

    python results/nano/recompute.py EXPORT --data DATA [--task aul,mmotu,busbra]

Only which images are in which part, and their classes, come from this package. The files are read
by Pillow, the network is a `timm` VisionTransformer with the convolutions in front, the weights are
scaled from 8 bits here, and the probe is scikit-learn's: features standardised, cost by the loss on
validation images, as `ubench run --probe logistic --protocol tuned` has it.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import timm
import torch
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, log_loss
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

import tasks

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
COSTS = 10.0 ** np.arange(-4, 5)


def network(file: Path) -> tuple[nn.Module, nn.Linear]:
    """The transformer, and the layer after its pooled tokens."""
    stored = load_file(file)
    weights = {name: value.float() for name, value in stored.items() if value.dtype != torch.int8}
    for name, value in stored.items():
        if value.dtype == torch.int8:
            scale = weights.pop(f"{name}.scale")
            weights[name] = value.float() * scale.view(-1, *[1] * (value.ndim - 1))
    count, channels = weights["pos_embed"].shape[1:]
    depth = len({name.split(".")[1] for name in weights if name.startswith("blocks.")})
    model = timm.models.VisionTransformer(
        embed_dim=channels,
        depth=depth,
        num_heads=channels // 64,
        class_token=False,
        num_classes=0,
        global_pool="avg",
        fc_norm=False,
    )
    assert model.pos_embed is not None
    assert model.pos_embed.shape[1] == count
    steps = sorted(name for name in weights if name.endswith("weight") and ".convolutions." in name)
    layers: list[nn.Module] = []
    for name in steps:
        after, before = weights[name].shape[:2]
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
        layers[-2].load_state_dict(_part(weights, name.removesuffix("weight")))
    last = nn.Conv2d(channels, channels, 1)
    last.load_state_dict(_part(weights, "patch_embed.proj."))
    model.patch_embed = nn.Sequential(*layers, last, nn.Flatten(2), Turned())
    projection = nn.Linear(*reversed(weights["projection.weight"].shape))
    projection.load_state_dict(_part(weights, "projection."))
    rest = {name: value for name, value in weights.items() if not name.startswith("patch_embed.")}
    missing, unexpected = model.load_state_dict(rest, strict=False)
    assert all(name.startswith("patch_embed.") for name in missing), missing
    assert not unexpected, unexpected
    return model.eval(), projection


class Turned(nn.Module):
    """[B, D, N] -> [B, N, D]."""

    def forward(self, x: Tensor) -> Tensor:
        """As the class says."""
        return x.mT


def _part(weights: dict[str, Tensor], start: str) -> dict[str, Tensor]:
    names = [name for name in weights if name.startswith(start)]
    return {name.removeprefix(start): weights.pop(name) for name in names}


def prepared(image: Any) -> Tensor:
    """A file as the network's input: luma, percentiles 2 and 98 to 0 and 255, bicubic, squashed."""
    grey = np.asarray(PIL.Image.fromarray(image.read()).convert("L"))
    low, high = np.percentile(np.repeat(grey, 3), (2, 98))  # of three equal channels
    wide = np.clip(np.round((grey - low) * (255 / max(high - low, 1e-9))), 0, 255)
    picture = PIL.Image.fromarray(wide.astype(np.uint8)).convert("RGB")
    small = np.asarray(picture.resize((224, 224), PIL.Image.Resampling.BICUBIC)) / 255
    return torch.from_numpy(((small - MEAN) / STD).transpose(2, 0, 1)).float()


@torch.no_grad()
def features(model: nn.Module, projection: nn.Linear, images: list[Any]) -> np.ndarray:
    """Means and deviations over the tokens after each block, projected."""
    rows = []
    for first in range(0, len(images), 32):
        x = torch.stack([prepared(image) for image in images[first : first + 32]])
        each = model.forward_intermediates(x, output_fmt="NLC", intermediates_only=True)
        parts = [part for one in each for part in (one.mean(1), one.std(1, correction=0))]
        rows.append(projection(torch.cat(parts, 1)))
    return torch.cat(rows).numpy()


def main() -> None:
    """Print macro F1 of each task, in percent."""
    reader = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    reader.add_argument("export", type=Path)
    reader.add_argument("--data", required=True)
    reader.add_argument("--task", default="aul,mmotu,busbra")
    given = reader.parse_args()
    warnings.simplefilter("ignore")  # of costs that do not converge
    model, projection = network(given.export)
    for name in given.task.split(","):
        task = tasks.load(name, given.data)
        parts = (task.train, task.validation, task.test)
        x = [features(model, projection, list(part.images)) for part in parts]
        y = [np.array(part.targets) for part in parts]
        scaler = StandardScaler().fit(x[0])
        x = [scaler.transform(part) for part in x]
        # Of two classes scikit-learn has one vector of weights, a softmax two: half the penalty.
        twice = 2 if len(task.classes) == 2 else 1
        fits = [LogisticRegression(C=twice * one, max_iter=3000).fit(x[0], y[0]) for one in COSTS]
        losses = [log_loss(y[1], fit.predict_proba(x[1]), labels=fit.classes_) for fit in fits]
        best = int(np.argmin(losses))
        score = 100 * f1_score(y[2], fits[best].predict(x[2]), average="macro")
        print(f"{name}: macro F1 {score:.1f}, cost {COSTS[best]:.3g}", flush=True)


if __name__ == "__main__":
    main()
