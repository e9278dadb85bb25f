"""A model folder is measured without a run, by the command too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from groundup import cli, evaluate, load_model, save_model, scoring
from groundup.errors import RecipeError
from groundup.export import ExportConfig
from groundup.models import Decoder, DecoderConfig, build_model
from groundup.tokens import Tokenizer, TokenizerConfig, train_tokenizer

LINES = ["What is the capital of France? Paris.", "the cat sat on the mat", "1815, Emma"]
TASKS = """\
max_rows: 4
tasks:
- name: pairs
  kind: minimal_pairs
  path: pairs.jsonl
- {name: words, kind: last_word, path: words.jsonl, limit: 2}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model in Hugging Face layout."""
    home = tmp_path_factory.mktemp("scoring")
    (home / "tokenizer").mkdir()
    train_tokenizer(TokenizerConfig(vocab_size=280), LINES * 3, home / "tokenizer")
    tokenizer = Tokenizer.load(home / "tokenizer")
    config = DecoderConfig(
        context_length=32, num_layers=1, hidden_size=16, num_heads=2, num_kv_heads=1, ffn_size=32, tied=False
    )
    model = build_model(config, tokenizer.vocab_size)
    model.initialise(seed=1)
    assert isinstance(model, Decoder)
    save_model(model.eval(), tokenizer, home / "model", ExportConfig())
    return home / "model"


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """A file of tasks with their items beside it."""
    pairs = [{"sentence_good": "the cat sat", "sentence_bad": "cat the sat"}] * 3
    words = [{"text": f"the cat sat on {word}"} for word in ("Paris", "Emma", "mat", "1815")]
    for name, records in (("pairs", pairs), ("words", words)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (tmp_path / "tasks.yaml").write_text(TASKS)
    (tmp_path / "text.txt").write_text(" ".join(LINES) * 20)
    return tmp_path / "tasks.yaml"


def test_tasks_and_text_of_a_folder(folder: Path, tasks: Path) -> None:
    settings = scoring.read_tasks(str(tasks), ["tasks.1.limit=3"])
    found = scoring.score(load_model(folder), settings, [str(tasks.parent / "text.txt")])
    assert found.metrics["pairs/accuracy"].n == 3
    assert found.metrics["words/perplexity"].n == 3
    assert found.metrics["bits_per_byte"].value > 0
    assert found.samples["tasks"]["words"]["items"][0]["prompts"] == ["the cat sat on"]


def test_the_section_of_a_recipe(tmp_path: Path, tasks: Path) -> None:
    recipe = tasks.with_name("recipe.yaml")
    recipe.write_text("name: x\nevaluate:\n" + "".join(f"  {line}\n" for line in TASKS.splitlines()))
    assert scoring.read_tasks(str(recipe), []) == scoring.read_tasks(str(tasks), [])


def test_the_command(folder: Path, tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "figures"
    command = ["evaluate", str(folder), "--tasks", str(tasks), "--output", str(output), "--json", "-q"]
    assert cli.main(command) == 0
    shown = json.loads(capsys.readouterr().out)["metrics"]
    assert shown == json.loads((output / "evaluation.json").read_text())
    assert set(shown["words/accuracy"]) == {"value", "stderr", "n"}
    samples = json.loads((output / "samples.json").read_text())["tasks"]
    assert samples["words"]["items"][1]["options"] == ["mat"]
    assert cli.main(command[:4]) == 0
    assert "words/perplexity" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "say what to measure"),
        (["--tasks", "none.yaml"], "no such recipe"),
        (["--tasks", "{tasks}", "tasks.0.limt=3"], "limt"),
        (["--tasks", "{tasks}", "tasks.0.path=none.jsonl"], "none.jsonl"),
    ],
)
def test_what_cannot_be_measured(
    folder: Path, tasks: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.main(["evaluate", str(folder), *(word.format(tasks=tasks) for word in words)])
    error = capsys.readouterr().err
    assert code in (2, 3)
    assert said in error
    assert "Traceback" not in error
    assert len(error.splitlines()[0]) <= 210


def test_nothing_to_measure(folder: Path) -> None:
    with pytest.raises(RecipeError, match="nothing to measure"):
        scoring.score(load_model(folder), evaluate.EvaluateConfig())


def test_lines_for_people() -> None:
    found = evaluate.Evaluation({"a/accuracy": evaluate.Metric(0.5, 0.1, 25), "b": evaluate.Metric(2.0, None, 1)})
    assert list(scoring.lines(found)) == [
        "a/accuracy      0.5000 ± 0.1000   n 25",
        "b               2.0000            n 1",
    ]
