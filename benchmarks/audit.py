"""How fast the audit is, and what it finds.

    python benchmarks/audit.py speed --data DATA
    python benchmarks/audit.py accuracy --data DATA [--folder MORE ...]
    python benchmarks/audit.py peer --data DATA [--folder MORE ...]
    python benchmarks/audit.py index --data DATA [--folder MORE ...]

`speed` compares 60,000 images (real ones and parts of them, and noise) and holds the search for
like textures against naive NumPy, in turns. `accuracy` plants changed copies of real images and
prints which part of them is found; it wrote results/audit/accuracy.csv. `peer` does so with
imagehash too (a hash of each image, all pairs within a radius), and compares the CPU seconds that
both take for 5,000 images, decoding included, in turns. `index` plants them too and prints how
many of the copies that a search of all pairs finds are found by the index, which is meant for
more images than any of these sets has.
"""

from __future__ import annotations

import argparse
import csv
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import imagehash
import numpy as np
import PIL.Image
import scipy.ndimage
import torch

import tasks
from tasks.near_duplicates import duplicates, search
from tasks.near_duplicates.align import Comparer
from tasks.near_duplicates.signatures import Signatures, signature
from tasks.samples.images import Image
from ultrabench_eval.audit import collection
from ultrabench_eval.core import hashing

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "tasks" / "near_duplicates"))
from changes import CHANGES

IMAGES, PEER_IMAGES = 60_000, 5_000
RADII = (4, 8, 12)  # bits of 64 by which imagehash may be told that images are alike
PARTS = ((0.0, 0.0), (0.3, 0.0), (0.0, 0.3), (0.3, 0.3))  # of a real image, 70 % of each side


def sets(asked: argparse.Namespace) -> Iterator[tuple[str, list[collection.Entry]]]:
    for name in asked.sets.split(","):
        if (asked.data / name).is_dir():
            yield name, collection.of_task(tasks.load(name, asked.data))
    for folder in asked.folder:
        yield folder.name, collection.of_pretraining(folder)[0]


# ---- speed --------------------------------------------------------------------------------------


def speed(asked: argparse.Namespace) -> None:
    signed = []
    start = time.perf_counter()
    for _, entries in sets(asked):
        for entry in entries:
            pixels = entry.image.read()
            signed.append(signature(pixels))
    took = time.perf_counter() - start
    print(f"{len(signed)} real images read and signed: {1e3 * took / len(signed):.1f} ms each")
    for _, entries in sets(asked):
        for entry in entries:
            pixels = entry.image.read()
            h, w = pixels.shape[:2]
            for y, x in PARTS:
                part = pixels[int(y * h) : int((y + 0.7) * h), int(x * w) : int((x + 0.7) * w)]
                signed.append(signature(part))
    real = len(signed)
    generator = np.random.default_rng(0)
    while len(signed) < IMAGES:
        noise = scipy.ndimage.gaussian_filter(generator.normal(size=(64, 64)), (2, 2))
        noise = np.clip(90 + 300 * noise, 0, 255).astype(np.uint8)
        signed.append(signature(np.repeat(noise[..., None], 3, axis=2)))
    everything = Signatures.of(signed[:IMAGES])
    print(f"{IMAGES} signatures: {min(real, IMAGES)} of real images and parts of them, rest noise")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    pairs = duplicates.find(everything)
    took = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    grades = Counter(pair.grade for pair in pairs)
    print(f"compared in {took:.0f} s on {torch.get_num_threads()} threads: {dict(grades)}")
    print(f"peak memory {after / 2**20:.2f} GiB, of which before {before / 2**20:.2f} GiB")
    against_numpy(Comparer.of(everything).descriptors)


def against_numpy(descriptors: np.ndarray) -> None:
    """Nanoseconds a pair (all comparisons), each on as many images as it can bear."""
    rows = np.random.default_rng(0).permutation(len(descriptors))
    ways = {"this": (ours, 8192), "naive NumPy": (naive, 512)}
    best: dict[str, float] = {}
    for _ in range(3):  # in turns, the best of three
        for name, (way, count) in ways.items():
            some = descriptors[rows[:count]]
            start = time.perf_counter()
            way(some)
            took = (time.perf_counter() - start) / (count * (count - 1) / 2) * 1e9
            best[name] = min(best.get(name, took), took)
    assert len({way(descriptors[rows[:512]]) for way, _ in ways.values()}) == 1
    for name, took in best.items():
        print(f"{name:12} {took:10.1f} ns a pair, {took / best['this']:8.1f} x this")


def ours(descriptors: np.ndarray) -> int:
    return len(search.search(descriptors, duplicates.LIKE).first)


def naive(descriptors: np.ndarray) -> int:
    """A row at a time."""
    turned = [search._oriented(descriptors[:, a], o).numpy() for a, _, o in search.COMPARISONS]
    found = 0
    for i in range(len(descriptors)):
        best = np.full(len(descriptors) - i - 1, -1.0)
        for first, (_, b, _) in zip(turned, search.COMPARISONS, strict=True):
            best = np.maximum(best, (first[i] * descriptors[i + 1 :, b]).sum(1))
        found += int((best >= duplicates.LIKE).sum())
    return found


# ---- accuracy -----------------------------------------------------------------------------------


def planted(
    asked: argparse.Namespace,
) -> Iterator[tuple[str, str, list[np.ndarray], list[np.ndarray]]]:
    """Set, change, images of it and their changed copies."""
    for name, entries in sets(asked):
        generator = np.random.default_rng(hashing.seed_for(1, f"audit/{name}"))
        chosen = generator.choice(len(entries), min(asked.sample, len(entries)), replace=False)
        pixels = [entries[i].image.read() for i in np.sort(chosen)]
        for change, apply in CHANGES.items():
            images = [PIL.Image.fromarray(image) for image in pixels]
            yield name, change, pixels, [np.asarray(apply(one, generator)) for one in images]
        print(name, "planted", file=sys.stderr)


def found(originals: list[np.ndarray], copies: list[np.ndarray]) -> list[str]:
    """Grade of each copy that is found to be its original."""
    signed = Signatures.of([signature(image) for image in [*originals, *copies]])
    n = len(originals)
    pairs = duplicates.find(signed, together=np.repeat([0, 1], n))
    return [pair.grade for pair in pairs if pair.second - n == pair.first]


def accuracy(asked: argparse.Namespace) -> None:
    rows: dict[str, dict[str, tuple[int, int, int]]] = {}
    for name, change, originals, copies in planted(asked):
        grades = found(originals, copies)
        graded = sum(grade != "same scene" for grade in grades)
        rows.setdefault(change, {})[name] = (graded, len(grades), len(originals))
    names = list(next(iter(rows.values())))
    print("\nFound copies in percent; in brackets, those graded identical or near duplicate\n")
    print(f"| change | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for change, by_set in rows.items():
        cells = [f"{100 * f / n:.0f} ({100 * c / n:.0f})" for c, f, n in by_set.values()]
        print(f"| {change} | {' | '.join(cells)} |")
    parts = [f / n for by_set in rows.values() for _, f, n in by_set.values()]
    print(f"\nAll sets and changes alike: {np.mean(parts):.4f} found")
    if asked.out:
        with asked.out.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("change", "set", "copies", "found", "graded_copy"))
            for change, by_set in rows.items():
                writer.writerows((change, s, n, f, c) for s, (c, f, n) in by_set.items())


def index(asked: argparse.Namespace) -> None:
    every, missed = 0, Counter[str]()
    for _, change, originals, copies in planted(asked):
        exact = found(originals, copies)
        with mock.patch.object(search, "ALL_PAIRS", 0):
            some = found(originals, copies)
        every += len(exact)
        missed[change] += len(exact) - len(some)
    print(f"of {every} copies that are found, the index misses {missed.total()}:", dict(+missed))


# ---- peer ---------------------------------------------------------------------------------------


def peer(asked: argparse.Namespace) -> None:
    images = [entry.image for _, entries in sets(asked) for entry in entries]
    chosen = np.random.default_rng(0).permutation(len(images))[:PEER_IMAGES]
    images = [images[i] for i in np.sort(chosen)]
    spent = {"this": 0.0, "imagehash": 0.0}
    signed, hashes = [], []
    for start in range(0, len(images), 100):
        some = images[start : start + 100]
        for image in some:
            image.digest()  # the file is in memory
        now = time.process_time()
        signed += [signature(image.read()) for image in some]
        spent["this"] += time.process_time() - now
        now = time.process_time()
        hashes += [phash(opened(image)) for image in some]
        spent["imagehash"] += time.process_time() - now
    each = {name: 1e3 * took / len(images) for name, took in spent.items()}
    now = time.process_time()
    pairs = duplicates.find(Signatures.of(signed))
    spent["this"] += time.process_time() - now
    now = time.process_time()
    near = within(np.array(hashes), np.array(hashes))
    alarms = {radius: (int((near <= radius).sum()) - len(images)) // 2 for radius in RADII}
    spent["imagehash"] += time.process_time() - now
    print(f"{len(images)} images, CPU seconds: {spent}; each read and signed in ms: {each}")
    print(f"{spent['this'] / spent['imagehash']:.2f} x imagehash")
    recall: dict[str, list[float]] = {}
    for _, _, originals, copies in planted(asked):
        recall.setdefault("this", []).append(len(found(originals, copies)) / len(copies))
        one, two = (
            np.array([phash(PIL.Image.fromarray(image)) for image in some])
            for some in (originals, copies)
        )
        for radius in RADII:
            share = float((np.bitwise_count(one ^ two) <= radius).mean())
            recall.setdefault(f"imagehash, {radius} bits", []).append(share)
    for name, values in recall.items():
        print(f"{name:20} recall {np.mean(values):.4f}")
    print(f"Pairs told among the {len(images)}: this {len(pairs)}, imagehash by radius {alarms}")


def opened(image: Image) -> PIL.Image.Image:
    """As a user of imagehash opens it; what Pillow cannot read (NIfTI) as we do."""
    try:
        return PIL.Image.open(image.path)  # type: ignore[attr-defined]
    except (AttributeError, PIL.UnidentifiedImageError):
        return PIL.Image.fromarray(image.read())


def phash(image: PIL.Image.Image) -> int:
    return int(str(imagehash.phash(image)), 16)


def within(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Bits that differ, uint8 [N, M]."""
    return np.asarray(np.bitwise_count(a[:, None] ^ b))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("speed", "accuracy", "index", "peer"))
    parser.add_argument("--data", type=Path, required=True, help="data root with real releases")
    parser.add_argument("--sets", default=",".join(tasks.OF_THE_PAPER), help="of the data root")
    parser.add_argument("--folder", type=Path, action="append", default=[], help="more images")
    parser.add_argument("--sample", type=int, default=100, help="images per set to change")
    parser.add_argument("--out", type=Path, help="CSV file for accuracy")
    asked = parser.parse_args()
    what = {"speed": speed, "accuracy": accuracy, "index": index, "peer": peer}
    what[asked.what](asked)


if __name__ == "__main__":
    main()
