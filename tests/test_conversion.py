"""Public forms become records that recipes read, each one accounted for."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from groundup import cli
from groundup.conversion import Options, convert
from groundup.errors import DataError, RecipeError

SQUAD = {
    "version": "1.1",
    "data": [
        {
            "title": "t",
            "paragraphs": [
                {
                    "context": "Anna lives in Oslo.",
                    "qas": [
                        {
                            "id": "1",
                            "question": "Where?",
                            "answers": [{"text": "Oslo", "answer_start": 14}, {"text": "in Oslo", "answer_start": 11}],
                        },
                        {"id": "2", "question": "When?", "answers": [], "is_impossible": True},
                        {"id": "3", "question": None, "answers": []},
                    ],
                }
            ],
        }
    ],
}
FLAT = {"id": "9", "context": "c", "question": "q", "answers": {"text": ["x", "x"], "answer_start": [0, 0]}}
CMRC = [{"context_text": "北京。", "qas": [{"query_text": "哪里？", "query_id": "q1", "answers": ["北京", "北京"]}]}]


def converted(folder: Path, form: str, values: Any, **options: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    source, output = folder / "in.json", folder / "out.jsonl"
    source.write_text(json.dumps(values), encoding="utf-8")
    account = convert(form, [str(source)], str(output), Options(**options))
    return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()], account.as_dict()


def test_nested_questions(tmp_path: Path) -> None:
    found, account = converted(tmp_path, "squad", SQUAD)
    assert found == [
        {
            "id": "1",
            "context": "Anna lives in Oslo.",
            "question": "Where?",
            "answers": ["Oslo", "in Oslo"],
            "answer": "Oslo",
            "spans": {"text": ["Oslo", "in Oslo"], "answer_start": [14, 11]},
        }
    ]
    assert (account["total"], account["accepted"], sum(account["rejected"].values())) == (3, 1, 2)
    found, account = converted(tmp_path, "squad", SQUAD, no_answer="unknown")
    assert [record["answer"] for record in found] == ["Oslo", "unknown"]
    assert found[1]["spans"] == {"text": [], "answer_start": []}


def test_answers_are_where_they_stand(tmp_path: Path) -> None:
    """A wrong place, and none at all, are that of the first; what stands nowhere is no span."""
    answers = [{"text": "Oslo", "answer_start": 3}, {"text": "Anna"}, {"text": "Rome", "answer_start": 0}]
    record = {"id": "7", "context": "Anna lives in Oslo.", "question": "?", "answers": answers}
    found, _ = converted(tmp_path, "squad", [record])
    assert found[0]["spans"] == {"text": ["Oslo", "Anna"], "answer_start": [14, 0]}


@pytest.mark.parametrize(("values", "answer"), [([FLAT], "x"), (CMRC, "北京")])
def test_flat_and_chinese_questions(tmp_path: Path, values: Any, answer: str) -> None:
    found, _ = converted(tmp_path, "squad", values)
    assert [(record["answer"], record["answers"]) for record in found] == [(answer, [answer])]
    start = {"x": [], "北京": [0]}[answer]
    assert found[0]["spans"] == {"text": [answer] * len(start), "answer_start": start}


def test_parallel_files(tmp_path: Path) -> None:
    (tmp_path / "x.en").write_text("\ufeffOne \n\nThree\n", encoding="utf-8")
    with gzip.open(tmp_path / "x.zh.gz", "wt", encoding="utf-8") as handle:
        handle.write("一\n二\n三\n")
    output = tmp_path / "out.jsonl.gz"
    account = convert("parallel", [str(tmp_path / "x.en"), str(tmp_path / "x.zh.gz")], str(output))
    with gzip.open(output, "rt", encoding="utf-8") as handle:
        assert [json.loads(line) for line in handle] == [{"en": "One", "zh": "一"}, {"en": "Three", "zh": "三"}]
    assert account.as_dict()["rejected"] == {"an empty line on one side": 1}


@pytest.mark.parametrize(("zh", "word"), [(b"\xe4\xb8\x80\n", "ends at line 2"), (b"\xff\n\n", "UTF-8")])
def test_files_that_do_not_match_leave_nothing(tmp_path: Path, zh: bytes, word: str) -> None:
    (tmp_path / "x.en").write_text("One\nTwo\n")
    (tmp_path / "x.zh").write_bytes(zh)
    with pytest.raises(DataError, match=word):
        convert("parallel", [str(tmp_path / "x.en"), str(tmp_path / "x.zh")], str(tmp_path / "out.jsonl"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.en", "x.zh"]


MULTIWOZ = [
    {
        "dialogue_id": "d",
        "turns": [
            {"speaker": "USER", "utterance": "A taxi please.", "turn_id": "0", "frames": []},
            {"speaker": "SYSTEM", "utterance": "Where to?", "turn_id": "1", "frames": []},
            {"speaker": "USER", "utterance": "The station.", "turn_id": "2", "frames": []},
            {"speaker": "SYSTEM", "utterance": "Booked.", "turn_id": "3", "frames": []},
            {"speaker": "USER", "utterance": "Bye.", "turn_id": "4", "frames": []},
        ],
    },
    {"turns": [{"speaker": "GHOST", "utterance": "Boo."}]},
    {"turns": "none"},
    {"log": [{"text": "Hello?"}, {"text": "Hello!"}]},
]


def test_dialogues_and_their_turns(tmp_path: Path) -> None:
    found, account = converted(tmp_path, "dialogues", MULTIWOZ)
    roles = [[message["role"] for message in record["messages"]] for record in found]
    assert roles == [["user", "assistant"] * 2, ["user", "assistant"]]
    assert (account["total"], account["accepted"]) == (4, 2)
    found, _ = converted(tmp_path, "dialogues", MULTIWOZ, turns=True)
    assert [record["reference"] for record in found] == ["Where to?", "Booked.", "Hello!"]
    assert [len(record["history"]) for record in found] == [1, 3, 1]
    assert all(record["messages"][-1]["content"] == record["reference"] for record in found)


def test_a_system_turn_at_the_start_stays_one(tmp_path: Path) -> None:
    turns = [{"role": role, "content": role} for role in ("system", "user", "assistant")]
    found, _ = converted(tmp_path, "dialogues", [{"messages": turns}])
    assert found == [{"messages": turns}]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in.json").write_text(json.dumps(SQUAD))
    given = [str(tmp_path / "in.json"), str(tmp_path / "out.jsonl")]
    assert cli.main(["convert", "squad", *given, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accepted"] == 1
    assert cli.main(["convert", "squad", *given]) == 0
    assert "1 of 3 records" in capsys.readouterr().out
    assert cli.main(["convert", "squid", *given]) == 2
    assert cli.main(["convert", "squad", given[0]]) == 2
    assert cli.main(["convert", "dialogues", *given]) == 3
    assert cli.main(["convert", "parallel", *given]) == 2
    assert cli.main(["convert", "squad", given[0], str(tmp_path / "no" / "out.jsonl")]) == 3
    with pytest.raises(RecipeError):
        convert("parallel", ["a.en", "b.en"], str(tmp_path / "x"))
