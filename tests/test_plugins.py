"""`--plugin`: a user's file, and a user's package."""

from __future__ import annotations

import inspect
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import model_zoo
import tasks
from ultrabench_eval import plugins
from ultrabench_eval.core.errors import UserError

EXAMPLE = Path(__file__).parents[1] / "examples" / "plugin"
MODEL = """
import model_zoo
from torch import nn

@model_zoo.register("{name}")
class Mine(model_zoo.Encoder):
    input_rule = model_zoo.InputRule(8)
    def build(self, weights):
        return nn.Identity()
    def _forward(self, x):
        return x.flatten(1) * {factor}
"""


@pytest.fixture(autouse=True)
def _nothing_stays() -> Iterator[None]:
    """Registries, loaded files and modules as they were before the test."""
    before = [registry.registered() for registry in plugins._REGISTRIES]
    yield
    plugins._loaded.clear()
    for registry, old in zip(plugins._REGISTRIES, before, strict=True):
        for name in registry.registered() - old:
            registry.remove(name)
    for name in [name for name in sys.modules if name.startswith("ubench_plugin_")]:
        del sys.modules[name]


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_the_example_file_is_a_model() -> None:
    path = EXAMPLE / "their_model.py"
    assert len(path.read_text().splitlines()) <= 15
    assert plugins.load_file(path) == ["theirs"]
    encoder = model_zoo.load("theirs", device="cpu")
    assert encoder.encode(torch.rand(2, 3, 30, 40)).shape == (2, 192)
    source = inspect.getsourcefile(type(encoder))
    assert source is not None
    assert Path(source) == path.resolve()
    assert pickle.loads(pickle.dumps(type(encoder))) is type(encoder)
    copy = pickle.loads(pickle.dumps(encoder))
    assert copy.fingerprint == encoder.fingerprint


def test_the_readme_shows_the_example_as_it_is() -> None:
    code = (EXAMPLE / "their_model.py").read_text().partition("\n")[2]
    assert f"```python\n{code}```" in (EXAMPLE / "README.md").read_text()


def test_loading_twice_is_harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "my model.py", MODEL.format(name="mine", factor=1))
    assert plugins.load_file(path) == ["mine"]
    first = model_zoo.registry.get("mine")
    monkeypatch.chdir(tmp_path)
    assert plugins.load_file(Path("my model.py")) == ["mine"]
    assert model_zoo.registry.get("mine") is first


def test_files_of_one_name_are_two_modules(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        path = write(tmp_path / folder / "m.py", MODEL.format(name=folder, factor=1))
        plugins.load_file(path)
        assert model_zoo.registry.get(folder).__module__ == plugins.module_name(path)
    assert plugins.module_name(tmp_path / "a/m.py") != plugins.module_name(tmp_path / "b/m.py")


def test_an_edited_plugin_has_another_fingerprint(tmp_path: Path) -> None:
    path = write(tmp_path / "m.py", MODEL.format(name="mine", factor=1))
    plugins.load_file(path)
    before = model_zoo.load("mine", device="cpu").fingerprint
    write(path, MODEL.format(name="mine", factor=2))
    assert model_zoo.load("mine", device="cpu").fingerprint == before  # it is not run yet
    assert plugins.load_file(path) == ["mine"]
    edited = model_zoo.load("mine", device="cpu")
    assert edited.fingerprint != before
    assert edited.encode(torch.full((1, 3, 8, 8), 0.7)).abs().max() > 1.5


def test_a_task_can_be_registered(tmp_path: Path) -> None:
    text = 'import tasks\n@tasks.register("our-task")\ndef read(folder):\n    return None\n'
    assert plugins.load_file(write(tmp_path / "t.py", text)) == ["our-task"]
    assert "our-task" in tasks.names()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = (\n", r"syntax error at .*m\.py:1 \(.*correct that line"),
        ("import os\nimport no_such_thing\n", r"at .*m\.py:2 \(No module named 'no_such_thing'\)"),
        ("\n\n1 / 0\n", r"fails at .*m\.py:3 \(ZeroDivisionError: division by zero\)"),
        ("import json\n\njson.loads('x')\n", r"fails at .*m\.py:3 \(JSONDecodeError"),
        ("x = 1\n", r"m\.py registers nothing; decorate .*@model_zoo\.register"),
        (MODEL.format(name="pixels", factor=1), r"in the plugin .*m\.py: .*'pixels' is already"),
        (MODEL.format(name="half", factor=1) + "\nboom", r"m\.py:13 \(NameError"),
    ],
)
def test_a_plugin_that_fails_is_told_and_undone(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "m.py", text)
    before = model_zoo.registry.registered()
    with pytest.raises(UserError, match=message):
        plugins.load_file(path)
    assert model_zoo.registry.registered() == before
    assert plugins.module_name(path) not in sys.modules
    write(path, MODEL.format(name="half", factor=1))  # corrected, in the same session
    assert plugins.load_file(path) == ["half"]


@pytest.mark.parametrize("name", ["missing.py", "folder", "notes.txt"])
def test_what_is_no_python_file_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match=f"plugin file not found: .*{name}; --plugin takes"):
        plugins.load_file(tmp_path / name)


def test_an_installed_package_brings_its_model(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="the example is built with hatchling, a dev dependency")
    source, target = tmp_path / "source", tmp_path / "target"
    shutil.copytree(EXAMPLE, source)  # a build may leave files beside what it builds
    build = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
             "--no-build-isolation", "--target", str(target), str(source)]  # fmt: skip
    subprocess.run(build, check=True, capture_output=True)
    code = (
        "import sys, torch, model_zoo\n"
        "assert 'gradient-histogram' in model_zoo.names()\n"
        "assert 'ubench_gradients' not in sys.modules\n"  # lazily
        "encoder = model_zoo.load('gradient-histogram', device='cpu')\n"
        "print(tuple(encoder.encode(torch.rand(2, 3, 50, 60)).shape), len(encoder.fingerprint))\n"
    )
    root = str(Path(model_zoo.__file__).parents[1])
    path = os.pathsep.join([str(target), root, os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert result.stdout == "(2, 288) 64\n", result.stderr
