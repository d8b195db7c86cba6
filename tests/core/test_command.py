"""Whatever goes wrong around a command becomes one sentence and an exit code."""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Callable

import pytest
import typer

from ultrabench_eval.core import command
from ultrabench_eval.core.errors import UserError


def run(work: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Exit code and standard error of a program that does `work`."""
    app = typer.Typer()

    @app.command()
    def work_(word: int = 1) -> None:
        work()

    errors = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stderr", errors)
    with pytest.raises(SystemExit) as caught:
        command.main("program", lambda **options: app([], **options))
    errors.seek(0)
    return int(caught.value.code or 0), errors.read()


def raising(error: BaseException) -> Callable[[], object]:
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("one is wrong\ntwo is wrong"), 2, "program: one is wrong\nprogram: two is"),
        (OSError(errno.ENOSPC, "No space left", "a/b"), 2, "a/b (No space left); the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "c"), 2, "c (Permission denied); "),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "d"), 2, "it is a folder where a file"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), 2, "save it as UTF-8"),
        (MemoryError(), 2, "out of memory"),
        (SystemExit(0), 2, "a plugin or library ended the program (exit code 0)"),
        (SystemExit("bye"), 2, "(exit code bye)"),
        (KeyboardInterrupt(), 130, "interrupted; run the same command to resume"),
        (typer.Exit(1), 1, ""),
        (typer.Abort(), 130, "interrupted"),
        (UserError("name \x1b[31mred\x07 ± é"), 2, "name \\x1b[31mred\\x07 ? ?"),
    ],
)
def test_an_error_is_a_sentence_and_an_exit_code(
    error: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, text = run(raising(error), monkeypatch)
    assert found == code
    assert said in text
    assert "Traceback" not in text


def test_a_bug_of_ours_stays_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with pytest.raises(ZeroDivisionError), command.guarded("program"):
        raise ZeroDivisionError


def test_a_process_that_is_not_to_speak_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), command.guarded("program", lambda: False):
        raise UserError("the first process says this")
    assert capsys.readouterr().err == ""
