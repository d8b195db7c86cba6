"""The stacked dense probe must be nothing but several plain ones: batch norm and a convolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ultrabench_eval import protocol
from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.feature_rows import Features, InMemory
from ultrabench_eval.probes import dense, dense_training
from ultrabench_eval.probes.heads import DataOf, streams
from ultrabench_eval.protocol import Protocol

SETTINGS = dense.DenseSettings(
    learning_rates=(3e-3, 0.1), weight_decays=(0.01,), batch_size=8, max_epochs=14, patience=2
)


def blobs(count: int = 30, classes: int = 3, channels: int = 6, seed: int = 0):
    """Float64 maps [N, D, 5, 4] that say the classes through noise, and shares [N, C, 5, 4].

    The last column is padding, the last row is half of it.
    """
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(classes, (count, 5, 4), generator=generator)
    shares = nn.functional.one_hot(codes, classes).permute(0, 3, 1, 2).float()
    blur = torch.rand(count, 1, 5, 4, generator=generator) * 0.4
    shares = shares * (1 - blur) + blur / classes
    shares[..., -1, :] /= 2
    shares[..., -1] = 0
    x = torch.randn(count, channels, 5, 4, generator=generator, dtype=torch.float64) * 2 + 3
    x[:, :classes] += shares
    x[:, 3] *= 10
    return x, shares


def plain_loss(logits: Tensor, shares: Tensor) -> Tensor:
    """Of [N, C, h, w], written place by place as the docstring of `dense_loss` has it."""
    places = logits.movedim(1, -1).flatten(0, -2)
    t = shares.movedim(1, -1).flatten(0, -2)
    w, q = t.sum(1), places.softmax(1)
    cross = nn.functional.cross_entropy(places, t, reduction="sum") / w.sum()
    dice = [
        (2 * (q[:, c] * t[:, c]).sum() + 1e-5) / ((q[:, c] * w).sum() + t[:, c].sum() + 1e-5)
        for c in range(1, t.shape[1])
    ]
    return cross + 1 - torch.stack(dice).mean()


class Plain(nn.Module):
    def __init__(self, classes: int, mean: Tensor, deviation: Tensor, seed: int) -> None:
        super().__init__()
        self.mean, self.deviation = mean[:, None, None], deviation[:, None, None]
        self.convolution = nn.Conv2d(len(mean), classes, 1).double()
        generator = torch.Generator().manual_seed(hashing.seed_for(seed, "probe/initialisation"))
        bound = len(mean) ** -0.5
        draw = torch.rand(classes, len(mean) + 1, generator=generator) * 2 * bound - bound
        with torch.no_grad():
            self.convolution.weight.copy_(draw[:, :-1, None, None])
            self.convolution.bias.copy_(draw[:, -1])

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution((x - self.mean) / self.deviation)


def moments(x: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel over the places that show the image."""
    weight = shares.double().sum(1, keepdim=True).expand_as(x)
    mean = (x * weight).sum((0, 2, 3)) / weight.sum((0, 2, 3))
    square = ((x - mean[:, None, None]) ** 2 * weight).sum((0, 2, 3)) / weight.sum((0, 2, 3))
    return mean, square.sqrt()


def plain(x, y, vx, vy, seed: int, settings: dense.DenseSettings, rate: float, decay: float,
          standardize: bool = True, grid=None):  # fmt: skip
    """The best model, its epoch and the validation loss of every epoch."""
    y, vy = y.double(), vy.double()
    neutral = torch.zeros(x.shape[1]).double(), torch.ones(x.shape[1]).double()
    coarse, up = grid or (y, nn.Identity())
    model = Plain(y.shape[1], *(moments(x, coarse) if standardize else neutral), seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.max_epochs)
    order = torch.Generator().manual_seed(hashing.seed_for(seed, "probe/order"))
    best, best_epoch, kept, losses = float("inf"), -1, {}, []
    for epoch in range(settings.max_epochs):
        for rows in torch.randperm(len(x), generator=order).split(settings.batch_size):
            optimizer.zero_grad()
            plain_loss(up(model(x[rows])), y[rows]).backward()
            optimizer.step()
        schedule.step()
        losses.append(plain_loss(up(model(vx)), vy).item())
        if losses[-1] < best:
            best, best_epoch = losses[-1], epoch
            kept = {key: value.clone() for key, value in model.state_dict().items()}
        elif epoch - best_epoch >= settings.patience:
            break
    model.load_state_dict(kept)
    return model, best_epoch, losses


def fit(x, y, vx, vy, seeds: Sequence[int], settings=SETTINGS, subsets=None, standardize=True):
    x, vx = (InMemory(one) if isinstance(one, Tensor) else one for one in (x, vx))
    how = Protocol(name="test", standardize=standardize, own=(("dense", settings),))
    draws = streams(len(x), len(vx), seeds, subsets, None)
    return dense.train(DataOf(x, y, vx, vy, y.shape[1]), draws, how)


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("classes", [2, 3])
def test_each_head_equals_a_plain_convolution(classes: int, standardize: bool) -> None:
    (x, y), (vx, vy) = blobs(classes=classes), blobs(10, classes, seed=1)
    every, part = torch.arange(30), torch.tensor([28, 3, 4, 17, 9, 11, 0, 20, 21, 2, 6])
    probes = fit(x, y, vx, vy, [0, 5], subsets=[[part, part], [every, every]],
                 standardize=standardize)  # fmt: skip
    at, epochs = 0, set()
    for rows in (part, every):
        for seed in (0, 5):
            for rate, decay in SETTINGS.settings:
                model, epoch, losses = plain(
                    x[rows], y[rows], vx, vy, seed, SETTINGS, rate, decay, standardize
                )
                head, history = probes.heads[at], probes.history[at]
                assert (head.seed, head.best_epoch) == (seed, epoch)
                assert head.validation_loss == pytest.approx(losses[epoch], rel=1e-8)
                assert history[len(losses) :].isnan().all()  # it stopped in the same epoch
                assert not history[: len(losses)].isnan().any()
                raw = model.convolution.weight[..., 0, 0] / model.deviation[:, 0, 0]
                bias = model.convolution.bias - raw @ model.mean[:, 0, 0]
                torch.testing.assert_close(probes.weight[at], raw, rtol=1e-8, atol=1e-9)
                torch.testing.assert_close(probes.bias[at], bias, rtol=1e-8, atol=1e-8)
                torch.testing.assert_close(
                    probes.predict(vx)[at].double(), model(vx), rtol=1e-3, atol=1e-3
                )
                epochs.add(epoch)
                at += 1
    assert at == len(probes.heads)
    assert len(epochs) > 1
    assert min(epochs) < SETTINGS.max_epochs - 1 - SETTINGS.patience  # early stopping bites


def test_padding_and_ignored_places_count_for_nothing() -> None:
    (x, y), (vx, vy) = blobs(), blobs(10, seed=1)
    other = x.clone()
    other[..., -1] = 1e4  # the column whose shares are all 0
    one, two = fit(x, y, vx, vy, [0]), fit(other, y, vx, vy, [0])
    torch.testing.assert_close(one.weight, two.weight, rtol=1e-9, atol=1e-10)
    assert one.heads[0].validation_loss == pytest.approx(two.heads[0].validation_loss, rel=1e-9)


class Unheld(Features):
    """Maps that are read by rows alone, and how many numbers were asked for at a time."""

    def __init__(self, x: Tensor) -> None:
        self.x, self.shape, self.dtype, self.most = x, tuple(x.shape), x.dtype, 0

    def rows(self, index: Tensor) -> Tensor:
        self.most = max(self.most, len(index))
        return self.x[index]


def test_maps_that_are_too_many_to_hold_are_read_in_batches_to_the_same_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (x, y), (vx, vy) = blobs(120), blobs(40, seed=1)
    x, vx = x.half(), vx.half()
    held = fit(x, y, vx, vy, [0, 1])
    monkeypatch.setattr(dense_training, "_HELD", 100)
    streamed = Unheld(x)
    probes = fit(streamed, y, Unheld(vx), vy, [0, 1])
    assert streamed.most <= 32
    assert probes.weight.dtype == torch.float32
    assert probes.weight.equal(held.weight)
    assert probes.predict(Unheld(vx)).equal(held.predict(vx))


def test_the_bits_of_a_head_depend_on_no_other_stream_and_not_on_threads() -> None:
    (x, y), (vx, vy) = blobs(60, channels=20), blobs(20, channels=20, seed=1)
    x, vx = x.half(), vx.half()
    every, part = torch.arange(60), torch.arange(0, 60, 2)
    threads, found = torch.get_num_threads(), []
    for count in (1, 3):
        torch.manual_seed(count)
        torch.set_num_threads(count)
        found.append(fit(x, y, vx, vy, [0, 1, 2], subsets=[[part] * 3, [every] * 3]))
    torch.set_num_threads(threads)
    assert found[0].weight.equal(found[1].weight)
    alone = fit(x, y, vx, vy, [2])
    assert found[0].weight[10:].equal(alone.weight)  # the last two of 2 x 3 x 2
    assert found[0].of_subset(1).chosen().heads[2] == replace(alone.chosen().heads[0], subset=1)


def test_it_finds_a_faint_class_that_cross_entropy_alone_calls_background() -> None:
    generator = torch.Generator().manual_seed(0)
    inside = torch.rand(200, 1, 6, 6, generator=generator) < 0.1
    y = torch.cat([~inside, inside], 1).float()
    x = torch.randn(200, 3, 6, 6, generator=generator) + 0.6 * inside
    settings = replace(SETTINGS, learning_rates=(0.1,), max_epochs=20)
    called = fit(x[:150], y[:150], x[150:], y[150:], [0], settings).predict(x[150:])[0].argmax(1)
    truth = inside[150:, 0]
    dice = 2 * (called * truth).sum() / (called.sum() + truth.sum())
    assert dice > 0.25  # 0.10 is what the most probable class at each place gives
    assert called.float().mean() > 0.03  # 0.01


def test_a_loss_that_is_never_finite_is_told() -> None:
    x, y = blobs()
    with pytest.raises(UserError, match="never finite"):
        fit(x * float("inf"), y, x, y, [0])


def test_its_settings_are_part_of_a_protocol(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("standardize: true\ndense:\n  learning_rates: [0.02]\n  decision: threshold\n")
    mine = protocol.load(file)
    assert mine.of("dense") == dense.DenseSettings(learning_rates=(0.02,), decision="threshold")
    assert mine.id("dense") != protocol.DENSE.id("dense")
    for line, said in (
        ("decision: maximum", "argmax"),
        ("learning_rates: []", "learning_rates"),
        ("learning_rate: [0.1]", "learning_rates"),
        ("batch_size: 0", "batch_size"),
    ):
        file.write_text(f"dense:\n  {line}\n")
        with pytest.raises(UserError, match=said):
            protocol.load(file)


def test_a_loss_on_a_finer_grid_is_that_of_bilinear_logits() -> None:
    (x, y), (vx, vy) = blobs(), blobs(10, seed=1)
    settings = replace(SETTINGS, finer=3, learning_rates=(0.01,), max_epochs=4)
    finer = [one.repeat_interleave(3, 2).repeat_interleave(3, 3) for one in (y, vy)]
    probes = fit(x, finer[0], vx, finer[1], [0], settings)
    up = nn.Upsample(scale_factor=3, mode="bilinear")
    model, epoch, losses = plain(x, finer[0], vx, finer[1], 0, settings, 0.01, 0.01, grid=(y, up))
    assert probes.heads[0].best_epoch == epoch
    torch.testing.assert_close(
        probes.history[0, : len(losses)].double(), torch.tensor(losses).double(), rtol=1e-6, atol=0
    )
    raw = model.convolution.weight[..., 0, 0] / model.deviation[:, 0, 0]
    torch.testing.assert_close(probes.weight[0], raw, rtol=1e-8, atol=1e-9)
    assert probes.predict(vx).shape == (1, 10, 3, 5, 4)
