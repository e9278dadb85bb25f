"""A task as a whole: every record accounted for, limits, groups, clean items, solved examples, flat memory."""

from __future__ import annotations

import csv
import gc
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from groundup import config
from groundup.errors import DataError, RecipeError
from groundup.evaluate import EvaluateConfig, EvaluationTask, Subject, fields_of, mean, task_identity
from groundup.evaluate.tasks import measure
from groundup.evaluate.tasks.measure import measure_task, measure_tasks
from groundup.models import Decoder
from groundup.tokens import Tokenizer
from tests.evaluate.tasks.conftest import Measure, built

ASK: dict[str, Any] = {"kind": "multiple_choice", "prompt": "{q}", "options": "{options}", "answer": "{right}"}
WORDS = ["cat", "mat", "Paris", "1815", "Emma"]


def items(count: int) -> list[dict[str, Any]]:
    return [
        {"q": f"{i} {WORDS[i % 5]}", "options": WORDS[:2], "right": i % 2, "set": f"s{i % 3}"} for i in range(count)
    ]


def test_every_record_is_accepted_or_rejected_with_its_reason(
    model: Decoder, tokenizer: Tokenizer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [json.dumps(item) for item in items(4)]
    lines += ['{"q": "no options"}', "not json", json.dumps({**items(1)[0], "right": 5}), json.dumps({"q": None})]
    (tmp_path / "items.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    task = built(path=str(tmp_path / "items.jsonl"), **ASK)
    with caplog.at_level("WARNING", "groundup"):
        result = measure_task(Subject(model, tokenizer), task)
    account = result.samples["records"]
    assert account["total"] == 8
    assert account["accepted"] == result.samples["asked"] == result.metrics["accuracy"].n == 4
    assert sum(account["rejected"].values()) == 4
    assert account["rejected"]["the answer is none of the 2 options"] == 1
    assert "items.jsonl:7" in account["rejected_samples"]["the answer is none of the 2 options"][0]
    assert "rejected" in caplog.text


def test_nothing_that_can_be_asked_is_an_error(measured: Measure) -> None:
    with pytest.raises(DataError, match=r"task.*no record.*no field 'options'"):
        measured([{"x": 1}], **ASK)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_tables(kind: str, model: Decoder, tokenizer: Tokenizer, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    rows = [{"question": f"q{i}", "a": "cat", "b": "mat", "key": "AB"[i % 2], "more": 1} for i in range(5)]
    path = tmp_path / f"items.{kind}"
    if kind == "csv":
        with path.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    task = built(path=str(path), kind="multiple_choice", prompt="{question}", options=["{a}", "{b}"], answer="{key}")
    result = measure_task(Subject(model, tokenizer), task)
    assert [item["reference"] for item in result.samples["items"]] == [0, 1, 0, 1, 0]


def test_a_limit_takes_items_evenly(measured: Measure) -> None:
    result = measured(items(10), limit=4, **ASK)
    assert [item["prompts"] for item in result.samples["items"]] == [["0 cat"], ["2 Paris"], ["5 cat"], ["7 Paris"]]
    assert result.samples["records"]["accepted"] == 10
    assert result.metrics["accuracy"].n == result.samples["asked"] == 4


def test_groups(measured: Measure) -> None:
    result = measured(items(9), group_field="set", **ASK)
    values = [item["accuracy"] for item in result.samples["items"]]
    for number in range(3):
        assert result.metrics[f"accuracy/s{number}"] == mean(values[number::3])


def test_too_many_groups_only_count_among_all(
    measured: Measure, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(measure, "MAX_GROUPS", 2)
    with caplog.at_level("WARNING", "groundup"):
        result = measured(items(9), group_field="set", **ASK)
    assert {name for name in result.metrics if name.startswith("accuracy/")} == {"accuracy/s0", "accuracy/s1"}
    assert caplog.text.count("more than 2 groups") == 1


def test_items_in_the_training_text_are_told_apart(measured: Measure) -> None:
    result = measured(items(6), found=["items.jsonl:2", "items.jsonl:5"], **ASK)
    values = [item["accuracy"] for item in result.samples["items"]]
    assert result.metrics["contamination"].as_dict() == {"value": pytest.approx(1 / 3), "stderr": None, "n": 6}
    assert result.metrics["accuracy/clean"] == mean([values[at] for at in (0, 2, 3, 5)])
    assert [item["contaminated"] for item in result.samples["items"]] == [False, True, False, False, True, False]
    assert "contamination" not in measured(items(6), **ASK).metrics


def test_some_at_a_time_is_the_same(measured: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measured(items(11), group_field="set", **ASK)
    monkeypatch.setattr(measure, "ITEMS_AT_ONCE", 3)
    parts = measured(items(11), group_field="set", **ASK)
    for name, metric in whole.metrics.items():
        assert parts.metrics[name].value == pytest.approx(metric.value, abs=1e-5)
        assert parts.metrics[name].n == metric.n
    assert [item["prompts"] for item in parts.samples["items"]] == [item["prompts"] for item in whole.samples["items"]]


def test_solved_examples_stand_in_front_and_an_item_is_never_its_own(measured: Measure, write: Any) -> None:
    other = write([{"q": f"shot {i}", "options": WORDS[:2], "right": 1} for i in range(6)], "shots.jsonl")
    few = {"count": 2, "path": other, "seed": 4}
    result = measured(items(8), few_shot=few, preface="Choose.\n", **ASK)
    prompts = [item["prompts"][0] for item in result.samples["items"]]
    for prompt, item in zip(prompts, items(8)):
        first, second, last = prompt.removeprefix("Choose.\n").split("\n\n")
        assert last == item["q"]
        assert first != second
        assert {first, second} <= {f"shot {i} mat" for i in range(6)}
    assert len({prompt.rpartition("\n\n")[0] for prompt in prompts}) > 1
    again = measured(items(8), few_shot=few, preface="Choose.\n", **ASK)
    assert [item["prompts"][0] for item in again.samples["items"]] == prompts
    own = measured(items(4), few_shot={"count": 3}, **ASK)
    for item, prompt in zip(items(4), (item["prompts"][0] for item in own.samples["items"])):
        *shots, last = prompt.split("\n\n")
        assert len(shots) == 3
        assert all(not shot.startswith(item["q"]) for shot in shots)
        assert last == item["q"]


def test_the_first_examples_of_a_file_as_turns(measured: Measure, write: Any) -> None:
    other = write([{"q": f"shot {i}", "options": WORDS[:2], "right": 1} for i in range(6)], "shots.jsonl")
    few = {"count": 2, "path": other, "order": "first"}
    result = measured(items(2), few_shot=few, chat=True, **ASK)
    expected = (
        "<|user|> shot 0<|end|><|assistant|> mat<|end|><|user|> shot 1<|end|><|assistant|> mat<|end|><|user|> 0 cat"
    )
    expected += "<|end|><|assistant|>"
    assert result.samples["items"][0]["prompts"] == [expected]


def test_too_few_examples(measured: Measure) -> None:
    with pytest.raises(DataError, match=r"few_shot.count 9"):
        measured(items(3), few_shot={"count": 9}, **ASK)


def test_all_tasks_of_a_config(model: Decoder, tokenizer: Tokenizer, write: Callable[..., str]) -> None:
    one, other = write(items(3), "one.jsonl"), write([{"text": "the cat sat"}] * 2, "two.jsonl")
    tasks = [{"name": "one", "path": one, **ASK}, {"name": "words", "path": other, "kind": "last_word"}]
    settings = config.build(EvaluateConfig, {"tasks": tasks}, "test")
    result = measure_tasks(Subject(model, tokenizer), settings)
    assert result.metrics["one/accuracy"].n == 3
    assert result.metrics["words/perplexity"].n == 2
    assert set(result.samples["tasks"]) == {"one", "words"}
    assert measure_tasks(Subject(model, tokenizer), EvaluateConfig()).samples == {}


def test_names_must_differ() -> None:
    task = {"name": "one", "path": "x.jsonl", "kind": "last_word"}
    with pytest.raises(RecipeError, match="two are named 'one'"):
        config.build(EvaluateConfig, {"tasks": [task, task]}, "test")
    with pytest.raises(RecipeError, match="'exact_match' is the name of a metric"):
        built(**{**task, "name": "exact_match"})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"kind": "multiple_choice"}, "give a form"),
        ({**ASK, "form": "arc"}, "has its own prompt"),
        ({**ASK, "prompt": "{q"}, "braces"),
        ({"kind": "last_word", "path": "https://x/y"}, "local file"),
        ({"kind": "minimal_pairs", "chat": True}, "unknown key"),
        ({"kind": "bias"}, "unknown 'bias'"),
        ({"kind": "last_word", "few_shot": {"count": 0}}, "few_shot.count"),
    ],
)
def test_what_a_recipe_may_not_say(values: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError) as raised:
        built(**{"path": "x.jsonl", **values})
    assert said in "\n".join([raised.value.message, *raised.value.details])


def test_the_identity_is_the_content_of_the_files(tmp_path: Path, write: Callable[..., str]) -> None:
    task = built(path=write(items(3)), few_shot={"count": 1, "path": write(items(2), "shots.jsonl")}, **ASK)
    found = task_identity(task, tmp_path)
    (tmp_path / "moved").mkdir()
    for name in ("items.jsonl", "shots.jsonl"):
        (tmp_path / "moved" / name).write_bytes((tmp_path / name).read_bytes())
    few = {"count": 1, "path": str(tmp_path / "moved" / "shots.jsonl")}
    moved = built(path=str(tmp_path / "moved" / "items.jsonl"), few_shot=few, **ASK)
    assert task_identity(moved, tmp_path) == found
    write(items(4))
    assert task_identity(task, tmp_path) != found


def test_fields_of_a_task() -> None:
    assert fields_of(built(path="x", **ASK)) == ("q", "options", "right")
    assert fields_of(built(path="x", kind="multiple_choice", form="arc")) == ("question", "choices", "answerKey")


def test_ten_times_the_items_need_the_same_memory(
    model: Decoder, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "ITEMS_AT_ONCE", 16)
    monkeypatch.setattr(measure, "MAX_SAMPLES", 8)

    def peak_bytes(count: int) -> int:
        path = tmp_path / f"{count}.jsonl"
        with path.open("w") as handle:
            for number in range(count):
                record = {"q": f"{number} cat", "options": ["mat", "Emma"], "right": 1, "note": "x" * (1 << 15)}
                handle.write(json.dumps(record) + "\n")
        task = built(path=str(path), **ASK)

        def run() -> None:
            assert len(measure_task(Subject(model, tokenizer), task).samples["items"]) == 8

        run()
        gc.collect()
        tracemalloc.start()
        run()
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak_bytes(480) <= 1.2 * peak_bytes(48) + 50_000


def test_the_examples_of_the_guide_are_tasks() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "guide" / "evaluate.md").read_text(encoding="utf-8")
    blocks = [block.partition("```")[0] for block in guide.split("```yaml\n")[1:]]
    kinds = set()
    for block in blocks:
        settings = config.build(EvaluateConfig, config.parse_yaml(block, "guide")["evaluate"], "guide")
        kinds |= {task.kind for task in settings.tasks}
    assert kinds == {"multiple_choice", "last_word", "minimal_pairs", "bias_pairs", "generation"}


@pytest.mark.parametrize("cls", config.config_classes(EvaluationTask), ids=lambda cls: cls.__name__)
def test_every_field_enters_the_identity(cls: type[config.Config], tmp_path: Path, write: Callable[..., str]) -> None:
    asked = {"few_shot": {"count": 1, "path": write(items(1), "shots.jsonl")}, "word_list": write([], "words.txt")}
    needed = {"prompt": "{q}", "references": "{a}", "metrics": ["f1"], "options": "{o}", "answer": "{a}"}
    fields = config.fields(cls)
    given = {name: value for name, value in {**asked, **needed}.items() if name in fields}
    task = built(path=write(items(2)), kind=fields["kind"].default, **given)
    found = task_identity(task, tmp_path)
    assert found.keys() - {"files"} == fields.keys() - {"path", "word_list"}
    files = {
        "path",
        *(["few_shot.path"] if "few_shot" in fields else []),
        *(["word_list"] if "word_list" in fields else []),
    }
    assert found["files"].keys() == files
