"""What every corruption promises, their names, and the images that carry them."""

from __future__ import annotations

import dataclasses
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from drawn import rectangle, sector, texture
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tasks.samples import images
from tasks.samples.images import ImageArray, ImageFile
from ultrabench_eval import corrupt
from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.corrupt import CORRUPTIONS, CorruptedImage

ALL = list(CORRUPTIONS)
MASKED = [name for name in ALL if CORRUPTIONS[name].needs_mask]
RANDOM = ["speckle", "gain", "shadow", "speckle_looks"]


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Any image with any mask, connected or not, up to 40 x 40."""
    shape = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    image = draw(arrays.arrays(np.uint8, (*shape, 3)))
    mask = draw(
        st.one_of(
            arrays.arrays(bool, shape),
            st.just(np.ones(shape, bool)),
            st.just(np.zeros(shape, bool)),
            st.just(sector(shape, (-3, shape[1] / 2), inner=5, outer=0.9 * shape[0])),
        )
    )
    return image, mask


# ---- any corruption, any image --------------------------------------------------------------


@given(cases(), st.sampled_from(ALL), st.integers(0, 3), st.integers(0, 9))
@settings(max_examples=300)
def test_what_holds_for_any_image(
    case: tuple[np.ndarray, np.ndarray], name: str, severity: int, seed: int
) -> None:
    image, mask = case
    kept, kept_mask = image.copy(), mask.copy()
    result = corrupt.corrupt(image, name, severity, mask=mask, seed=seed)
    assert result.shape == image.shape
    assert result.dtype == np.uint8
    assert not np.shares_memory(result, image)
    assert np.array_equal(image, kept)
    assert np.array_equal(mask, kept_mask)
    image.flags.writeable = mask.flags.writeable = False
    assert np.array_equal(corrupt.corrupt(image, name, severity, mask=mask, seed=seed), result)
    if severity == 0:
        assert np.array_equal(result, image)
    if name in MASKED:
        assert np.array_equal(result[~mask], image[~mask])


@pytest.mark.parametrize("name", ALL)
def test_another_seed_gives_other_noise_exactly_where_there_is_noise(name: str) -> None:
    image = texture((60, 80))
    one, other = (corrupt.corrupt(image, name, 2, mask=None, seed=seed) for seed in (0, 1))
    assert np.array_equal(one, other) == (name not in RANDOM)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["sector", "rectangle"])
def test_severities_are_steps(name: str, seed: int, kind: str) -> None:
    shape = 224, 300
    mask = sector(shape, (-20, 150)) if kind == "sector" else rectangle(shape, 10)
    image = texture(shape, seed) * mask[..., None].astype(np.uint8)
    changes = [
        np.abs(corrupt.corrupt(image, name, s, mask=mask, seed=seed).astype(int) - image).mean()
        for s in range(4)
    ]
    assert changes[0] == 0
    assert changes[1] > 0.3
    assert changes[2] > 1.15 * changes[1]
    assert changes[3] > 1.15 * changes[2]


@pytest.mark.parametrize("name", MASKED)
def test_grey_stays_grey_and_marks_keep_their_colour(name: str) -> None:
    image = texture((100, 120))
    image[40:60, 50:70] = (200, 200, 20)
    result = corrupt.corrupt(image, name, 1, mask=None, seed=0).astype(int)
    outside = np.ones(image.shape[:2], bool)
    outside[40:60, 50:70] = False
    assert np.array_equal(result[outside].min(axis=1), result[outside].max(axis=1))
    mark = result[~outside]
    assert (mark[:, 0] == mark[:, 1]).all()
    assert np.median(mark[:, 0] - mark[:, 2]) > 90


@pytest.mark.parametrize("name", [name for name in ALL if name not in MASKED])
def test_what_needs_no_mask_does_not_look_at_it(name: str) -> None:
    image, mask = texture((50, 50)), rectangle((50, 50), 10)
    masked, whole = (corrupt.corrupt(image, name, 2, mask=m, seed=0) for m in (mask, None))
    assert np.array_equal(masked, whole)


def test_what_is_no_image_is_refused() -> None:
    image = texture((20, 30))
    for severity in (-1, 4):
        with pytest.raises(UserError, match=f"severity {severity} is not one of 0"):
            corrupt.corrupt(image, "blur", severity, mask=None, seed=0)
    with pytest.raises(ValueError, match="image must be uint8"):
        corrupt.corrupt(image[..., 0], "blur", 1, mask=None, seed=0)
    with pytest.raises(ValueError, match="mask must be bool"):
        corrupt.corrupt(image, "contrast", 1, mask=np.ones((30, 20), bool), seed=0)


# ---- names ----------------------------------------------------------------------------------


def test_names() -> None:
    assert corrupt.names("none") == corrupt.names("") == []
    assert corrupt.names("paper") == ["blur", "contrast", "speckle"]
    assert set(corrupt.names("physics")) == set(ALL) - {"blur", "contrast", "speckle"}
    assert corrupt.names("all") == corrupt.names("paper,physics") == ALL
    assert corrupt.names("shadow, blur,shadow") == ["shadow", "blur"]
    assert corrupt.condition("blur") == "blur-1"


@pytest.mark.parametrize("call", [corrupt.names, corrupt.find, corrupt.condition])
def test_an_unknown_name_is_told_with_the_nearest(call: object) -> None:
    assert callable(call)
    with pytest.raises(UserError, match=r"'speckel'; did you mean 'speckle'.*there are blur, con"):
        call("speckel")


def test_the_table_is_sound() -> None:
    for name, corruption in CORRUPTIONS.items():
        assert name == corruption.name
        steps = np.diff(corruption.levels)
        assert (steps > 0).all() or (steps < 0).all()
        assert (corruption.family == "paper") == (name in corrupt.names("paper"))


def test_listing_imports_nothing_heavy() -> None:
    code = (
        "import sys; from ultrabench_eval import corrupt; corrupt.names('all');"
        "print([m for m in ('torch', 'scipy', 'PIL', 'tasks') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---- images that are corrupted when read ----------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class Mask:
    """A scan mask in memory."""

    pixels: np.ndarray
    name: str = "mask"

    def read(self) -> np.ndarray:
        return self.pixels

    def digest(self) -> str:
        return hashing.digest_bytes(self.pixels.tobytes())


def carried(name: str = "contrast", severity: int = 2, seed: int = 0) -> CorruptedImage:
    image = ImageArray(texture((60, 80)), "a.png")
    return CorruptedImage(image, Mask(rectangle((60, 80), 9)), name, severity, seed)


@pytest.mark.parametrize("name", ALL)
def test_a_carried_image_is_the_corrupted_one(name: str) -> None:
    image = carried(name)
    assert image.name == "a.png"
    mask = rectangle((60, 80), 9)
    seed = hashing.seed_for(0, f"image/{image.image.digest()}")
    expected = corrupt.corrupt(texture((60, 80)), name, 2, mask=mask, seed=seed)
    assert np.array_equal(image.read(), expected)
    whole = dataclasses.replace(image, scan_mask=None)
    assert np.array_equal(whole.read(), image.read()) == (name not in MASKED)
    again = pickle.loads(pickle.dumps(image))  # as loader workers get it
    assert again.digest() == image.digest()
    assert np.array_equal(again.read(), image.read())


def test_a_file_is_read_once_for_each_corruption_and_not_hashed_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.png"
    PIL.Image.fromarray(texture((60, 80))).save(path)
    original = ImageFile(path, "x")
    fresh = CorruptedImage(original, None, "contrast", 2, 0)
    expected, pixels = fresh.digest(), fresh.read(fresh.digest())
    reads: list[Path] = []
    read = images.read_bytes
    known = dataclasses.replace(fresh, known=original.digest())
    monkeypatch.setattr(images, "read_bytes", lambda at: (reads.append(at), read(at))[1])
    assert known.digest() == expected
    assert np.array_equal(known.read(expected), pixels)
    assert reads == [path]
    state = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(UserError, match=r"x\.png changed while it was being read"):
        known.read(expected)


def test_severity_zero_is_the_original() -> None:
    image = carried(severity=0)
    assert np.array_equal(image.read(), image.image.read())
    assert image.digest() == image.image.digest()


@pytest.mark.parametrize("name", RANDOM)
def test_noise_goes_by_content_and_not_by_name(name: str) -> None:
    image = carried(name)
    renamed = dataclasses.replace(image, image=ImageArray(texture((60, 80)), "b.png"))
    assert np.array_equal(renamed.read(), image.read())
    pixels = texture((60, 80))
    pixels[0, 0] += 1
    other = dataclasses.replace(image, image=ImageArray(pixels, "a.png"))
    assert (other.read() != image.read()).mean() > 0.05


def test_the_digest_tells_all_that_matters_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = carried()
    renamed = dataclasses.replace(image, image=ImageArray(texture((60, 80)), "b.png"))
    assert renamed.digest() == carried().digest() == image.digest()
    others = [
        carried(severity=1),
        carried(severity=3),
        carried(seed=1),
        carried("gain"),
        dataclasses.replace(image, scan_mask=None),
        dataclasses.replace(image, scan_mask=Mask(rectangle((60, 80), 8))),
        dataclasses.replace(image, image=ImageArray(texture((60, 80), 1), "a.png")),
    ]
    digests = {image.digest(), image.image.digest(), *(other.digest() for other in others)}
    assert len(digests) == 2 + len(others)
    changed = dataclasses.replace(CORRUPTIONS["contrast"], version=2)
    monkeypatch.setitem(CORRUPTIONS, "contrast", changed)
    assert image.digest() not in digests
    assert corrupt.condition("contrast") == "contrast-2"
    moved = dataclasses.replace(changed, version=1, levels=(0.7, 0.6, 0.3))
    monkeypatch.setitem(CORRUPTIONS, "contrast", moved)
    assert image.digest() not in digests
    # A mask that isn't looked at doesn't count.
    unmasked = dataclasses.replace(carried("blur"), scan_mask=None)
    assert unmasked.digest() == carried("blur").digest()


def test_a_carried_image_refuses_what_cannot_be() -> None:
    with pytest.raises(UserError, match="unknown corruption 'blurr'"):
        carried("blurr")
    with pytest.raises(UserError, match="severity 4"):
        carried(severity=4)
    wrong = dataclasses.replace(carried(), scan_mask=Mask(np.ones((80, 60), bool), "a_mask.png"))
    with pytest.raises(UserError, match=r"scan mask of a_mask\.png has 60 x 80 pixels, but"):
        wrong.read()
