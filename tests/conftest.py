"""Fixtures that several test files use, and the rule for tests that need ../shared."""

from __future__ import annotations

import dataclasses
import functools
import gc
import inspect
import os
import re
import sys
import time
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import pytest
import typer.testing
from hypothesis import settings

from tasks import phantom
from tasks.phantom.plan import SIZES, Size
from ultrabench_eval import plugins
from ultrabench_eval.core import drawing, sheets
from ultrabench_eval.core.sheets import SheetRow

if TYPE_CHECKING:
    from fake_host import Host
    from torch import Tensor

Drawn = list[tuple[list[str], list[SheetRow]]]

FORMATS = drawing.SUFFIXES
# No test is timed: on a busy machine any example may take a second.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Fast tests first, so that a slip shows at once; then a file at a time those of one model,
    # which share what it costs to make its checkpoint.
    items.sort(key=_place)
    if not SHARED.is_dir():
        skip = pytest.mark.skip(
            reason="needs ../shared (real data), which is not beside this checkout"
        )
        for item in items:
            if item.get_closest_marker("shared"):
                item.add_marker(skip)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported stays, so the search for garbage need not go through it again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def _place(item: pytest.Item) -> tuple[bool, str, str]:
    if item.get_closest_marker("slow") is None:
        return False, "", ""
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return True, str(item.path), str(parameters.get("name", ""))


@pytest.fixture(scope="session", autouse=True)
def _nobody_pulls_the_plug() -> Iterator[None]:
    """Files are not forced onto the disk, which takes longer than many a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _commands_are_made_once() -> Iterator[None]:
    """A program makes all of its commands each time it is called, which here is often."""
    with pytest.MonkeyPatch.context() as patch:
        once = functools.cache(typer.main.get_command)
        patch.setattr(typer.main, "get_command", once)
        patch.setattr(typer.testing, "_get_command", once)
        yield


@pytest.fixture(scope="session", autouse=True)
def _figures_are_svg() -> Iterator[None]:
    """The other formats take most of a report's time, and few tests look at them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "SUFFIXES", ("svg",))
        yield


@pytest.fixture
def every_format(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn as SVG, PNG and PDF, as outside of tests."""
    monkeypatch.setattr(drawing, "SUFFIXES", FORMATS)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder ../shared; only for tests marked `shared`."""
    return SHARED


@pytest.fixture(scope="session")
def real_data(shared: Path) -> Path:
    """A data root with the real AUL, MMOTU, BUSBRA and POCUS."""
    return shared / "data"


@pytest.fixture(scope="session")
def tiny() -> Iterator[Size]:
    """A size below those on offer, so that tests are quick."""
    size = Size("tiny", 0.3, 0.4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "tiny", size)
        yield size


@pytest.fixture(scope="session")
def phantom_root(tiny: Size, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole SYNTHETIC suite at `tiny`, seed 3; not to be written into."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # all workers share what the first one writes
        folder = folder.parent
    return phantom.write(folder / "phantom", size=tiny.name, seed=3)


@pytest.fixture
def shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vision transformers of two blocks: the reference vectors are there for the depth."""
    from model_zoo import dinov3, fetalclip, usfm, video_vit, vit  # here, because they import torch

    for network in (vit.VisionTransformer, video_vit.VideoTransformer):

        @functools.wraps(plain := network.__init__)
        def two_blocks(*args: Any, plain: Any = plain, **options: Any) -> None:
            bound = inspect.signature(plain).bind(*args, **options)
            bound.arguments["depth"] = 2
            plain(*bound.args, **bound.kwargs)

        monkeypatch.setattr(network, "__init__", two_blocks)
    monkeypatch.setattr(dinov3, "_DEPTH", 2)
    monkeypatch.setattr(usfm, "_DEPTH", 2)
    monkeypatch.setattr(fetalclip, "_DEPTH", 2)


@pytest.fixture
def host() -> Iterator[Host]:
    """A server on this machine, in place of those that have the releases."""
    from fake_host import Host  # here, because it is among the tests of tasks

    host = Host()
    yield host
    host.server.shutdown()
    host.server.server_close()


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """Titles and rows of the sheets that are made."""
    found: Drawn = []
    made = sheets.sheet

    def sheet(
        title: Sequence[str], rows: Sequence[SheetRow], *rest: object, **how: object
    ) -> object:
        found.append((list(title), list(rows)))
        return made(title, rows, *rest, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(sheets, "sheet", sheet)
    return found


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits that were wanted; none is waited for."""
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


@pytest.fixture
def light(
    monkeypatch: pytest.MonkeyPatch, shallow: None, tmp_path: Path
) -> Callable[[str], dict[str, Any]]:
    """The content of a model's released file: its first blocks, with one number per tensor."""
    import torch  # here, because fast tests do without

    import model_zoo
    from model_zoo import echocare, echoclip, sam, verify

    def one_number(part: dict[str, Any], key: str, shape: list[int]) -> Tensor:
        if key.endswith("num_batches_tracked"):
            return torch.zeros((), dtype=torch.int64)
        return torch.tensor([zlib.crc32(key.encode()) / 2**32]).expand(shape)

    monkeypatch.setattr(verify, "_filled", one_number)
    monkeypatch.setattr(sam, "DEPTH", 3)  # the third has global attention
    monkeypatch.setattr(echocare, "_DEPTHS", (2, 2, 2, 2))
    monkeypatch.setattr(echoclip, "_DEPTHS", (2, 2, 2, 2))
    for name in ("dinov3", "echocare"):
        model = model_zoo.registry.get(name)
        (first, *others) = model.layouts
        constants = {key: x for key, x in first.constants.items() if not _is_deep(key, 2)}
        first = dataclasses.replace(first, constants=constants)
        monkeypatch.setattr(model, "layouts", (first, *others))

    def content_of(name: str) -> dict[str, Any]:
        vectors, path = verify.read(name), tmp_path / "light.pth"
        depth = {"sam": 3, "samus": 3, "ultrasam": 3, "echoprime": 16}.get(name, 2)
        vectors.described["keys"] = [
            (key, shape) for key, shape in vectors.described["keys"] if not _is_deep(key, depth)
        ]
        verify.write_checkpoint(vectors, path)
        content: dict[str, Any] = torch.load(path, weights_only=True)
        return content

    return content_of


def _is_deep(key: str, depth: int) -> bool:
    """Whether a key of a released file belongs to an encoder's block behind the first `depth`."""
    start = r"(module\.|model\.|image_encoder\.|backbone\.|layers\d\.0\.|"
    start += r"module\.backbone\.|videomae\.encoder\.|visual\.transformer\.res|"
    start += r"visual\.trunk\.stages\.\d\.)?"
    found = re.match(rf"{start}(blocks|layers?)\.(\d+)\.", key)
    return found is not None and int(found[3]) >= depth


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A manifest of 60 small images in two classes that brightness tells apart, in 20 groups."""
    return make_manifest(tmp_path / "shades.csv")


def make_manifest(path: Path, count: int = 60, seed: int = 0) -> Path:
    """Write images and their manifest; two thirds train, then validation and test."""
    generator = np.random.default_rng(seed)
    folder = path.parent / f"{path.stem}_images"
    folder.mkdir(parents=True)
    rows = ["image,label,split,group"]
    for i in range(count):
        label = i // 3 % 2
        shade = 90 + 60 * label + generator.normal(0, 25)
        pixels = np.clip(generator.normal(shade, 20, (40, 48)), 0, 255).astype(np.uint8)
        PIL.Image.fromarray(pixels).save(folder / f"{i}.png")
        split = "train" if i < count * 0.6 else "val" if i < count * 0.8 else "test"
        rows.append(f"{folder.name}/{i}.png,{('dark', 'bright')[label]},{split},patient {i // 3}")
    path.write_text("\n".join(rows) + "\n")
    return path


COUNTING = '''
import os, time
import torch
import model_zoo

@model_zoo.register("counting")
class Counting(model_zoo.Encoder):
    """Mean grey on an 8 x 8 grid; writes down every image it encodes, and can be slow."""
    input_rule = model_zoo.InputRule(size=8)

    def build(self, weights):
        return torch.nn.Flatten()

    def _forward(self, x):
        if len(x) == 2:  # the fixed images that are encoded when it is loaded
            return self.network(x)
        time.sleep(float(os.environ.get("COUNTING_SLEEP", "0")))
        if "COUNTING_LOG" in os.environ:
            seen = {row.numpy().tobytes() for row in x}  # a batch is filled up with copies
            with open(os.environ["COUNTING_LOG"], "a") as log:
                log.write("".join(f"{hash_of(row)}\\n" for row in sorted(seen)))
        return self.network(x)

def hash_of(row):
    import hashlib
    return hashlib.sha256(row).hexdigest()
'''


def forget_plugins() -> None:
    """Registries, loaded files and modules as they are before a plugin is loaded."""
    for names in plugins._loaded.values():
        for registry in plugins._REGISTRIES:
            for name in registry.registered() & set(names):
                registry.remove(name)
    plugins._loaded.clear()
    for name in [name for name in sys.modules if name.startswith("ubench_plugin_")]:
        del sys.modules[name]


@pytest.fixture
def counting(tmp_path: Path) -> Path:
    """A plugin file with the model `counting`, which logs to $COUNTING_LOG what it encodes."""
    path = tmp_path / "counting_plugin.py"
    path.write_text(COUNTING)
    return path
