"""Macro F1 once more, without the harness's probes, metrics or statistics.

    python results/real/recompute.py --data DATA --cache CACHE [--model efficientnet-lite0]

Features come from the cache of a finished run (an image that is not there is an error). Then only
PyTorch and scikit-learn: `nn.Linear` + `AdamW` + `CosineAnnealingLR` with torch's own seeds, once
more with all features multiplied by 0.02, once more tested on images blurred by torchvision (sd 3,
kernel 13; tasks whose images have a short side of 224, where that is what the paper prints), and
`StandardScaler` + `LogisticRegression` with C chosen on validation. Prints macro F1 in percent;
mean ± sd over five seeds for the loops.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, log_loss
from sklearn.preprocessing import StandardScaler
from tabulate import tabulate
from torch import nn
from torchvision.transforms.functional import gaussian_blur

import model_zoo
import tasks
from ultrabench_eval import features


def loop(x, y, vx, vy, tests, classes: int, seed: int) -> list[np.ndarray]:
    torch.manual_seed(seed)
    head = nn.Linear(x.shape[1], classes)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 150)
    least, since, predicted = float("inf"), 0, None
    for _ in range(150):
        for rows in torch.randperm(len(x)).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(head(x[rows]), y[rows]).backward()
            optimizer.step()
        schedule.step()
        with torch.no_grad():
            loss = nn.functional.cross_entropy(head(vx), vy).item()
            if loss < least:
                least, since = loss, 0
                predicted = [head(tx).argmax(1).numpy() for tx in tests]
            else:
                since += 1
        if since >= 15:
            break
    assert predicted is not None
    return predicted


def blurred(encoder: model_zoo.Encoder, images: list[np.ndarray]) -> torch.Tensor:
    rows = [
        gaussian_blur(torch.tensor(image).permute(2, 0, 1), 13, 3.0).permute(1, 2, 0).numpy()
        for image in images
    ]
    return torch.cat([encoder.encode_prepared(encoder.prepare(row)[None]) for row in rows])


def logistic(x, y, vx, vy, tx) -> np.ndarray:
    scaler = StandardScaler().fit(x)
    fits = [
        LogisticRegression(C=10.0**power, max_iter=5000).fit(scaler.transform(x), y)
        for power in range(-4, 3)
    ]
    losses = [log_loss(vy, fit.predict_proba(scaler.transform(vx))) for fit in fits]
    return fits[int(np.argmin(losses))].predict(scaler.transform(tx))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--cache", required=True)
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--task", default="aul,mmotu,busbra,pocus")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")  # of convergence, for costs that are not chosen
    encoder = model_zoo.load(options.model)
    key = features.key(encoder.fingerprint, "float32", encoder.batch_size)
    store = features.Store(Path(options.cache) / "features" / key)
    rows = []
    for name in options.task.split(","):
        task = tasks.load(name, options.data)
        x, vx, tx = (store.read(split.digests).whole() for split in task.splits.values())
        y, vy = (torch.from_numpy(s.labels) for s in (task.train, task.validation))
        images = [image.read() for image in task.test.images]
        tests = [tx]
        if {min(image.shape[:2]) for image in images} == {224}:
            tests.append(blurred(encoder, images))
        row = [name]
        for factor in (1.0, 0.02):
            runs = [
                loop(
                    *(x * factor, y, vx * factor, vy, [t * factor for t in tests]),
                    *(len(task.classes), seed),
                )
                for seed in range(5)
            ]
            for predictions in list(zip(*runs, strict=True))[: 1 if factor != 1 else 2]:
                scores = [
                    100 * f1_score(task.test.labels, predicted, average="macro")
                    for predicted in predictions
                ]
                row.append(f"{np.mean(scores):.1f} ± {np.std(scores, ddof=1):.1f}")
            if factor == 1 and len(tests) == 1:
                row.append("")
        predicted = logistic(*(t.numpy() for t in (x, y, vx, vy, tx)))
        row.append(f"{100 * f1_score(task.test.labels, predicted, average='macro'):.1f}")
        rows.append(row)
    header = ("task", "plain loop", "on blurred tests", "features x 0.02", "standardised logistic")
    print(options.model)
    print(tabulate(rows, header, tablefmt="pipe", disable_numparse=True))


if __name__ == "__main__":
    main()
