"""Features: every image is encoded once, and kept in content-addressed shards.

A shard is a safetensors file under CACHE/features/<key>/, where the key names the encoder (its
weights, wrapper, preprocessing and pooling), the corruption and the dtype. It lists the SHA-256 of
the images it holds, so a feature is found by the image's content: not by task, split or path. Its
checksum covers key, images, dtype, shape and values; a shard that fails it is encoded again.

A row depends on its image alone: batches have a fixed size (the last is filled up), so neither
the neighbours nor the place where a killed run took up again can change a bit.

A video is kept as an image is, by what is shown of it (`shown`). Where an encoder of images is
shown several of its frames, their features are averaged.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, cosine_similarity, interpolate

from model_zoo import Encoder
from ultrabench_eval import shown
from ultrabench_eval.core import files, hashing, parallel
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.feature_rows import (
    Features,
    InMemory,
    ShardFile,
    Streamed,
    signature,
    values_start,
)
from ultrabench_eval.shown import EncoderInputs, Sample
from ultrabench_eval.versions import versions

SHARD = 256  # images; what a kill can cost at most
CLIP_SHARD = 16  # the same of videos, and of images that are encoded as videos
FORMAT = 1  # of shards; raised when old ones must not be read
_TRIES = 3  # at features that turn out to be damaged
_SAMPLE, _SAME = 2, 0.999  # images that are compared before an earlier shard is adopted, and how

Advance = Callable[[int], None]
Kind = Literal["pooled", "tokens", "maps"]
"""`encode()` [D]; or in float16, a hundred times as many numbers, `tokens()` [T, D] or `maps()`
[D, h, w]."""
TOKENS = 16  # a side of the token grid at most; larger ones are averaged down to it
PLACES = 28  # the same of a map
_DIMENSIONS = {"pooled": 2, "tokens": 3, "maps": 4}
T = TypeVar("T")


def key(
    fingerprint: str,
    dtype: str,
    batch: int,
    corruption: str = "none",
    severity: int = 0,
    kind: Kind = "pooled",
) -> str:
    """Name of the features of one encoder under one condition: 32 hexadecimal digits."""
    identity = {
        "format": FORMAT,
        "encoder": fingerprint,
        "dtype": dtype,
        "batch": batch,
        "corruption": corruption,
        "severity": severity,
        **({"kind": kind} if kind != "pooled" else {}),
    }
    return hashing.short(hashing.digest(identity), 32)


@dataclass
class Store:
    """The shards of one key.

    Args:
        folder: CACHE/features/<key>; need not exist yet.
        kind: of features; part of the key.
    """

    folder: Path
    kind: Kind = "pooled"
    _known: set[str] = field(default_factory=set, init=False)
    """Names of the shards that were taken in."""
    _places: dict[str, tuple[Path, int]] = field(default_factory=dict, init=False)
    _made_by: dict[Path, dict[str, str]] = field(default_factory=dict, init=False)
    _earlier: dict[Path, list[str]] = field(default_factory=dict, init=False)
    """Shards of the version before, whose checksum did not cover the key, with their images."""
    _verified_files: dict[Path, ShardFile] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        files.remove_orphans(self.folder)
        self._look()

    def obtain(
        self,
        encoder: Callable[[], Encoder],
        images: Mapping[str, Sample],
        digests: Sequence[str],
        advance: Advance = lambda count: None,
    ) -> Features:
        """Features of N images, as `read` gives them; what is missing or damaged is encoded.

        Args:
            encoder: gives the one that this store's key was made of.
            images: the images of a task by their digest.
            digests: of the N images.
            advance: called with the number of images after each batch.

        Raises:
            UserError: see `fill`; or the disk damages what is written to it.
        """
        for _ in range(_TRIES):
            if self.missing(digests):
                self.fill(encoder(), images, advance)
            try:
                return self.read(digests)
            except Damaged:  # which is removed by now
                continue
        raise UserError(
            f"features in {self.folder} are damaged as soon as they are written; check that disk, "
            "or give another --cache"
        )

    def missing(self, digests: Sequence[str]) -> list[str]:
        """Those of `digests` that no shard holds, each once, in order."""
        return [d for d in dict.fromkeys(digests) if d not in self._places]

    def read(self, digests: Sequence[str]) -> Features:
        """Features of N images: float32 [N, D] in memory; or streamed in float16, tokens [N, T, D]
        or maps [N, D, h, w].

        Raises:
            Damaged: a shard is not what was written; it is removed.
            KeyError: an image was never encoded.
        """
        if not digests:
            raise ValueError("no image was asked for")
        numbers: dict[Path, int] = {}
        places = torch.empty((len(digests), 2), dtype=torch.int64)
        for target, digest in enumerate(digests):
            path, row = self._places[digest]
            places[target, 0] = numbers.setdefault(path, len(numbers))
            places[target, 1] = row
        shards: list[ShardFile] = []
        for path in numbers:
            try:
                shards.append(self._verified(path))
                if shards[-1].shape[1:] != shards[0].shape[1:]:
                    raise Damaged(f"its rows are {shards[-1].shape[1:]}, unlike others here")
            except Damaged:
                self._discard(path)
                raise
        streamed = Streamed(shards, places)
        return InMemory(streamed.whole()) if self.kind == "pooled" else streamed

    def made_by(self, digests: Sequence[str]) -> list[dict[str, str]]:
        """Devices and versions that made the features of these images, each once."""
        makers = [self._made_by[self._places[digest][0]] for digest in digests]
        return [json.loads(m) for m in sorted({json.dumps(m, sort_keys=True) for m in makers})]

    def fill(
        self,
        encoder: Encoder,
        images: Mapping[str, Sample],
        advance: Advance = lambda count: None,
    ) -> None:
        """Encode the images that no shard holds yet, shard by shard.

        A shard's images are fixed by the order of `images`, and its lock is held while it is
        made, so that two runs that share a cache don't encode an image twice.

        Args:
            encoder: the one this store's key was made of.
            images: the images of a task by their digest.
            advance: called with the number of images after each batch.

        Raises:
            UserError: images that cannot be read (after all others are encoded and kept), or a
                feature that is NaN or infinite.
        """
        broken: list[UserError] = []
        cines = encoder.takes == "clip" or any(map(_is_cine, images.values()))
        for chunk in _batched(images, CLIP_SHARD if cines else SHARD):
            if not self.missing(chunk):
                continue
            lock = self.folder / "locks" / hashing.short(hashing.digest(chunk), 16)
            with files.locked(lock, files.PATIENCE):
                self._look()
                self._adopt(encoder, {digest: images[digest] for digest in chunk})
                wanted = self.missing(chunk)
                broken += self._encode(encoder, {d: images[d] for d in wanted}, advance)
        if broken:
            more = f" (and {len(broken) - 1} more images cannot be read)" if broken[1:] else ""
            raise UserError(f"{broken[0]}{more}")

    def put(self, digests: Sequence[str], rows: Tensor, made_by: str) -> None:
        """Keep features that were not encoded here, float32 [N, D], of images without a row yet.

        Args:
            digests: of the N images, each once.
            rows: their features.
            made_by: what made them.
        """
        lock = self.folder / "locks" / "put"
        with files.locked(lock, files.PATIENCE):
            self._look()
            known = {*self.missing(digests)}
            wanted = [row for row, digest in enumerate(digests) if digest in known]
            for some in _batched(wanted, SHARD):
                told = json.dumps({"device": made_by, **versions()}, sort_keys=True)
                self._write([digests[row] for row in some], rows[[*some]], told)

    # ---- inside -----------------------------------------------------------------------------

    def _encode(
        self, encoder: Encoder, images: dict[str, Sample], advance: Advance
    ) -> list[UserError]:
        """Encode up to a shard of images and write it; return the errors of unreadable ones."""
        broken: list[UserError] = []
        kept: list[str] = []
        rows: list[Tensor] = []
        held: list[Tensor] = []  # of the sample whose inputs are not all through
        prepared = _without_errors(_prepared(encoder, images), broken)
        through = ((digest, x, given) for digest, given in prepared for x in given.tensors)
        for batch in _batched(through, encoder.batch_size):
            before = len(kept)
            places = [given.place for *_, given in batch]
            features = encode_batch(encoder, [x for _, x, _ in batch], self.kind, places)
            for (digest, _, given), row in zip(batch, features, strict=True):
                if not torch.isfinite(row).all():
                    raise UserError(
                        f"model '{encoder.name}' gives a feature that is NaN or infinite for image "
                        f"{images[digest].name}; look at its weights, or use --dtype float32"
                    )
                held.append(row)
                if len(held) == len(given.tensors):
                    kept.append(digest)
                    rows.append(_mean(held, given.weights))
                    held = []
            advance(len(kept) - before)
        if kept:
            made_by = {"device": device_name(encoder.device), **versions()}
            self._write(kept, torch.stack(rows), json.dumps(made_by, sort_keys=True))
        return broken

    def _write(self, digests: list[str], features: Tensor, made_by: str) -> None:
        metadata = {"key": self.folder.name, "digests": json.dumps(digests), "made_by": made_by}
        metadata["sha256"] = _checksum(metadata, features)
        path = self.folder / f"{hashing.short(metadata['sha256'], 32)}.safetensors"
        with files.atomic_path(path) as temporary:
            save_file({"features": features.contiguous()}, temporary, metadata)
        self._add(path, metadata)

    def _look(self) -> None:
        """Take in the shards that are on disk and not yet known.

        By bare names, because a folder of a million images has thousands of them and is looked at
        before each is made.
        """
        names = os.listdir(self.folder) if self.folder.is_dir() else []
        for name in sorted(set(names) - self._known):
            path = self.folder / name
            if path.suffix != ".safetensors":
                continue
            try:
                with _reading(path) as shard:
                    metadata = shard.metadata()
                    if "key" in metadata:
                        self._add(path, metadata)
                    else:
                        self._known.add(name)
                        self._earlier[path] = list(map(str, json.loads(metadata["digests"])))
            except Damaged:
                self._discard(path)

    def _add(self, path: Path, metadata: dict[str, str]) -> None:
        self._known.add(path.name)
        self._made_by[path] = dict(json.loads(metadata["made_by"]))
        for row, digest in enumerate(json.loads(metadata["digests"])):
            self._places.setdefault(str(digest), (path, row))

    def _discard(self, path: Path) -> None:
        """Remove a shard that is not what was written: its images are encoded again."""
        path.unlink(missing_ok=True)
        self._known.discard(path.name)
        self._made_by.pop(path, None)
        self._earlier.pop(path, None)
        self._verified_files.pop(path, None)
        self._places = {d: place for d, place in self._places.items() if place[0] != path}

    def _verified(self, path: Path) -> ShardFile:
        """A shard whose every byte was looked at, once as long as nobody writes to it.

        Raises:
            Damaged: it is not what was written.
        """
        known = self._verified_files.get(path)
        if known is not None and known.unchanged:
            return known
        with _reading(path) as shard:
            before = signature(path.stat())
            features: Tensor = shard.get_tensor("features")
            metadata = shard.metadata()
            if metadata["key"] != self.folder.name:
                raise Damaged("it belongs to another encoder or condition")
            if _checksum(metadata, features) != metadata["sha256"]:
                raise Damaged("its checksum is wrong")
            self._check(features, json.loads(metadata["digests"]))
            found = ShardFile(
                path, before, values_start(path), tuple(features.shape), features.dtype
            )
            if not found.unchanged:
                raise Damaged("it changed while it was read")
        self._verified_files[path] = found
        return found

    def _check(self, features: Tensor, digests: Sequence[str]) -> None:
        """Whether features can be what this store keeps.

        Raises:
            Damaged: they cannot.
        """
        dtype = torch.float32 if self.kind == "pooled" else torch.float16
        if features.dtype != dtype or features.ndim != _DIMENSIONS[self.kind]:
            raise Damaged(f"it holds {features.dtype} {list(features.shape)}")
        if len(features) != len(digests) or not torch.isfinite(features).all():
            raise Damaged("it holds other rows than it lists, or values that are not finite")

    # ---- shards of the version before -----------------------------------------------------------

    def _adopt(self, encoder: Encoder, images: Mapping[str, Sample]) -> None:
        """Take over shards of the version before that hold any of these images.

        Their checksum did not cover the key. So a few of their images are encoded again: a shard
        of another encoder is recognised by its values.
        """
        for path, digests in list(self._earlier.items()):
            shared = [digest for digest in digests if digest in images]
            if not shared:
                continue
            try:
                with _reading(path) as shard:
                    features, metadata = shard.get_tensor("features"), shard.metadata()
                    old = [hashing.canonical_json(digests), np.asarray(features).tobytes()]
                    if hashing.digest_parts(old) != metadata["sha256"]:
                        raise Damaged("its checksum is wrong")
                    self._check(features, digests)
                    made_by = metadata["made_by"]
                # Some kinds of image that were read before are refused by now.
                for _ in parallel.ordered(lambda digest: images[digest].read(digest), shared):
                    pass
                wanted = shared[:_SAMPLE]
                self._compare(features[[digests.index(d) for d in wanted]], encoder, images, wanted)
            except Damaged:
                self._discard(path)
                continue
            except UserError:  # an image that cannot be read any more; `fill` tells it
                continue
            self._write(digests, features, made_by)
            self._discard(path)
            self._look()

    def _compare(
        self, stored: Tensor, encoder: Encoder, images: Mapping[str, Sample], digests: list[str]
    ) -> None:
        inputs = [encoder.prepare(images[digest].read(digest)) for digest in digests]
        again = encode_batch(encoder, inputs, self.kind)
        if again.shape != stored.shape:
            raise Damaged("its features have another shape than the encoder's")
        pairs = stored.flatten(1).double(), again.flatten(1).double()
        if (cosine_similarity(*pairs) < _SAME).any() and not torch.equal(*pairs):
            raise Damaged("its features are not the encoder's")


def encode_batch(
    encoder: Encoder,
    inputs: Sequence[Tensor],
    kind: Kind = "pooled",
    places: Sequence[int | None] = (None,),
) -> Tensor:
    """Features on the CPU, as `Store.read` has them, of up to `encoder.batch_size` prepared images.

    The batch is filled up to that size with copies of its last image, whose features are dropped:
    kernels are chosen by the batch's shape, and must not differ between images.

    Args:
        encoder: the network.
        inputs: prepared images, or prepared clips for an encoder of these.
        kind: of features.
        places: of clips, the frame of each whose map is wanted; of a still, None.
    """
    filled = torch.stack([*inputs, *[inputs[-1]] * (encoder.batch_size - len(inputs))])
    if kind == "pooled":
        return encoder.encode_prepared(filled)[: len(inputs)].cpu()
    try:
        if kind == "maps":
            maps = encoder.maps_prepared(filled, *_at(places, len(filled)))
            return joined(maps)[: len(inputs)].half().cpu()
        tokens = encoder.tokens_prepared(filled)[: len(inputs)]
    except NotImplementedError as error:
        what = "feature maps" if kind == "maps" else "patch tokens"
        raise UserError(
            f"model '{encoder.name}' has no {what}, which the probe is trained on; leave out one "
            "of the two"
        ) from error
    return _few(tokens, encoder.steps if encoder.takes == "clip" else 1).half().cpu()


def _at(places: Sequence[int | None], count: int) -> list[Tensor]:
    """The frames whose maps are wanted, as an argument; none of images."""
    known = [place for place in places if place is not None]
    return [torch.tensor([*known, *known[-1:] * (count - len(known))])] if known else []


def _mean(rows: Sequence[Tensor], weights: Sequence[int]) -> Tensor:
    """The mean of the features of one sample's inputs."""
    if len(rows) == 1:
        return rows[0]
    total = sum(weight * row.double() for row, weight in zip(rows, weights, strict=True))
    return (torch.as_tensor(total) / sum(weights)).to(rows[0].dtype)


def _is_cine(sample: Sample) -> bool:
    return isinstance(sample, shown.ShownFrames)


def joined(maps: Sequence[Tensor]) -> Tensor:
    """Maps [B, D, h, w] side by side on the grid of the first, of at most `PLACES` a side."""
    sides = min(maps[0].shape[-2], PLACES), min(maps[0].shape[-1], PLACES)
    down = [adaptive_avg_pool2d(one, sides) if one.shape[-1] > PLACES else one for one in maps]
    same = [
        one
        if one.shape[-2:] == sides
        else interpolate(one, sides, mode="bilinear", align_corners=False)
        for one in down
    ]
    return torch.cat(same, 1)


def _few(tokens: Tensor, steps: int) -> Tensor:
    """Tokens [B, N, D] of a square grid per time step, averaged down to at most `TOKENS` a side."""
    count, number, width = tokens.shape
    side = math.isqrt(number // steps)
    if side <= TOKENS or steps * side**2 != number:
        return tokens
    grid = tokens.reshape(count * steps, -1, width).mT.reshape(-1, width, side, side)
    return adaptive_avg_pool2d(grid, TOKENS).flatten(2).mT.reshape(count, -1, width)


def device_name(device: torch.device) -> str:
    """ "cpu", or the GPU's name as the driver gives it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _prepared(
    encoder: Encoder, images: dict[str, Sample]
) -> Iterator[tuple[str, EncoderInputs | UserError]]:
    """Decode and resize in threads, in order: a few batches ahead of the encoder; or, where it has
    all cores, a batch at a time before it, because each of its threads waits for the slowest."""

    def work(named: tuple[str, Sample]) -> EncoderInputs | UserError:
        try:  # what is decoded must be what was hashed
            return shown.inputs(encoder, named[1], named[0])
        except UserError as error:
            return error

    most = max(map(shown.parts, images.values()), default=1)
    if encoder.device.type == "cpu" and torch.get_num_threads() >= (os.cpu_count() or 1):
        for chunk in _batched(images.items(), max(1, encoder.batch_size // most)):
            yield from [(d, found) for (d, _), found in parallel.ordered(work, chunk, len(chunk))]
        return
    ahead = max(3 * encoder.batch_size // most, (1 if most > 1 else 2) * parallel.THREADS)
    for (digest, _), prepared in parallel.ordered(work, images.items(), ahead):
        yield digest, prepared


def _without_errors(
    items: Iterator[tuple[str, EncoderInputs | UserError]], broken: list[UserError]
) -> Iterator[tuple[str, EncoderInputs]]:
    for digest, item in items:
        if isinstance(item, UserError):
            broken.append(item)
        else:
            yield digest, item


def _batched(items: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    """`itertools.batched`, which Python has from 3.12."""
    iterator = iter(items)
    while batch := tuple(islice(iterator, size)):
        yield batch


class Damaged(Exception):
    """A shard that is not what was written."""


def _checksum(metadata: Mapping[str, str], features: Tensor) -> str:
    """SHA-256 over all that a shard says and holds."""
    known = {name: text for name, text in metadata.items() if name != "sha256"}
    return hashing.digest_parts(
        [
            hashing.canonical_json(known),
            f"{features.dtype}{tuple(features.shape)}".encode(),
            np.ascontiguousarray(features).data.cast("B"),
        ]
    )


@contextmanager
def _reading(path: Path) -> Iterator[Any]:
    """An open shard; whatever it lacks is `Damaged`.

    Raises:
        UserError: it may not be read.
    """
    try:
        path.open("rb").close()  # tells a file that may not be read from one that is damaged
        with safe_open(path, framework="pt") as shard:
            yield shard
    except PermissionError as error:
        raise UserError(
            f"feature shard {path} may not be read; ask its owner for permission, or give another "
            "--cache"
        ) from error
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(str(error)) from error
