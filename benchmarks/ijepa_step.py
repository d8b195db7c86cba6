"""A training step of I-JEPA, ours against facebookresearch/ijepa's own code.

    python benchmarks/ijepa_step.py --official CHECKOUT [--rounds 10] [--batch 8] [--threads 1]

CHECKOUT is a checkout of that repository (or its `src` alone); nothing of it is part of this
package. Both have the same first weights, images and masks of the published kind (lists of equal
length), float32, and do the whole of the official step: target, context, predictor, smooth L1 loss,
backward, AdamW, and the running average of the teacher. Losses must agree to 1e-4 at each step.
Times are CPU seconds, in turns. "products" is the share of our time that the step's matrix
products would take at this processor's best rate.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from tabulate import tabulate
from torch import Tensor
from torch.nn.functional import layer_norm, smooth_l1_loss

from usjepa import config as configs
from usjepa import monitor, objective
from usjepa.masks import Masks
from usjepa.objective import EMAJEPA

MOMENTUM = 0.996
SIZES = {
    "ViT-B/16, predictor 384 x 6": ("vit_base", 768, 12, 12, 384, 6, 12),
    "ViT-Tiny/16, predictor 96 x 6": ("vit_tiny", 192, 12, 3, 96, 6, 3),
}
"""The official constructor; width, depth, heads of the student and of the predictor."""


def ours(size: tuple[Any, ...]) -> EMAJEPA:
    """Our networks of one of `SIZES`, with the settings of `ijepa_nano` for all else."""
    _, width, depth, heads, narrow, layers, parts = size
    changes = [
        *(f"model.width={width}", f"model.depth={depth}", f"model.heads={heads}"),
        *(f"predictor.width={narrow}", f"predictor.depth={layers}", f"predictor.heads={parts}"),
    ]
    made = objective.build(configs.load("ijepa_nano", changes), device="cpu")
    assert isinstance(made, EMAJEPA)
    return made


class Official:
    """The official networks, with the weights of ours."""

    def __init__(self, networks: Any, size: tuple[Any, ...], model: EMAJEPA) -> None:
        name, width, _, heads, narrow, layers, parts = size
        self.encoder = getattr(networks, name)(img_size=[224])
        self.predictor = networks.vit_predictor(
            num_patches=196,
            embed_dim=width,
            predictor_embed_dim=narrow,
            depth=layers,
            num_heads=parts,
        )
        assert self.encoder.blocks[0].attn.num_heads == heads
        self.target = getattr(networks, name)(img_size=[224]).requires_grad_(False)
        assert model.predictor is not None
        self.encoder.load_state_dict(model.student.state_dict())
        self.target.load_state_dict(model.student.state_dict())
        self.predictor.load_state_dict(model.predictor.state_dict())
        self.normalised = model.normalised
        every = [*self.encoder.named_parameters(), *self.predictor.named_parameters()]
        free = [one for name, one in every if name.endswith("bias") or one.dim() == 1]
        decayed = [one for name, one in every if not name.endswith("bias") and one.dim() != 1]
        groups = [{"params": decayed}, {"params": free, "weight_decay": 0}]
        self.optimiser = torch.optim.AdamW(groups, lr=1e-4, weight_decay=0.04)

    def step(self, images: Tensor, masks: Masks, tools: Any, tensors: Any) -> float:
        """`train_step` of src/train.py, on one process; images [B, 3, 224, 224] in [0, 1]."""
        x = self.normalised(images)
        seen, asked = [masks.context], list(masks.targets.unbind(1))
        with torch.no_grad():
            h = self.target(x)
            h = layer_norm(h, (h.size(-1),))
            h = tools.apply_masks(h, asked)
            h = tensors.repeat_interleave_batch(h, len(x), repeat=len(seen))
        z = self.predictor(self.encoder(x, seen), seen, asked)
        loss = smooth_l1_loss(z, h)
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad()
        with torch.no_grad():
            pairs = zip(self.encoder.parameters(), self.target.parameters(), strict=True)
            for current, average in pairs:
                average.data.mul_(MOMENTUM).add_((1.0 - MOMENTUM) * current.detach().data)
        return float(loss.detach())


def masks(batch: int, generator: np.random.Generator) -> Masks:
    """Four blocks of 6 x 6 in each image, [B, 4, 36], and the rest, cut to one length, [B, C]."""
    contexts, targets = [], []
    for _ in range(batch):
        corners = generator.integers(0, 9, (4, 2))
        blocks = [[14 * (y + r) + x + c for r in range(6) for c in range(6)] for y, x in corners]
        left = sorted(set(range(196)) - {place for block in blocks for place in block})
        contexts.append(left)
        targets.append(blocks)
    least = min(map(len, contexts))
    return Masks(torch.tensor([one[:least] for one in contexts]), torch.tensor(targets))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--official", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    sys.path.insert(0, str(given.official))
    from src.masks import utils as tools  # type: ignore[import-not-found]
    from src.models import vision_transformer as networks  # type: ignore[import-not-found]
    from src.utils import tensors  # type: ignore[import-not-found]

    rows = []
    ceiling = monitor.ceiling(torch.device("cpu"), torch.float32)
    for title, size in SIZES.items():
        torch.manual_seed(0)
        model = ours(size)
        other = Official(networks, size, model)
        fast = torch.optim.AdamW(objective.optimiser_groups(model, 0.04), lr=1e-4, fused=True)
        generator = np.random.default_rng(0)
        times: dict[str, list[float]] = {"ours": [], "official": []}
        apart, work = 0.0, 0
        for turn in range(given.rounds + 1):
            images = torch.rand(given.batch, 3, 224, 224)
            drawn = masks(given.batch, generator)
            start = time.process_time()
            loss, _ = model.loss(images, drawn)
            loss.backward()
            fast.step()
            fast.zero_grad()
            model.after_step(MOMENTUM)
            middle = time.process_time()
            again = other.step(images, drawn, tools, tensors)
            end = time.process_time()
            apart = max(apart, abs(float(loss.detach()) - again))
            assert apart < 1e-4, apart
            if turn == 0:  # the first warms up
                work = monitor.operations(lambda: model.loss(images, drawn)[0].backward())  # noqa: B023
                fast.zero_grad()
            else:
                times["ours"].append(middle - start)
                times["official"].append(end - middle)
        pairs = zip(times["official"], times["ours"], strict=True)
        ratios = sorted(theirs / mine for theirs, mine in pairs)
        rows.append(
            (
                title,
                median(times["official"]),
                median(times["ours"]),
                median(ratios),
                f"{ratios[0]:.2f} to {ratios[-1]:.2f}",
                f"{work / median(times['ours']) / ceiling:.0%}",
                f"{apart:.0e} at most",
            )
        )
    heads = [
        "network",
        "official, CPU s",
        "ours",
        "ratio",
        "over the steps",
        "products",
        "losses differ by",
    ]
    print(f"batch {given.batch}, {given.threads} threads, float32, {given.rounds} steps each")
    print(tabulate(rows, heads, floatfmt=".2f", tablefmt="pipe"))


if __name__ == "__main__":
    main()
