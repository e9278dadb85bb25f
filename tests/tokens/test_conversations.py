from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup import config
from groundup.errors import DataError, RecipeError, first_line
from groundup.tokens import Conversation, InstructSourceConfig, Turn, instruct_identity, read_conversations
from groundup.tokens.conversations import ConversationReading

USER, ASSISTANT = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}
GOOD = {"messages": [USER, ASSISTANT], "task": "greeting", "country": None, "score": 0.5, "nested": {"a": 1}}
ALPACA = {"instruction": "Say it.", "input": "", "output": "It."}


def write(path: Path, records: list[Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def reading(path: Path, **settings: Any) -> ConversationReading:
    return read_conversations(InstructSourceConfig(name="questions", path=str(path), **settings), path.parent)


def check_adds_up(account: dict[str, Any], total: int) -> None:
    assert account["total"] == total == account["accepted"] + sum(account["rejected"].values())


def test_formats_are_recognised_record_by_record(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = reading(write(tmp_path / "a.jsonl", [GOOD, ALPACA]))
    with caplog.at_level(logging.INFO, logger="groundup"):
        conversations = list(found)
    assert conversations == [
        Conversation(
            "a.jsonl:1",
            (Turn("user", "hi"), Turn("assistant", "hello")),
            "questions",
            {"task": "greeting", "score": 0.5},
        ),
        Conversation("a.jsonl:2", (Turn("user", "Say it."), Turn("assistant", "It.")), "questions", {}),
    ]
    assert found.account()["formats"] == {"alpaca": 1, "messages": 1}
    assert "2 conversations (alpaca, messages) from 1 file (JSON lines)" in caplog.text


def test_alpaca_fields_become_turns(tmp_path: Path) -> None:
    record = {**ALPACA, "input": "Now", "system": "Be brief.", "history": [["a", "b"], ["c", "d"]], "kind": "short"}
    (conversation,) = reading(write(tmp_path / "a.jsonl", [record]))
    roles_and_texts = [(turn.role, turn.text) for turn in conversation.turns]
    assert roles_and_texts == [
        ("system", "Be brief."), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"),
        ("user", "Say it.\nNow"), ("assistant", "It."),
    ]  # fmt: skip
    assert conversation.metadata == {"kind": "short"}


def test_sharegpt_speakers_become_roles(tmp_path: Path) -> None:
    said = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}, {"from": "user", "value": "c"}]
    record = {"conversations": [*said, {"from": "assistant", "value": "d"}], "system": "Be brief.", "id": "x1"}
    (conversation,) = reading(write(tmp_path / "a.jsonl", [record]))
    roles_and_texts = [(turn.role, turn.text) for turn in conversation.turns]
    assert roles_and_texts == [
        ("system", "Be brief."), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"),
    ]  # fmt: skip
    assert conversation.metadata == {"id": "x1"}


BAD: dict[str, Any] = {
    "conversations is not a list": {"conversations": None},
    "no value": {"conversations": [{"from": "human"}, {"from": "gpt", "value": "b"}]},
    "messages is not a list": {"messages": "hi"},
    "message is not an object": {"messages": ["hi"]},
    "no turns": {"messages": []},
    "unknown role (say whose it is by roles: {NAME: user})": {"messages": [{"role": "Assistant", "content": "x"}]},
    "no content": {"messages": [{"role": "user"}, ASSISTANT]},
    "content is not a string": {"messages": [{"role": "user", "content": [1]}, ASSISTANT]},
    "empty content": {"messages": [{"role": "user", "content": " \n"}, ASSISTANT]},
    "message with keys that would be ignored": {"messages": [{**USER, "weight": 0.5}, ASSISTANT]},
    "does not end with the assistant": {"messages": [USER, ASSISTANT, USER]},
    "does not begin with the user": {"messages": [ASSISTANT]},
    "two turns of one role in a row": {"messages": [USER, USER, ASSISTANT]},
    "system turn not at the start": {"messages": [USER, {"role": "system", "content": "x"}, ASSISTANT]},
    "lone surrogate (not a character)": {"messages": [{"role": "user", "content": "\ud800"}, ASSISTANT]},
    "no output": {"instruction": "x"},
    "empty answer": {"question": "x", "answer": "\u200b\ufeff\u3000"},
    "empty instruction": {**ALPACA, "instruction": ""},
    "output is not a string": {**ALPACA, "output": 42},
    "input is not a string": {**ALPACA, "input": {"a": 1}},
    "history is not a list": {**ALPACA, "history": "a"},
    "history is not of pairs of strings": {**ALPACA, "history": [["a", None]]},
    "empty turn in history": {**ALPACA, "history": [["a", " "]]},
    "unknown format: none of messages, conversations, instruction, prompt, question": {
        "dialog": [{"from": "human", "value": "hi"}]
    },
    "not a JSON object": [1, 2],
}


def test_every_bad_record_is_rejected_with_its_own_reason(tmp_path: Path) -> None:
    found = reading(write(tmp_path / "a.jsonl", [GOOD, *BAD.values(), ALPACA]))
    assert len(list(found)) == 2
    account = found.account()
    assert account["rejected"] == dict.fromkeys(sorted(BAD), 1)
    check_adds_up(account, len(BAD) + 2)
    for number, reason in enumerate(BAD, start=2):
        assert account["rejected_samples"][reason][0].startswith(f"a.jsonl:{number}")


def test_speakers_that_nobody_knows_are_shown_with_what_names_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said = [{"role": "Kunde", "content": "a"}, {"role": "assistant", "content": "b"}]
    path = write(tmp_path / "a.jsonl", [{"messages": said}])
    with pytest.raises(DataError, match=r"unknown role \(say whose it is by roles: \{NAME: user\}\)") as caught:
        list(reading(path))
    assert caught.value.details == ["a.jsonl:1 Kunde"]
    assert "roles: {NAME: user}" in first_line(caught.value)
    list(reading(write(tmp_path / "b.jsonl", [{"messages": said}, GOOD])))
    assert "roles: {NAME: user}" in caplog.text and "b.jsonl:1 Kunde" in caplog.text


def test_a_second_pass_gives_the_same_account(tmp_path: Path) -> None:
    found = reading(write(tmp_path / "a.jsonl", [GOOD, {"messages": []}]))
    first = (list(found), found.account())
    assert (list(found), found.account()) == first


@pytest.mark.parametrize("records", [[GOOD, GOOD], [ALPACA, {**ALPACA, "history": [["a", "b"]]}]])
@pytest.mark.parametrize("layout", ["array", "pretty", "data", "gz", "zst", "folder"])
def test_layouts_and_compression(tmp_path: Path, records: list[Any], layout: str) -> None:
    lines = "".join(json.dumps(record) + "\n" for record in records).encode()
    path = tmp_path / {"gz": "a.jsonl.gz", "zst": "a.jsonl.zst", "folder": "b/a.jsonl"}.get(layout, "a.json")
    path.parent.mkdir(exist_ok=True)
    content = {
        "array": json.dumps(records).encode(),
        "pretty": json.dumps(records, indent=2).encode(),
        "data": json.dumps({"data": records, "version": 1}).encode(),
        "gz": gzip.compress(lines),
        "zst": zstandard.compress(lines),
        "folder": lines,
    }[layout]
    path.write_bytes(content)
    found = reading(path.parent if layout == "folder" else path)
    assert len(list(found)) == 2
    check_adds_up(found.account(), 2)


def test_a_file_of_one_object_is_one_conversation(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(GOOD, indent=2))
    found = reading(tmp_path / "a.json")
    assert [len(conversation.turns) for conversation in found] == [2]
    check_adds_up(found.account(), 1)


def test_damaged_and_foreign_files_are_counted_and_others_read(tmp_path: Path) -> None:
    write(tmp_path / "good.jsonl", [GOOD])
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(json.dumps(GOOD).encode() * 50)[:-9])
    (tmp_path / "binary.jsonl").write_bytes(bytes(range(256)) * 9)
    (tmp_path / "notes.txt").write_text("plain text\n")
    (tmp_path / "table.csv").write_text("instruction,output\na,b\nc,d\n")
    found = reading(tmp_path)
    assert len(list(found)) == 3
    check_adds_up(found.account(), 6)
    assert "text file: give JSON lines, JSON, CSV, Parquet or Arrow" in found.rejected


def test_nothing_usable_is_an_error_with_the_reason(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"text": "plain"}] * 3)
    with pytest.raises(DataError) as caught:
        list(reading(path))
    assert "3 rejected: unknown format" in first_line(caught.value)
    with pytest.raises(DataError, match="no such file"):
        reading(tmp_path / "missing.jsonl")


def test_a_named_format_is_required_of_every_record(tmp_path: Path) -> None:
    found = reading(write(tmp_path / "a.jsonl", [GOOD, ALPACA]), format="alpaca")
    assert len(list(found)) == 1
    assert found.account()["rejected"] == {"no instruction": 1}


def test_white_space_around_a_turn_is_cut_and_counted(tmp_path: Path) -> None:
    record = {"messages": [{"role": "user", "content": " hi\n"}, ASSISTANT]}
    found = reading(write(tmp_path / "a.jsonl", [record]))
    assert next(iter(list(found))).turns[0].text == "hi"
    assert found.account()["trimmed_turns"] == 1


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["user", "assistant"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "messages", "instruction", "output", "history"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(JSON, max_size=12))
def test_any_records_are_accounted_for(tmp_path_factory: pytest.TempPathFactory, records: list[Any]) -> None:
    found = reading(write(tmp_path_factory.mktemp("any") / "a.jsonl", [*records, GOOD]))
    accepted = list(found)
    check_adds_up(found.account(), len(records) + 1)
    assert len(accepted) == found.account()["accepted"]
    assert all(conversation.turns[-1].role == "assistant" for conversation in accepted)


def test_a_conversation_survives_json(tmp_path: Path) -> None:
    (conversation,) = reading(write(tmp_path / "a.jsonl", [GOOD]))
    assert Conversation.from_dict(json.loads(json.dumps(conversation.as_dict()))) == conversation


def test_identity_follows_content_and_not_place(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    here, there = write(tmp_path / "a.jsonl", [GOOD]), write(tmp_path / "b" / "a.jsonl", [GOOD])

    def identity(path: Path, **settings: Any) -> str:
        source = InstructSourceConfig(name="q", path=str(path), **settings)
        return config.digest(instruct_identity(source, tmp_path))

    assert identity(here) == identity(there)
    assert identity(here) != identity(here, overlong="truncate")
    write(there, [GOOD, GOOD])
    assert identity(here) != identity(there)


@pytest.mark.parametrize("path", ["", "https://example.org/a.jsonl", "a\0b"])
def test_paths_that_are_not_local_are_refused(path: str) -> None:
    with pytest.raises(RecipeError, match="path"):
        config.build(InstructSourceConfig, {"name": "q", "path": path}, "recipe")
