"""One way of pretraining against another, over seeds, from packed results by numpy alone.

    python results/over_seeds.py results/video/cells.tar.xz vjepa-loc-study vjepa-study

Models `A-0`, `A-1` ... are one recipe from several seeds, `B-0`, `B-1` ... the other, paired by the
seed. `--single` compares with one model in place of a recipe (an untrained network, a control).

A score of a model is the mean over its probes. The difference A less B is the mean over seeds; its
variance is that of seeds (the scatter of the differences over their number) plus that of patients
(2,000 resamples of whole patients, the same ones for all models), and the interval is Student's
with Satterthwaite's degrees of freedom. `--mean aul,mmotu` adds rows for the mean of some tasks,
whose patients differ. "detectable" is the smallest true difference that 80 % of such studies would
show. Every score is made again from what is stored of each image and must be the stored one.
Regression errors (MAE) are better when lower.
"""

from __future__ import annotations

import argparse
import json
import math
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

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
    words.add_argument("--mean", default="", help="tasks whose mean is shown as well")
    asked = words.parse_args()
    results, tests = read(asked.archive)
    found: dict[tuple[str, ...], dict[str, Compared]] = {}
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
            found.setdefault(key[1:], {})[key[0]] = compare(pairs, tests)
            show(key, *shown([found[key[1:]][key[0]]]))
    averaged = asked.mean.split(",") if asked.mean else []
    for rest, by_task in found.items():
        if averaged and by_task.keys() >= set(averaged):
            some = [by_task[task] for task in averaged]
            show((f"mean of {len(some)}", *rest), *shown(some))


def show(key: tuple[str, ...], text: str, detectable: float, n: int, groups: int) -> None:
    """Print a row."""
    task, probe, protocol, fraction, corruption, severity = key
    probe = f"{probe}, {protocol.rpartition('-')[0]}"
    changed = f"{corruption} {severity}" if corruption != "none" else ""
    print(
        f"{task:16} {probe:29} {fraction:>4} % {changed:11} {text}  {n} seeds, {groups} patients, "
        f"detectable {detectable:.1f}"
    )


class Compared(NamedTuple):
    """A and B on one task."""

    scores: np.ndarray
    """[S, 2]: of each seed."""
    from_patients: float
    """Variance of the mean difference over resamples of patients."""
    groups: int


def compare(
    pairs: list[tuple[dict[str, Any], dict[str, Any]]], tests: dict[str, dict[str, Any]]
) -> Compared:
    """A and B by their results, a pair for each seed."""
    test = tests[pairs[0][0]["identity"]["task"]]
    weights = resampled(test)
    count = len(set(test["groups"] or test["names"]))
    scores = np.array(
        [[score(result, test, weights) for result in pair] for pair in pairs]
    )  # [S, 2, R + 1]
    mean = (scores[:, 0] - scores[:, 1]).mean(0)
    return Compared(scores[:, :, 0], float(np.var(mean[1:], ddof=1)), count)


def shown(tasks: list[Compared]) -> tuple[str, float, int, int]:
    """Of the mean over tasks: A, B, A - B and its interval; what is detectable; seeds; patients."""
    scores = np.mean([one.scores for one in tasks], axis=0)
    by_seed = scores[:, 0] - scores[:, 1]
    n = len(by_seed)
    # Variances that add up, each with its degrees of freedom.
    parts = [(one.from_patients / len(tasks) ** 2, max(1, one.groups - 1)) for one in tasks]
    if n > 1:
        parts.append((float(np.var(by_seed, ddof=1)) / n, n - 1))
    whole = sum(variance for variance, _ in parts)
    freedom = whole**2 / max(1e-300, sum(variance**2 / own for variance, own in parts))
    error = math.sqrt(whole)
    half = student(freedom, 0.975) * error
    a, b = scores.mean(0)
    middle = float(by_seed.mean())
    text = f"{a:6.1f} {b:6.1f} {middle:+6.1f} ({middle - half:+.1f} to {middle + half:+.1f})"
    return text, half + student(freedom, 0.8) * error, n, sum(one.groups for one in tasks)


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


def student(freedom: float, probability: float) -> float:
    """A point of Student's t that has so much below it, by summing its density."""
    if freedom > 1e4:
        return {0.8: 0.841621, 0.975: 1.959964}[probability]
    at = np.linspace(0, 200, 2_000_001)
    log = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)
    density = np.exp(log) / math.sqrt(freedom * math.pi)
    density = density * (1 + at * at / freedom) ** (-(freedom + 1) / 2)
    reached = np.cumsum((density[1:] + density[:-1]) / 2) * (at[1] - at[0])
    return float(at[1 + int(np.searchsorted(reached, probability - 0.5))])


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
