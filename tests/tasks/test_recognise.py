"""Releases are found whatever their folders are called, and nothing else is taken for one."""

from __future__ import annotations

import shutil
from pathlib import Path

import PIL.Image
import pytest
from fake_releases import RELEASES, busbra_release, gbcu_release

import tasks
from tasks import recognise
from ultrabench_eval.core.errors import UserError


def found(root: Path) -> list[tuple[str, str]]:
    releases = recognise.releases(root, tasks.names())
    return [(one.task, one.place.relative_to(root).as_posix()) for one in releases]


@pytest.mark.parametrize("name", RELEASES)
def test_a_release_is_known_by_what_it_holds(tmp_path: Path, name: str) -> None:
    RELEASES[name](tmp_path / "root" / name)
    plain = tasks.load(name, tmp_path / "root").fingerprint
    (tmp_path / "root" / name).rename(tmp_path / "root" / "set 7")
    assert {task for task, _ in found(tmp_path / "root")} == {name}
    assert tasks.names_at(tmp_path / "root") == [name]
    assert tasks.load(name, tmp_path / "root").fingerprint == plain


@pytest.mark.parametrize(
    "called",
    ["BUSBRA", "BUS-BRA", "BUSBRA (1)", "Busbra", "busbra - Copy", "BUSBRA_v2", "x/BUSBRA"],
)
def test_a_release_is_known_by_its_name_in_other_letters(tmp_path: Path, called: str) -> None:
    busbra_release(tmp_path / called)
    assert tasks.names_at(tmp_path) == ["busbra"]
    assert tasks.folder_of("busbra", tmp_path) == tmp_path / called.split("/")[0]
    assert len(tasks.load("busbra", tmp_path).train) > 0


def test_the_exact_name_wins_and_else_the_user_is_asked(tmp_path: Path) -> None:
    busbra_release(tmp_path / "BUSBRA")
    shutil.copytree(tmp_path / "BUSBRA", tmp_path / "copy")
    with pytest.raises(UserError, match=r"2 folders of .* may be task 'busbra': BUSBRA, copy; ren"):
        tasks.load("busbra", tmp_path)
    (tmp_path / "copy").rename(tmp_path / "busbra")
    assert tasks.folder_of("busbra", tmp_path) == tmp_path / "busbra"
    assert tasks.names_at(tmp_path) == ["busbra"]


def test_other_folders_are_no_releases(tmp_path: Path) -> None:
    for name in (
        "hearts/12/lungs/a.png",
        "images/a.png",
        "imgs/b.png",
        "pocuses/a.png",
        "test.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert found(tmp_path) == []
    with pytest.raises(UserError, match="no task is in"):
        tasks.names_at(tmp_path)


def test_records_of_prepared_tasks_are_none(tmp_path: Path) -> None:
    gbcu_release(tmp_path / "gbcu")
    (tmp_path / "prepared" / "busbra").mkdir(parents=True)
    (tmp_path / "prepared" / "busbra" / "splits.csv").touch()
    assert found(tmp_path) == [("gbcu", "gbcu")]


def test_links_that_run_in_circles_end(tmp_path: Path) -> None:
    gbcu_release(tmp_path / "a" / "b")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    assert ("gbcu", "a/b/GBCU-Shared") in found(tmp_path)


def test_a_part_of_a_release_is_known(tmp_path: Path) -> None:
    busbra_release(tmp_path / "x")
    around = recognise.around(tmp_path / "x" / "BUSBRA" / "Images", tasks.names())
    assert around is not None
    assert (around.task, around.place.name) == ("busbra", "BUSBRA")
    assert recognise.around(tmp_path, tasks.names()) is None


def test_the_same_content_in_training_and_test_is_counted(tmp_path: Path) -> None:
    for value, name in enumerate("abcd"):
        PIL.Image.new("L", (4, 4), value).save(tmp_path / f"{name}.png")
    shutil.copy(tmp_path / "a.png", tmp_path / "d.png")
    (tmp_path / "t.csv").write_text(
        "image,label,split\na.png,x,train\nb.png,y,train\nc.png,x,val\nd.png,y,test\n"
    )
    seen = tasks.load(str(tmp_path / "t.csv")).seen_in_training()
    assert seen == {"validation": (), "test": ("d.png",)}
