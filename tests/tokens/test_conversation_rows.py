from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groundup.errors import DataError
from groundup.tokens import (
    IGNORE,
    Encoded,
    PackedConversations,
    Tokenizer,
    Turn,
    encode_conversation,
    examples_of,
    load_foreign,
    write_conversations,
)
from groundup.tokens.conversation_length import Overlong, trim
from groundup.tokens.conversation_rows import best_fit_decreasing, row_dtype
from groundup.tokens.packing import SEGMENTS
from groundup.tokens.template import target_spans
from tests.tokens.chat_templates import write_folder

RELAXED = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SAID = st.text(max_size=20).map(lambda text: text.strip() or "x")


@dataclass
class Talk:
    turns: list[Turn]


class Killed(Exception):
    """Stands for kill -9."""


def talk(question: str, answer: str) -> Talk:
    return Talk([Turn("user", question), Turn("assistant", answer)])


def talks(count: int = 60) -> list[Talk]:
    return [talk(f"Question {i}?", "word " * (i % 9) + str(i)) for i in range(count)]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@given(st.lists(st.integers(1, 50), max_size=80))
def test_best_fit_uses_every_item_once_and_no_row_overflows(lengths: list[int]) -> None:
    rows = best_fit_decreasing(lengths, 50)
    assert sorted(item for row in rows for item in row) == list(range(len(lengths)))
    sums = [sum(lengths[item] for item in row) for row in rows]
    assert all(0 < total <= 50 for total in sums)
    assert sum(total <= 25 for total in sums) <= 1, "two half-empty rows would have been joined"


def test_best_fit_is_deterministic_and_tight() -> None:
    lengths = np.random.default_rng(1).integers(5, 60, 5000).tolist()
    rows = best_fit_decreasing(lengths, 256)
    assert rows == best_fit_decreasing(lengths, 256)
    assert sum(lengths) / (256 * len(rows)) > 0.995


def test_what_lies_behind_the_last_target_is_not_kept() -> None:
    encoded = Encoded([1, 2, 3, 4, 5, 6], [False, True, False, True, False, False])
    assert trim(encoded, 3, "drop") == Encoded([1, 2, 3, 4], [False, True, False, True])
    assert trim(encoded, 2, "drop") is None
    assert trim(encoded, 2, "truncate") == Encoded([1, 2], [False, True])
    assert trim(Encoded([1, 2, 3], [False, False, True]), 1, "truncate") is None
    assert trim(Encoded([1, 2], [False, False]), 8, "drop") is None


@RELAXED
@given(st.lists(st.lists(st.tuples(SAID, SAID), min_size=1, max_size=3), min_size=1, max_size=12), st.integers(40, 120))
def test_every_conversation_is_in_exactly_one_row_or_counted_as_dropped(
    tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory, said: list[list[tuple[str, str]]], context: int
) -> None:
    conversations = [
        Talk([turn for q, a in pairs for turn in (Turn("user", q), Turn("assistant", a))]) for pairs in said
    ]
    kept = [trim(encode_conversation(tokenizer, talk.turns), context, "drop") for talk in conversations]
    expected = sorted(part for part in kept if part)
    folder = tmp_path_factory.mktemp("rows")
    if not expected:
        with pytest.raises(DataError, match="no conversation fits"):
            write_conversations(conversations, tokenizer, folder, context)
        return
    summary = write_conversations(conversations, tokenizer, folder, context, look_ahead_tokens=100)
    packed = PackedConversations(folder, "talks", context, tokenizer.vocab_size)
    rows = [packed.row(index) for index in range(packed.num_rows)]
    assert sorted(example for row in rows for example in examples_of(row)) == expected
    assert all((row.targets != IGNORE).any() for row in rows)
    assert summary["conversations"] == len(expected)
    assert summary["dropped_too_long"] == len(said) - len(expected)
    assert summary["targets"] == sum(int((row.targets != IGNORE).sum()) for row in rows)
    assert summary["tokens"] == sum(len(part.ids) - 1 for part in expected)
    assert summary["padding_share"] == pytest.approx(1 - summary["tokens"] / (len(rows) * context), abs=1e-6)
    learnt = [span for part in expected for span in target_spans(part)]
    assert summary["target_bytes"] == sum(len(tokenizer.decode_bytes(span)) for span in learnt)


def test_targets_are_the_tokens_that_follow(tokenizer: Tokenizer, tmp_path: Path) -> None:
    write_conversations(talks(), tokenizer, tmp_path, 100)
    packed = PackedConversations(tmp_path, "talks", 100)
    for index in range(packed.num_rows):
        row = packed.row(index)
        follows = (row.targets != IGNORE) & (np.append(np.diff(row.segments), 1) == 0)
        assert (row.targets[follows] == row.tokens[1:][follows[:-1]]).all()
        ends = (row.targets != IGNORE) & ~follows
        assert (row.targets[ends] == tokenizer.turn_end_id).all()


def test_too_long_ones_are_truncated_when_asked_for(tokenizer: Tokenizer, tmp_path: Path) -> None:
    long_answer, long_question = talk("Why?", "because " * 100), talk("why " * 100, "Because.")
    summary = write_conversations([*talks(3), long_answer, long_question], tokenizer, tmp_path, 64, "truncate")
    assert (summary["conversations"], summary["truncated"], summary["dropped_too_long"]) == (4, 1, 1)
    packed = PackedConversations(tmp_path, "talks", 64)
    assert any(row.segments[-1] == 0 and (row.targets[-1] != IGNORE) for row in map(packed.row, range(packed.num_rows)))


@pytest.mark.parametrize("killed_at", range(0, 60, 7))
def test_killed_and_resumed_gives_the_same_bytes(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    monkeypatch.setattr("groundup.tokens.conversation_rows.BATCH_CONVERSATIONS", 4)
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    write_conversations(talks(), tokenizer, whole, 64, look_ahead_tokens=200)

    def until_killed() -> Iterator[Talk]:
        yield from talks()[:killed_at]
        raise Killed

    with pytest.raises(Killed):
        write_conversations(until_killed(), tokenizer, resumed, 64, look_ahead_tokens=200)
    write_conversations(talks(), tokenizer, resumed, 64, look_ahead_tokens=200)
    assert contents(resumed) == contents(whole)


def test_conversations_are_read_to_the_end_even_when_all_is_finished(tokenizer: Tokenizer, tmp_path: Path) -> None:
    first = write_conversations(talks(), tokenizer, tmp_path, 64)
    again = iter(talks())
    assert write_conversations(again, tokenizer, tmp_path, 64) == first
    assert next(again, None) is None


def test_no_conversation_is_an_error(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="0 read"):
        write_conversations([], tokenizer, tmp_path, 64)


def test_padding_is_a_segment_of_its_own_without_targets(tokenizer: Tokenizer, tmp_path: Path) -> None:
    write_conversations(talks(1), tokenizer, tmp_path, 200)
    row = PackedConversations(tmp_path, "talks", 200).row(0)
    padding = row.segments == 1
    assert padding.any()
    assert (row.tokens[padding] == tokenizer.end_of_text_id).all()
    assert (row.targets[padding] == IGNORE).all()
    assert row.positions[padding][0] == 0
    assert SEGMENTS == 2


def test_no_target_has_a_number_of_its_own() -> None:
    assert (row_dtype(65_535), row_dtype(65_536)) == ("<u2", "<u4")


def test_long_ones_lose_their_last_turns_when_asked_for(tokenizer: Tokenizer, tmp_path: Path) -> None:
    turns = [Turn(role, f"{role} {i}") for i in range(20) for role in ("user", "assistant")]
    whole = encode_conversation(tokenizer, turns)
    context = len(whole.ids) // 2
    alone = talk("why", "because " * context)
    summary = write_conversations([Talk(turns), *talks(3), alone], tokenizer, tmp_path, context, "cut_turns")
    assert (summary["conversations"], summary["truncated"], summary["dropped_too_long"]) == (4, 1, 1)
    packed = PackedConversations(tmp_path, "talks", context)
    found = [example for i in range(packed.num_rows) for example in examples_of(packed.row(i))]
    (cut,) = (example for example in found if len(target_spans(example)) > 1)
    spans = target_spans(cut)
    assert spans == target_spans(whole)[: len(spans)], "the answers that are left are whole"
    assert len(cut.ids) <= context + 1 < len(whole.ids)
    assert len(spans) + summary["answers_cut"] == 20


@given(st.lists(st.booleans(), min_size=2, max_size=30), st.integers(1, 30))
def test_turns_that_are_cut_leave_whole_answers(is_target: list[bool], context: int) -> None:
    encoded = Encoded(list(range(len(is_target))), [False, *is_target[1:]])
    part = trim(encoded, context, "cut_turns")
    whole = trim(encoded, len(is_target), "drop")
    if part is None:
        return
    assert whole is not None
    assert len(part.ids) <= context + 1
    spans = target_spans(part)
    assert spans == target_spans(whole)[: len(spans)]


@pytest.mark.parametrize("overlong", ["drop", "truncate", "cut_turns"])
def test_ten_thousand_turns_take_no_longer_than_what_fits(
    tokenizer: Tokenizer, tmp_path: Path, overlong: Overlong
) -> None:
    turns = [Turn(role, "x") for _ in range(5000) for role in ("user", "assistant")]
    summary = write_conversations([Talk(turns), *talks(3)], tokenizer, tmp_path, 64, overlong)
    assert summary["conversations"] + summary["dropped_too_long"] == 4
    assert (overlong == "drop") == (summary["dropped_too_long"] == 1)
    assert (overlong == "drop") == ("answers_cut" not in summary)


def test_what_a_template_cannot_say_is_counted(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    codec, _ = load_foreign(write_folder(tmp_path / "theirs", "gemma"), chat_template="auto")
    ruled = Talk([Turn("system", "Be brief."), *talk("Who?", "I.").turns])
    summary = write_conversations([*talks(5), ruled, ruled], codec, tmp_path / "rows", 64)
    assert summary["conversations"] == 5
    assert summary["refused"] == {"the template: System role not supported": 2}
    with pytest.raises(DataError, match="System role not supported"):
        write_conversations([ruled], codec, tmp_path / "none", 64)


@pytest.mark.parametrize("overlong", ["drop", "truncate", "cut_turns"])
def test_a_turn_of_two_megabytes_and_long_dialogues_behind_a_foreign_template(
    tmp_path: Path, overlong: Overlong
) -> None:
    (tmp_path / "theirs").mkdir()
    codec, _ = load_foreign(write_folder(tmp_path / "theirs", "llama3"), chat_template="auto")
    large = talk("Why?", "because <|eot_id|> " * 100_000)
    dialogue = Talk([Turn(role, "x") for _ in range(5000) for role in ("user", "assistant")])
    summary = write_conversations([large, dialogue, *talks(3)], codec, tmp_path / "rows", 96, overlong)
    kept = {"drop": 3, "truncate": 5, "cut_turns": 4}[overlong]
    assert (summary["conversations"], summary["dropped_too_long"]) == (kept, 5 - kept)
    assert summary["truncated"] == kept - 3


@pytest.mark.parametrize("victim", ["rows-00001.bin", "rows-00001.json"])
def test_a_bit_that_flips_between_two_attempts_is_found(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, victim: str
) -> None:
    monkeypatch.setattr("groundup.tokens.conversation_rows.BATCH_CONVERSATIONS", 4)
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    write_conversations(talks(), tokenizer, whole, 64, look_ahead_tokens=200)

    def until_killed() -> Iterator[Talk]:
        yield from talks()[:48]
        raise Killed

    with pytest.raises(Killed):
        write_conversations(until_killed(), tokenizer, resumed, 64, look_ahead_tokens=200)
    content = bytearray((resumed / victim).read_bytes())
    content[len(content) // 2] ^= 1
    (resumed / victim).write_bytes(content)
    write_conversations(talks(), tokenizer, resumed, 64, look_ahead_tokens=200)
    assert contents(resumed) == contents(whole)
