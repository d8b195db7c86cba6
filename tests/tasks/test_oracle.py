"""UltraBench's own tool reads our phantom releases: the same members, classes and masks.

`ultrabench==1.0.1` is installed in an environment of its own, which is kept for the next time. That
takes minutes, so it is done on request: `UBENCH_ORACLE=1 pytest tests/tasks/test_oracle.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import pytest

import tasks
from tasks import fatty_liver, phantom, ultrabench
from tasks.phantom.plan import SIZES, Size
from tasks.task import SPLITS
from ultrabench_eval.core import files

pytestmark = pytest.mark.slow
VERSION = "1.0.1"
# Some of its members depend on the order in which the file system lists files.
TOOL = """
import glob
found = glob.glob
glob.glob = lambda *a, **k: sorted(found(*a, **k))
from ultrabench.cli import app
app()
"""


# Of Stanford thyroid it wants every patient; finding scan masks takes long in what has no others.
SIZE = {
    "stanford-thyroid": "all",
    **dict.fromkeys(("butterfly", "fatty-liver", "gbcu", "pocus"), "coarse"),
}


class Oracle(NamedTuple):
    """How UltraBench calls what one of our tasks holds."""

    command: str
    folder: str
    """Of its output, without version."""
    column: str
    """Of its rows: a mask's path, or a label or number."""
    rename: Callable[[str], str]
    """From our image's name to its stem."""
    below: str = ""
    """The folder of our phantom that it takes."""
    grey: bool = False
    """Whether it hands on the pixels that our readers read."""


def stem(name: str) -> str:
    return PurePosixPath(name).stem


def aul(name: str) -> str:
    return stem(ultrabench.FORMS["aul"].rename(name))


def camus(name: str) -> str:
    patient, view, frame = name.replace("_half_sequence#", "_").split("_")
    return f"{patient}_view{view}_frame{frame}"


def butterfly(name: str) -> str:
    return stem(ultrabench.FORMS["butterfly"].rename(name))


CAMUS = Oracle("camus", "camus", "mask", camus, "CAMUS_public", grey=True)
ORACLES = {
    "aul@rule": Oracle("aul", "aul_mass", "label", aul),
    "aul-liver@rule": Oracle("aul", "aul_liver", "liver_mask", aul),
    "aul-mass@rule": Oracle("aul", "aul_mass", "mass_mask", aul),
    "butterfly": Oracle("butterfly", "butterfly", "label", butterfly),
    "camus@rule": CAMUS,
    "camus-quality": CAMUS._replace(column="label"),
    "camus-ef": CAMUS._replace(column="EF"),
    "fatty_liver": Oracle("fatty-liver", "fatty_liver", "label", str, fatty_liver.FILE),
    "gbcu": Oracle("gbcu", "gbcu", "label", stem),
    "mmotu": Oracle("mmotu", "mmotu", "label", stem),
    "mmotu-seg": Oracle("mmotu", "mmotu", "tumor_mask_binary", stem),
    "open-kidney@rule": Oracle("open-kidney", "open_kidney", "capsule_mask", stem, grey=True),
    "pocus@rule": Oracle("pocus", "pocus", "label", str),
    "psfhs@rule": Oracle("psfhs", "psfhs", "psfh_mask", stem, grey=True),
    "stanford-thyroid": Oracle(
        "stanford-thyroid", "stanford_thyroid", "tumor_mask", str, grey=True
    ),
}


@pytest.fixture(scope="module")
def tool() -> Path:
    """A Python that has UltraBench."""
    if not os.environ.get("UBENCH_ORACLE"):
        pytest.skip("installs UltraBench and takes minutes: set UBENCH_ORACLE=1 to run it")
    place = Path(tempfile.gettempdir()) / f"ultrabench-{VERSION}-{sys.version_info[1]}"
    python = place / "bin/python"
    with files.locked(place.with_suffix(".lock")):
        if not (place / "installed").exists():
            venv.create(place, clear=True, with_pip=True)
            install = [python, "-m", "pip", "install", "-q", f"ultrabench=={VERSION}"]
            done = subprocess.run(install, capture_output=True, text=True, check=False)
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
                pytest.skip(f"ultrabench {VERSION} cannot be installed: {reason}")
            (place / "installed").touch()
    return python


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data root, filled by `made`."""
    with pytest.MonkeyPatch.context() as patch:
        for name, more, pixels in (("few", 0.3, 0.4), ("all", 1.0, 0.4), ("coarse", 0.3, 0.2)):
            patch.setitem(SIZES, name, Size(name, more, pixels))
        yield tmp_path_factory.mktemp("root")


@pytest.fixture(scope="module")
def made(root: Path, tool: Path) -> Callable[[str], Path]:
    """What UltraBench makes of a release; each once."""

    @cache
    def of(command: str) -> Path:
        name, below = next(
            (tasks.home(tasks.split_name(name)[0]), o.below)
            for name, o in ORACLES.items()
            if o.command == command
        )
        phantom.write(root, size=SIZE.get(command, "few"), tasks=[name])
        out = root.parent / f"out-{command}"
        out.mkdir()
        done = subprocess.run(
            [tool, "-c", TOOL, command, root / name / below, out],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": "", "COLUMNS": "200"},
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return out

    return of


@pytest.mark.parametrize("name", ORACLES)
def test_ultrabench_agrees(name: str, made: Callable[[str], Path], root: Path) -> None:
    oracle = ORACLES[name]
    theirs = made(oracle.command) / f"{oracle.folder}_v{VERSION}"
    task = tasks.load(name, root)
    for part in SPLITS:
        listed = json.loads((theirs / f"{part}.json").read_text())
        rows: dict[str, dict[str, Any]] = {stem(row["image"]): row for row in listed}
        split = task.splits[part]
        names = [oracle.rename(image.name) for image in split.images]
        if oracle.command == "pocus":  # which counts the frames of a video
            made_so = ultrabench._rows(task, part, ultrabench.FORMS["pocus"])
            names = [stem(row["image"]) for _, _, row in made_so]
        assert sorted(names) == sorted(rows)
        told = [rows[name][oracle.column] for name in names]
        if not split.masks:
            assert np.asarray(split.targets).tolist() == told
        for mask, path in zip(split.masks, told, strict=False):
            np.testing.assert_array_equal(mask.read(), pixels(theirs / path))
        for image, name in zip(split.images, names, strict=True) if oracle.grey else ():
            np.testing.assert_array_equal(
                image.read()[..., 0], pixels(theirs / rows[name]["image"])
            )


def pixels(path: Path) -> np.ndarray:
    with PIL.Image.open(path) as image:
        return np.asarray(image)
