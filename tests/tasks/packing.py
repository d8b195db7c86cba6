"""Archives of every kind, honest and hostile, and the refusal that leaves no trace."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from tasks.obtain import archives
from ultrabench_eval.core.errors import UserError

CONTENT = {"Normal/image/1.jpg": b"\xff\xd8 one", "Normal/readme.txt": b"", "list.csv": b"a,b\n"}


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder but the marker: content of files, None for folders."""
    return {
        path.relative_to(folder).as_posix(): None if path.is_dir() else path.read_bytes()
        for path in folder.rglob("*")
        if path.name != archives.MARKER
    }


def with_folders(content: dict[str, bytes]) -> dict[str, bytes | None]:
    above = {str(p) for name in content for p in list(Path(name).parents)[:-1]}
    return {**dict.fromkeys(above), **content}


def make_zip(path: Path, content: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


Mode = Literal["w:", "w:gz", "w:bz2", "w:xz"]


def make_tar(path: Path, content: dict[str, bytes], mode: Mode = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in content.items():
            archive.addfile(entry(name, size=len(data)), io.BytesIO(data))
    return path


def entry(name: str, **fields: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def tar_of(path: Path, *entries: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(entry("first.txt", size=3), io.BytesIO(b"abc"))
        for info in entries:
            archive.addfile(info, io.BytesIO(bytes(info.size)) if info.isreg() else None)
    return path


def zip_of(path: Path, name: str, mode: int = stat.S_IFREG | 0o644, data: bytes = b"x") -> Path:
    info = zipfile.ZipInfo("first.txt")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, b"abc")
        info = zipfile.ZipInfo()
        info.filename = info.orig_filename = name
        info.external_attr = mode << 16
        info.create_system = 3
        archive.writestr(info, data)
    return path


def refused(archive: Path | list[Path], message: str, **options: Any) -> None:
    """It raises one sentence and leaves no trace; the folder is two levels down on purpose."""
    first = archive if isinstance(archive, Path) else archive[-1]
    top = first.parent
    (top / "deep").mkdir(exist_ok=True)
    before = tree(top)
    with pytest.raises(UserError, match=message) as raised:
        archives.unpack(archive, top / "deep" / "out", **options)
    assert first.name in str(raised.value)
    assert "\n" not in str(raised.value)
    assert tree(top) == before
    assert not os.path.lexists("/tmp/ultrabench_absolute")


KINDS: dict[str, Callable[[Path, dict[str, bytes]], Path]] = {
    "zip": make_zip,
    "stored zip": lambda path, content: make_zip(path, content, zipfile.ZIP_STORED),
    "tar": lambda path, content: make_tar(path, content, "w:"),
    "tar.gz": lambda path, content: make_tar(path, content, "w:gz"),
    "tar.bz2": lambda path, content: make_tar(path, content, "w:bz2"),
    "tar.xz": lambda path, content: make_tar(path, content, "w:xz"),
}

NOISE = {f"{i}.bin": os.urandom(3000) for i in range(4)}
