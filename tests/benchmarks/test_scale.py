"""The benchmark of scale times every step once, and computes costs that grow as the document says."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from benchmarks import scale
from groundup.corpus import segments
from groundup.corpus.duplicates import shingle_store, steps

ROOT = Path(__file__).parents[2]


def test_every_step_is_timed_and_costs_grow_with_the_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (
        (steps, "MERGED_FILES"),
        (steps, "_MERGED_AT_ONCE"),
        (segments, "read_items"),
        (shingle_store, "read_items"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name))  # the benchmark changes them
    files = [str(ROOT / "data" / "smoke" / "text" / "austen.txt")]
    found = scale.measure(argparse.Namespace(corpus=files, megabytes=3, seed=1, vocab_size=400), tmp_path)
    assert {scale.READ, "settle", "write documents", "tokenize", "pack tokens"} <= found["seconds"].keys()
    assert {"near: exact", "near: bands", "near: pairs", "near: edges", "near: large-star"} <= found["seconds"].keys()
    assert {"reading", "cleaning", "hashing words", "signing", scale.STRICT} == found["inside_read"].keys()
    assert found["kept"] < found["documents"]
    assert 0 < found["token_bytes"] < found["raw_bytes"]
    assert found["random_reads"] > found["documents"] - found["kept"]
    one, fifteen = scale.at(found, scale.TERABYTE), scale.at(found, 15 * scale.TERABYTE)
    for name in ("documents", "core hours", "peak disk TB", "random reads"):
        assert fifteen[name] == pytest.approx(15 * one[name])
    assert fifteen["parts"] <= 65_537
    assert "| all " in scale.shown(found)
