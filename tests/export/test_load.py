"""Model folders: good ones answer, every other one is refused in one line before anything is allocated."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from groundup.errors import DataError, ModelFileError, RecipeError, first_line
from groundup.export import load_model
from groundup.inference import GenerateConfig
from groundup.tokens import Turn


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    """A copy of a good model, to be spoilt."""
    return Path(shutil.copytree(exported, tmp_path / "model"))


def refused(path: Path, finding: str) -> None:
    with pytest.raises(ModelFileError, match=finding) as caught:
        load_model(path)
    assert not first_line(caught.value).endswith("...")


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")


def edit_weights(path: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, {"format": "pt"})


def test_a_loaded_model_answers(folder: Path) -> None:
    loaded = load_model(folder)
    logits = loaded.logits(torch.tensor([[1, 2, 3], [4, 5, 6]], dtype=torch.int32))
    assert logits.shape == (2, 3, 300)
    assert logits.dtype == torch.float32
    config = GenerateConfig(max_new_tokens=5)
    assert loaded.generate("the cat", config) == "".join(loaded.stream("the cat", config))
    chat = loaded.chat(config)
    answer = "".join(chat.reply("What is the capital of France?"))
    assert not answer or chat.messages[-1] == Turn("assistant", answer)
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())


def test_a_run_is_loaded_by_its_folder(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "atlas"
    run.mkdir(parents=True)
    (run / "recipe.yaml").write_text("name: atlas\n")
    refused(run, "a run without an exported model")
    (run / "model").symlink_to(folder)
    tokens = torch.tensor([[1, 2, 3]])
    assert torch.equal(load_model(run).logits(tokens), load_model(str(folder)).logits(tokens))


def test_shards_give_the_same_model(folder: Path) -> None:
    tokens = torch.tensor([[1, 2, 3]])
    expected = load_model(folder).logits(tokens)
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    weight_map = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(names)}
    for shard in sorted(set(weight_map.values())):
        save_file({name: tensors[name] for name in names if weight_map[name] == shard}, folder / shard)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert torch.equal(load_model(folder).logits(tokens), expected)


@pytest.mark.parametrize(
    ("tokens", "finding"),
    [
        (torch.tensor([[300]]), "ids are 0 to 299"),
        (torch.tensor([[-1]]), "ids are 0 to 299"),
        (torch.tensor([1, 2]), "give whole numbers"),
        (torch.tensor([[1.0]]), "give whole numbers"),
        (torch.zeros(1, 0, dtype=torch.int64), "give whole numbers"),
    ],
)
def test_tokens_that_are_none_are_refused(exported: Path, tokens: torch.Tensor, finding: str) -> None:
    with pytest.raises(DataError, match=finding):
        load_model(exported).logits(tokens)


def test_a_text_that_fills_the_context_is_refused(exported: Path) -> None:
    with pytest.raises(RecipeError, match="the model's context holds 64"):
        load_model(exported).generate("Zebra " * 100)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_files_missing_empty_or_cut_are_refused(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    for spoilt in (b"", content[: len(content) // 2], content[:-20], b"\x00" * 64):
        (folder / name).write_bytes(spoilt)
        refused(folder, name)
    (folder / name).unlink()
    refused(folder, f"no {name} here")
    (folder / name).mkdir()
    refused(folder, name)


def test_paths_that_hold_no_model_are_refused(tmp_path: Path) -> None:
    refused(tmp_path, "no config.json here")
    refused(tmp_path / "nowhere", "is not there")
    refused(tmp_path / ("x" * 300), "cannot be read")
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file", "is a file")


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 10**9},
        {"hidden_size": 10**19},
        {"vocab_size": 10**12},
    ],
)
def test_a_config_larger_than_the_weights_is_refused_before_it_is_built(folder: Path, changes: dict[str, int]) -> None:
    edit(folder / "config.json", lambda values: values.update(changes))
    refused(folder, "(parameters|layers), the weight files hold")


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"num_hidden_layers": 3}, r"tensor 'model\.layers\.2\.input_layernorm\.weight' is missing"),
        ({"intermediate_size": 49}, r"gate_proj\.weight' has shape \[48, 32\], config\.json says \[49, 32\]"),
    ],
)
def test_a_config_that_is_a_little_larger_names_a_tensor(folder: Path, changes: dict[str, int], finding: str) -> None:
    edit(folder / "config.json", lambda values: values.update(changes))
    refused(folder, finding)


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (lambda t: t.update(extra=torch.ones(1)), "'extra' is not known"),
        (lambda t: t.update({"lm_head.weight": torch.ones(32, 300)}), "'lm_head.weight' has shape"),
        (lambda t: t.update({"model.norm.weight": torch.full((32,), torch.nan)}), "holds NaN or infinity"),
        (lambda t: t.update({"x": t.pop("model.norm.weight")}), "'model.norm.weight' is missing"),
    ],
)
def test_weights_that_do_not_fit_the_config_are_refused(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], Any], finding: str
) -> None:
    edit_weights(folder / "model.safetensors", change)
    refused(folder, finding)


def test_half_a_tie_is_refused(folder: Path) -> None:
    edit(folder / "config.json", lambda values: values.update(tie_word_embeddings=True))
    refused(folder, "lm_head differs from the table")
    table = "model.embed_tokens.weight"
    edit_weights(
        folder / "model.safetensors", lambda tensors: tensors.update({"lm_head.weight": tensors[table].clone()})
    )
    assert load_model(folder).model.config.tied


def test_the_tokenizer_of_another_model_is_refused(folder: Path) -> None:
    def one_more(values: dict[str, Any]) -> None:
        values["added_tokens"].append({**values["added_tokens"][-1], "id": 300, "content": "<|one_more|>"})

    edit(folder / "tokenizer.json", one_more)
    refused(folder, "301 tokens, the model has 300")


@pytest.mark.parametrize(
    "template",
    [
        "{{ cycler.__init__.__globals__.os.system('touch marker') }}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{{ i }}{% endfor %}{% endfor %}",
        "{% include '/etc/passwd' %}",
    ],
)
def test_a_hostile_chat_template_is_refused_and_runs_nothing(folder: Path, template: str) -> None:
    good = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").write_text(template)
    refused(folder, "chat template cannot be used")
    (folder / "chat_template.jinja").write_text(good)
    assert load_model(folder)
    (folder / "chat_template.jinja").unlink()
    edit(folder / "tokenizer_config.json", lambda values: values.update(chat_template=template))
    refused(folder, "chat template cannot be used")


def test_logits_need_no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    loaded = load_model(folder, need_tokenizer=False)
    assert loaded.logits(torch.tensor([[1]])).shape == (1, 1, 300)
    with pytest.raises(ModelFileError, match="without a tokenizer"):
        loaded.generate("the cat")
