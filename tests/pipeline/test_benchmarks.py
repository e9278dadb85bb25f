"""Tasks of a recipe: measured before and after tuning, looked for in the training text, and no reason to train anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import groundup
from groundup import cli
from groundup.errors import RecipeError
from tests.end_to_end.tiny import PLACES, recipe, write_data, write_recipe

CAPITALS = list(PLACES.values())


def write_items(folder: Path) -> None:
    """Questions about capitals, of which the third's text stands in the training text word for word."""
    items = []
    for number, (country, capital) in enumerate(sorted(PLACES.items())):
        others = [name for name in CAPITALS if name != capital][:3]
        items.append({"question": f"What is the capital of {country}?", "options": [capital, *others], "answer": 0})
        items[-1]["note"] = f"n{number}"
    with (folder / "text.jsonl").open(encoding="utf-8") as text:
        documents = [json.loads(line)["text"] for line in text]
    items[2]["question"] = " ".join(documents[0].split()[10:50])
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")


TASKS: list[dict[str, Any]] = [
    {
        "name": "capitals",
        "kind": "multiple_choice",
        "path": "items.jsonl",
        "prompt": "{question}",
        "options": "{options}",
        "answer": "{answer}",
    },
    {
        "name": "said",
        "kind": "generation",
        "path": "items.jsonl",
        "prompt": "{question}",
        "references": "{{options[0]}}",
        "metrics": ["exact_match"],
        "chat": True,
        "max_new_tokens": 4,
        "limit": 4,
    },
]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, groundup.RunResult]:
    folder = tmp_path_factory.mktemp("benchmarks")
    phase = {"tokens": 4 * 512, "global_batch_tokens": 512, "precision": "fp32"}
    values = recipe(folder)
    split = {**values["corpus"], "split": {"validation": 0.1}}
    instruct = {**values["instruct"], **phase}
    evaluate = {"max_new_tokens": 4, "continuation_tokens": 4, "max_questions": 4, "tasks": TASKS}
    path = write_recipe(folder, corpus=split, pretrain=phase, instruct=instruct, evaluate=evaluate)
    write_items(folder)
    return path, groundup.run(groundup.load_recipe(path), until="evaluate")


def figures(run: groundup.RunResult, name: str) -> Any:
    return json.loads((run.folder / "stages" / "evaluate" / name).read_text(encoding="utf-8"))


def test_figures_before_and_after_with_contamination(done: tuple[Path, groundup.RunResult]) -> None:
    found = figures(done[1], "evaluation.json")
    assert found["capitals/accuracy"]["n"] == found["before_instruct:capitals/accuracy"]["n"] == len(PLACES)
    assert set(found["capitals/accuracy"]) == {"value", "stderr", "n"}
    assert found["capitals/contamination"] == {"value": 1 / len(PLACES), "stderr": None, "n": len(PLACES)}
    assert found["capitals/accuracy/clean"]["n"] == len(PLACES) - 1
    assert found["said/exact_match"]["n"] == 4
    samples = figures(done[1], "samples.json")
    items = samples["instruct"]["tasks"]["capitals"]["items"]
    assert [item["contaminated"] for item in items].index(True) == 2
    assert samples["base"]["tasks"]["said"]["items"][0]["prompt"].startswith("<|user|> What is the capital of")


def test_the_report_shows_them(done: tuple[Path, groundup.RunResult]) -> None:
    page = (done[1].folder / "report.html").read_text(encoding="utf-8")
    assert "capitals, multiple choice" in page
    assert "What is the capital of" in page
    assert "of the items a text is in the training text" in page


def test_other_tasks_train_nothing_anew(done: tuple[Path, groundup.RunResult]) -> None:
    path, run = done
    folders = {entry["name"]: entry["folder"] for entry in run.stages}
    changed = groundup.load_recipe(path, ["evaluate.tasks.1.limit=2"])
    again = {entry["name"]: entry["folder"] for entry in groundup.status(changed)}
    assert {name for name in folders if folders[name] != again[name]} <= {"evaluate", "export"}
    assert again["instruct"] == folders["instruct"]
    without = {
        entry["name"]: entry["folder"] for entry in groundup.status(groundup.load_recipe(path, ["evaluate.tasks=[]"]))
    }
    assert without["instruct"] == folders["instruct"]
    assert without["contamination"] != folders["contamination"]


def test_other_items_are_another_evaluation(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, evaluate={"tasks": TASKS})
    write_items(tmp_path)
    first = groundup.status(groundup.load_recipe(path))
    (tmp_path / "items.jsonl").write_text('{"question": "x", "options": ["a", "b"], "answer": 0}\n')
    second = groundup.status(groundup.load_recipe(path))
    assert first[0] == second[0]
    assert groundup.load_recipe(path).evaluate.tasks[0].path == str(tmp_path / "items.jsonl")


def test_an_encoder_has_no_tasks(tmp_path: Path) -> None:
    write_data(tmp_path)
    model = {
        "kind": "encoder",
        "context_length": 64,
        "num_layers": 1,
        "hidden_size": 32,
        "num_heads": 2,
        "ffn_size": 64,
    }
    phase = {"tokens": 4 * 512, "global_batch_tokens": 512, "precision": "fp32", "masking": {}}
    path = write_recipe(tmp_path, model=model, pretrain=phase, instruct=None, evaluate={"tasks": TASKS})
    with pytest.raises(RecipeError, match=r"evaluate.tasks: an encoder"):
        groundup.load_recipe(path)


def test_conversations_that_are_not_there_are_said_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_recipe(tmp_path)
    assert cli.main(["run", str(path), "instruct.sources.0.path=gone.jsonl"]) == 3
    assert "gone.jsonl: no such file" in capsys.readouterr().err
    assert cli.main(["run", str(path), "runtime.device=cuda"]) == 6
    assert "runtime.device is cuda" in capsys.readouterr().err
    assert not (tmp_path / "work" / "stages").exists()


def test_a_file_that_is_not_there_is_said_before_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_recipe(tmp_path, evaluate={"tasks": TASKS})
    assert cli.main(["evaluate", str(path)]) == 3
    assert "items.jsonl" in capsys.readouterr().err
    write_items(tmp_path)
    assert cli.main(["evaluate", str(path), "evaluate.tasks.1.few_shot={count: 1, path: gone.jsonl}"]) == 3
    assert "gone.jsonl" in capsys.readouterr().err
    toxic = ["evaluate.tasks.1.metrics=[toxicity]", "evaluate.tasks.1.word_list=words.txt"]
    assert cli.main(["evaluate", str(path), *toxic]) == 3
    assert "words.txt" in capsys.readouterr().err
    assert not (tmp_path / "work" / "stages").exists()
