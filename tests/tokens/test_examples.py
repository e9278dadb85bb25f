"""Labelled records: every one accepted or rejected with its reason; packed so that each can be read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from pydantic import ValidationError

from groundup.errors import DataError
from groundup.tokens import (
    CONTROL_TOKENS,
    ENCODER_TOKENS,
    IGNORE,
    Example,
    ExampleReading,
    PackedExamples,
    TaskSourceConfig,
    Tokenizer,
    TokenizerConfig,
    heads_of,
    labels_of,
    train_tokenizer,
    write_examples,
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    texts = ["the river bank of Zürich, 北京 and the sea"] * 9
    train_tokenizer(TokenizerConfig(vocab_size=300), texts, folder, (*CONTROL_TOKENS, *ENCODER_TOKENS))
    return Tokenizer.load(folder)


def read(path: Path, kind: Any, **fields: str) -> tuple[list[Example], dict[str, Any]]:
    reading = ExampleReading(TaskSourceConfig(name="s", path=str(path), **fields), kind, path.parent)
    return list(reading), reading.account()


def lines(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def test_bad_records_are_rejected_by_name(tmp_path: Path) -> None:
    good = [{"text": "a", "label": 1}, {"text": "b", "label": "yes"}, {"text": "c", "label": True}]
    bad = [{"text": "a"}, {"text": " ", "label": 1}, {"text": 3, "label": 1}, {"text": "a", "label": None},
           {"text": "a", "label": [1]}, {"text": "\ud800", "label": 1}, 5]  # fmt: skip
    found, account = read(lines(tmp_path / "x.jsonl", *good, *bad), "sequence")
    assert [example.label for example in found] == ["1", "yes", "true"]
    assert account["accepted"] == 3
    assert account["total"] == 10 == account["accepted"] + sum(account["rejected"].values())
    assert {"no field 'label'", "field 'text' is empty", "field 'text' is no text", "no label"} <= account[
        "rejected"
    ].keys()


def test_tables_with_and_without_a_header(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('sentence\tmark\nit\'s "fine"\t1\nbad\t0\n')
    (tmp_path / "b.csv").write_text('"fine, really",1\nbad,0\n')
    named, _ = read(tmp_path / "a.tsv", "sequence", text_field="sentence", label_field="mark")
    numbered, _ = read(tmp_path / "b.csv", "sequence", text_field="#1", label_field="#2")
    assert [(e.text, e.label) for e in named] == [('it\'s "fine"', "1"), ("bad", "0")]
    assert [(e.text, e.label) for e in numbered] == [("fine, really", "1"), ("bad", "0")]


def test_numbers_words_and_spans(tmp_path: Path) -> None:
    records = [{"text": "a", "label": v} for v in (1, "2.5", -3e4, "x", float("inf"), True)]
    found, account = read(lines(tmp_path / "n.jsonl", *records), "number")
    assert [e.number for e in found] == [1.0, 2.5, -3e4]
    assert sum(account["rejected"].values()) == 3
    words, account = read(
        lines(tmp_path / "w.jsonl", {"text": ["a", "b"], "label": ["O", "B"]}, {"text": "a b", "label": "O"}), "token"
    )
    assert words[0].labels == ("O", "B")
    assert account["rejected"] == {"2 words with 1 labels": 1}
    right = {"text": ["bank"], "answer_start": [10]}
    wrong = {"text": ["bank"], "answer_start": [9]}
    spans = [{"text": "the river bank", "q": "where?", "label": label} for label in (right, wrong, [], "no")]
    found, account = read(lines(tmp_path / "s.jsonl", *spans), "span", pair_field="q")
    assert [e.answers for e in found] == [(("bank", 10),), ()]
    assert account["rejected"]["an answer that does not stand where answer_start says"] == 1


def test_numbers_of_labels_that_the_recipe_names(tmp_path: Path) -> None:
    path = lines(tmp_path / "x.jsonl", *({"text": "a", "label": label} for label in (0, 1.0, "pos", "1", 2, "odd")))

    def found(*names: str) -> list[str]:
        source = TaskSourceConfig(name="s", path=str(path))
        return [each.label for each in ExampleReading(source, "sequence", tmp_path, names)]

    assert found("neg", "pos") == ["neg", "pos", "pos", "pos", "2", "odd"]
    assert found() == found("1", "0", "2") == ["0", "1", "pos", "1", "2", "odd"], "names that are numbers are names"


def test_several_labels_of_a_text(tmp_path: Path) -> None:
    good: list[Any] = [["a", 7], [], "a; b c", "['x', \"y\"]", "a", "", "3 1", [1.0, 0.0, 1.0], [True, False, False], 2]
    bad: list[Any] = [
        None,
        {"a": 1},
        ["a", "a"],
        [0, 1, 0],
        [0.5, 1.0],
        [1.0, 0.0],
        "[a, b",
        ["a", None],
        "a,,b",
        "[a b]",
    ]
    path = lines(tmp_path / "x.jsonl", *({"text": "t", "label": label} for label in (*good, *bad)))
    source = TaskSourceConfig(name="s", path=str(path))
    reading = ExampleReading(source, "multilabel", tmp_path, ("x", "y", "b c"))
    found = [each.labels for each in reading]
    assert found[: len(good)] == [
        ("a", "7"), (), ("a", "b c"), ("x", "y"), ("a",), (), ("3", "y"), ("x", "b c"), ("x",), ("b c",),
    ]  # fmt: skip
    assert reading.account()["rejected"] == {
        "no label": 3,
        "labels are a dict, no list": 1,
        "a label twice (one 0 or 1 for each label: write them as 0.0 and 1.0)": 2,
        "labels are numbers with decimals": 1,
        "a 0 or 1 for each of 2 labels: name so many in task.labels": 1,
        "labels are a list that is neither JSON nor Python": 2,
    }
    comma = TaskSourceConfig(name="s", path=str(lines(tmp_path / "y.jsonl", {"text": "t", "label": "rock, pop"})))
    assert [each.labels for each in ExampleReading(comma, "multilabel", tmp_path, ("rock, pop", "x"))] == [
        ("rock, pop",)
    ]


def test_several_labels_in_tables(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,label\none,"x,y"\ntwo,\nthree,"[""x"", ""z""]"\nfour,x|z\n')
    found, account = read(tmp_path / "a.csv", "multilabel")
    assert [each.labels for each in found] == [("x", "y"), (), ("x", "z"), ("x", "z")]
    table = pyarrow.table({"text": ["one", "two"], "label": [["x", "y"], []]})
    pyarrow.parquet.write_table(table, tmp_path / "b.parquet")
    found, account = read(tmp_path / "b.parquet", "multilabel")
    assert [each.labels for each in found] == [("x", "y"), ()]
    assert account["rejected"] == {}


def test_sets_of_labels_are_told_apart_and_read_back(tokenizer: Tokenizer, tmp_path: Path) -> None:
    names = [f"label {number}" for number in range(65)]
    sets = [("label 0", "label 30", "label 31"), (), ("label 64",), tuple(names)]
    examples = [Example(f"x:{i}", "the sea", labels=labels) for i, labels in enumerate(sets)]
    assert labels_of(examples, "multilabel")["label 31"] == 2
    with pytest.raises(DataError, match=r"all texts have the same labels \(a\)"):
        labels_of([Example("x", "a", labels=("a",))] * 2, "multilabel")
    assert heads_of("multilabel", 65) == ("", "labels_from_31", "labels_from_62")
    summary = write_examples(examples, "multilabel", names, tokenizer, tmp_path, 48)
    assert summary["targets"] == 4
    rows = PackedExamples(tmp_path, "x", 48, tokenizer.vocab_size)
    read_back = {}
    for index in range(rows.num_rows):
        targets = rows.row(index).targets
        assert targets.shape == (3, 48)
        for place, number, _ in rows.places(index):
            bits = [target >> bit & 1 for target in targets[:, place].tolist() for bit in range(31)]
            read_back[number] = tuple(name for name, bit in zip(names, bits) if bit)
            assert not any(bits[65:])
    assert [read_back[number] for number in range(4)] == sets
    with pytest.raises(DataError, match="x:2: label 'label 64' is none of those"):
        write_examples(examples[:3], "multilabel", names[:40], tokenizer, tmp_path, 48)


def test_fields_within_fields(tmp_path: Path) -> None:
    path = lines(tmp_path / "x.jsonl", {"data": {"text": "a", "mark": {"gold": 1}}, "a.b": "c"}, {"data": None})
    found, account = read(path, "sequence", text_field="data.text", label_field="data.mark.gold")
    assert [(each.text, each.label) for each in found] == [("a", "1")]
    assert account["rejected"] == {"no field 'data.text'": 1}
    found, _ = read(path, "sequence", text_field="a.b", label_field="data.mark.gold")
    assert [each.text for each in found] == ["c"]
    with pytest.raises(ValidationError, match="without braces"):
        TaskSourceConfig(name="s", path="x", text_field="{a}")


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no record of 's' can be used, 1 rejected"):
        read(lines(tmp_path / "x.jsonl", {"other": 1}), "sequence")


def test_labels_are_found_and_unknown_ones_named(tokenizer: Tokenizer, tmp_path: Path) -> None:
    examples = [Example(f"x:{i}", "the sea", label=str(i)) for i in (10, 9, 2)]
    assert list(labels_of([*examples, examples[0]], "sequence").items()) == [("2", 1), ("9", 1), ("10", 2)]
    with pytest.raises(DataError, match="only one label"):
        labels_of(examples[:1], "sequence")
    with pytest.raises(DataError, match="x:10: label '10' is none of those of training"):
        write_examples(examples, "sequence", ["2", "9"], tokenizer, tmp_path, 16)


def test_packed_examples_are_whole_and_read_back(tokenizer: Tokenizer, tmp_path: Path) -> None:
    texts = ["the river", "the sea " * 9, "北京", "bank"]
    examples = [Example(f"x:{i}", text, "and the sea", label="ab"[i % 2]) for i, text in enumerate(texts)]
    summary = write_examples(examples, "sequence", ["a", "b"], tokenizer, tmp_path, 24)
    assert summary["cut"] == 1
    rows = PackedExamples(tmp_path, "x", 24, tokenizer.vocab_size)
    ids, seen = tokenizer.need_encoder_ids(), {}
    for index in range(rows.num_rows):
        row = rows.row(index)
        assert row.parts is not None
        for place, number, _ in rows.places(index):
            own = row.segments == row.segments[place]
            assert row.positions[place] == 0
            first, second = (tokenizer.decode(row.tokens[own & (row.parts == part)].tolist()) for part in (0, 1))
            seen[number] = (first, second, int(row.targets[place]))
            assert (row.tokens[own] == ids.sep).sum() == 2
        assert (row.targets != IGNORE).sum() == len(rows.places(index)) <= summary["windows_per_row"]
    assert seen[0] == ("the river", "and the sea", 0)
    assert seen[2] == ("北京", "and the sea", 0)
    assert seen[3] == ("bank", "and the sea", 1)
    assert sorted(seen) == [0, 1, 2, 3]
    assert "the sea ".startswith(seen[1][0][:8])
    assert [each["expected"] for each in rows.examples()] == ["a", "b", "a", "b"]


def test_spans_lie_where_the_answer_is(tokenizer: Tokenizer, tmp_path: Path) -> None:
    text = "the bank of Zürich, 北京 and the sea"
    answers = ["Zürich", "北京", "the sea", "", "the sea"]
    examples = [Example(f"x:{i}", text, "where?", answers=((a, text.index(a)),)) for i, a in enumerate(answers[:3])]
    far = len(text) * 8 + text.index("the sea")
    examples += [Example("x:3", text, "who?"), Example("x:4", text * 9, "far?", answers=(("the sea", far),))]
    summary = write_examples(examples, "span", [], tokenizer, tmp_path, 64)
    rows = PackedExamples(tmp_path, "x", 64, tokenizer.vocab_size)
    found: dict[int, list[str]] = {}
    covered = set()
    for index in range(rows.num_rows):
        row = rows.row(index)
        assert row.parts is not None
        for place, number, first in rows.places(index):
            start, end = (int(target) for target in row.targets[:, place])
            own = (row.segments == row.segments[place]) & (row.parts == 1)
            if number == 4:
                covered |= set(range(first, first + int(own.sum()) - 1))
            if start == end == place:
                continue  # no answer, or none in this window
            found.setdefault(number, []).append(tokenizer.decode(row.tokens[start : end + 1].tolist()))
    for number, texts in found.items():
        assert all(answers[number] in each and len(each) <= len(answers[number]) + 2 for each in texts)
    assert sorted(found) == [0, 1, 2, 4], "one has no answer, and the far one is found by sliding"
    assert covered == set(range(len(tokenizer.encode(text * 9)))), "every token of a long text is in a window"
    assert summary["windows"] > summary["examples"] == 5
    assert summary["cut"] == 0


def test_numbers_and_words_come_back(tokenizer: Tokenizer, tmp_path: Path) -> None:
    write_examples([Example("x:0", "the sea", number=-2.5)], "number", [], tokenizer, tmp_path / "n", 16)
    target = PackedExamples(tmp_path / "n", "x", 16, tokenizer.vocab_size).row(0).targets[0]
    assert np.array([target], dtype=np.int32).view(np.float32)[0] == -2.5
    example = Example("x:0", "", words=("the", "river", "bank"), labels=("O", "B", "I"))
    write_examples([example], "token", ["B", "I", "O"], tokenizer, tmp_path / "w", 16)
    row = PackedExamples(tmp_path / "w", "x", 16, tokenizer.vocab_size).row(0)
    assert [int(t) for t in row.targets if t != IGNORE] == [2, 0, 1]
    with pytest.raises(DataError, match="another context"):
        PackedExamples(tmp_path / "w", "x", 32, tokenizer.vocab_size)
