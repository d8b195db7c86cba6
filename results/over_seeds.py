"""One way of pretraining against another, over seeds, from packed results by numpy alone.

    python results/over_seeds.py results/video/cells.tar.xz vjepa-loc-study vjepa-study

Models `A-0`, `A-1` ... are one recipe from several seeds, `B-0`, `B-1` ... the other, paired by the
seed. `--single` compares with one model in place of a recipe (an untrained network, a control).

A score of a model is the mean over its probes. The difference A less B is the mean over seeds; its
variance is that of seeds (the scatter of the differences over their number) plus that of patients
(2,000 resamples of whole patients, the same ones for all models), and the interval is Student's
with Satterthwaite's degrees of freedom. Every score is made again from what is stored of each image
and must be the stored one. Regression errors (MAE) are better when lower.
"""

from __future__ import annotations

import argparse
import json
import math
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

DICE, COUNTED, COLUMNS = 3, 15, 27  # of the statistics of one structure in one image
RESAMPLES = 2000
KEY = ("task", "probe", "protocol", "fraction", "corruption", "severity")
KINDS = {"F64": "<f8", "F32": "<f4", "U16": "<u2", "U8": "u1", "I64": "<i8", "I32": "<i4"}


def main() -> None:
    words = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    words.add_argument("archive", type=Path)
    words.add_argument("a", help="the recipe, the name without -0 ...")
    words.add_argument("b", help="what it is compared with")
    words.add_argument("--single", action="store_true", help="B is one model")
    asked = words.parse_args()
    results, tests = read(asked.archive)
    rows = []
    for key in sorted({key[1:] for key in results}):
        seeds = sorted(
            int(name.rpartition("-")[2])
            for name, *rest in results
            if tuple(rest) == key
            and name.rpartition("-")[0] == asked.a
            and name.rpartition("-")[2].isdecimal()
        )
        others = [asked.b if asked.single else f"{asked.b}-{seed}" for seed in seeds]
        pairs = [
            (results[f"{asked.a}-{seed}", *key], results[other, *key])
            for seed, other in zip(seeds, others, strict=True)
            if (other, *key) in results
        ]
        if pairs:
            rows.append((key, *compare(pairs, tests)))
    for key, a, b, low, high, n, groups in rows:
        task, probe, protocol, fraction, corruption, severity = key
        probe = f"{probe}, {protocol.rpartition('-')[0]}"
        shown = f"{corruption} {severity}" if corruption != "none" else ""
        print(
            f"{task:16} {probe:29} {fraction:>4} % {shown:11} {a:6.1f} {b:6.1f} "
            f"{a - b:+6.1f} ({low:+.1f} to {high:+.1f})  {n} seeds, {groups} patients"
        )


def compare(
    pairs: list[tuple[dict[str, Any], dict[str, Any]]], tests: dict[str, dict[str, Any]]
) -> tuple[float, float, float, float, int, int]:
    """Means of A and B, ends of the interval of A - B, number of seeds, number of patients."""
    test = tests[pairs[0][0]["identity"]["task"]]
    weights = resampled(test)
    count = len(set(test["groups"] or test["names"]))
    scores = np.array(
        [[score(result, test, weights) for result in pair] for pair in pairs]
    )  # [S, 2, R + 1]
    differences = scores[:, 0] - scores[:, 1]
    by_seed = differences[:, 0]
    n = len(pairs)
    from_patients = float(np.var(differences.mean(0)[1:], ddof=1))
    from_seeds = float(np.var(by_seed, ddof=1)) / n if n > 1 else 0.0
    whole = from_seeds + from_patients
    freedom = whole**2 / max(
        1e-300,
        (from_seeds**2 / (n - 1) if n > 1 else 0.0) + from_patients**2 / max(1, count - 1),
    )
    half = student(freedom) * math.sqrt(whole)
    middle = float(by_seed.mean())
    means = scores[:, :, 0].mean(0)
    return float(means[0]), float(means[1]), middle - half, middle + half, n, count


def resampled(test: dict[str, Any]) -> np.ndarray:
    """How often each image counts, in the test set itself and in resamples of whole patients:
    [R + 1, N]."""
    _, of = np.unique(test["groups"] or test["names"], return_inverse=True)
    count = int(of.max()) + 1
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    return np.vstack([np.ones(count, int), drawn])[:, of].astype(float)


def score(result: dict[str, Any], test: dict[str, Any], weights: np.ndarray) -> np.ndarray:
    """The score in percent (MAE as it is), mean over probes, for each row of weights: [R]."""
    stored = result["arrays"]
    kind, main_score = result.get("type", "classification"), result.get("main", "macro_f1")
    scale = 100.0
    if kind == "segmentation":
        parts = stored["statistics"]
        parts = parts.reshape(*parts.shape[:2], -1, COLUMNS).astype(float)
        sums = np.einsum("rn,hnfc->rhfc", weights, parts[..., [DICE, COUNTED]])
        made = (sums[..., 0] / sums[..., 1]).mean(-1)
    elif kind == "regression":
        error = np.abs(stored["predictions"] - np.array(test["values"]))
        made = weights @ error.T / weights.sum(1, keepdims=True)
        scale = 1.0
    else:
        codes = stored["codes"] if "codes" in stored else stored["probabilities"].argmax(-1)
        made = _macro_f1(np.asarray(codes, int), np.array(test["labels"]), weights)
    if not np.allclose(made[0], result["scores"][main_score], atol=1e-6):
        raise SystemExit(f"a score of {result['coordinates']} is not what its file says")
    return np.asarray(scale * made.mean(1))


def _macro_f1(codes: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[R, H] of class codes [H, N]: mean over the classes that are in the test set."""
    made = []
    for code in np.unique(labels):
        truth, called = labels == code, codes == code
        both = weights @ (truth & called).T.astype(float)
        every = weights @ truth.astype(float)[:, None] + weights @ called.T.astype(float)
        made.append(np.divide(2 * both, every, out=np.zeros_like(both), where=every > 0))
    return np.asarray(np.mean(made, axis=0))


def student(freedom: float) -> float:
    """The 97.5 % point of Student's t, by summing its density."""
    if freedom > 1e4:
        return 1.959964
    at = np.linspace(0, 200, 2_000_001)
    log = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)
    density = np.exp(log) / math.sqrt(freedom * math.pi)
    density = density * (1 + at * at / freedom) ** (-(freedom + 1) / 2)
    reached = np.cumsum((density[1:] + density[:-1]) / 2) * (at[1] - at[0])
    return float(at[1 + int(np.searchsorted(reached, 0.475))])


def read(archive: Path) -> tuple[dict[tuple[Any, ...], dict[str, Any]], dict[str, dict[str, Any]]]:
    """Results by model and what `KEY` names, test sets by fingerprint."""
    results, tests, arrays = {}, {}, {}
    for name, data in _files(archive):
        if name.startswith("tasks/"):
            test = json.loads(data)
            tests[test["fingerprint"]] = test
        elif name.endswith(".safetensors"):
            arrays[name.removesuffix(".safetensors")] = data
        elif name.startswith("cells/") and name.endswith(".json"):
            found = json.loads(data)
            if "coordinates" in found:
                results[name.removesuffix(".json")] = found
    every = {}
    for name, found in results.items():
        if "scores" not in found:
            continue
        at = found["coordinates"]
        found["arrays"] = _arrays(arrays[name])
        every[at["model"], *(at[name] for name in KEY)] = found
    return every, tests


def _files(archive: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(archive) as tar:
        for member in tar:
            opened = tar.extractfile(member)
            if opened is not None:
                yield member.name, opened.read()


def _arrays(data: bytes) -> dict[str, np.ndarray]:
    """A safetensors file: length of the header, header as JSON, numbers."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    body = memoryview(data)[8 + size :]
    return {
        name: np.frombuffer(body[slice(*entry["data_offsets"])], KINDS[entry["dtype"]]).reshape(
            entry["shape"]
        )
        for name, entry in header.items()
        if name != "__metadata__"
    }


if __name__ == "__main__":
    main()
