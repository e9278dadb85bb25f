"""Tensors in parts: streamed they are the bytes of the whole file; an index that lies is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from groundup import stage
from groundup.errors import ModelFileError
from groundup.sharded import (
    INDEX,
    Box,
    check,
    file_of,
    open_stored,
    read_index,
    reading,
    whole,
    whole_files,
    write_whole,
)
from groundup.sharded.index import key_of

FILE = "model.safetensors"
CODES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.float64: "F64"}
CODES |= {torch.int64: "I64", torch.int32: "I32", torch.uint8: "U8", torch.bool: "BOOL"}
PARTS = ("model-00000-of-00002.safetensors", "model-00001-of-00002.safetensors")


def tensors() -> dict[str, torch.Tensor]:
    made = {f"of.{str(dtype)[6:]}": (torch.arange(35).view(7, 5) % 2).to(dtype) for dtype in CODES}
    noise = torch.randn(6, 5, 4, generator=torch.Generator().manual_seed(0))
    return {**made, "noise": noise, "Z": torch.ones(()), "é": torch.zeros(3), "empty": torch.zeros(0, 3)}


def in_parts(folder: Path, found: dict[str, torch.Tensor]) -> None:
    """Each matrix in four quarters, two in each file; the rest whole."""
    folder.mkdir()
    files: dict[str, dict[str, torch.Tensor]] = {part: {} for part in PARTS}
    entries: dict[str, Any] = {}
    for name, tensor in found.items():
        shape = tuple(tensor.shape)
        boxes = [Box.whole(shape)] if tensor.numel() else []
        if tensor.ndim > 1 and boxes:
            rows, columns = shape[0] // 2, shape[1] // 2
            boxes = [
                Box((top, left, *(0,) * (tensor.ndim - 2)), (height, width, *shape[2:]))
                for top, height in ((0, rows), (rows, shape[0] - rows))
                for left, width in ((0, columns), (columns, shape[1] - columns))
            ]
        for number, box in enumerate(boxes):
            files[PARTS[number % 2]][key_of(name, box, shape)] = tensor[box.inside(Box.whole(shape))].contiguous()
        places = [[PARTS[number % 2], list(box.offset), list(box.shape)] for number, box in enumerate(boxes)]
        entries[name] = {"dtype": CODES[tensor.dtype], "shape": list(shape), "parts": places}
    for part, content in files.items():
        save_file(content, folder / part)
    index = {"format": 1, "ranks": 2, "files": {FILE: entries}}
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")


@pytest.mark.parametrize("block_bytes", [1, 50, whole.BLOCK_BYTES])
def test_streamed_they_are_what_safetensors_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr(whole, "BLOCK_BYTES", block_bytes)
    found = tensors()
    in_parts(tmp_path / "parts", found)
    save_file(found, tmp_path / FILE, metadata={"format": "pt"})
    write_whole(open_stored(tmp_path / "parts", FILE), tmp_path / "again")
    expected = (tmp_path / FILE).read_bytes()
    assert (tmp_path / "again").read_bytes() == expected
    facts = {"bytes": len(expected), "sha256": hashlib.sha256(expected).hexdigest()}
    assert file_of(open_stored(tmp_path / "parts", FILE)) == facts
    assert file_of(open_stored(tmp_path, FILE)) == facts, "a whole file is its own"
    blocks = [len(block) for block in whole.blocks(open_stored(tmp_path / "parts", FILE))]
    assert max(blocks[1:]) <= max(block_bytes, 5 * 4 * 8)


def test_no_tensors_are_a_file_too(tmp_path: Path) -> None:
    in_parts(tmp_path / "parts", {})
    save_file({}, tmp_path / FILE, metadata={"format": "pt"})
    assert file_of(open_stored(tmp_path / "parts", FILE)) == stage.facts_of(tmp_path / FILE)


def test_a_state_hash_does_not_tell_parts_from_whole_ones(tmp_path: Path) -> None:
    found = tensors()
    (tmp_path / "whole" / "inner").mkdir(parents=True)
    save_file(found, tmp_path / "whole" / "inner" / FILE, metadata={"format": "pt"})
    (tmp_path / "parts").mkdir()
    in_parts(tmp_path / "parts" / "inner", found)
    for name in ("whole", "parts"):
        (tmp_path / name / "inner" / "state.json").write_text("{}", encoding="utf-8")
        stage.seal(tmp_path / name, {"stage": "toy"})
    assert stage.verify(tmp_path / "whole") == stage.verify(tmp_path / "parts")
    files = stage.read_manifest(tmp_path / "parts")["files"]
    assert sorted(whole_files(tmp_path / "parts", files)) == ["inner/model.safetensors", "inner/state.json"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda parts: parts[0].__setitem__(1, [1, 0]), "numbers|overlap"),
        (lambda parts: parts[3].__setitem__(1, [2, 2]), "overlap"),
        (lambda parts: parts[3].__setitem__(1, [9, 2]), "not inside"),
        (lambda parts: parts.pop(), "numbers"),
        (lambda parts: parts[0].__setitem__(0, "../../etc/passwd"), "no name of a file"),
        (lambda parts: parts[0].__setitem__(0, PARTS[1]), "no such part in the file"),
        (lambda parts: parts[0].__setitem__(1, ["0", 0]), "no index"),
        (lambda parts: [part[1].reverse() or part[2].reverse() for part in parts], "not inside|numbers|overlap"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(tmp_path: Path, change: Any, says: str) -> None:
    in_parts(tmp_path / "parts", tensors())
    check(tmp_path / "parts")
    path = tmp_path / "parts" / INDEX
    index = json.loads(path.read_text(encoding="utf-8"))
    change(index["files"][FILE]["of.float32"]["parts"])
    path.write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(ModelFileError, match=says) as caught:
        check(tmp_path / "parts")
    assert "parts/" in caught.value.message.split(":")[0]
    assert len(caught.value.message) <= 200


@pytest.mark.parametrize("content", [b"", b"\x08", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0{]", b"\x02\0\0\0\0\0\0\0[]"])
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ModelFileError, match="cannot be read as safetensors"):
        open_stored(tmp_path, FILE)
    (tmp_path / INDEX).write_bytes(content)
    with pytest.raises(ModelFileError, match="no index of parts"):
        read_index(tmp_path)


def test_a_box_is_read_from_all_parts_it_touches(tmp_path: Path) -> None:
    found = tensors()
    in_parts(tmp_path / "parts", found)
    stored, box = open_stored(tmp_path / "parts", FILE), Box((2, 1, 1), (3, 3, 2))
    out = torch.empty(box.shape)
    stored.read("noise", box, out.view(-1).view(torch.uint8).view(*box.shape, 4).numpy())
    assert torch.equal(out, found["noise"][2:5, 1:4, 1:3])


def test_more_parts_than_files_may_be_open_are_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = tensors()
    in_parts(tmp_path / "parts", found)
    before = file_of(open_stored(tmp_path / "parts", FILE))
    monkeypatch.setattr(reading, "_OPEN_FILES", 1)
    assert file_of(open_stored(tmp_path / "parts", FILE)) == before
