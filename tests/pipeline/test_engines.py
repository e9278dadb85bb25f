"""An engine whose tasks run elsewhere changes no byte of the stages over text."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from groundup import config
from groundup.corpus import LocalEngine
from groundup.pipeline import Recipe, prepare
from tests.pipeline.toys import base_values

STAGES = ("corpus", "contamination", "tokenizer", "shards")


class Elsewhere:
    """Runs tasks here, last first, and says that they ran in other processes."""

    apart = True

    def __init__(self) -> None:
        self.functions: set[str] = set()

    def run_all(self, function: Any, tasks: Any, done: Any = None) -> list[Any]:
        self.functions.add(function.__name__)
        return LocalEngine().run_all(function, tasks[::-1])[::-1]

    def where_worth(self, amount: int, least: int) -> Elsewhere:
        return self


def bytes_of(work: Path) -> dict[str, str]:
    paths = [path for name in STAGES for path in sorted((work / "stages" / name).rglob("*")) if path.is_file()]
    return {
        path.relative_to(work).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
        if path.name != "manifest.json" and path.suffix != ".lock" and "logs" not in path.parts
    }


def test_the_stages_over_text_are_the_same_wherever_they_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = base_values(tmp_path)
    values["tokenizer"]["sample_bytes"] = 1500
    found = []
    engine = Elsewhere()
    for name in ("here", "elsewhere"):
        values["runtime"]["workdir"] = str(tmp_path / name)
        prepare(config.build(Recipe, values, "test"))
        found.append(bytes_of(tmp_path / name))
        monkeypatch.setattr("groundup.corpus.open_engine", lambda *settings: nullcontext(engine))
    assert found[0] == found[1]
    assert any("shards" in name and name.endswith(".bin") for name in found[0])
    assert {"read_part", "_check_shard", "_draw_file", "_encode_file", "_pack_shard"} <= engine.functions
