"""What docs/guide/models.md promises: its model is one file and one word of a union, and everything works with it."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import pytest
import torch
from pydantic import Field

import groundup
from groundup import anatomy, stage
from groundup.inference import GenerateConfig
from groundup.models import DecoderConfig, EncoderConfig, LSTMConfig
from groundup.models.layouts import own
from groundup.pipeline import Recipe, RunResult, recipe_file
from tests.end_to_end import tiny

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "models.md"
MODEL = {"kind": "convolution", "context_length": 64, "num_layers": 2, "hidden_size": 32}


def module_of_the_guide(folder: Path) -> ModuleType:
    """The page's model, imported as the file that it says."""
    (text,) = re.findall(r"<!-- test: model -->\n```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    path = folder / "convolution.py"
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("convolution_of_the_guide", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The model, known by the union wherever that is used."""
    with pytest.MonkeyPatch.context() as patch:
        module = module_of_the_guide(tmp_path_factory.mktemp("module"))
        union = Annotated[
            DecoderConfig | EncoderConfig | LSTMConfig | module.ConvolutionConfig, Field(discriminator="kind")
        ]

        class Extended(Recipe):
            """A recipe that has this model among its choices."""

            model: union  # type: ignore[valid-type]

        patch.setattr(own, "ModelConfig", union)
        patch.setattr(recipe_file, "Recipe", Extended)
        yield module
        sys.modules.pop(module.__name__)


def sections() -> dict[str, Any]:
    return {"model": MODEL, "evaluate": {"max_new_tokens": 8, "continuation_tokens": 8}}


@pytest.fixture(scope="module")
def finished(module: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    path = tiny.write_recipe(tmp_path_factory.mktemp("run"), **sections())
    return groundup.run(groundup.load_recipe(path))


def test_every_stage_is_done_and_it_learns(finished: RunResult) -> None:
    for entry in finished.stages:
        assert entry["state"] == "done"
        assert stage.verify(Path(entry["folder"]))[1] == []
    lines = [json.loads(line) for line in (finished.folder / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["phase"] == "pretrain" and "loss" in line]
    assert losses[-1] < 0.8 * losses[0]
    evaluation = json.loads((finished.folder / "stages" / "evaluate" / "evaluation.json").read_text())
    assert 0 < evaluation["bits_per_byte"]["value"] < 8
    assert "convolution" in (finished.folder / "report.html").read_text()


def test_its_export_is_read_back_and_generates(finished: RunResult, module: ModuleType) -> None:
    assert finished.model_folder is not None
    loaded = groundup.load_model(finished.model_folder)
    assert isinstance(loaded.model, module.Convolution)
    ids = torch.tensor([loaded.tokenizer.document_prompt("The capital of Normarland is")])
    last = loaded.model.prefill(ids, loaded.model.new_cache(1, 64))
    torch.testing.assert_close(loaded.logits(ids)[:, -1], last)
    assert isinstance(loaded.generate("The capital of", GenerateConfig(max_new_tokens=8)), str)
    assert isinstance("".join(loaded.chat().reply("What is the capital of Normarland?")), str)


def test_its_parts_are_counted(finished: RunResult) -> None:
    parts = anatomy.of_target(str(finished.model_folder), [])
    assert parts.parameters == groundup.load_model(finished.folder).model.config.num_parameters(384)
    assert parts.flops_per_token > 0
