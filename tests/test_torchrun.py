"""Of all that ranks say and how they end, the command says the cause."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest

from groundup.torchrun import LastWords, cause, last_words

LOST = LastWords(6, "rank 0 of 2: another rank ended", [], seconds=1.0, follows=True)
STOPPED = LastWords(75, "asked to stop (SIGTERM)", [], seconds=2.0, follows=False)
FULL = LastWords(6, "no space left on the disk", ["why"], seconds=3.0, follows=False)


@pytest.mark.parametrize(
    ("words", "ends", "code", "message"),
    [
        ({0: LOST, 1: FULL}, {0: 6, 1: 6}, 6, "no space left"),
        ({0: LOST}, {0: 6, 1: -signal.SIGKILL}, 6, r"rank 1 was killed by SIGKILL \(out of memory"),
        ({0: STOPPED}, {1: -signal.SIGSEGV, 0: 75}, 6, "rank 1 was killed by SIGSEGV, so"),
        ({0: STOPPED, 1: FULL}, {0: 75, 1: 6}, 6, "no space left"),
        ({0: STOPPED, 1: LOST}, {0: 75, 1: 6}, 75, "asked to stop"),
        ({0: FULL}, {0: 6, 1: -signal.SIGTERM}, 6, "no space left"),
        ({}, {1: 1, 0: -signal.SIGTERM}, 1, "rank 1 ended with code 1 without a word"),
    ],
)
def test_the_cause_is_what_did_not_follow_from_another(
    words: dict[int, LastWords], ends: dict[int, int], code: int, message: str
) -> None:
    error = cause(words, ends)
    assert error.exit_code == code
    assert re.search(message, error.message)


def test_last_words_are_read_in_the_order_of_time(tmp_path: Path) -> None:
    for rank, each in ((0, FULL), (1, LOST)):
        (tmp_path / f"{rank}.json").write_text(json.dumps(vars(each)), encoding="utf-8")
    assert list(last_words(tmp_path).items()) == [(1, LOST), (0, FULL)]
