"""A packed results folder gives the pages of the whole one."""

from __future__ import annotations

import importlib.util
import tarfile
from pathlib import Path
from types import ModuleType

import pytest
from made_cells import results

from ultrabench_eval.cells import Cell, Cells
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.report import regenerate, write


@pytest.fixture(scope="module")
def pack() -> ModuleType:
    path = Path(__file__).parents[2] / "results" / "pack.py"
    spec = importlib.util.spec_from_file_location("pack", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_its_pages_are_those_of_the_folder(tmp_path: Path, pack: ModuleType) -> None:
    run, again = tmp_path / "run", tmp_path / "again"
    results(Cells(run))
    pack.pack(run, tmp_path / "cells.tar.xz")
    pack.pack(run, tmp_path / "same.tar.xz")
    assert (tmp_path / "cells.tar.xz").read_bytes() == (tmp_path / "same.tar.xz").read_bytes()
    with tarfile.open(tmp_path / "cells.tar.xz") as archive:
        archive.extractall(again, filter="data")
    write.write(Cells(run))
    regenerate.regenerate(Cells(again), again)
    names = [p.relative_to(run) for p in run.rglob("*.*") if "cells" not in p.parts]
    shown = [name for name in names if name.suffix in (".md", ".csv", ".tex")]
    assert Path("statistics.md") in shown
    for name in shown:
        assert (run / name).read_bytes() == (again / name).read_bytes(), name
    found = [cell for cell in Cells(again).gather() if isinstance(cell, Cell)]
    assert not any(cell.doubt for cell in found)
    assert {"codes"} == {name for cell in found for name in Cells(again).predictions(cell)}


def test_what_is_damaged_is_not_packed(tmp_path: Path, pack: ModuleType) -> None:
    results(Cells(tmp_path / "run"))
    damaged = next((tmp_path / "run" / "cells").rglob("*.safetensors"))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match="is damaged"):
        pack.pack(tmp_path / "run", tmp_path / "cells.tar.xz")
    assert not (tmp_path / "cells.tar.xz").exists()
