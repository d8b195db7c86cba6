"""Is this project right on a GPU, and how fast? One table; see `benchmarks/gpu.sh`.

Five parts, each by itself, so that one that fails or lacks a package costs its own rows only:

vectors     reference numbers of the authors' code, replayed in float32 and bfloat16
encode      images/s of the harness's encode stage against the bare model
probes      25 linear probes as one stack, on the GPU and on the processor, and how far apart
finetune    a ViT-S/16 with untrained weights fine-tuned for about a minute
step        a self-supervised training step (I-JEPA, ViT-S/16), as it is and compiled
"""

import argparse
import contextlib
import importlib.util
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import sklearn
import timm
import torch
import transformers

HERE = Path(__file__).resolve().parents[1]
PACKED = HERE / ".gpu" / "images.csv"
PARTS = ("vectors", "encode", "probes", "finetune", "step")
SMALL = ("usf-mae", "urfm", "us-jepa", "samus", "dinov3")  # vectors that are replayed first


class Table:
    """Rows as they come, so that a run which is cut off has shown what it knew."""

    def __init__(self) -> None:
        print("| part | what | value |\n| --- | --- | --- |", flush=True)

    def row(self, part: str, what: str, value: str) -> None:
        print(f"| {part} | {what} | {value} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--parts", default=",".join(PARTS), help="comma-separated")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does the script run?")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch sees no GPU here; --device cpu --quick tries the script without one")
    if importlib.util.find_spec("pydantic") is None:
        sys.path.append(os.environ.get("UBENCH_MORE", ""))  # what gpu.sh has brought
    table = Table()
    name = torch.cuda.get_device_name() if given.device == "cuda" else "processor"
    table.row("machine", name, f"{os.cpu_count()} cores{', QUICK' if given.quick else ''}")
    known = (torch, timm, transformers, sklearn)
    table.row("machine", "versions", ", ".join(f"{m.__name__} {m.__version__}" for m in known))
    with tempfile.TemporaryDirectory() as folder:
        for part in given.parts.split(","):
            start = time.perf_counter()
            try:
                globals()[part](table, given.device, given.quick, Path(folder))
            except Exception as error:  # whatever it is, the other parts are worth having
                table.row(part, "FAILED", f"{type(error).__name__}: {error}".replace("\n", " "))
            table.row(part, "seconds in all", f"{time.perf_counter() - start:.0f}")


def images_at(folder: Path) -> tuple[str, Path | None, str]:
    """A task, its data root, and what to call its images."""
    if PACKED.is_file():
        return str(PACKED), None, "packed images"
    import tasks.phantom

    return "aul", tasks.phantom.write(folder / "phantom", tasks=["aul"]), "SYNTHETIC images"


def vectors(table: Table, device: str, quick: bool, folder: Path) -> None:
    from model_zoo import verify

    known = sorted(verify.names(), key=lambda name: (name not in SMALL, name))
    known = known[:1] if quick else known
    until = time.perf_counter() + 150
    for name in known:
        if time.perf_counter() > until:
            table.row("vectors", name, "not run: 150 seconds were over")
            continue
        for dtype in ("float32", "bfloat16"):
            found = verify.replay(name, device=device, dtype=dtype)
            largest = max(one.largest for one in found)
            cosine = min(one.cosine for one in found)
            word = "agrees" if all(one.agrees for one in found) else "DIFFERS"
            table.row(
                "vectors", f"{name}, {dtype}", f"{word}: {largest:.1e} apart, cosine {cosine:.6f}"
            )


def encode(table: Table, device: str, quick: bool, folder: Path) -> None:
    import encode as encoding

    import model_zoo
    import tasks

    label, data, called = images_at(folder)
    task = tasks.load(label, data)
    held = {
        digest: image
        for split in task.splits.values()
        for digest, image in zip(split.digests, split.images, strict=True)
    }
    held = dict(list(held.items())[: 16 if quick else 1000])
    for name in ("timm/vit_small_patch16_224", "timm/vit_base_patch16_224")[: 1 if quick else 2]:
        for dtype in ("float32", "bfloat16")[: 1 if quick else 2]:
            encoder = model_zoo.load(name, "random", device=device, dtype=dtype)
            turns = [encoding.turn(encoder, held) for _ in range(1 if quick else 3)]
            ratio = statistics.median(bare / ours for ours, bare in turns)
            ours, bare = (len(held) / statistics.median(t) for t in zip(*turns, strict=True))
            table.row(
                "encode",
                f"{name}, {dtype}, {len(held)} {called}",
                f"{ours:.0f} images/s, bare model {bare:.0f}, ratio {ratio:.2f}",
            )


def probes(table: Table, device: str, quick: bool, folder: Path) -> None:
    from ultrabench_eval.probes import linear
    from ultrabench_eval.protocol import Gradient, Protocol

    count, width, classes = (200, 16, 3) if quick else (3500, 768, 8)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, width, generator=generator)
    y = (x[:, :classes] + torch.randn(count, classes, generator=generator)).argmax(1)
    cut = count // 5
    rates = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
    protocol = Protocol(gradient=Gradient(learning_rates=rates, max_epochs=10, patience=10))
    found = {}
    for where in dict.fromkeys((device, "cpu")):
        data = [one.to(where) for one in (x[cut:], y[cut:], x[:cut], y[:cut])]
        linear.fit(*data, classes=classes, seeds=range(5), protocol=protocol)  # warm
        start = time.perf_counter()
        stack = linear.fit(*data, classes=classes, seeds=range(5), protocol=protocol)
        given = stack.predict(data[2]).cpu()
        found[where] = given
        table.row(
            *("probes", f"25 probes, 10 epochs, {count} x {width}, on {where}"),
            f"{time.perf_counter() - start:.2f} s",
        )
    apart = (found[device] - found["cpu"]).abs().max()
    table.row("probes", "largest difference of a probability", f"{apart:.1e}")


def finetune(table: Table, device: str, quick: bool, folder: Path) -> None:
    import ultrabench_eval
    from ultrabench_eval.protocol import FINETUNE, FineTuning

    short = FineTuning(max_epochs=1, learning_rates=(1e-3,))
    protocol = replace(FINETUNE, name="quick", finetune=short) if quick else FINETUNE
    label, data, called = images_at(folder)
    model = "timm/vit_tiny_patch16_224" if quick else "timm/vit_small_patch16_224"
    start = time.perf_counter()
    rows = ultrabench_eval.run(
        model,
        label,
        data=data,
        protocol=protocol,
        seeds=1,
        weights={model: "random"},
        device=device,
        out=folder / "finetuned",
        cache=folder / "cache",
    )
    seconds = time.perf_counter() - start
    for row in rows.itertuples():
        if row.metric == "macro_f1":
            table.row(
                "finetune",
                f"{model}, untrained weights, {called}",
                f"{row.status}, macro F1 {row.mean:.1f} in {seconds:.0f} s",
            )


def step(table: Table, device: str, quick: bool, folder: Path) -> None:
    from train_step import synthetic

    from usjepa import config as configs
    from usjepa import train

    frames = synthetic(folder / "index", 64 if quick else 1200)
    settings = configs.load("ijepa_nano")
    if not quick:
        settings = replace(settings, model=replace(settings.model, width=384, depth=12, heads=6))
    size = 16 if quick else 128
    losses: dict[bool, list[float]] = {}
    for compiled in (False, True)[: 1 if quick else 2]:
        short = replace(
            settings,
            train=replace(
                settings.train, epochs=1, warmup_epochs=0, batch_size=size, compile=compiled
            ),
            data=replace(settings.data, dataset_cap=(3 if quick else 60) * size),
        )
        speeds: list[float] = []
        losses[compiled] = []

        def report(entry: object, compiled: bool = compiled, speeds: list[float] = speeds) -> None:
            if isinstance(entry, dict) and entry["kind"] == "train":
                speeds.append(entry["images_per_second"])
                losses[compiled].append(entry["loss"])

        train.run(
            short,
            frames,
            folder / f"step-{compiled}",
            train.Execution(device, workers=1 if quick else 12, log_every=10, report=report),
        )
        later = speeds[len(speeds) // 2 :]
        word = "compiled" if compiled else "as it is"
        table.row(
            "step",
            f"I-JEPA {settings.model.width} wide, batch {size}, SYNTHETIC frames, {word}",
            f"{statistics.median(later):.0f} images/s, last loss {losses[compiled][-1]:.4f}",
        )


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main()
