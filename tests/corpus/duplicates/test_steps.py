"""Tasks of a step: small, whole again in another process, and not done twice."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from groundup.corpus.duplicates.runs import KeyRange, RunWriter
from groundup.corpus.duplicates.signatures import DeduplicateConfig
from groundup.corpus.duplicates.steps import Common, Step, Steps, Task
from groundup.corpus.engines.processes import LocalEngine
from groundup.corpus.segments import Segment, Store, document_number

KEY = np.dtype([("key", "<u8")])
CONFIG = DeduplicateConfig(threshold=0.7, bands=10)
CALLS = []


def count(task, writers):
    """Every key once more, and how many there are."""
    CALLS.append(task.name)
    keys = np.concatenate([np.zeros(0, dtype=KEY), *(piece for part in task.ranges() for piece in part.pieces())])
    writers["keys"].write(keys)
    return {"count": len(keys)}


STEP = Step(count, KEY, {"keys": KEY})


def store(count):
    return Store(tuple(Segment(Path(f"part{i}"), i, document_number(i, 0), 10, i % 4) for i in range(count)))


def test_a_task_is_small_however_many_segments_and_files(tmp_path):
    common = Common(store(2000), CONFIG, tuple(Path(f"in{i}\udcff") for i in range(2000)))
    task = Task("a", STEP, tmp_path, common.write(tmp_path), document_number(7, 0), document_number(7, 10))
    sent = pickle.dumps(task)
    assert len(sent) < 2000
    again = pickle.loads(sent)
    assert (again.store, again.config, again.inputs) == (common.store, CONFIG, common.inputs)
    assert again.segment == common.store.segments[7]


def test_every_record_is_in_one_task_and_finished_tasks_stay(tmp_path, monkeypatch):
    monkeypatch.setattr("groundup.corpus.duplicates.runs.RUN_RECORDS", 16)
    keys = np.random.default_rng(1).integers(0, 2**64, 100, dtype=np.uint64)
    with RunWriter(tmp_path / "in", KEY) as writer:
        writer.write_columns(key=keys)
    steps = Steps(store(3), CONFIG, tmp_path / "steps", LocalEngine())
    done = steps.by_key("a", STEP, [tmp_path / "in"])
    assert sum(stats["count"] for stats in done.stats) == 100
    found = np.concatenate(
        [piece["key"] for part in KeyRange.of(done["keys"], KEY).bounded() for piece in part.pieces()]
    )
    assert sorted(found.tolist()) == sorted(keys.tolist())
    CALLS.clear()
    done["keys"][2].unlink()
    again = steps.by_key("a", STEP, [tmp_path / "in"])
    assert CALLS == ["a-00002"]
    assert again.stats == done.stats
    with pytest.raises(FileNotFoundError):
        steps.by_key("b", STEP, [tmp_path / "none"])


def test_many_files_are_merged_into_few_that_are_sorted_as_a_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("groundup.corpus.duplicates.runs.RUN_RECORDS", 16)
    monkeypatch.setattr("groundup.corpus.duplicates.steps.MERGED_FILES", 4)
    monkeypatch.setattr("groundup.corpus.duplicates.steps._MERGED_AT_ONCE", 2)
    keys = np.random.default_rng(2).integers(0, 2**64, 300, dtype=np.uint64)
    keys[100:150] = keys[0]  # more of one key than fit in memory
    paths = [tmp_path / f"in{i}" for i in range(10)]
    for path, part in zip(paths, np.split(keys, 10)):
        with RunWriter(path, KEY) as writer:
            writer.write_columns(key=part)
    steps = Steps(store(3), CONFIG, tmp_path / "steps", LocalEngine())
    assert steps.merged("a", KEY, paths[:4]) == paths[:4]
    merged = steps.merged("a", KEY, paths)
    assert len(merged) == 4
    for path in merged:
        content = np.fromfile(path, dtype=np.uint64)
        assert (np.sort(content) == content).all()
    whole = KeyRange.of(merged, KEY)
    assert len(whole.slices) == 4
    pieces = [piece["key"] for part in whole.bounded() for piece in part.pieces()]
    assert max(map(len, pieces)) <= 16
    assert sorted(np.concatenate(pieces).tolist()) == sorted(keys.tolist())
    found = steps.by_key("b", STEP, paths)
    assert sum(stats["count"] for stats in found.stats) == 300
