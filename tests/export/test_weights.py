"""safetensors files: whatever departs from the format is refused before it is read."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from groundup.errors import ModelFileError, first_line
from groundup.export.weights import INDEX, TensorFiles, find_weights, read_header, read_json, require_weights

TWO_BY_TWO = struct.pack("<4f", 1, 2, 3, 4)


def entry(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def write(path: Path, header: Any, data: bytes = TWO_BY_TWO, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    facts = find_weights(folder)
    files = TensorFiles(facts)
    return {name: files.read(name) for name in facts}


def test_a_good_file_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "model.safetensors", {"w": entry([2, 2], 0, 16), "__metadata__": {"format": "pt"}})
    facts = find_weights(tmp_path)
    assert {name: (fact.dtype, fact.shape) for name, fact in facts.items()} == {"w": ("F32", (2, 2))}
    assert tensors_of(tmp_path)["w"].tolist() == [[1, 2], [3, 4]]
    assert read_header(path) == facts


DUPLICATE = (
    b'{"w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'
)


@pytest.mark.parametrize(
    ("header", "data", "length", "finding"),
    [
        ({"w": entry([2, 2], 0, 16)}, TWO_BY_TWO, 2**62, "its header claims"),
        ({"w": entry([2, 2], 0, 16)}, TWO_BY_TWO[:-3], None, "cut off"),
        ({"w": entry([2, 2], 0, 16)}, TWO_BY_TWO + b"PK", None, "2 bytes behind the last tensor"),
        ({"w": entry([3, 2], 0, 16)}, TWO_BY_TWO, None, "is not 16 bytes"),
        ({"a": entry([2, 2], 0, 16), "b": entry([2, 2], 0, 16)}, TWO_BY_TWO, None, "overlaps"),
        ({"a": entry([1], 0, 4), "b": entry([2], 8, 16)}, TWO_BY_TWO, None, "gap"),
        (DUPLICATE, TWO_BY_TWO, None, "'w' appears twice"),
        ({"w": entry([2, 2], 0, 16, "F8_E4M3")}, TWO_BY_TWO, None, "convert it"),
        ({"w": entry([2, 2], 0, 16, ["F32"])}, TWO_BY_TWO, None, "convert it"),  # type: ignore[arg-type]
        ({"w": entry([-2, -2], 0, 16)}, TWO_BY_TWO, None, "no usable shape"),
        ({"w": entry([True, 4], 0, 16)}, TWO_BY_TWO, None, "no usable shape"),
        ({"w": {"dtype": "F32"}}, TWO_BY_TWO, None, "lacks dtype, shape or offsets"),
        ({"w": 7}, TWO_BY_TWO, None, "lacks dtype, shape or offsets"),
        ([1, 2], b"", None, "JSON object"),
        (b"{" * 50_000, b"", None, "not readable as JSON"),
        (b"\xff\xfe", b"", None, "not readable as JSON"),
    ],
)
def test_a_departure_from_the_format_is_refused(
    tmp_path: Path, header: Any, data: bytes, length: int | None, finding: str
) -> None:
    write(tmp_path / "model.safetensors", header, data, length)
    with pytest.raises(ModelFileError, match=finding) as caught:
        find_weights(tmp_path)
    assert "model.safetensors: " in caught.value.message
    assert not first_line(caught.value).endswith("...")
    assert "\n" not in caught.value.message


def test_whole_numbers_are_no_weights_but_may_lie_beside_them(tmp_path: Path) -> None:
    save_file({"w": torch.ones(2), "x.ids": torch.arange(3)}, tmp_path / "model.safetensors")
    facts = find_weights(tmp_path)
    require_weights(facts, ("x.ids",))
    with pytest.raises(ModelFileError, match=r"tensor 'x\.ids' is I64"):
        require_weights(facts, (".other",))


@pytest.mark.parametrize("size", [0, 1, 7, 8, 30])
def test_a_stump_is_refused(tmp_path: Path, size: int) -> None:
    path = write(tmp_path / "model.safetensors", {"w": entry([2, 2], 0, 16)})
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ModelFileError, match="copy it again"):
        read_header(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(at=st.integers(0, 300), byte=st.integers(0, 255), cut=st.integers(0, 40))
def test_a_damaged_file_is_read_or_refused_and_nothing_else(tmp_path: Path, at: int, byte: int, cut: int) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(3, 4), "b": torch.zeros(5, dtype=torch.bfloat16)}, path, {"format": "pt"})
    content = bytearray(path.read_bytes())
    content[at % len(content)] = byte
    path.write_bytes(content[: len(content) - cut])
    try:
        tensors = tensors_of(tmp_path)
    except ModelFileError as error:
        assert not first_line(error).endswith("...")
    else:
        assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    save_file({"w": torch.tensor([1.0, value])}, tmp_path / "model.safetensors")
    with pytest.raises(ModelFileError, match="weight 'w' holds NaN or infinity"):
        tensors_of(tmp_path)


def test_shards_are_read_by_their_index(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({"b": torch.zeros(3)}, tmp_path / "model-00002-of-00002.safetensors")
    weight_map = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (tmp_path / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    tensors = tensors_of(tmp_path)
    assert tensors["a"].tolist() == [1, 1] and tensors["b"].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("weight_map", "finding"),
    [
        ({"a": "../a.safetensors"}, "no plain name"),
        ({"a": "/etc/passwd"}, "no plain name"),
        ({"a": "sub/a.safetensors"}, "no plain name"),
        ({"a": ".a.safetensors"}, "no plain name"),
        ({"a": 5}, "no plain name"),
        ({"a": "missing.safetensors"}, "is missing"),
        ({"a": "one.safetensors", "b": "one.safetensors"}, "'b' is not where"),
        ({"a": "one.safetensors", "c": "two.safetensors"}, "'a' is in two shards"),
        ({}, "no 'weight_map'"),
        (None, "no 'weight_map'"),
    ],
)
def test_an_index_that_lies_is_refused(tmp_path: Path, weight_map: Any, finding: str) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "one.safetensors")
    save_file({"a": torch.ones(2), "c": torch.ones(2)}, tmp_path / "two.safetensors")
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ModelFileError, match=finding):
        find_weights(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "__0_0.distcp"])
def test_a_pickle_is_refused_with_the_remedy(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'touch marker'\ntR.")
    with pytest.raises(ModelFileError, match="convert it to model"):
        find_weights(tmp_path)


def test_a_folder_without_weights_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no model"):
        find_weights(tmp_path)


def test_json_with_a_key_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"hidden_size": 8, "hidden_size": 16}')
    with pytest.raises(ModelFileError, match="'hidden_size' appears twice"):
        read_json(tmp_path / "config.json")
