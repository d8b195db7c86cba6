"""What is remembered of an image: hashes as the field has them, borders, one decode each."""

from __future__ import annotations

import hashlib
from pathlib import Path

import imagehash
import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes import scene

from tasks.near_duplicates.signatures import (
    Signatures,
    SignatureStore,
    Signed,
    phash,
    signature,
    trim,
)
from tasks.samples.images import ImageArray, ImageFile
from ultrabench_eval.core.errors import UserError


@given(seed=st.integers(0, 999))
def test_hash_is_that_of_imagehash(seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 32), dtype=np.uint8)
    assert f"{phash(pixels):016x}" == str(imagehash.phash(PIL.Image.fromarray(pixels)))


def test_thumbnail_is_the_image_without_its_borders() -> None:
    inside = np.random.default_rng(0).integers(40, 220, (8, 8), dtype=np.uint8)
    inside = np.repeat(np.repeat(inside, 64, axis=0), 64, axis=1)
    framed = np.pad(inside, ((128, 384), (256, 256)))
    one = signature(np.repeat(framed[..., None], 3, axis=2))
    np.testing.assert_allclose(one.box, [0.25, 0.125, 0.75, 0.625], atol=1 / 128)
    expected = inside[4::8, 4::8].astype(int)
    assert (np.abs(one.thumbnail - expected) <= 2).mean() > 0.7  # but for seams


@pytest.mark.parametrize("level", [0, 128, 255])
def test_trim_takes_plain_borders_of_any_level_off(level: int) -> None:
    inside = np.random.default_rng(0).integers(40, 220, (50, 60), dtype=np.uint8)
    framed = np.pad(inside, ((7, 3), (11, 20)), constant_values=level)
    assert trim(framed) == (11, 7, 71, 57)
    assert trim(np.pad(framed, 9, constant_values=255 - level)) == (20, 16, 80, 66)


def test_trim_sees_the_end_of_a_wide_border() -> None:
    for width in (15, 16, 17, 40):
        framed = np.pad(np.full((70, 70), 90, np.uint8), width)
        assert trim(framed) == (width, width, 70 + width, 70 + width)


def test_trim_leaves_images_without_border_and_flat_ones_alone() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
    assert trim(noise) == (0, 0, 50, 40)
    assert trim(np.zeros((40, 50), np.uint8)) == (0, 0, 50, 40)
    speck = np.zeros((100, 100), np.uint8)
    speck[50:55, 50:55] = 255
    assert trim(speck) == (0, 0, 100, 100)  # what is left would be too little to believe


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 2)])
def test_tiny_images_have_a_signature(shape: tuple[int, int]) -> None:
    one = signature(np.full((*shape, 3), 77, np.uint8))
    assert one.box.shape == (4,)
    assert one.thumbnail.shape == (64, 64)


def test_pixel_digest_tells_shape_and_every_pixel() -> None:
    pixels = scene(1)
    changed = pixels.copy()
    changed[0, 0, 0] ^= 1
    digests = {signature(p).pixels for p in (pixels, changed, pixels.reshape(200, 150, 3))}
    assert len(digests) == 3
    assert signature(pixels.copy()).pixels == signature(pixels).pixels
    black = signature(np.zeros((2, 3, 3), np.uint8)).pixels
    assert len(black) == len(hashlib.sha256().hexdigest())


class Counting(ImageArray):
    reads = 0

    def read(self) -> np.ndarray:
        Counting.reads += 1
        return super().read()


def test_each_content_is_decoded_once_and_never_again(tmp_path: Path) -> None:
    images = [Counting(scene(seed), f"{seed}") for seed in (0, 1, 2, 1)]
    store = SignatureStore(tmp_path / "signatures.sqlite")
    Counting.reads = 0
    first = store.look(images)
    assert Counting.reads == 3
    again = SignatureStore(tmp_path / "signatures.sqlite").look(images)
    assert Counting.reads == 3
    for one, two, image in zip(first, again, images, strict=True):
        assert isinstance(one, Signed)
        assert isinstance(two, Signed)
        assert one.digest == two.digest == image.digest()
        for a, b, c in zip(one.signature, two.signature, signature(image.pixels), strict=True):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(a, c)
            assert np.asarray(b).dtype == np.asarray(c).dtype


def test_unreadable_images_are_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    PIL.Image.fromarray(scene(0)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    names = ("good.png", "bad.png", "gone.png", "good.png")
    looked = SignatureStore(tmp_path / "s.sqlite").look([ImageFile(tmp_path / n, n) for n in names])
    assert [isinstance(known, Signed) for known in looked] == [True, False, False, True]
    assert "bad.png" in str(looked[1])
    assert "gone.png" in str(looked[2])


def test_a_damaged_store_is_told(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    path.write_bytes(b"not a database, but long enough to be looked at" * 50)
    with pytest.raises(UserError, match=r"s\.sqlite is damaged .* delete it"):
        SignatureStore(path).look([ImageArray(scene(0), "a")])


def test_none_and_stacking() -> None:
    assert len(Signatures.of([])) == 0
    stacked = Signatures.of([signature(scene(seed)) for seed in range(3)])
    assert len(stacked) == 3
    assert stacked.take(np.array([2])).pixels == (stacked.pixels[2],)
