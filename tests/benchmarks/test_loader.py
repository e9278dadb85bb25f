"""The loader's benchmark measures real shards: what it writes opens, and every figure is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import loader
from groundup.tokens import PackedText


def test_its_shards_are_shards(tmp_path: Path) -> None:
    loader.write(tmp_path, 5000)
    rows = PackedText(tmp_path, "text", loader.CONTEXT_LENGTH, loader.VOCAB_SIZE)
    assert rows.num_tokens == 5000
    assert rows.row(1).segments.max() == 1
    assert rows.shards.documents().shape == (5, 2)


def test_all_figures_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "loader.json"
    monkeypatch.setattr("sys.argv", ["loader", "--tokens", "300000", "--repeats", "1", "--out", str(out)])
    loader.main()
    found = json.loads(out.read_text())["groundup"]
    for name in ("open_to_first_batch_cold", "batch_step_0_warm", "batch_step_1000000_cold"):
        assert 0 < found[name]["fastest"] <= found[name]["median"] <= found[name]["slowest"]
    assert 0 < found["share_of_step_warm"] < 1
