"""A score of the dense table again, by torch, OpenCV and scikit-learn alone.

    python results/dense/recompute.py --data DATA --task hc18 --model efficientnet-lite0

Of the harness it takes the images, masks and splits, and the encoder's maps (in its cache's float16
precision). What a probe is trained on, its training by `nn.Conv2d`, `AdamW` and autograd, the way
back to the masks' size, Dice, and all draws are its own. For encoders that do not pad, and tasks
whose images have every structure, or that have one structure.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from sklearn.metrics import f1_score
from torch import Tensor, nn
from torch.nn.functional import interpolate

import model_zoo
import tasks

RATES = (3e-3, 1e-2, 3e-2, 1e-1)
EPOCHS, PATIENCE, BATCH = 40, 8, 16


def loss_of(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy with shares [B, K, h, w] plus soft Dice over the batch, mean of structures."""
    q = logits.softmax(1)[:, 1:]
    t = target[:, 1:]
    over = (0, 2, 3)
    dice = (2 * (q * t).sum(over) + 1e-5) / (q.sum(over) + t.sum(over) + 1e-5)
    return nn.CrossEntropyLoss()(logits, target) + 1 - dice.mean()


def main() -> None:
    words = argparse.ArgumentParser()
    words.add_argument("--data", type=Path, required=True)
    words.add_argument("--task", default="hc18")
    words.add_argument("--model", default="efficientnet-lite0")
    words.add_argument("--seeds", type=int, default=5)
    asked = words.parse_args()

    task = tasks.load(asked.task, asked.data)
    structures = range(1, len(task.card.classes))
    encoder = model_zoo.load(asked.model, dtype="float32", accept_license=True)
    x, masks, y = {}, {}, {}
    for name, split in task.splits.items():
        maps = []
        for image in split.images:
            pixels = torch.from_numpy(image.read().copy()).permute(2, 0, 1)[None].float() / 255
            first, *more = encoder.maps(pixels)
            grid = first.shape[2:]
            coarse = [interpolate(one, grid, mode="bilinear") for one in more]
            maps.append(torch.cat([first, *coarse], 1).half().float())
        x[name] = torch.cat(maps)
        masks[name] = [mask.read() for mask in split.masks]
        size = x[name].shape[:1:-1]
        held = [
            [
                cv2.resize((m == k).astype(np.float32), size, interpolation=cv2.INTER_AREA)
                for k in structures
            ]
            for m in masks[name]
        ]
        inside = torch.from_numpy(np.array(held))
        y[name] = torch.cat([1 - inside.sum(1, keepdim=True), inside], 1)
    mean = x["train"].mean((0, 2, 3), keepdim=True)
    deviation = x["train"].std((0, 2, 3), keepdim=True, correction=0)
    # A channel that never changes is left at 0, as the probes do.
    deviation = deviation.clamp(min=0.01 * deviation.square().mean().sqrt().item())
    x = {name: (one - mean) / deviation for name, one in x.items()}

    scores = []
    for seed in range(asked.seeds):
        torch.manual_seed(1000 + seed)
        best, kept = np.inf, None
        for rate in RATES:
            head = nn.Conv2d(x["train"].shape[1], 1 + len(structures), 1)
            optimizer = torch.optim.AdamW(head.parameters(), rate, weight_decay=1e-4)
            cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
            lowest, waited = np.inf, 0
            for _ in range(EPOCHS):
                for rows in torch.randperm(len(x["train"])).split(BATCH):
                    optimizer.zero_grad()
                    loss_of(head(x["train"][rows]), y["train"][rows]).backward()
                    optimizer.step()
                cosine.step()
                with torch.no_grad():
                    now = loss_of(head(x["validation"]), y["validation"]).item()
                if now < lowest:
                    lowest, waited = now, 0
                    weights = {k: v.clone() for k, v in head.state_dict().items()}
                else:
                    waited += 1
                    if waited == PATIENCE:
                        break
            if lowest < best:
                best, kept, chosen = lowest, weights, rate
        head.load_state_dict(kept)
        with torch.no_grad():
            logits = head(x["test"])
        dice = []
        for one, mask in zip(logits, masks["test"], strict=True):
            called = interpolate(one[None], mask.shape, mode="bilinear")[0].argmax(0).numpy()
            both = (mask.ravel(), called.ravel())
            dice.append(
                np.mean([f1_score(*(a == k for a in both), zero_division=1.0) for k in structures])
            )
        scores.append(100 * float(np.mean(dice)))
        print(f"seed {seed}: {scores[-1]:.2f} (learning rate {chosen:g})", flush=True)
    spread = np.std(scores, ddof=1) if len(scores) > 1 else float("nan")
    print(f"{asked.model} on {task.name}: Dice {np.mean(scores):.2f} ± {spread:.2f}")


if __name__ == "__main__":
    main()
