"""One identity of a model: the code that ran, and weights wherever they lie."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import model_zoo
from model_zoo import executed
from ultrabench_eval import plugins
from ultrabench_eval.core.errors import UserError

PLUGIN = """
import model_zoo
{imports}

@model_zoo.register("mine")
class Mine(model_zoo.Encoder):
    input_rule = model_zoo.InputRule(size=8)
    def build(self, weights):
        {build}
    def _forward(self, x):
        return self.network(x).flatten(1)
"""
NET = """
import torch
class Net(torch.nn.Module):
    def forward(self, x):
        return x * {factor}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is imported from; its modules and models are forgotten afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before, models = set(sys.modules), model_zoo.registry.registered()
    yield tmp_path
    plugins._loaded.clear()
    for name in model_zoo.registry.registered() - models:
        model_zoo.registry.remove(name)
    for name in set(sys.modules) - before:
        path = getattr(sys.modules[name], "__file__", None) or ""
        if path.startswith(str(tmp_path)) or name.startswith("ubench_plugin_"):
            del sys.modules[name]
    for name, source in list(executed._sources.items()):
        if source.path.is_relative_to(tmp_path):
            del executed._sources[name]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def plugin(folder: Path, imports: str = "", build: str = "return Net()", name: str = "m") -> Path:
    return write(folder / f"{name}.py", PLUGIN.format(imports=imports, build=build))


def loaded(path: Path) -> model_zoo.Encoder:
    plugins.load_file(path)
    return model_zoo.load("mine", device="cpu")


def total(encoder: model_zoo.Encoder) -> float:
    return encoder.encode(torch.full((1, 3, 8, 8), 0.7)).abs().sum().item()


WAYS: dict[str, tuple[str, str, str]] = {  # import, build, place of the network
    "beside": ("from my_net import Net", "return Net()", "my_net.py"),
    "as": ("import my_net as n", "return n.Net()", "my_net.py"),
    "package": ("from pack.nets.vit import Net", "return Net()", "pack/nets/vit.py"),
    "inside build": ("", "from my_net import Net; return Net()", "my_net.py"),
    "by its name": ("import importlib", 'return importlib.import_module("my_net").Net()',
                    "my_net.py"),
    "two steps": ("from step import Net", "return Net()", "my_net.py"),
    "relative": ("from pack.step import Net", "return Net()", "pack/my_net.py"),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_the_network_in_another_module_counts(folder: Path, way: str) -> None:
    imports, build, place = WAYS[way]
    write(folder / "step.py", "from my_net import Net")
    write(folder / "pack/step.py", "from .my_net import Net")
    net = write(folder / place, NET.format(factor=1))
    path = plugin(folder, imports, build)
    first = loaded(path)
    assert loaded(path).fingerprint == first.fingerprint
    write(net, NET.format(factor=0))
    edited = loaded(path)
    assert edited.fingerprint != first.fingerprint
    assert total(edited) == 0 != total(first)
    write(net, NET.format(factor=1))
    assert loaded(path).fingerprint == first.fingerprint


def test_a_module_that_a_forward_pass_imports_counts(folder: Path) -> None:
    net = write(folder / "late.py", "factor = 1")
    path = write(folder / "m.py", PLUGIN.format(imports="import torch", build="""
        return torch.nn.Identity()""").replace("return self.network(x)",
        "import late; return late.factor * self.network(x)"))  # fmt: skip
    first = loaded(path)
    again = loaded(path)
    assert again.fingerprint == first.fingerprint
    write(net, "factor = 2")
    assert loaded(path).fingerprint != first.fingerprint


BOTH_ORDERS = """
import os, sys
from pathlib import Path
import model_zoo.encoder  # once for both, because torch takes seconds
from ultrabench_eval import plugins
for order in (sys.argv[1:], sys.argv[:0:-1]):
    if not os.fork():
        for path in order:
            plugins.load_file(Path(path))
        print(model_zoo.load("mine", device="cpu").fingerprint, flush=True)
        os._exit(0)
    os.wait()
"""


def test_neither_place_nor_order_nor_other_plugins_count(folder: Path) -> None:
    for name in ("a", "b"):
        write(folder / name / "my_net.py", NET.format(factor=1))
    here = "import sys, pathlib; sys.path.insert(0, str(pathlib.Path(__file__).parent))"
    one = plugin(folder / "a", f"{here}\nfrom my_net import Net")
    first = loaded(one).fingerprint
    other = write(folder / "other.py", PLUGIN.replace('"mine"', '"other"').format(
        imports="import unrelated\nfrom my_net import Net", build="return Net()"))  # fmt: skip
    write(folder / "unrelated.py", "x = 1")
    plugin(folder / "b", f"{here}\nfrom my_net import Net")
    write(folder / "my_net.py", NET.format(factor=1))
    words = [sys.executable, "-c", BOTH_ORDERS, str(other), str(folder / "b" / "m.py")]
    result = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert result.stdout.split() == [first, first], result.stderr


def test_what_was_executed_is_hashed_and_not_what_lies_there_later(folder: Path) -> None:
    write(folder / "my_net.py", NET.format(factor=1))
    path = plugin(folder, "from my_net import Net")
    first = loaded(path).fingerprint
    write(folder / "my_net.py", NET.format(factor=0))
    write(path, "raise RuntimeError")
    assert model_zoo.load("mine", device="cpu").fingerprint == first


def test_a_compiled_copy_does_not_hide_an_edit(folder: Path) -> None:
    import os

    net = write(folder / "my_net.py", NET.format(factor=1))
    state = net.stat()
    path = plugin(folder, "from my_net import Net")
    first = loaded(path)
    write(net, NET.format(factor=0))  # as long as before, and as old
    os.utime(net, ns=(state.st_atime_ns, state.st_mtime_ns))
    edited = loaded(path)
    assert total(edited) == 0
    assert edited.fingerprint != first.fingerprint


def test_a_module_that_is_reloaded_below_a_class_is_refused(folder: Path) -> None:
    net = write(folder / "my_net.py", NET.format(factor=1))
    path = plugin(folder, "from my_net import Net")
    plugins.load_file(path)
    write(net, NET.format(factor=0))
    importlib.reload(sys.modules["my_net"])
    with pytest.raises(UserError, match=r"my_net\.py was imported again .* still uses"):
        model_zoo.load("mine", device="cpu")
    assert total(loaded(path)) == 0  # the remedy


def test_a_class_of_an_earlier_import_is_refused(folder: Path) -> None:
    path = write(folder / "direct.py", PLUGIN.format(imports=NET.format(factor=1),
                                                     build="return Net()"))  # fmt: skip
    module = importlib.import_module("direct")
    old = module.Mine
    first = model_zoo.load("mine", device="cpu").fingerprint
    write(path, path.read_text().replace("x * 1", "x * 0"))
    module = importlib.reload(module)  # which registers the name once more
    assert model_zoo.load("mine", device="cpu").fingerprint != first
    with pytest.raises(UserError, match="is made of the class before; load the model again"):
        _ = old(name="mine").fingerprint


def test_two_plugins_that_share_a_module_are_both_loaded_again(folder: Path) -> None:
    net = write(folder / "my_net.py", NET.format(factor=1))
    one = plugin(folder, "from my_net import Net")
    two = write(folder / "two.py", one.read_text().replace('"mine"', '"two"'))
    plugins.load_file(one)
    plugins.load_file(two)
    write(net, NET.format(factor=0))
    for path, name in ((one, "mine"), (two, "two")):
        plugins.load_file(path)
        assert total(model_zoo.load(name, device="cpu")) == 0


CELL = """
import torch, model_zoo
FACTOR = {factor}
def scale(x):
    return x * FACTOR
class Net(torch.nn.Module):
    def forward(self, x):
        return scale(x){more}
class Mine(model_zoo.Encoder):
    input_rule = model_zoo.InputRule(size=8)
    def build(self, weights):
        return Net()
    def _forward(self, x):
        return self.network(x).flatten(1)
"""


NOTEBOOKS = """
import os, sys
import model_zoo.encoder  # once for all, because torch takes seconds
for cell in sys.argv[1:]:
    if not os.fork():
        exec(compile(cell, "<cell>", "exec"))
        print(Mine(name="x").fingerprint, flush=True)
        os._exit(0)
    os.wait()
"""


def notebooks(tmp_path: Path, *cells: str) -> list[str]:
    """Fingerprints of a class that is defined at a prompt, each in a process of its own."""
    words = [sys.executable, "-c", NOTEBOOKS, *cells]
    result = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert not result.stderr
    return result.stdout.split()


def test_a_class_of_a_notebook_is_known_by_its_code(tmp_path: Path) -> None:
    plain = CELL.format(factor=1, more="")
    moved = "\n\n# moved\n" + plain + "\nunused = 3"
    others = [CELL.format(factor=2, more=""), CELL.format(factor=1, more=" + 0")]
    first, same, *different = notebooks(tmp_path, plain, moved, *others)
    assert len(first) == 64
    assert same == first
    assert len({first, *different}) == 3


def test_a_module_below_a_notebook_counts(tmp_path: Path) -> None:
    cell = CELL.format(factor=1, more="").replace("def scale(x):", "from helper import h\ndef "
                                                  "scale(x):\n    x = h(x)")  # fmt: skip
    write(tmp_path / "helper.py", "def h(x): return x")
    first = notebooks(tmp_path, cell)
    write(tmp_path / "helper.py", "def h(x): return x + 1")
    assert notebooks(tmp_path, cell) != first


# ---- weights ----------------------------------------------------------------------------------


def test_weights_that_are_no_tensors_of_torch_count(folder: Path) -> None:
    path = plugin(folder, "import numpy as np, torch", build="""
        self.factor = float(np.load(weights)[0])
        return torch.nn.Identity()""")  # fmt: skip
    plugins.load_file(path)
    seen = set()
    for number in range(2):
        np.save(folder / "w.npy", np.full(1, number, np.float32))
        encoder = model_zoo.load("mine", folder / "w.npy", "cpu")
        seen.add(encoder.fingerprint)
        assert model_zoo.load("mine", folder / "w.npy", "cpu").fingerprint in seen
    assert len(seen) == 2


def test_weights_that_change_while_they_are_read_are_refused(folder: Path) -> None:
    path = plugin(folder, "import pathlib, torch", build="""
        pathlib.Path(weights).write_text("other")
        return torch.nn.Identity()""")  # fmt: skip
    plugins.load_file(path)
    write(folder / "w.json", "one")
    with pytest.raises(UserError, match=r"w\.json\) changed while they were being read; run again"):
        model_zoo.load("mine", str(folder / "w.json"), "cpu")


def test_a_plugin_that_uses_the_helper_states_its_file(folder: Path) -> None:
    path = plugin(folder, "import torch", build="""
        return model_zoo.fill(torch.nn.Conv2d(3, 2, 1), weights, name="mine")""")  # fmt: skip
    plugins.load_file(path)
    network = torch.nn.Conv2d(3, 2, 1)
    tensors = {f"model.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": tensors | {"model.fc.weight": torch.ones(2)}}, folder / "w.ckpt")
    encoder = model_zoo.load("mine", folder / "w.ckpt", "cpu")
    assert encoder.weights_file == folder / "w.ckpt"
    assert encoder.dropped == ("fc (1 tensor)",)
    assert encoder.weights_sha256 is not None
    other = model_zoo.load("mine", folder / "w.ckpt", "cpu")
    torch.save({}, folder / "w.ckpt")
    with pytest.raises(UserError, match=r"w\.ckpt changed after model 'mine' was filled from it"):
        _ = other.weights_sha256


# ---- what a plugin does to its process ----------------------------------------------------------


@pytest.mark.parametrize("where", ["import", "build", "_forward"])
@pytest.mark.parametrize("what", ["sys.exit(3)", "raise GeneratorExit"])
def test_an_exit_in_a_plugin_is_told(folder: Path, where: str, what: str) -> None:
    text = PLUGIN.format(imports="import sys, torch", build="return torch.nn.Identity()")
    places: dict[str, Callable[[str], str]] = {
        "import": lambda t: t + f"\n{what}",
        "build": lambda t: t.replace(
            "        return torch", f"        {what}\n        return torch"
        ),
        "_forward": lambda t: t.replace("return self.network", f"{what}; self.network"),
    }
    path = write(folder / "m.py", places[where](text))
    with pytest.raises(UserError, match=r"(ends the program|fails) at .*m\.py:\d+ "):
        loaded(path)
    if where == "import":
        assert "mine" not in model_zoo.registry


def test_ctrl_c_passes_through(folder: Path) -> None:
    path = write(folder / "m.py", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        plugins.load_file(path)


def test_folder_and_defaults_are_put_back(folder: Path) -> None:
    text = PLUGIN.format(imports="import os, torch", build="""
        os.chdir("/")
        torch.set_default_dtype(torch.float64)
        return torch.nn.Identity()""")  # fmt: skip
    path = write(folder / "m.py", text + '\nos.chdir("/")\ntorch.set_default_dtype(torch.float64)')
    before: Any = Path.cwd()
    loaded(path)
    assert (Path.cwd(), torch.get_default_dtype()) == (before, torch.float32)
