"""Errors: documented exit codes, a first line that fits and cannot steer a terminal, refusals of the system mapped."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup import errors
from groundup.errors import FIRST_LINE_LIMIT, GroundupError, Interrupted, RecipeError, ResourceError


def test_every_error_class_has_a_documented_exit_code() -> None:
    classes = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, GroundupError)]
    codes = {cls.__name__: cls.exit_code for cls in classes if cls not in (GroundupError, Interrupted)}
    assert set(codes.values()) <= errors.EXIT_CODES.keys()
    own = [cls.exit_code for cls in classes if cls.__base__ is GroundupError and cls is not Interrupted]
    assert len(set(own)) == len(own), "a code says what kind of error it was"
    assert Interrupted("saved", 130).exit_code == 130


@given(st.text())
def test_the_first_line_is_one_short_printable_line(text: str) -> None:
    line = errors.first_line(RecipeError(text))
    assert len(line) <= FIRST_LINE_LIMIT
    assert "\n" not in line
    assert "\x1b" not in line
    assert "\u202e" not in line
    line.encode("utf-8")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Grüße, 日本\u3000 ok\n\tx", "Grüße, 日本\u3000 ok\n\tx"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("abc\u202edef", "abc\\u202edef"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("half \ud800", "half \\ud800"),
        ("\r\x00\u2028", "\\r\\x00\\u2028"),
    ],
)
def test_what_could_steer_a_terminal_is_escaped(text: str, shown: str) -> None:
    assert errors.printable(text) == shown


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EMFILE, errno.EIO, errno.ENOMEM])
def test_refusals_of_the_system_become_resource_errors_with_a_remedy(number: int) -> None:
    with pytest.raises(ResourceError, match="same command goes on") as caught, errors.resource_errors(Path("work")):
        raise OSError(number, os.strerror(number), "x" * 500)
    assert len(caught.value.message) <= FIRST_LINE_LIMIT
    assert isinstance(caught.value.__cause__, OSError)


def test_other_errors_pass_through() -> None:
    with pytest.raises(FileNotFoundError), errors.resource_errors(Path("work")):
        raise FileNotFoundError(errno.ENOENT, "gone")
    with pytest.raises(RecipeError), errors.resource_errors(Path("work")):
        raise RecipeError("mine")


def test_a_long_path_loses_its_beginning_not_the_remedy() -> None:
    remedy = "not valid JSON; make or copy the tokenizer again"
    line = errors.first_line(RecipeError(f"/{'folder/' * 60}tokenizer.json: {remedy}"))
    assert len(line) == FIRST_LINE_LIMIT
    assert line.startswith("...") and line.endswith(f"/tokenizer.json: {remedy}")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "ulimit -u"),
        (RuntimeError("can't start new thread"), "ulimit -u"),
        (OSError("4096 requested and 17 written"), "no space left"),
        (ValueError("Error while serializing: IoError(Os { code: 27, kind: FileTooLarge })"), "ulimit -f"),
        (Exception("No space left on device (os error 28)"), "no space left"),
    ],
)
def test_refusals_that_libraries_tell_in_words_are_understood(error: Exception, words: str) -> None:
    with pytest.raises(ResourceError, match=words), errors.resource_errors(Path("work")):
        raise error


def test_a_panic_of_a_thread_that_may_not_start_is_a_refusal() -> None:
    panic = type("PanicException", (BaseException,), {})
    with pytest.raises(ResourceError, match="no further process or thread"), errors.resource_errors(Path("work")):
        raise panic("ThreadPoolBuildError { kind: IOError(Os { code: 11, kind: WouldBlock })")
    with pytest.raises(panic), errors.resource_errors(Path("work")):
        raise panic("index out of bounds")


def test_a_disk_without_inodes_is_not_called_full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = os.statvfs(tmp_path)
    assert (left := errors.inodes_left(tmp_path / "not" / "there")) is None or left == found.f_favail
    monkeypatch.setattr(errors, "inodes_left", lambda path: 3)
    with pytest.raises(ResourceError, match="no inodes left: delete"), errors.resource_errors(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "file"))


def test_the_refusal_behind_an_error_of_ours_is_found() -> None:
    with pytest.raises(ResourceError) as caught, errors.resource_errors(Path("work")):
        raise OSError(errno.EFBIG, "File too large")
    assert errors.refusal(caught.value) == errno.EFBIG
    assert errors.refusal(RecipeError("28")) is errors.refusal(ValueError("28")) is None
