"""A BERT of others, with a WordPiece vocabulary -> continued, or as it is -> a task -> predictions by the command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import groundup
from groundup import cli
from groundup.errors import ModelFileError, RecipeError
from groundup.export import open_source, save_model
from groundup.models import EncoderConfig, own_shapes
from groundup.pipeline.start import foreign_start
from groundup.tokens import CONTROL_TOKENS, ENCODER_TOKENS, load_foreign
from tests.end_to_end import tiny
from tests.end_to_end.test_encoder import PHASE, write_task
from tests.tokens.wordpieces import VOCAB

POOLER = {f"next_sentence.pooler.{kind}" for kind in ("weight", "bias")}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as people have it: weights, config.json and vocab.txt, and nothing of ours."""
    folder = tmp_path_factory.mktemp("bert")
    words = list(dict.fromkeys([*VOCAB, *tiny.WORDS, *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")]))
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    tokenizer = load_foreign(folder, control=(*CONTROL_TOKENS, *ENCODER_TOKENS))[0]
    config = EncoderConfig(
        kind="encoder", context_length=48, num_layers=1, hidden_size=32, num_heads=2, ffn_size=64, next_sentence=True
    )
    model = config.build(tokenizer.vocab_size)
    model.initialise(4)
    save_model(model, tokenizer, folder, with_transformers=False)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    return folder


def run(bert: Path, folder: Path, until: str = "export", **pretrain: Any) -> groundup.RunResult:
    changes = {
        "tokenizer": {},
        "model": {"context_length": 32},
        "pretrain": {**PHASE, "from": str(bert), **pretrain},
        "task": write_task(folder),
    }
    return groundup.run(groundup.load_recipe(tiny.write_recipe(folder, instruct=None, **changes)), until)


def test_a_model_taken_as_it_is_learns_a_task(bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(bert, tmp_path, tokens=0)
    evaluation = json.loads((result.folder / "stages" / "evaluate" / "evaluation.json").read_text())
    assert evaluation["accuracy"]["value"] > 0.9
    assert evaluation["bits_per_byte"]["value"] is None, "WordPiece changes text, so its bytes are not known"
    assert evaluation["bits_per_token"]["value"] > 0
    assert cli.main(["predict", str(result.folder), "--text", "winter garden RIVER stone", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["task"] == "sequence"
    assert said["predictions"][0]["label"] == "wet"
    assert sum(said["predictions"][0]["probabilities"].values()) == pytest.approx(1.0)
    ask_in_every_way(result.folder, tmp_path, capsys)


def without_heads(bert: Path, folder: Path, prefix: str) -> tuple[Path, dict[str, torch.Tensor]]:
    """A folder as of BertModel, by transformers without a prefix in the names: (folder, its tensors by such names)."""
    shutil.copytree(bert, folder)
    tensors = load_file(folder / "model.safetensors")
    body = {name.removeprefix("bert."): tensor for name, tensor in tensors.items() if name.startswith("bert.")}
    # Older files hold the numbers of positions too, which are no weights.
    written = {**body, "embeddings.position_ids": torch.arange(48)[None]}
    save_file({f"{prefix}{name}": tensor for name, tensor in written.items()}, folder / "model.safetensors")
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, "architectures": ["BertModel"]}))
    return folder, body


def test_a_body_without_heads_learns_a_task(bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, body = without_heads(bert, tmp_path / "body", "")
    result = run(folder, tmp_path, tokens=0)
    summary = next(entry["summary"] for entry in result.stages if entry["name"] == "pretrain")
    assert {name.partition(".")[0] for name in summary["new"]} == {"masked", "next_sentence"}
    assert not any("pooler" in name or name.startswith("layers") for name in summary["new"])
    weights = load_file(result.folder / "stages" / "pretrain" / summary["weights"])
    assert torch.equal(weights["next_sentence.pooler.weight"], body["pooler.dense.weight"])
    assert torch.equal(weights["layers.0.ffn.up.weight"], body["encoder.layer.0.intermediate.dense.weight"])
    evaluation = json.loads((result.folder / "stages" / "evaluate" / "evaluation.json").read_text())
    assert evaluation["accuracy"]["value"] > 0.9
    untold = ("bits_per_byte", "perplexity", "token_accuracy")
    assert all(evaluation[name]["value"] is None for name in untold), "its head for masked words has learnt nothing"
    assert "next_sentence_accuracy" not in evaluation
    for verb in (["generate", str(folder), "--fill-mask", "a [MASK]"], ["import", str(folder), str(tmp_path / "new")]):
        assert cli.main(verb) == 4
        assert "a body without a head" in capsys.readouterr().err


def test_a_body_without_a_pooler_gets_a_new_one(bert: Path, tmp_path: Path) -> None:
    folder, body = without_heads(bert, tmp_path / "body", "")
    without = {name: tensor for name, tensor in body.items() if not name.startswith("pooler.")}
    save_file(without, folder / "model.safetensors")
    source = open_source(folder)
    assert {name for name in source.lacking if "pooler" in name} == POOLER
    config = source.config.model_copy(update={"context_length": 32})
    start = foreign_start(str(folder), config, 90, seed=4)
    with torch.device("meta"):
        model = config.build(90)
    drawn = start["next_sentence.pooler.weight"]
    assert torch.equal(drawn, model.start("next_sentence.pooler.weight", drawn.shape, 4)) and drawn.std() > 0
    assert torch.equal(start["layers.0.ffn.up.weight"], body["encoder.layer.0.intermediate.dense.weight"])
    assert start.keys() == own_shapes(config, 90).keys()
    half = {**without, "pooler.dense.bias": body["pooler.dense.bias"]}
    save_file(half, folder / "model.safetensors")
    with pytest.raises(ModelFileError, match=r"tensor 'bert.pooler.dense.weight' is missing"):
        open_source(folder)


def test_a_body_goes_on_with_masked_words(bert: Path, tmp_path: Path) -> None:
    """What is trained is measured."""
    folder, _ = without_heads(bert, tmp_path / "body", "bert.")
    changes = {
        "tokenizer": {},
        "model": {"context_length": 32, "next_sentence": False},
        "pretrain": {**PHASE, "from": str(folder), "tokens": 10 * 512, "masking": {}},
    }
    recipe = groundup.load_recipe(tiny.write_recipe(tmp_path, instruct=None, **changes))
    result = groundup.run(recipe, "evaluate")
    evaluation = json.loads((result.folder / "stages" / "evaluate" / "evaluation.json").read_text())
    assert evaluation["bits_per_token"]["value"] > 0


def ask_in_every_way(run_folder: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files of records and of lines, several texts, and what cannot be asked."""

    def labels(*options: str) -> list[tuple[str, str]]:
        assert cli.main(["predict", str(run_folder), "--json", *options]) == 0
        return [(each["id"], each["label"]) for each in json.loads(capsys.readouterr().out)["predictions"]]

    (folder / "a.csv").write_text('note,Review\n1,"river, stone"\n2,\n3,stone garden letter\n', encoding="utf-8")
    (folder / "a.txt").write_text("winter river\n\nstone letter\n", encoding="utf-8")
    assert labels("--file", str(folder / "a.csv"), "--text-field", "Review") == [("a.csv:1", "wet"), ("a.csv:3", "dry")]
    assert labels("--file", str(folder / "a.txt")) == [("a.txt:1", "wet"), ("a.txt:3", "dry")]
    assert labels("--text", "river", "--text", "stone garden") == [("1", "wet"), ("2", "dry")]
    assert cli.main(["predict", str(run_folder), "--text", "river stone"]) == 0
    assert capsys.readouterr().out.split("\n")[0].endswith("wet")
    for options, code, words in (
        (["--text", "a", "--file", "b.csv"], 2, "not both"),
        (["--text", "  "], 2, "the text is empty"),
        (["--file", str(folder / "none.txt")], 3, "cannot be read"),
        (["--file", str(folder / "a.csv"), "--text-field", "x"], 3, "no record"),
    ):
        assert cli.main(["predict", str(run_folder), *options]) == code
        assert words in capsys.readouterr().err
    assert cli.main(["predict", str(run_folder.parent), "--text", "a"]) == 4


def test_it_is_continued_with_whole_words(bert: Path, tmp_path: Path) -> None:
    masking = {"whole_words": True, "next_sentence_weight": 0.5}
    result = run(bert, tmp_path, until="pretrain", tokens=10 * 512, masking=masking)
    lines = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["phase"] == "pretrain" and "loss" in line]
    for line in steps:
        assert line["loss"] == pytest.approx(line["loss_text"] + 0.5 * line["loss_text_next_sentence"], rel=1e-4)


def test_what_does_not_fit_is_named(bert: Path, tmp_path: Path) -> None:
    def load(**model: Any) -> None:
        changes = {
            "tokenizer": {},
            "model": model,
            "pretrain": {**PHASE, "global_batch_tokens": 480, "from": str(bert), "tokens": 0},
        }
        groundup.load_recipe(tiny.write_recipe(tmp_path, instruct=None, **changes))

    load()
    with pytest.raises(RecipeError, match=r"num_parts: 3, but pretrain\.from has 2"):
        load(num_parts=3)
