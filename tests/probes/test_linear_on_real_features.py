"""The stack against plain probes on an encoder's features of real images, in float32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from plain_probe import plain_probe

import model_zoo
import tasks
from ultrabench_eval.features import Store
from ultrabench_eval.probes import linear
from ultrabench_eval.protocol import Gradient, Protocol

pytestmark = [pytest.mark.shared, pytest.mark.slow]


def test_weights_epochs_and_predictions_are_those_of_plain_probes(
    real_data: Path, tmp_path: Path
) -> None:
    task, store = tasks.load("aul", real_data), Store(tmp_path)
    counts = {"train": 160, "validation": 59, "test": 60}
    x, y = {}, {}
    for name, count in counts.items():
        split = task.splits[name]
        digests = split.digests[-count:]  # the last ones: all classes are among them
        images = dict(zip(digests, split.images[-count:], strict=True))
        store.fill(model_zoo.load("efficientnet-lite0"), images)
        x[name], y[name] = store.read(digests).whole(), torch.from_numpy(split.labels[-count:])
    gradient = Gradient(learning_rates=(1e-3, 1e-2), weight_decays=(1e-4, 1.0))
    probes = linear.fit(
        *(x["train"], y["train"], x["validation"], y["validation"]),
        classes=3,
        seeds=[0, 1],
        protocol=Protocol(gradient=gradient),
    )
    predicted = probes.predict(x["test"]).argmax(-1)
    at = 0
    for seed in (0, 1):
        for rate, decay in gradient.settings:
            kept, epoch, _ = plain_probe(
                *(x["train"], y["train"], x["validation"], y["validation"]),
                *(3, seed, gradient, rate, decay),
            )
            assert probes.heads[at].best_epoch == epoch
            # 1e-5 at the paper's rate. Adam's steps, and so what rounding does, go with the rate.
            close = {"rtol": 0, "atol": 1e-2 * rate}
            torch.testing.assert_close(probes.weight[at], kept["weight"], **close)
            torch.testing.assert_close(probes.bias[at], kept["bias"], **close)
            logits = x["test"] @ kept["weight"].T + kept["bias"]
            assert predicted[at].equal(logits.argmax(-1))
            at += 1
