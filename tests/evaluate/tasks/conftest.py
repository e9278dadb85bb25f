"""Files of items, and tasks over them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from groundup import config
from groundup.evaluate import EvaluateConfig, EvaluationTask, Result, Subject
from groundup.evaluate.tasks.measure import measure_task
from groundup.models import Decoder
from groundup.tokens import Tokenizer

Measure = Callable[..., Result]


def built(**values: Any) -> EvaluationTask:
    """A task from what a recipe would say."""
    return config.build(EvaluateConfig, {"tasks": [{"name": "task", **values}]}, "test").tasks[0]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Iterable[Mapping[str, Any]], str], str]:
    """Records -> the path of a file of them."""

    def written(records: Iterable[Mapping[str, Any]], name: str = "items.jsonl") -> str:
        path = tmp_path / name
        path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
        return str(path)

    return written


@pytest.fixture
def measured(model: Decoder, tokenizer: Tokenizer, write: Callable[..., str]) -> Measure:
    """Records and what a recipe says of them -> the result of the task."""

    def measure(records: Iterable[Mapping[str, Any]], found: Iterable[str] | None = None, **values: Any) -> Result:
        task = built(path=write(records), **values)
        contaminated = {} if found is None else {"task": frozenset(found)}
        return measure_task(Subject(model, tokenizer, contaminated=contaminated), task)

    return measure
