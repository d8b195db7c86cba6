"""What is read of archives: the tree that was packed, or one sentence and nothing."""

from __future__ import annotations

import errno
import gzip
import importlib.util
import io
import json
import os
import shutil
import stat
import tarfile
import time
import unicodedata
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packing import (
    CONTENT,
    KINDS,
    NOISE,
    entry,
    make_tar,
    make_zip,
    refused,
    tar_of,
    tree,
    with_folders,
    zip_of,
)

from tasks.obtain import archives
from ultrabench_eval.core.errors import UserError


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_is_told_by_content(tmp_path: Path, kind: str) -> None:
    archive = KINDS[kind](tmp_path / "release.download", CONTENT)
    told: list[tuple[str, int, int]] = []
    archives.unpack(archive, tmp_path / "out", progress=lambda *step: told.append(step))
    assert tree(tmp_path / "out") == with_folders(CONTENT)
    size = archive.stat().st_size
    assert told[-1] == ("release.download", size, size)
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "release.download"]


def test_zstd_where_python_has_it(tmp_path: Path) -> None:
    path = tmp_path / "release.tar.zst"
    if importlib.util.find_spec("compression") is None:
        path.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(600))
        refused(path, r"Python does not read \(zstd before Python 3\.14\)")
    else:
        with tarfile.open(path, "w:zst") as archive:  # type: ignore[call-overload]
            archive.addfile(entry("a", size=1), io.BytesIO(b"x"))
        archives.unpack(path, tmp_path / "out")
        assert tree(tmp_path / "out") == {"a": b"x"}


# Names that are one on no system: letters, digits and marks of several scripts.
NAME = st.text(
    st.sampled_from("abcXYZ0189 -_+()[]{}'&,;=@äéßżλя漢字🩺"), min_size=1, max_size=12
).filter(lambda name: name.strip(". ") == name)
TREE = st.dictionaries(
    st.lists(NAME, min_size=1, max_size=4).map("/".join),
    st.binary(max_size=300),
    min_size=1,
    max_size=8,
)


def clashes(names: list[str]) -> bool:
    """Two names that a system could confuse, or one that is a file and a folder."""
    every = {"/".join(n.split("/")[:d]) for n in names for d in range(1, n.count("/") + 2)}
    folded = {unicodedata.normalize("NFD", path.casefold()) for path in every}
    return len(folded) < len(every) or any(a.startswith(f"{b}/") for a in names for b in names)


@settings(max_examples=60)
@given(content=TREE, kind=st.sampled_from(sorted(KINDS)))
def test_a_tree_packed_and_unpacked_is_the_same_tree(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, bytes], kind: str
) -> None:
    folder = tmp_path_factory.mktemp("tree")
    archive = KINDS[kind](folder / "a.bin", content)
    if clashes(list(content)):
        with pytest.raises(UserError, match=r"is the same as|is there twice"):
            archives.unpack(archive, folder / "out")
        assert [path.name for path in folder.iterdir()] == ["a.bin"]
    else:
        archives.unpack(archive, folder / "out")
        assert tree(folder / "out") == with_folders(content)
    shutil.rmtree(folder)


def test_empty_folders_dots_and_double_slashes(tmp_path: Path) -> None:
    path = tar_of(
        tmp_path / "a.tgz",
        entry("./", type=tarfile.DIRTYPE),
        entry("./empty/", type=tarfile.DIRTYPE),
        entry("./a//b/./c.txt", size=2),
        entry("a/b/", type=tarfile.DIRTYPE),
    )
    archives.unpack(path, tmp_path / "out")
    assert tree(tmp_path / "out") == {
        **{"first.txt": b"abc", "empty": None},
        **{"a": None, "a/b": None, "a/b/c.txt": b"\0\0"},
    }


def test_rights_owners_and_dates_are_not_restored(tmp_path: Path) -> None:
    path = tar_of(
        tmp_path / "a.tgz",
        entry("tool", mode=0o4755, mtime=1, uid=12345),
        entry("folder", type=tarfile.DIRTYPE, mode=0),
    )
    archives.unpack(path, tmp_path / "out")
    tool = (tmp_path / "out/tool").stat()
    assert not tool.st_mode & 0o7111
    assert tool.st_uid == os.getuid()
    assert tool.st_mtime > time.time() - 60
    assert os.access(tmp_path / "out/folder", os.R_OK | os.W_OK | os.X_OK)


def test_leftovers_of_systems_are_passed_over(tmp_path: Path) -> None:
    content = {"a/1.png": b"1", "__MACOSX/a/._1.png": b"x", "a/._1.png": b"x"}
    content |= {"a/.DS_Store": b"x", "a/Thumbs.db": b"x", archives.MARKER: b"not ours"}
    for make in (make_zip, make_tar):
        path = make(tmp_path / f"{make.__name__}.bin", content)
        archives.unpack(path, tmp_path / make.__name__)
        assert tree(tmp_path / make.__name__) == {"a": None, "a/1.png": b"1"}
        assert json.loads((tmp_path / make.__name__ / archives.MARKER).read_text())["archives"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../evil", "member '../evil' leads out of the folder"),
        ("a/../../evil", "leads out of the folder"),
        ("a/..", "leads out of the folder"),
        ("/tmp/ultrabench_absolute", "has an absolute name"),
        ("//tmp/ultrabench_absolute", "has an absolute name"),
        ("C:/evil", "names a Windows drive"),
        ("a/c:evil", "names a Windows drive"),
        ("..\\evil", "backslash"),
        ("a\\b", "backslash"),
        ("\\\\server\\share", "backslash"),
        ("./.", "has no name"),
        ("__MACOSX/../../evil", "leads out of the folder"),
    ],
)
def test_names_that_lead_elsewhere(tmp_path: Path, name: str, message: str) -> None:
    refused(zip_of(tmp_path / "a.zip", name), message)
    refused(tar_of(tmp_path / "a.tgz", entry(name, size=1)), message)


def test_a_zip_name_with_a_nul(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", "ok.txt~/../x")
    path.write_bytes(path.read_bytes().replace(b"ok.txt~", b"ok.txt\0"))
    refused(path, "NUL")


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "a.tgz", entry("l\udce9sion.png", size=1, pax_headers={}))
    with tarfile.open(path, "w:gz", format=tarfile.GNU_FORMAT, errors="surrogateescape") as out:
        out.addfile(entry("l\udce9sion.png", size=1), io.BytesIO(b"x"))
    refused(path, r"member 'l\\udce9sion.png' has a name that is not UTF-8")

    path = zip_of(tmp_path / "a.zip", "lésion.png")
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xe9\xe9"))
    refused(path, r"a member whose name is not UTF-8, b'l\\xe9\\xe9sion.png'")


def test_zip_names_without_the_flag_are_cp437(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", "l~sion.png")
    path.write_bytes(path.read_bytes().replace(b"l~sion", b"l\x82sion"))
    archives.unpack(path, tmp_path / "out")
    assert sorted(tree(tmp_path / "out")) == ["first.txt", "lésion.png"]


LINK = tarfile.SYMTYPE
HARD = tarfile.LNKTYPE


def test_links_within_become_copies(tmp_path: Path) -> None:
    path = tar_of(
        tmp_path / "a.tgz",
        entry("a/up", type=LINK, linkname="../first.txt"),
        entry("a/chain", type=LINK, linkname="up"),
        entry("later", type=LINK, linkname="b/later.txt"),
        entry("hard", type=HARD, linkname="first.txt"),
        entry("b/later.txt", size=2),
    )
    archives.unpack(path, tmp_path / "out")
    assert tree(tmp_path / "out") == {
        **{"a": None, "b": None, "first.txt": b"abc", "a/up": b"abc", "a/chain": b"abc"},
        **{"hard": b"abc", "later": b"\0\0", "b/later.txt": b"\0\0"},
    }
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))

    zipped = zip_of(tmp_path / "a.zip", "a/up", stat.S_IFLNK | 0o777, b"../first.txt")
    archives.unpack(zipped, tmp_path / "zipped")
    assert tree(tmp_path / "zipped") == {"first.txt": b"abc", "a": None, "a/up": b"abc"}


@pytest.mark.parametrize(
    ("kind", "target", "message"),
    [
        (LINK, "../../outside", "member 'a/link' is a link out of the folder, to '../../outside'"),
        (LINK, "/etc/passwd", "is a link out of the folder"),
        (LINK, "//etc/passwd", "is a link out of the folder"),
        (LINK, "..\\..\\outside", "is a link out of the folder"),
        (HARD, "../outside", "is a link out of the folder"),
        (HARD, "/etc/passwd", "is a link out of the folder"),
        (LINK, "nowhere", "is a link to 'nowhere', which is not a file in the archive"),
        (LINK, "link", "not a file in the archive"),
        (LINK, "..", "not a file in the archive"),
        (HARD, "nowhere", "not a file in the archive"),
    ],
)
def test_links_that_lead_elsewhere(tmp_path: Path, kind: bytes, target: str, message: str) -> None:
    (tmp_path / "outside").write_text("secret")
    refused(tar_of(tmp_path / "a.tgz", entry("a/link", type=kind, linkname=target)), message)
    if kind == LINK:
        path = zip_of(tmp_path / "a.zip", "a/link", stat.S_IFLNK | 0o777, target.encode())
        refused(path, message)


def test_a_member_below_a_link_is_refused(tmp_path: Path) -> None:
    path = tar_of(
        tmp_path / "a.tgz",
        entry("a", type=LINK, linkname="."),
        entry("a/evil", size=1),
    )
    refused(path, "member 'a/evil' is there twice, or is both a file and a folder")


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"Z"])
def test_devices_and_pipes(tmp_path: Path, kind: bytes) -> None:
    refused(tar_of(tmp_path / "a.tgz", entry("odd", type=kind)), "member 'odd' is a device")


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_devices_and_pipes_in_a_zip(tmp_path: Path, kind: int) -> None:
    refused(zip_of(tmp_path / "a.zip", "odd", kind | 0o644), "member 'odd' is a device")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a/IMG.png", "a/img.png"), "'a/img.png' is the same as 'a/IMG.png'"),
        (("A/1.png", "a/2.png"), "'a/2.png' is the same as 'A'"),
        (("\u00e9.png", "e\u0301.png"), "is the same as"),
        (("a/b", "a/b"), "'a/b' is there twice"),
        (("a", "a/b"), "both a file and a folder"),
        (("a/b", "a"), "both a file and a folder"),
    ],
)
def test_members_that_would_meet(tmp_path: Path, names: tuple[str, str], message: str) -> None:
    refused(tar_of(tmp_path / "a.tgz", *(entry(name, size=1) for name in names)), message)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of a second member of one name
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for name in names:
                archive.writestr(name, b"x")
    refused(tmp_path / "a.zip", message)


def test_an_encrypted_zip(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"secret.png": b"x"})
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(signature) + offset] |= 1
    path.write_bytes(data)
    refused(path, "member 'secret.png' is encrypted")


def test_a_compression_that_python_lacks(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"big.png": b"x" * 100})
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        data[data.index(signature) + offset] = 9  # deflate64, as Windows makes above 2 GB
    path.write_bytes(data)
    refused(path, r"'big.png' is packed in a way that Python does not read \(.*7-Zip")


@pytest.mark.parametrize("kind", KINDS)
def test_cut_off_at_any_place(tmp_path: Path, kind: str) -> None:
    path = KINDS[kind](tmp_path / "a.bin", NOISE)
    data = path.read_bytes()
    content = sum(len(block) for block in NOISE.values())
    # Plain tars have only zeros at the end; up to there, blocks are where a cut is hardest to see.
    cuts = range(512, content, 512) if kind == "tar" else range(100, len(data), 997)
    for cut in [*cuts, len(data) - 1 if kind != "tar" else content]:
        path.write_bytes(data[:cut])
        refused(path, "is damaged or cut off|is not a zip or tar|holds no tar archive")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "tar"])
def test_damaged_in_the_middle(tmp_path: Path, kind: str) -> None:
    path = KINDS[kind](tmp_path / "a.bin", NOISE)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x40
    path.write_bytes(data)
    refused(path, "is damaged or cut off|holds no tar archive")


def test_a_damaged_header_in_a_tar_is_not_its_end(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar", NOISE, "w:")
    data = bytearray(path.read_bytes())
    second = data.index(b"1.bin")
    for wrong in (b"\1.bin", bytes(512)):  # a wrong checksum; a block of zeros
        path.write_bytes(bytes(data[:second]) + wrong + bytes(data[second + len(wrong) :]))
        refused(path, "is damaged or cut off at or behind its member '0.bin'")


def test_bytes_behind_the_end(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tgz", CONTENT)
    path.write_bytes(path.read_bytes() + gzip.compress(b"more"))
    refused(path, "more after its end")


def test_an_absurd_expansion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "FREE_EXPANSION", 1 << 20)
    content = {f"{i}.bin": bytes(1 << 20) for i in range(4)}
    for kind in ("zip", "tar.gz", "tar.bz2", "tar.xz"):
        refused(KINDS[kind](tmp_path / "a.bin", content), "absurdly much")
    honest = KINDS["tar"](tmp_path / "b.bin", content)
    archives.unpack(honest, tmp_path / "out")
    assert len(tree(tmp_path / "out")) == 4


def test_a_tar_whose_size_or_tail_is_a_bomb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.tgz"
    with gzip.open(path, "wb") as out:  # a header that promises 8 GB
        out.write(entry("huge", size=8 << 30).tobuf() + bytes(2048))
    refused(path, "member 'huge' expands to more than|damaged")
    monkeypatch.setattr(archives, "FREE_EXPANSION", 1 << 20)
    data = gzip.decompress(make_tar(tmp_path / "b.tgz", {"a": b"x"}).read_bytes())
    with gzip.open(path, "wb") as out:
        out.write(data + bytes(4 << 20))
    refused(path, "absurdly much")


def test_a_disk_that_is_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    path = make_zip(tmp_path / "a.zip", {"a.bin": os.urandom(3 << 20)})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2 << 20))
    refused(path, "'a.bin' expands to more than the 2 MB free on the disk")


def test_a_disk_that_fills_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = make_tar(tmp_path / "a.tgz", CONTENT)
    opened = Path.open

    def opening(self: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        return full() if mode == "xb" else opened(self, mode, *rest, **options)

    monkeypatch.setattr(Path, "open", opening)
    refused(path, "the disk is full")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"Rar!\x1a\x07\x01\0", "is a RAR archive; unpack it by hand"),
        (b"7z\xbc\xaf\x27\x1c", "is a 7z archive; unpack it by hand"),
        (b"\n<!DOCTYPE html><title>Google Drive", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"", "is not a zip or tar archive"),
        (os.urandom(2000), "is not a zip or tar archive"),
        (gzip.compress(b"a,b\n" * 500, mtime=0), "holds no tar archive"),
    ],
)
def test_other_kinds(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "release.zip"
    path.write_bytes(content)
    refused(path, message)
