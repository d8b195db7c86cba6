"""The figure of masks: what is drawn is what the sampler gives, and simulated frames are marked."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Drawn

import tasks
from tasks.task import Task
from ultrabench_eval.core import drawing
from ultrabench_eval.core.errors import UserError
from usjepa import augment, cli, config, figure, masks
from usjepa.frames.store import Frame


@pytest.fixture
def loaded(phantom_root: Path) -> list[Task]:
    return [tasks.load(name, phantom_root) for name in ("aul", "busbra")]


@pytest.mark.usefixtures("every_format")
def test_regions_patches_and_blocks_are_those_of_training(loaded: list[Task], drawn: Drawn) -> None:
    settings = config.load("usrc_jepa_vitb16")
    made = figure.masks(loaded, settings)
    assert set(made) == {f"masks.{suffix}" for suffix in drawing.SUFFIXES}
    assert made == figure.masks(loaded, settings)
    title, rows = drawn[0]
    assert title[0].startswith("SYNTHETIC: ")
    assert [row.name for row in rows] == ["aul (SYNTHETIC)", "busbra (SYNTHETIC)"]

    mask = (loaded[0].train.scan_masks or ())[0].read()
    frame, valid, plain, inside = rows[0].tiles
    assert np.array_equal(frame.outlines[0][0], mask)
    image = loaded[0].train.images[0].read()
    seen = augment.plain(Frame(image[..., 0], mask), settings)
    assert seen.valid is not None
    patches = valid.outlines[0][0][::16, ::16]
    assert np.array_equal(patches, seen.valid)
    assert f"{int(seen.valid.sum())} of 196" in valid.caption
    outside = ~patches.repeat(16, 0).repeat(16, 1)
    for block, _ in inside.outlines:
        assert not (block & outside).any()
    assert any((block & outside).any() for block, _ in plain.outlines) or not outside.any()
    expected = masks.MultiBlock(settings.masks, (14, 14), 0).sample(2, 0)
    for number, (block, _) in enumerate(plain.outlines):
        assert np.flatnonzero(block[::16, ::16]).tolist() == expected.targets[0, number].tolist()
    assert plain.caption.startswith(f"context {expected.context[0].numel()}, 4 targets of ")


def test_any_grid_and_number_of_blocks_can_be_drawn(loaded: list[Task]) -> None:
    changes = ["masks.target_count=5", "model.image_size=96", "data.grey=false"]
    assert figure.masks(loaded[:1], config.load("us_jepa_nano", changes))


def test_random_patches_have_no_blocks(loaded: list[Task]) -> None:
    with pytest.raises(UserError, match="hides patches at random"):
        figure.masks(loaded, config.load("mae_nano"))


@pytest.mark.usefixtures("every_format")
def test_the_command_writes_all_or_nothing(
    tmp_path: Path,
    phantom_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def usjepa(root: Path) -> None:
        words = ["figure", "--data", str(root), "--out", str(tmp_path / "out")]
        monkeypatch.setattr(sys, "argv", ["usjepa", *words])
        cli.main()

    with pytest.raises(SystemExit) as stop:
        usjepa(tmp_path / "gone")
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "data folder not found" in line
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SystemExit) as stop:
        usjepa(phantom_root)
    assert stop.value.code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("masks.pdf", "masks.png", "masks.svg"),
    ]
