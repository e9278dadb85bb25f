"""Packed preferences read back: what is compared lies in one row, whole, each answer a segment of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groundup.errors import DataError
from groundup.tokens import (
    IGNORE,
    REFERENCES_FILE,
    PackedPreferences,
    Preference,
    PreferencePacking,
    Row,
    Tokenizer,
    Turn,
    collate,
    write_array,
    write_preferences,
)
from groundup.tokens.template import encode_conversation, prompt_ids

RELAXED = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SAID = st.text(max_size=12).map(lambda text: text.strip() or "x")
CONTEXT = 64


def preference(question: str, chosen: str | None, rejected: str | None) -> Preference:
    better, worse = (None if text is None else Turn("assistant", text) for text in (chosen, rejected))
    return Preference((Turn("user", question),), better, worse)


def made(
    folder: Path, preferences: list[Preference], tokenizer: Tokenizer, packing: PreferencePacking | None = None
) -> PackedPreferences:
    packing = packing or PreferencePacking(CONTEXT)
    write_preferences(preferences, tokenizer, folder, packing)
    return PackedPreferences(folder, folder.name, packing.context_length, tokenizer.vocab_size)


def sequences(row: Row) -> list[tuple[list[int], list[int], int, int]]:
    """(ids, ids of the answer, target, group) of each answer of a row."""
    assert row.answers is not None and row.groups is not None
    found = []
    for segment in range(len(row.tokens)):
        if row.groups[segment] < 0:
            continue
        places = row.segments == segment
        answer = [int(token) for token in row.answers[places] if token != IGNORE]
        ids = [*row.tokens[places].tolist(), answer[-1]]
        assert row.answers[places][: -len(answer)].tolist() == [IGNORE] * (len(ids) - 1 - len(answer))
        assert row.positions[places].tolist() == list(range(len(ids) - 1))
        found.append((ids, answer, int(row.targets[segment]), int(row.groups[segment])))
    return found


def spelt(tokenizer: Tokenizer, question: str, answer: str) -> list[int]:
    return encode_conversation(tokenizer, [Turn("user", question), Turn("assistant", answer)]).ids


@RELAXED
@given(said=st.lists(st.tuples(SAID, SAID, SAID), min_size=1, max_size=12))
def test_every_pair_is_in_one_row_and_decodes_to_what_was_said(
    said: list[tuple[str, str, str]], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    wanted = sorted(
        (spelt(tokenizer, question, better), spelt(tokenizer, question, worse)) for question, better, worse in said
    )
    rows = made(tmp_path, [preference(*each) for each in said], tokenizer, PreferencePacking(512))
    found = []
    for index in range(rows.num_rows):
        by_group: dict[int, list[tuple[list[int], list[int], int, int]]] = {}
        for each in sequences(rows.row(index)):
            by_group.setdefault(each[3], []).append(each)
        for better, worse in by_group.values():
            assert (better[2], worse[2]) == (1, IGNORE)
            found.append((better[0], worse[0]))
            for ids, answer, _, _ in (better, worse):
                assert answer[-1] == tokenizer.turn_end_id
                assert ids[: -len(answer)][-1] == tokenizer.role_ids["assistant"]
    assert sorted(found) == wanted
    assert rows.summary["compared"] == rows.summary["preferences"] == len(said)


def test_groups_hold_judged_answers_and_the_same_answers_to_other_prompts(tokenizer: Tokenizer, tmp_path: Path) -> None:
    judged = [
        preference(f"Q{i}?", f"yes {i}", None) if i % 2 else preference(f"Q{i}?", None, f"no {i}") for i in range(7)
    ]
    rows = made(tmp_path, judged, tokenizer, PreferencePacking(512, group_size=3))
    groups = [group for index in range(rows.num_rows) for group in _groups(rows.row(index))]
    sizes = sorted(len(group) // 2 for group in groups)
    assert sizes == [3, 3], "the seventh would be alone"
    assert rows.summary["dropped_left_over"] == 1 and rows.summary["compared"] == 6
    for group in groups:
        known, others = group[: len(group) // 2], group[len(group) // 2 :]
        assert {target for _, _, target, _ in known} == {0, 1}
        assert {target for _, _, target, _ in others} == {IGNORE}
        answers = [answer for _, answer, _, _ in known]
        assert [answer for _, answer, _, _ in others] == answers[-1:] + answers[:-1]
        prompts = [[ids[: -len(answer)] for ids, answer, _, _ in side] for side in (known, others)]
        assert prompts[0] == prompts[1]


def _groups(row: Row) -> list[list[tuple[list[int], list[int], int, int]]]:
    found: dict[int, list[tuple[list[int], list[int], int, int]]] = {}
    for each in sequences(row):
        found.setdefault(each[3], []).append(each)
    return list(found.values())


def test_no_answer_of_a_pair_is_mismatched_with_its_own_prompt(tokenizer: Tokenizer, tmp_path: Path) -> None:
    pairs = [preference(f"Q{i}?", f"yes {i}", f"no {i}") for i in range(4)]
    rows = made(tmp_path, pairs, tokenizer, PreferencePacking(512, group_size=2))
    for index in range(rows.num_rows):
        for group in _groups(rows.row(index)):
            known = {tuple(ids) for ids, _, target, _ in group if target != IGNORE}
            others = {tuple(ids) for ids, _, target, _ in group if target == IGNORE}
            assert len(known) == 4 and not known & others


def test_what_is_too_long_is_dropped_or_cut_and_counted(tokenizer: Tokenizer, tmp_path: Path) -> None:
    long = "word " * 60
    pairs = [preference("Q?", "a", "b"), preference("Q?", f"{long}a", "b"), preference(long * 2, "a", "b")]
    dropped = made(tmp_path / "drop", pairs, tokenizer)
    assert dropped.summary["dropped_too_long"] == 2 and dropped.summary["compared"] == 1
    cut = made(tmp_path / "cut", pairs, tokenizer, PreferencePacking(CONTEXT, "truncate"))
    assert cut.summary["dropped_too_long"] == 1 and cut.summary["truncated"] == 1 and cut.summary["compared"] == 2
    found = [each for index in range(cut.num_rows) for each in sequences(cut.row(index))]
    ends = [answer[-1] == tokenizer.turn_end_id for _, answer, _, _ in found]
    assert ends.count(False) == 1, "the end of an answer that was cut is not learnt"


def test_answers_that_are_the_same_once_cut_are_dropped(tokenizer: Tokenizer, tmp_path: Path) -> None:
    long = "word " * 60
    pairs = [preference("Q?", "a", "b"), preference("Q?", f"{long}a", f"{long}b")]
    rows = made(tmp_path, pairs, tokenizer, PreferencePacking(CONTEXT, "truncate"))
    assert rows.summary["dropped_same_when_cut"] == 1 and rows.summary["compared"] == 1


def test_nothing_that_fits_is_an_error(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no preference fits a row"):
        made(tmp_path, [preference("word " * 200, "a", "b")], tokenizer)


def test_a_folder_of_another_context_or_a_damaged_row_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    rows = made(tmp_path, [preference("Q?", "a", "b")], tokenizer)
    with pytest.raises(DataError, match="another context"):
        PackedPreferences(tmp_path, "p", CONTEXT + 1, tokenizer.vocab_size)
    (file,) = tmp_path.glob("rows-*.bin")
    damaged = np.fromfile(file, "<i4")
    damaged[3] = tokenizer.vocab_size
    damaged.tofile(file)
    with pytest.raises(DataError, match="outside the vocabulary"):
        rows.row(0)
    with pytest.raises(IndexError):
        rows.row(1)


def test_references_are_read_by_row(tokenizer: Tokenizer, tmp_path: Path) -> None:
    pairs = [preference(f"Q{i}?", "yes " * 6, "no " * 6) for i in range(5)]
    plain = made(tmp_path / "rows", pairs, tokenizer)
    reference = np.arange(plain.num_rows * CONTEXT, dtype="<f4").reshape(plain.num_rows, CONTEXT)
    (tmp_path / "reference").mkdir()
    write_array(tmp_path / "reference" / REFERENCES_FILE, reference)
    rows = PackedPreferences(tmp_path / "rows", "p", CONTEXT, tokenizer.vocab_size, tmp_path / "reference")
    assert rows.num_rows > 1
    for index in range(rows.num_rows):
        found, without = rows.row(index).references, plain.row(index).references
        assert found is not None and without is not None
        assert np.array_equal(found, reference[index]) and not without.any()


def test_batches_of_text_and_preferences_say_which_rows_compare(tokenizer: Tokenizer, tmp_path: Path) -> None:
    row = made(tmp_path, [preference("Q?", "a", "b")], tokenizer).row(0)
    text = Row(row.tokens, row.tokens, row.segments, row.positions)
    batch = collate([text, row], [0, 1])
    assert batch.answers is not None and batch.groups is not None and batch.references is not None
    assert (batch.answers[0] == IGNORE).all() and (batch.groups[0] == -1).all() and not batch.references[0].any()
    assert (batch.groups[1] >= 0).sum() == 2
    assert set(batch.inputs()) == {"tokens", "segments", "positions", "answers", "groups", "references"}
    assert set(collate([text], [0]).inputs()) == {"tokens", "segments", "positions"}
    assert (
        prompt_ids(tokenizer, [Turn("user", "Q?")]) == row.tokens[: int((row.answers == IGNORE).argmin()) + 1].tolist()
    )
