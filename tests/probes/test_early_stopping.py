"""Heads that are trained side by side stop each for itself."""

from __future__ import annotations

import pytest
import torch
from arrays import fit
from clouds import clouds

from ultrabench_eval.probes.early_stopping import EarlyStopping
from ultrabench_eval.probes.heads import Stream
from ultrabench_eval.protocol import Gradient, Protocol


def stopping(patience: int, epochs: int) -> EarlyStopping:
    """Of one stream with two heads."""
    rows = torch.arange(3)
    gradient = Gradient(learning_rates=(0.1, 0.2), patience=patience, max_epochs=epochs)
    return EarlyStopping([Stream(0, 7, rows, rows)], gradient)


def fed(record: EarlyStopping, *losses: list[float]) -> list[tuple[list[bool], bool]]:
    """After each epoch: which of the heads is to be kept, and whether the stream goes on."""
    told = []
    for epoch, pair in enumerate(zip(*losses, strict=True)):
        better, goes_on = record.take(torch.tensor([0]), epoch, torch.tensor([pair]))
        told.append((better[0].tolist(), bool(goes_on[0])))
    return told


def test_a_head_that_has_stopped_is_not_taken_up_again() -> None:
    record = stopping(patience=2, epochs=5)
    told = fed(record, [1.0, 2.0, 2.0, 0.5, 0.4], [5.0, 4.0, 3.0, 2.0, 1.5])
    assert [better for better, _ in told] == [[True, True], *[[False, True]] * 4]
    stopped, other = record.heads(0)
    assert (stopped.validation_loss, stopped.best_epoch) == (1.0, 0)
    assert (other.validation_loss, other.best_epoch) == (1.5, 4)
    assert record.history[0, 0, :3].tolist() == [1.0, 2.0, 2.0]
    assert record.history[0, 0, 3:].isnan().all()


def test_a_stream_goes_on_until_the_patience_with_its_last_head_is_over() -> None:
    told = fed(stopping(patience=2, epochs=4), [1.0, 2.0, 2.0, 2.0], [3.0, 2.0, 2.0, 2.0])
    assert [goes_on for _, goes_on in told] == [True, True, True, False]


@pytest.mark.parametrize("probe", ["linear", "attentive"])
def test_a_setting_gives_the_same_head_alone_and_beside_another(probe: str) -> None:
    (x, y), (vx, vy) = clouds(60), clouds(30, seed=1)
    if probe == "attentive":  # one token an image
        x, vx = x.unsqueeze(1), vx.unsqueeze(1)

    def fitted(*rates: float):
        gradient = Gradient(learning_rates=rates, patience=2, max_epochs=30)
        return fit(
            probe, x, y, vx, vy, classes=3, seeds=range(4), protocol=Protocol(gradient=gradient)
        )

    # The fast head stops early; its later losses would be lower again, as its rate is annealed.
    fast, slow = 0.5, 1e-4
    together, alone = fitted(fast, slow), fitted(fast)
    assert all(head.best_epoch > 20 for head in together.heads[1::2])
    assert all(head.best_epoch < 20 for head in alone.heads)
    assert [head.best_epoch for head in together.heads[::2]] == [h.best_epoch for h in alone.heads]
    torch.testing.assert_close(together.predict(vx)[::2], alone.predict(vx), rtol=1e-6, atol=1e-8)
