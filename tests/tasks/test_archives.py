"""Unpacking: once, whole, in one place; killed or refused, it leaves nothing."""

from __future__ import annotations

import errno
import io
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packing import CONTENT, NOISE, entry, make_tar, make_zip, refused, tar_of, tree, with_folders

from tasks.obtain import archives
from ultrabench_eval.core.errors import UserError


def test_archives_without_files(tmp_path: Path) -> None:
    refused(make_zip(tmp_path / "a.zip", {}), "holds no files")
    refused(make_tar(tmp_path / "a.tgz", {}), "holds no files")
    refused(make_zip(tmp_path / "b.zip", {"__MACOSX/._x": b"x"}), "holds no files")


def test_a_missing_archive(tmp_path: Path) -> None:
    refused(tmp_path / "a.zip", "archive not found")


def test_a_second_time_does_nothing(tmp_path: Path) -> None:
    path, out = make_zip(tmp_path / "a.zip", CONTENT), tmp_path / "out"
    archives.unpack(path, out)
    (out / "list.csv").write_bytes(b"mine")
    archives.unpack(path.rename(tmp_path / "renamed.zip"), out)
    assert (out / "list.csv").read_bytes() == b"mine"


def test_another_archive_for_the_same_place(tmp_path: Path) -> None:
    out = tmp_path / "out"
    path = make_zip(tmp_path / "a.zip", {"1": b"a"}, zipfile.ZIP_STORED)
    archives.unpack(path, out)
    other = make_zip(tmp_path / "b.zip", {"1": b"b"}, zipfile.ZIP_STORED)
    assert other.stat().st_size == path.stat().st_size
    for asked in (other, [path, other]):
        with pytest.raises(UserError, match=r"from another archive \(a\.zip\) than .*b\.zip"):
            archives.unpack(asked, out)
    with pytest.raises(UserError, match="with the archives inside left alone"):
        archives.unpack(path, out, nested=True)
    assert tree(out) == {"1": b"a"}
    (out / archives.MARKER).write_text("{}")
    with pytest.raises(UserError, match="is damaged; remove"):
        archives.unpack(path, out)


def test_a_folder_with_something_else(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", CONTENT)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty and was not made by unpacking"):
        archives.unpack(path, tmp_path / "out")
    assert tree(tmp_path / "out") == {"mine.txt": b"mine"}
    with pytest.raises(UserError, match="is a file"):
        archives.unpack(path, path)
    (tmp_path / "empty").mkdir()
    archives.unpack(path, tmp_path / "empty")
    assert tree(tmp_path / "empty") == with_folders(CONTENT)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", CONTENT)
    with pytest.raises(UserError, match="cannot be written"):
        archives.unpack(path, path / "below")


def test_several_archives_make_one_folder(tmp_path: Path) -> None:
    parts = [
        make_zip(tmp_path / f"{name}.zip", {f"{name}/image/1.jpg": name.encode()})
        for name in ("Benign", "Malignant", "Normal")
    ]
    archives.unpack(parts, tmp_path / "out")
    archives.unpack(parts, tmp_path / "out")
    assert sorted(tree(tmp_path / "out"))[::3] == ["Benign", "Malignant", "Normal"]
    again = make_zip(tmp_path / "again.zip", {"Benign/image/1.jpg": b"other"})
    refused([*parts, again], "again.zip is not unpacked: .*'Benign/image/1.jpg' is there twice")


def test_archives_inside(tmp_path: Path) -> None:
    innermost = make_zip(tmp_path / "c.zip", {"c.txt": b"c"}).read_bytes()
    inner = make_tar(tmp_path / "b.tgz", {"b/c.zip": innermost, "b.txt": b"b"}).read_bytes()
    table = make_zip(tmp_path / "t.xlsx", {"sheet": b"1"}).read_bytes()
    outer = make_zip(tmp_path / "a.zip", {"sub/b.tgz": inner, "t.xlsx": table})
    archives.unpack(outer, tmp_path / "plain")
    assert tree(tmp_path / "plain") == {"sub": None, "sub/b.tgz": inner, "t.xlsx": table}
    archives.unpack(outer, tmp_path / "nested", nested=True)
    assert tree(tmp_path / "nested") == {
        **{"sub": None, "sub/b": None, "sub/b/c.zip": innermost, "sub/b.txt": b"b"},
        "t.xlsx": table,
    }
    evil = tar_of(tmp_path / "e.tgz", entry("../out.txt", size=1)).read_bytes()
    refused(
        make_zip(tmp_path / "d.zip", {"sub/e.tgz": evil}),
        "the archive 'sub/e.tgz' in .* is not unpacked: its member '../out.txt' leads out",
        nested=True,
    )


def test_killed_while_unpacking(tmp_path: Path) -> None:
    make_tar(tmp_path / "a.tgz", NOISE)
    code = (
        "import sys, time; from pathlib import Path; from tasks.obtain import archives\n"
        "def slow(*step): print('unpacked', flush=True); time.sleep(60)\n"
        f"archives.unpack(Path({str(tmp_path / 'a.tgz')!r}), Path({str(tmp_path / 'out')!r}), "
        "progress=slow)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout
    assert child.stdout.readline() == "unpacked\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert not (tmp_path / "out").exists()
    assert any(path.name.startswith(".out.") for path in tmp_path.iterdir())
    archives.unpack(tmp_path / "a.tgz", tmp_path / "out")
    assert tree(tmp_path / "out") == NOISE
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tgz", "out"]


def test_find_archives(tmp_path: Path) -> None:
    for name in ("b.tar.gz", "a.ZIP", "c.7z", "x.part", "y.txt", "._b.zip", ".hidden.zip"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.zip").mkdir()
    found = archives.find_archives(tmp_path)
    assert [path.name for path in found] == ["a.ZIP", "b.tar.gz", "c.7z"]


def test_folders_nested_beyond_use_are_refused(tmp_path: Path) -> None:
    name = "a/" * 1500 + "x.png"
    refused(make_zip(tmp_path / "a.zip", {name: b"x"}), "lies in more than 100 folders")
    deep = "a/" * 90 + "x.png"
    archives.unpack(make_zip(tmp_path / "b.zip", {deep: b"x"}), tmp_path / "out")
    assert (tmp_path / "out" / deep).read_bytes() == b"x"


def test_names_that_are_too_long_are_refused(tmp_path: Path) -> None:
    refused(make_zip(tmp_path / "a.zip", {"x" * 300: b"x"}), r"cannot be written \(File name too")


@pytest.mark.parametrize("at", ["write", "close"])
def test_a_full_disk_is_told_as_such_whenever_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    class Full(io.BytesIO):
        def fail(self, *_: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    if at == "close":  # a buffered file that could not be flushed fails once more when it is closed
        Full.close = Full.fail  # type: ignore[method-assign, assignment]
    else:
        Full.write = Full.fail  # type: ignore[method-assign, assignment]
    plain = Path.open

    def opened(self: Path, mode: str = "r", *rest: object, **more: object) -> object:
        return Full() if mode == "xb" else plain(self, mode, *rest, **more)  # type: ignore[call-overload]

    path = make_zip(tmp_path / "a.zip", {"1.png": b"content"})
    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(UserError, match=r"the disk is full at .*1\.png; make room and run again"):
        archives.unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
