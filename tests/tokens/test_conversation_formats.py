"""Record formats: what each becomes, how it is recognised, and which records are refused by name."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from groundup import config
from groundup.errors import DataError, RecipeError, first_line
from groundup.tokens import InstructSourceConfig, Turn, instruct_identity, read_conversations
from groundup.tokens.conversations import ConversationReading

Pairs = list[tuple[str, str]]
ASKED: Pairs = [("user", "q"), ("assistant", "a")]
RULED: Pairs = [("system", "s"), *ASKED]


def write(path: Path, records: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


def reading(path: Path, **values: Any) -> ConversationReading:
    source = config.build(InstructSourceConfig, {"name": "asked", "path": str(path), **values}, "recipe")
    return read_conversations(source, path.parent)


def pairs(turns: tuple[Turn, ...]) -> Pairs:
    return [(turn.role, turn.text) for turn in turns]


def said(path: Path, **values: Any) -> list[Pairs]:
    return [pairs(conversation.turns) for conversation in reading(path, **values)]


def message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


FORMS: dict[str, tuple[dict[str, Any], Pairs, str]] = {
    "prompt and completion": ({"prompt": "q", "completion": "a"}, ASKED, "prompt_completion"),
    "prompt and response": ({"prompt": "q", "response": "a", "system": "s"}, RULED, "prompt_completion"),
    "lists of trl": (
        {"prompt": [message("system", "s"), message("user", "q")], "completion": [message("assistant", "a")]},
        RULED,
        "prompt_completion",
    ),
    "question and answer": ({"question": "q", "answer": "a"}, ASKED, "question_answer"),
    "a context": (
        {"context": "c", "question": "q", "answer": "a"},
        [("user", "c\n\nq"), ("assistant", "a")],
        "question_answer",
    ),
    "OpenOrca": ({"system_prompt": "s", "question": "q", "response": "a"}, RULED, "question_answer"),
    "Dolly": (
        {"instruction": "q", "context": "c", "response": "a"},
        [("user", "q\nc"), ("assistant", "a")],
        "alpaca",
    ),
    "messages of ShareGPT": (
        {"messages": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        ASKED,
        "messages",
    ),
    "conversations of OpenAI": (
        {"conversations": [message("user", "q"), message("assistant", "a")]},
        ASKED,
        "sharegpt",
    ),
    "system beside messages": (
        {"system": "s", "messages": [message("user", "q"), message("assistant", "a")]},
        RULED,
        "messages",
    ),
    "a list of one text": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}, message("assistant", "a")]},
        ASKED,
        "messages",
    ),
    "messages before prompt": (
        {"prompt": "q", "messages": [message("user", "q"), message("assistant", "a")]},
        ASKED,
        "messages",
    ),
    "columns of other records": (
        {
            "messages": None,
            "prompt": None,
            "instruction": "q",
            "output": None,
            "response": "a",
            "chosen": None,
            "rejected": None,
        },
        ASKED,
        "alpaca",
    ),
    "letter case": ({"Question": "q", "Answer": "a"}, ASKED, "question_answer"),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_becomes_turns(name: str, tmp_path: Path) -> None:
    record, turns, known = FORMS[name]
    found = reading(write(tmp_path / "a.jsonl", [record]))
    assert [pairs(conversation.turns) for conversation in found] == [turns]
    assert found.account()["formats"] == {known: 1}


def test_six_schemas_in_one_file(tmp_path: Path) -> None:
    records = [
        {"instruction": "Say it.", "input": "", "output": "It."},
        {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yo"}]},
        {"messages": [message("user", "q"), message("assistant", "a")]},
        {"prompt": "p", "completion": "c"},
        {"question": "q", "answer": "a"},
        {"text": "plain"},
    ]
    found = reading(write(tmp_path / "a.jsonl", records))
    assert len(list(found)) == 5
    account = found.account()
    assert account["total"] == 6 == account["accepted"] + sum(account["rejected"].values())
    assert account["formats"] == dict.fromkeys(
        ["alpaca", "messages", "prompt_completion", "question_answer", "sharegpt"], 1
    )


PREFERENCES = [
    {"prompt": "q", "chosen": "a", "rejected": "b"},
    {"conversations": [{"from": "human", "value": "q"}], "chosen": {}, "rejected": {}},
    {"prompt": "q", "completion": "a", "label": True},
    {"prompt": "q", "completion": "a", "label": "False"},
    {"prompt": "q", "completion": "a", "chosen": "a", "rejected": None},
    {"messages": [message("user", "q"), message("assistant", "a")], "kto_tag": False},
]


def test_preferences_are_refused_by_name(tmp_path: Path) -> None:
    found = reading(write(tmp_path / "a.jsonl", [*PREFERENCES, {"question": "q", "answer": "a", "label": True}]))
    assert len(list(found)) == 1, "a label beside a question is metadata"
    assert found.account()["rejected"] == {"preference record: list it under preferences.sources": 6}
    with pytest.raises(DataError) as caught:
        list(reading(write(tmp_path / "b.jsonl", PREFERENCES)))
    assert "preferences.sources" in first_line(caught.value)


TABLE = [["Question", "Answer", "topic"], ["What?\nSay", 'That, "so"', "x"], ["为什么", "因为", "y"]]


@pytest.mark.parametrize("kind", ["csv", "tsv", "csv.gz", "parquet", "arrow"])
def test_tables_are_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    columns = {name: [row[i] for row in TABLE[1:]] for i, name in enumerate(TABLE[0])}
    if kind == "parquet":
        pq.write_table(pa.table(columns), path)
    elif kind == "arrow":
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, pa.table(columns).schema) as writer:
            writer.write_table(pa.table(columns))
    else:
        text = io.StringIO()
        csv.writer(text, delimiter="\t" if kind == "tsv" else ",", quoting=csv.QUOTE_ALL).writerows(TABLE)
        data = text.getvalue().encode()
        path.write_bytes(gzip.compress(data) if kind.endswith("gz") else data)
    found = reading(path)
    conversations = list(found)
    assert [pairs(each.turns) for each in conversations] == [[("user", q), ("assistant", a)] for q, a, _ in TABLE[1:]]
    assert [each.metadata for each in conversations] == [{"topic": "x"}, {"topic": "y"}]
    assert found.account()["columns"] == {"topic": 2}


def test_a_parquet_of_messages_with_columns_of_nothing(tmp_path: Path) -> None:
    records = [{"messages": [{**message("user", "q"), "name": None}, {**message("assistant", "a"), "name": None}]}]
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "a.parquet")
    assert said(tmp_path / "a.parquet") == [ASKED]


def test_folders_of_hugging_face_datasets(tmp_path: Path) -> None:
    good = {"question": "q", "answer": "a"}
    hub, saved = tmp_path / "hub", tmp_path / "saved"
    write(hub / "data/train-00000.jsonl", [good, good])
    write(hub / "data/test-00000.jsonl", [good])
    (hub / "README.md").write_text("---\nconfigs:\n- config_name: default\n---\n# A card\n")
    (hub / "my_dataset.py").write_text("open('MARKER', 'w')")
    assert len(said(hub)) == 2
    assert len(said(hub, dataset_split="test")) == 1
    assert len(said(hub, dataset_split="all")) == 3
    assert reading(hub).account()["skipped_files"]["my_dataset.py"].startswith("not a known file type")
    saved.mkdir()
    table = pa.Table.from_pylist([good])
    with (
        pa.OSFile(str(saved / "data-00000-of-00001.arrow"), "wb") as sink,
        pa.ipc.new_stream(sink, table.schema) as out,
    ):
        out.write_table(table)
    (saved / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    (saved / "dataset_info.json").write_text("{}")
    assert said(saved) == [ASKED]


def test_fields_of_the_recipe(tmp_path: Path) -> None:
    records = [
        {"meta": {"q": "Hi"}, "zh": "q", "en": "a", "rules": "s"},
        {"meta": {"q": "Ho"}, "zh": "q", "en": "a", "rules": ""},
    ]
    path = write(tmp_path / "a.jsonl", records)
    fields: dict[str, Any] = {"prompt": "zh", "completion": "en", "system": "rules"}
    assert said(path, fields=fields) == [RULED, ASKED]
    made = {"prompt": "Translate {{it}}, {meta.q}:\n{zh}", "completion": "en"}
    assert said(path, fields=made)[0][0] == ("user", "Translate {it}, Hi:\nq")
    dialog = [{"who": "Human", "what": "q"}, {"who": "Bot", "what": "a"}]
    path = write(tmp_path / "b.jsonl", [{"dialog": dialog}])
    fields = {"messages": "dialog", "role": "who", "content": "what"}
    assert said(path, fields=fields, roles={"Human": "user", "Bot": "assistant"}) == [ASKED]


def test_columns_by_number(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("q\ta\nq\ta\n")
    assert said(tmp_path / "a.tsv", fields={"prompt": "#1", "completion": "#2"}) == [ASKED, ASKED]


def test_a_field_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"frage": "q", "antwort": "a"}])
    with pytest.raises(DataError) as caught:
        said(path, fields={"prompt": "question", "completion": "antwort"})
    assert "no field 'question'" in first_line(caught.value)
    assert "found: frage, antwort" in "".join(caught.value.details)
    with pytest.raises(DataError) as caught:
        said(path)
    assert "`fields`" in first_line(caught.value)
    assert "found: frage, antwort" in "".join(caught.value.details)


@pytest.mark.parametrize(
    "values",
    [
        {"fields": {"prompt": "q"}},
        {"fields": {"messages": "m", "prompt": "q", "completion": "a"}},
        {"fields": {"messages": "m", "role": "r"}},
        {"fields": {"system": "s"}},
        {"fields": {"prompt": "{q", "completion": "a"}},
        {"fields": {"prompt": "q", "completion": "a"}, "format": "alpaca"},
        {"fields": {"question": "q"}},
        {"roles": {"Bot": "robot"}},
        {"tools": "maybe"},
    ],
)
def test_settings_that_contradict_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(RecipeError):
        config.build(InstructSourceConfig, {"name": "a", "path": "a.jsonl", **values}, "recipe")


CALL = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
TOOLED = {
    "messages": [
        message("user", "q"),
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "2", "tool_call_id": "1", "name": "add"},
        message("assistant", "a"),
    ],
    "tools": [{"name": "add"}],
}
SHARED = {
    "conversations": [
        {"from": "human", "value": "q"},
        {"from": "function_call", "value": '{"name": "add"}'},
        {"from": "observation", "value": "2"},
        {"from": "gpt", "value": "a"},
    ],
    "tools": "",
}


def test_tools_are_refused_by_name_or_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [TOOLED, SHARED, {"question": "q", "answer": "a"}])
    found = reading(path)
    assert len(list(found)) == 1
    assert found.account()["rejected"] == {"tool turns (set tools: keep to train on them)": 2}
    kept = reading(path, tools="keep")
    first, second, _ = (pairs(each.turns) for each in kept)
    assert first == [
        ("system", '{"name": "add"}'),
        ("user", "q"),
        ("assistant", '{"name": "add", "arguments": {"a": 1}}'),
        ("tool", "2"),
        ("assistant", "a"),
    ]
    assert [role for role, _ in second] == ["user", "assistant", "tool", "assistant"]
    assert kept.account()["tool_turns"] == 2


BAD_TOOLS: dict[str, list[Any]] = {
    "tool turn not between turns of the assistant": [
        message("user", "q"),
        message("tool", "2"),
        message("assistant", "a"),
    ],
    "tool call without a name": [message("user", "q"), {"role": "assistant", "tool_calls": [{"function": {}}]}],
    "arguments of a tool call are no JSON": [
        message("user", "q"),
        {"role": "assistant", "tool_calls": [{"name": "x", "arguments": "{"}]},
    ],
    "tool_calls is not a list": [message("user", "q"), {"role": "assistant", "tool_calls": "x"}],
}


@pytest.mark.parametrize("reason", BAD_TOOLS)
def test_bad_turns_of_tools_are_refused(reason: str, tmp_path: Path) -> None:
    good = {"question": "q", "answer": "a"}
    found = reading(write(tmp_path / "a.jsonl", [{"messages": BAD_TOOLS[reason]}, good]), tools="keep")
    assert len(list(found)) == 1
    assert found.account()["rejected"] == {reason: 1}


def test_what_is_not_said_leaves_the_identity_as_it_was(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"question": "q", "answer": "a"}])

    def identity(**values: Any) -> dict[str, Any]:
        source = config.build(InstructSourceConfig, {"name": "a", "path": str(path), **values}, "recipe")
        return instruct_identity(source, tmp_path)

    assert identity().keys() == {"name", "format", "overlong", "max_conversation_bytes", "files"}
    for values in ({"tools": "keep"}, {"roles": {"x": "user"}}, {"fields": {"prompt": "q", "completion": "a"}}):
        assert identity(**values) != identity()


def test_a_column_that_is_there_twice_is_no_question(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("question,question,answer\nq,r,a\n")
    (tmp_path / "b.csv").write_text("question,note,note,answer\nq,1,2,a\n")
    found = reading(tmp_path)
    assert [pairs(each.turns) for each in found] == [ASKED]
    assert found.account()["rejected"] == {"two columns 'question'": 1}
