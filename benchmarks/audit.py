"""How fast the audit is, and what it finds.

    python benchmarks/audit.py speed --data DATA
    python benchmarks/audit.py accuracy --data DATA [--folder MORE ...]

`speed` compares 60,000 images (real ones and parts of them, and noise) and holds the search for
like hashes against a plain double loop, naive NumPy, and ±1 vectors through BLAS, in turns.
`accuracy` plants changed copies of real images and prints which part of them is found, and how
many pairs of different patients are reported; it wrote results/audit/accuracy.csv.
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

import numpy as np
import PIL.Image
import scipy.ndimage
import torch

import tasks
from tasks.near_duplicates import duplicates, search
from tasks.near_duplicates.signatures import Signatures, signature
from ultrabench_eval.audit import collection
from ultrabench_eval.core import hashing

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "tasks" / "near_duplicates"))
from changes import CHANGES

IMAGES, SAMPLE = 60_000, 100
PARTS = ((0.0, 0.0), (0.3, 0.0), (0.0, 0.3), (0.3, 0.3))  # of a real image, 70 % of each side


def sets(data: Path, folders: list[Path]) -> Iterator[tuple[str, list[collection.Entry]]]:
    for name in tasks.OF_THE_PAPER:
        if (data / name).is_dir():
            yield name, collection.of_task(tasks.load(name, data))
    for folder in folders:
        yield folder.name, collection.of_pretraining(folder)[0]


# ---- speed --------------------------------------------------------------------------------------


def speed(data: Path, folders: list[Path]) -> None:
    signed = []
    start = time.perf_counter()
    for _, entries in sets(data, folders):
        for entry in entries:
            pixels = entry.image.read()
            signed.append(signature(pixels))
    took = time.perf_counter() - start
    print(f"{len(signed)} real images read and signed: {1e3 * took / len(signed):.1f} ms each")
    for _, entries in sets(data, folders):
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
    against_others(everything.hashes)


def against_others(hashes: np.ndarray) -> None:
    """Nanoseconds a pair (twelve comparisons), each on as many images as it can bear."""
    rows = np.random.default_rng(0).permutation(len(hashes))
    ways = {"this": (ours, 8192), "BLAS": (blas, 8192), "naive NumPy": (naive, 1024)}
    ways["double loop"] = (loop, 128)
    found, best = {}, {}
    for _ in range(3):  # in turns, the best of three
        for name, (way, count) in ways.items():
            some = hashes[rows[:count]]
            start = time.perf_counter()
            way(some)
            took = (time.perf_counter() - start) / (count * (count - 1) / 2) * 1e9
            best[name] = min(best.get(name, took), took)
    for name, (way, _) in ways.items():
        found[name] = way(hashes[rows[:128]])
    assert len(set(found.values())) == 1, found
    for name, took in best.items():
        print(f"{name:12} {took:10.1f} ns a pair, {took / best['this']:8.1f} x this")


def ours(hashes: np.ndarray) -> int:
    return len(search.search(hashes, duplicates.RADIUS).first)


def blas(hashes: np.ndarray) -> int:
    """The same through products of ±1 vectors, float32, in blocks."""
    torch.set_num_threads(1)  # as `ours`
    bits = (hashes[..., None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    signs = torch.from_numpy(bits.astype(np.float32) * 2 - 1)
    least, found = 64 - 2 * duplicates.RADIUS, 0
    for start in range(0, len(signs), 512):
        best = torch.full((len(signs[start : start + 512]), len(signs) - start), -64.0)
        for a, b, orientation in search.COMPARISONS:
            product = signs[start : start + 512, a, 0] @ signs[start:, b, orientation].T
            torch.maximum(best, product, out=best)
        found += int((best >= least).triu(1).sum())
    return found


def naive(hashes: np.ndarray) -> int:
    """All bits of all pairs at once, a row at a time."""
    bits = ((hashes[..., None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)).astype(bool)
    found = 0
    for i in range(len(bits)):
        rest = bits[i + 1 :]
        best = np.full(len(rest), 64)
        for a, b, orientation in search.COMPARISONS:
            best = np.minimum(best, (bits[i, a, 0] != rest[:, b, orientation]).sum(1))
        found += int((best <= duplicates.RADIUS).sum())
    return found


def loop(hashes: np.ndarray) -> int:
    numbers = hashes.tolist()
    found = 0
    for i, one in enumerate(numbers):
        for two in numbers[i + 1 :]:
            distance = min((one[a][0] ^ two[b][o]).bit_count() for a, b, o in search.COMPARISONS)
            found += distance <= duplicates.RADIUS
    return found


# ---- accuracy -----------------------------------------------------------------------------------


def accuracy(data: Path, folders: list[Path], out: Path | None) -> None:
    rows: dict[str, dict[str, tuple[int, int, int]]] = {}
    for name, entries in sets(data, folders):
        generator = np.random.default_rng(hashing.seed_for(0, f"audit/{name}"))
        chosen = generator.choice(len(entries), min(SAMPLE, len(entries)), replace=False)
        pixels = [entries[i].image.read() for i in np.sort(chosen)]
        originals = [signature(image) for image in pixels]
        for change, apply in CHANGES.items():
            copies = [
                signature(np.asarray(apply(PIL.Image.fromarray(image), generator)))
                for image in pixels
            ]
            n = len(pixels)
            pairs = duplicates.find(
                Signatures.of([*originals, *copies]), together=np.repeat([0, 1], n)
            )
            right = {p.first: p.grade for p in pairs if p.second - n == p.first}
            copies_found = sum(grade != "same scene" for grade in right.values())
            rows.setdefault(change, {})[name] = (copies_found, len(right), n)
        print(name, "planted", file=sys.stderr)
    names = list(next(iter(rows.values())))
    print("\nFound copies in percent; in brackets, those graded identical or near duplicate\n")
    print(f"| change | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for change, by_set in rows.items():
        cells = [f"{100 * f / n:.0f} ({100 * c / n:.0f})" for c, f, n in by_set.values()]
        print(f"| {change} | {' | '.join(cells)} |")
    if out:
        with out.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("change", "set", "copies", "found", "graded_copy"))
            for change, by_set in rows.items():
                writer.writerows((change, s, n, f, c) for s, (c, f, n) in by_set.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("speed", "accuracy"))
    parser.add_argument("--data", type=Path, required=True, help="data root with real releases")
    parser.add_argument("--folder", type=Path, action="append", default=[], help="more images")
    parser.add_argument("--out", type=Path, help="CSV file for accuracy")
    asked = parser.parse_args()
    if asked.what == "speed":
        speed(asked.data, asked.folder)
    else:
        accuracy(asked.data, asked.folder, asked.out)


if __name__ == "__main__":
    main()
