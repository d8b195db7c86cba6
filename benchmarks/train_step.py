"""Our training step against the one that anyone would write first, side by side in one run.

    python benchmarks/train_step.py [--frames INDEX] [--config us_jepa_nano] [--rounds 5]

Both do the same work: teacher, student and predictor of the configuration, the same masks, the same
loss (checked: equal to 1e-4, in bfloat16 to 1e-2), one AdamW step, in float32 and in bfloat16. The
plain one follows the obvious way: the student runs on all images of the batch, or on one context
list after another where lists differ in length, the teacher runs to its end, each target block is
predicted in a pass of its own, frames are read, cropped and masked between steps, and AdamW is
torch's default.

Without --frames, SYNTHETIC frames are drawn. The last lines say how near our step is to this
processor's matrix products, and what share of the time the model has, that is, whether loading is
hidden.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from tabulate import tabulate
from torch import Tensor
from torch.nn.functional import interpolate, layer_norm, smooth_l1_loss

from usjepa import config as configs
from usjepa import loader, monitor, objective, train
from usjepa.config import Config
from usjepa.frames import store
from usjepa.frames.sampling import CappedSampler, hold_out
from usjepa.frames.store import Frames
from usjepa.frames.writer import Writer
from usjepa.loader import BatchPart
from usjepa.masks import Masks
from usjepa.objective import SALT


def synthetic(folder: Path, count: int = 400) -> Frames:
    """An index of SYNTHETIC speckled sectors."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:288, :360]
    inside = (np.hypot(rows, columns - 180) < 280) & (abs(columns - 180) < 0.9 * rows + 20)
    with Writer(folder, "synthetic", store.Settings(), {"folder": "drawn"}, None) as writer:
        for number in range(count):
            pixels = (generator.rayleigh(40, inside.shape) * inside).clip(0, 255).astype(np.uint8)
            writer.add(f"{number}", f"{number}", f"{number:064d}", pixels, inside)
    return store.open_index(folder)


def plain_targets(salt: SALT, images: Tensor) -> Tensor:
    """The teacher's layers by hooks, its network run to the end."""
    frozen = salt.teacher
    rule = frozen.encoder.input_rule
    assert rule is not None
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (rule.mean, rule.std))
    caught: dict[str, Tensor] = {}
    network = frozen.encoder.network
    handles = [
        network.get_submodule(name).register_forward_hook(
            lambda _, __, output, name=name: caught.__setitem__(name, output)
        )
        for name in frozen.layers
    ]
    with torch.no_grad():
        network((images - mean) / std)
    for handle in handles:
        handle.remove()
    side = frozen.enlarge_to
    maps = [caught[name] for name in frozen.layers]
    maps = [one if one.shape[-1] == side else interpolate(one, (side, side), mode="bilinear")
            for one in maps]  # fmt: skip
    layers = [one.flatten(2).transpose(1, 2) for one in maps]
    return torch.cat([layer_norm(one, one.shape[-1:]) for one in layers], -1)


def plain_loss(salt: SALT, images: Tensor, drawn: Masks) -> Tensor:
    """The loss of eq. 5, block by block, and image by image where lists differ in length."""
    wanted = plain_targets(salt, images)
    x = salt.normalised(images)
    ragged = drawn.context_real is not None or drawn.targets_real is not None
    rows = [slice(at, at + 1) for at in range(len(x))] if ragged else [slice(0, len(x))]
    losses, visible = [], []
    for row in rows:
        context = drawn.context[row]
        if drawn.context_real is not None:
            context = context[:, drawn.context_real[row][0]]
        tokens = salt.student(x[row], context)
        for block in range(drawn.targets.shape[1]):
            target = drawn.targets[row, block]
            if drawn.targets_real is not None:
                target = target[:, drawn.targets_real[row, block][0]]
            if salt.context_map is None:
                predicted, seen = salt.predictor.everywhere(tokens, context, target[:, None])
            else:
                predicted = salt.predictor(tokens, context, target[:, None])
                seen = salt.context_map(tokens)[:, None]
            losses.append(smooth_l1_loss(predicted[:, 0], taken(wanted[row], target)))
            visible.append(smooth_l1_loss(seen[:, 0], taken(wanted[row], context)))
    hidden, seen = torch.stack(losses).mean(), torch.stack(visible).mean()
    return salt.hidden_weight * hidden + salt.context_weight * seen


def taken(tokens: Tensor, index: Tensor) -> Tensor:
    """Tokens [B, N, D] at places [B, K]."""
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=Path)
    parser.add_argument("--config", default="us_jepa_nano")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    settings = configs.load(given.config)
    with tempfile.TemporaryDirectory() as folder:
        if given.frames:
            index = store.open_index(given.frames)
            print(f"{len(index)} frames of {given.frames.name}")
        else:
            index = synthetic(Path(folder, "index"))
            print(f"{len(index)} SYNTHETIC frames")
        for precision in (torch.float32, torch.bfloat16):
            compare(settings, index, given.rounds, precision)
        hidden(settings, index, Path(folder))


def operations(ours: SALT, images: Tensor, drawn: Masks) -> int:
    return monitor.operations(lambda: ours.loss(images, drawn)[0].backward())


def compare(settings: Config, index: Frames, rounds: int, precision: torch.dtype) -> None:
    narrow = torch.autocast("cpu", torch.bfloat16, precision == torch.bfloat16)
    size = settings.train.batch_size
    sampler = CappedSampler(hold_out(index, 0.05, 0)[0], 50_000, size, 0)
    parts = loader.TrainingParts(index, sampler, settings, 1)
    ours = objective.build(settings, device="cpu")
    theirs = objective.build(settings, device="cpu")
    assert isinstance(ours, SALT)
    assert isinstance(theirs, SALT)
    fast = torch.optim.AdamW(objective.optimiser_groups(ours, 0.04), lr=1e-4, fused=True)
    slow = torch.optim.AdamW(objective.optimiser_groups(theirs, 0.04), lr=1e-4)
    stream = loader.stream(parts, (BatchPart(step, 0) for step in range(rounds + 1)), 1)
    times: dict[str, list[float]] = {"ours": [], "plain": []}
    cpu = torch.device("cpu")
    work = 0
    for step in range(rounds + 1):
        start = time.perf_counter()
        images, drawn = next(stream).on(cpu)
        with narrow:
            loss, _ = ours.loss(images, drawn)
        loss.backward()
        fast.step()
        fast.zero_grad()
        middle = time.perf_counter()
        images, drawn = parts[BatchPart(step, 0)].on(cpu)
        with narrow:
            again = plain_loss(theirs, images, drawn)
        again.backward()
        slow.step()
        slow.zero_grad()
        end = time.perf_counter()
        apart = abs(float(loss.detach()) - float(again.detach()))
        assert apart < (1e-4 if precision == torch.float32 else 1e-2) * (1 + step), apart
        if step:  # the first warms up
            times["ours"].append(middle - start)
            times["plain"].append(end - middle)
        else:
            work = operations(ours, images, drawn)
            fast.zero_grad()
    ceiling = monitor.ceiling(cpu, precision)
    rate = {name: size / median(values) for name, values in times.items()}
    print(f"{settings.name}, batch {size}, {torch.get_num_threads()} threads, {precision}")
    table = [
        (name, rate[name], rate[name] / rate["plain"], work / median(times[name]) / ceiling)
        for name in ("plain", "ours")
    ]
    heads = ["step", "images/s", "ratio", "of matrix-product rate"]
    print(tabulate(table, heads, floatfmt=("", ".1f", ".2f", ".0%")))


def hidden(settings: Config, index: Frames, folder: Path) -> None:
    """A short run of the trainer itself, for what it logs."""
    short = replace(
        settings,
        train=replace(settings.train, epochs=1, warmup_epochs=0),
        data=replace(settings.data, dataset_cap=30 * settings.train.batch_size),
    )
    shares: list[float] = []

    def report(entry: object) -> None:
        if isinstance(entry, dict) and entry["kind"] == "train":
            shares.append(entry["model_share"])

    train.run(short, index, folder / "run", train.Execution("cpu", workers=1, report=report))
    later = shares[len(shares) // 3 :]  # the first wait for the worker to start
    print(f"share of the time in the model (trainer, one worker): {np.mean(later):.1%}")


if __name__ == "__main__":
    main()
