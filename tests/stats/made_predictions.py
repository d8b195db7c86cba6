"""Predictions that several tests of statistics are made on."""

from __future__ import annotations

import numpy as np


def draws(
    count: int = 120, seeds: int = 3, right: float = 0.7, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Class codes [seeds, count] of three classes, right in about a part, and labels [count]."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, count)
    wrong = (labels + generator.integers(1, 3, (seeds, count))) % 3
    return np.where(generator.random((seeds, count)) < right, labels, wrong), labels


def scattering_seeds() -> tuple[np.ndarray, np.ndarray, float]:
    """Class codes [4, 400], labels [400] of one class, and the variance of accuracy by seeds.

    Each seed is right on the same images or not at all there: no part of both together.
    """
    labels = np.zeros(400, np.int64)
    predicted = np.ones((4, 400), np.int64)
    for seed, right in enumerate((100, 140, 180, 220)):
        predicted[seed, :right] = 0
    return predicted, labels, float((predicted == labels).mean(1).var(ddof=1) / 4)
