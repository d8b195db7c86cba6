"""Features of images outside of a run: from the cache that runs use, by the very same rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tasks.samples.clips import Clip
from tasks.samples.images import Image
from ultrabench_eval import features
from ultrabench_eval.feature_rows import Features
from ultrabench_eval.features import Kind, Store
from ultrabench_eval.loading import Model


def encode(
    model: Model,
    images: Sequence[Image | Clip],
    cache: Path,
    kind: Kind = "pooled",
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Features:
    """Features of N images, [N, D], or tokens [N, T, D], as probes are trained on them.

    Args:
        model: its dtype is settled.
        images: N of them, or clips; equal ones are encoded once.
        cache: folder of the features, as of `ubench run`.
        kind: "pooled" or "tokens".
        report: called with how many of how many images are encoded, those in the cache left out.

    Raises:
        UserError: an image cannot be read, or a feature is NaN or infinite.
    """
    key = features.key(model.fingerprint, model.numerics, model.batch_size, kind=kind)
    store = Store(cache / "features" / key, kind)
    given = [model.shown(image, kind) for image in images]
    digests = [sample.digest() for sample in given]
    total, done = len(store.missing(digests)), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        report(done, max(done, total))

    named = dict(zip(digests, given, strict=True))
    return store.obtain(model.encoder, named, digests, advance)
