"""Questions come back as they were written, one at a time, whatever is in them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groundup.errors import DataError
from groundup.tokens import Conversation, Questions, Turn, write_questions
from groundup.tokens.questions import QUESTIONS_FILE, STARTS_FILE

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def conversation(number: int, text: str) -> Conversation:
    return Conversation(f"q:{number}", (Turn("user", text), Turn("assistant", text[::-1])), "questions", {"kind": text})


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TEXT, max_size=8))
def test_questions_are_read_as_they_were_written(tmp_path: Path, texts: list[str]) -> None:
    written = [conversation(i, text) for i, text in enumerate(texts)]
    assert write_questions(iter(written), tmp_path) == len(written)
    read = Questions(tmp_path)
    assert len(read) == len(written)
    assert list(read) == written == read[:]
    for i in range(-len(written), len(written)):
        assert read[i] == written[i]
    assert read[1::2] == written[1::2]
    for outside in (len(written), -len(written) - 1):
        with pytest.raises(IndexError):
            read[outside]


def test_memory_does_not_grow_with_the_questions(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        def made() -> Iterator[Conversation]:
            return (conversation(i, "why? " * 500) for i in range(count))

        folder = tmp_path / str(count)
        folder.mkdir()
        tracemalloc.start()
        write_questions(made(), folder)
        assert sum(1 for _ in Questions(folder)) == count
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(10)
    assert peak(1000) < 1.2 * peak(100) + 300_000, "they hold 5 million bytes"


@pytest.mark.parametrize("name", [QUESTIONS_FILE, STARTS_FILE])
@pytest.mark.parametrize("damage", ["lost", "short", "other"])
def test_damaged_files_are_told(tmp_path: Path, name: str, damage: str) -> None:
    write_questions([conversation(i, "why?") for i in range(3)], tmp_path)
    content = (tmp_path / name).read_bytes()
    if damage == "lost":
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content[:-5] if damage == "short" else b"\x01" * len(content))
    with pytest.raises(DataError, match="questions"):
        list(Questions(tmp_path))
