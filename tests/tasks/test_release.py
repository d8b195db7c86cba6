"""Finding a release in a folder, and reading its lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks import release
from ultrabench_eval.core.errors import UserError


def test_find_takes_the_folder_nearest_the_top(tmp_path: Path) -> None:
    for place in ("b/c", "a/x/y", "a/z", ".hidden", "__MACOSX"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "mark").write_text("")
    assert release.find(tmp_path, "mark", source="it") == tmp_path / "a/z"
    assert release.find(tmp_path / "b/c", "mark", source="it") == tmp_path / "b/c"
    with pytest.raises(UserError, match="no folder at or below it has mark and other; unpack it"):
        release.find(tmp_path, "mark", "other", source="it")


def test_find_ends_where_links_run_in_circles(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
        (tmp_path / name / "up").symlink_to(tmp_path)
    with pytest.raises(UserError, match="does not hold the release"):
        release.find(tmp_path, "mark", source="it")


def test_lists_in_another_encoding_are_named(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes("ä.jpg,1\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"list\.txt is not UTF-8 text"):
        release.labelled_list(tmp_path / "list.txt", ",", 3)
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfa b.jpg,1\r\n\r\n")
    assert release.labelled_list(tmp_path / "list.txt", ",", 3) == [("a b.jpg", 1)]
