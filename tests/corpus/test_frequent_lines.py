"""Lines frequent in the corpus: those of the plain definition, wherever documents, parts and runs begin and end."""

import json
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.config import build
from groundup.corpus import frequent_lines
from groundup.corpus.clean import CleanConfig, Resources
from groundup.corpus.clean.frequent import FREQUENT_LINE
from groundup.corpus.clean.lines import document_hash, line_hash
from groundup.corpus.duplicates import runs
from groundup.corpus.duplicates.signatures import DeduplicateConfig
from groundup.corpus.engines.processes import HERE, LocalEngine
from groundup.corpus.frequent_lines import lines_folder, with_frequent_lines
from groundup.corpus.parts import plan_parts
from groundup.corpus.reading.files import RawFile
from groundup.corpus.reading.sources import SourceConfig

LINES = st.sampled_from([f"line {name}" for name in "abcdefgh"])
FILES = st.lists(st.lists(st.lists(LINES, min_size=1, max_size=6), max_size=8), min_size=1, max_size=4)


def planned(folder, files, at_least):
    """Parts of one file each."""
    made = []
    for number, documents in enumerate(files):
        path = folder / f"{number}.jsonl"
        path.write_text("".join(json.dumps({"text": "\n".join(lines)}) + "\n" for lines in documents) + "broken\n")
        made.append(RawFile(path.name, path))
    lines = {"across_documents": at_least, "within_document": False, "min_characters": 1}
    clean = build(CleanConfig, {"repeated_lines": lines}, "test")
    source = SourceConfig(name="s", path=str(folder))
    return plan_parts(source, made, clean, DeduplicateConfig(), folder / "parts", None, Resources(), 0, part_bytes=1)


def expected(files, at_least):
    holders = defaultdict(set)
    for documents in files:
        for lines in documents:
            for line in lines:
                holders[line_hash(line)].add(document_hash("\n".join(lines)))
    return sorted((line, min(found)) for line, found in holders.items() if len(found) >= at_least)


@settings(max_examples=20, deadline=None)
@given(FILES, st.integers(2, 5), st.integers(4, 40))
def test_counted_as_defined(tmp_path_factory, files, at_least, run_records):
    folder = tmp_path_factory.mktemp("lines")
    planned_parts = planned(folder, files, at_least)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "RUN_RECORDS", run_records)
        patch.setattr(frequent_lines, "_BATCH_LINES", 3)
        found = with_frequent_lines(planned_parts, HERE)
    assert len({part.key for part in (*planned_parts, *found)}) == 2 * len(files)
    rows = np.fromfile(found[0].resources.frequent_lines.path, dtype=FREQUENT_LINE)
    assert rows.tolist() == expected(files, at_least)
    assert sorted(path.name for path in lines_folder(planned_parts).iterdir()) == ["frequent.bin", "frequent.json"]


def test_what_is_counted_is_not_counted_again(tmp_path, monkeypatch):
    files = [[[f"line {i}", "line of all"] for i in range(6)]] * 2
    planned_parts = planned(tmp_path, files, 3)

    def stopped(task):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(frequent_lines, "count_lines", stopped)
        with pytest.raises(KeyboardInterrupt):
            with_frequent_lines(planned_parts, HERE)
    monkeypatch.setattr(frequent_lines, "Reading", None)  # the parts are collected: no file is read again
    found = with_frequent_lines(planned_parts, HERE)
    monkeypatch.setattr(frequent_lines, "collect_lines", None)
    assert with_frequent_lines(planned_parts, HERE) == found
    rows = np.fromfile(found[0].resources.frequent_lines.path, dtype=FREQUENT_LINE)
    assert rows.tolist() == expected(files, 3)
    assert len(rows) == 1


def test_nothing_is_read_where_nobody_asks(tmp_path, monkeypatch):
    monkeypatch.setattr(frequent_lines, "collect_lines", None)
    planned_parts = planned(tmp_path, [[["line a"]]], 0)
    assert with_frequent_lines(planned_parts, LocalEngine(2)) == planned_parts
