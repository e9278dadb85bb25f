"""Model files that are damaged, endless or hold code: refused in one line on every way in, and nothing in them runs."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from groundup.anatomy import of_target
from groundup.errors import ModelFileError, first_line
from groundup.export import import_model, load_model
from groundup.pipeline import load_recipe
from tests.end_to_end import tiny

TWO = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
NUMBERS = struct.pack("<4f", 1.0, 2.0, 3.0, 4.0)


class Touch:
    """What a pickle would run: it leaves a mark beside the model."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


def file_of(header: bytes | dict[str, Any], data: bytes = NUMBERS) -> bytes:
    """A safetensors file, right or not."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


WEIGHTS: dict[str, tuple[bytes, str]] = {
    "another model": (file_of({"w": TWO}), "describes|tensor|not known"),
    "endless header": (struct.pack("<Q", 2**62) + b"{}", "claims 4611686018427387904 bytes"),
    "overlap": (file_of({"a": TWO, "b": TWO}), "overlaps another tensor"),
    "shape and bytes": (file_of({"a": {**TWO, "shape": [3, 2]}}), "is not 16 bytes"),
    "data behind": (file_of({"a": TWO}, NUMBERS + b"PK"), "2 bytes behind the last tensor"),
    "cut": (file_of({"a": TWO}, NUMBERS[:9]), "cut off"),
    "a name twice": (file_of(b'{"a": {"x": 1}, "a": {"x": 2}}'), "'a' appears twice"),
    "empty": (b"", "too short"),
    "a pickle": (pickle.dumps([1, 2, 3]), "claims|too short"),
    "endless shape": (file_of({"a": {**TWO, "shape": [2**40, 2**40]}}), "is not 16 bytes"),
    "not a number": (file_of({"a": {**TWO, "data_offsets": [0, -16]}}), "no usable shape"),
    "deep": (file_of(b"[" * 100_000), "not readable as JSON"),
}


def refused_everywhere(folder: Path, words: str, tmp_path: Path) -> None:
    """By import, generate, show --model and pretrain.from alike."""
    recipe = tiny.recipe(tmp_path)
    del recipe["model"]
    recipe["pretrain"]["from"] = str(folder)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    ways: tuple[Callable[[], Any], ...] = (
        lambda: import_model(folder, tmp_path / "imported", with_transformers=False),
        lambda: load_model(folder),
        lambda: of_target(str(folder), []),
        lambda: load_recipe(tmp_path / "recipe.yaml"),
    )
    for way in ways:
        with pytest.raises(ModelFileError, match=words) as caught:
            way()
        assert len(first_line(caught.value)) <= 200 and not first_line(caught.value).endswith("...")
    assert not (tmp_path / "imported" / "config.json").exists()


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    """A copy of a good model, to be spoilt."""
    return Path(shutil.copytree(exported, tmp_path / "model"))


@pytest.mark.parametrize("case", WEIGHTS)
def test_weight_files(case: str, folder: Path, tmp_path: Path) -> None:
    content, words = WEIGHTS[case]
    (folder / "model.safetensors").write_bytes(content)
    refused_everywhere(folder, words, tmp_path)


@pytest.mark.parametrize("shard", ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "..", "x.bin"])
def test_an_index_that_points_elsewhere(shard: str, folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    refused_everywhere(folder, "no plain name of a shard", tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "rng_state.pth", "model.pt", ".metadata", "__0_0.distcp"])
def test_pickles(name: str, folder: Path, tmp_path: Path) -> None:
    """Beside a description, alone, and given as the model itself."""
    marker = tmp_path / "marker"
    payload = io.BytesIO()
    torch.save({"w": Touch(marker)}, payload)
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Touch(marker)) if name == ".metadata" else payload.getvalue())
    known = name != ".metadata"
    refused_everywhere(folder, "a pickle can run code" if known else "no model.safetensors here", tmp_path)
    refused_everywhere(folder / name, "a pickle can run code" if known else "is a file", tmp_path)
    (folder / "config.json").unlink()
    refused_everywhere(folder, "a pickle can run code" if known else "no config.json here", tmp_path)
    assert not marker.exists()


@pytest.mark.parametrize("key", ["auto_map", "trust_remote_code"])
def test_code_that_comes_with_a_model(key: str, folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    (folder / "modeling_evil.py").write_text(f"import pathlib; pathlib.Path({str(marker)!r}).touch()")
    values = json.loads((folder / "config.json").read_text())
    asked = {"auto_map": {"AutoModelForCausalLM": "modeling_evil.Evil"}, "trust_remote_code": True}
    for model_type in (values["model_type"], "evil", "gpt_neox"):
        (folder / "config.json").write_text(json.dumps({**values, "model_type": model_type, key: asked[key]}))
        refused_everywhere(folder, "never run", tmp_path)
    assert not marker.exists()
