"""Files are on disk whole or not at all, whoever is killed in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ultrabench_eval.core import files
from ultrabench_eval.core.errors import UserError

WRITE_AND_STOP = """
import sys, time
from pathlib import Path
from ultrabench_eval.core import files
from ultrabench_eval.core.errors import UserError
with files.atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(60)
"""

HOLD_LOCK = """
import sys, time
from pathlib import Path
from ultrabench_eval.core import files
from ultrabench_eval.core.errors import UserError
with files.locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def start(code: str, path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline()  # it is in the middle now
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize("before", [None, b"old"])
def test_a_killed_writer_leaves_the_old_file_or_none(tmp_path: Path, before: bytes | None) -> None:
    path = tmp_path / "cell.json"
    if before is not None:
        path.write_bytes(before)
    process = start(WRITE_AND_STOP, path)
    assert files.remove_orphans(tmp_path) == 0  # it still lives
    kill(process)
    assert (path.read_bytes() if path.exists() else None) == before
    assert files.remove_orphans(tmp_path) == 1
    assert [p for p in tmp_path.iterdir() if p != path] == []


def test_an_exception_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    files.write_text(path, "old\n")
    with pytest.raises(TypeError), files.atomic_path(path) as temporary:
        temporary.open("w").write(None)  # type: ignore[arg-type]  # made, then broken
    assert path.read_bytes() == b"old\n"
    assert list(path.parent.iterdir()) == [path]


def test_threads_that_write_the_same_file_leave_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "shard"
    contents = [bytes([number]) * 100_000 for number in range(8)]
    failed: list[BaseException] = []

    def write(content: bytes) -> None:
        try:
            files.write_bytes(path, content)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert path.read_bytes() in contents


def test_foreign_temporary_files_stay(tmp_path: Path) -> None:
    host = files._HOST
    for name in (f".x.elsewhere.0.{2**22 + 1}.tmp", f".x.{host}.notes.tmp", "x.tmp"):
        (tmp_path / name).touch()
    (tmp_path / f".x.{host}.0.{os.getpid()}.tmp").touch()
    assert files.remove_orphans(tmp_path) == 0


def test_a_lock_excludes_and_dies_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "shard"
    process = start(HOLD_LOCK, path)
    got = threading.Event()

    def wait() -> None:
        with files.locked(path):
            got.set()

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.3)
    assert not got.is_set()
    kill(process)
    assert got.wait(10)
    thread.join()


def test_a_folder_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "above" / "folder"
    with pytest.raises(RuntimeError), files.atomic_folder(path) as temporary:  # noqa: PT012
        (temporary / "half").write_text("x")
        raise RuntimeError
    assert list(path.parent.iterdir()) == []
    path.mkdir()
    with files.atomic_folder(path) as temporary:
        (temporary / "whole").write_text("x")
        assert list(path.iterdir()) == []
        assert files.remove_orphans(tmp_path) == 0
    assert [child.name for child in path.iterdir()] == ["whole"]
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with pytest.raises(OSError, match="not empty"), files.atomic_folder(path):  # noqa: PT012
        path.mkdir()
        (path / "of another").write_text("x")
    assert (path / "of another").read_text() == "x"
    assert list(tmp_path.iterdir()) == [path]


def test_folders_of_the_dead_are_removed_by_the_next_attempt_only(tmp_path: Path) -> None:
    with files.atomic_folder(tmp_path / "folder") as temporary:
        mine = temporary.name
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], stdout=-1, check=True
    )
    left = tmp_path / mine.replace(f".{os.getpid()}.", f".{int(done.stdout)}.")
    other = tmp_path / left.name.replace(".folder.", ".folder2.")
    for orphan in (left, other):
        orphan.mkdir()
    assert files.remove_orphans(tmp_path) == 0  # it is for files
    (tmp_path / "folder").rmdir()
    with files.atomic_folder(tmp_path / "folder"):
        assert not left.exists()
    assert other.exists()


@pytest.mark.parametrize("text", [".", "..", "...", "a/b", "../x", "", "é" * 60, "x" * 400,
                                  "字" * 90, "timm/vit_tiny", "a\nb", "con\x00",
                                  "M\udcfcller"])  # fmt: skip
def test_any_text_is_a_file_name(tmp_path: Path, text: str) -> None:
    name = files.file_name(text)
    assert "/" not in name
    assert not name.startswith(".")
    assert len(name) <= 200
    if text:
        (tmp_path / f"{name}.error.json").write_text("")
        assert [p.parent for p in tmp_path.iterdir()] == [tmp_path]


def test_file_names_tell_texts_apart() -> None:
    texts = ["a", "A", "a b", "a%20b", "é" * 60, "é" * 61, "x" * 400, "x" * 401, ".", "..", "%2E"]
    assert len({files.file_name(text) for text in texts}) == len(texts)
    assert files.file_name("timm/vit_tiny.x-1") == "timm%2Fvit_tiny.x-1"


def test_a_link_under_a_temporary_name_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    monkeypatch.setattr(files.secrets, "token_hex", lambda count: "known")
    trap = files._temporary(tmp_path / "file")
    trap.symlink_to(victim)
    with pytest.raises(FileExistsError):
        files.write_text(tmp_path / "file", "theirs")
    assert victim.read_text() == "mine"


def test_a_folder_is_tried_for_writing_and_left_as_it_was(tmp_path: Path) -> None:
    files.check_writable(tmp_path / "new" / "deep", "the results folder")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write to the results folder .*file"):
        files.check_writable(tmp_path / "file", "the results folder")
    with pytest.raises(UserError, match="cannot write"):
        files.check_writable(tmp_path / "file" / "below", "the results folder")
    with pytest.raises(UserError, match="cannot write"):
        files.check_writable(tmp_path / ("x" * 300), "the results folder")


def test_processes_of_one_run_try_a_folder_at_the_same_time(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        tries = [
            threads.submit(files.check_writable, tmp_path / "new" / "deep", "the results folder")
            for _ in range(400)
        ]
    for one in tries:
        one.result()
    assert list(tmp_path.iterdir()) == []
