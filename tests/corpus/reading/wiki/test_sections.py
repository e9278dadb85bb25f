"""A large dump in sections gives what it gives as a whole, wherever the sections fall, and damage stays local."""

import bz2
import hashlib
import json
import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groundup import config as recipe
from groundup.corpus import CorpusConfig, build_corpus
from groundup.corpus.reading.files import RawFile, Remote
from groundup.corpus.reading.readers import Reading, Rejected
from groundup.corpus.reading.sources import SourceConfig
from groundup.corpus.reading.wiki import streams
from groundup.corpus.reading.wiki.sections import in_sections
from groundup.corpus.reading.wiki.streams import MAGIC, find_stream, plan_sections
from tests.corpus.reading.wiki.made import dump, multistream, page, read

SOURCE = SourceConfig(name="s", path="s")
WORDS = [f"wort{i}" for i in range(500)]


def pages(count, seed=1):
    rng = random.Random(seed)
    return [page(i, f"Seite {i}: " + " ".join(rng.choices(WORDS, k=rng.randrange(5, 300)))) for i in range(count)]


PAGES = pages(120)


def sectioned(path, monkeypatch, section_bytes):
    monkeypatch.setattr(streams, "SECTION_BYTES", {"bz2": section_bytes, "": section_bytes})
    files = in_sections(RawFile(path.name, path), SOURCE)
    return files, [record for file in files for record in Reading(file, SOURCE, path.parent)]


def texts(records):
    return [record.text if not isinstance(record, Rejected) else record.reason for record in records]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=12)
@given(
    section_bytes=st.integers(min_value=40, max_value=60_000),
    in_one=st.integers(min_value=1, max_value=40),
    packed=st.booleans(),
)
def test_sections_of_any_size_give_the_whole(tmp_path, section_bytes, in_one, packed):
    path = tmp_path / "dump.xml"
    path.write_bytes(multistream(PAGES, in_one) if packed else dump(*PAGES))
    section_bytes = max(section_bytes, path.stat().st_size // 60)
    with pytest.MonkeyPatch.context() as patch:
        files, records = sectioned(path, patch, section_bytes)
    assert len(files) == max(1, path.stat().st_size // section_bytes)
    assert texts(records) == texts(read(path)[1])
    assert len({record.id for record in records}) == len(PAGES)


def test_streams_that_cut_pages(tmp_path, monkeypatch):
    """pbzip2 packs blocks of 900 kB, wherever they end."""
    whole = dump(*PAGES)
    path = tmp_path / "dump.xml.bz2"
    path.write_bytes(b"".join(bz2.compress(whole[i : i + 5000]) for i in range(0, len(whole), 5000)))
    files, records = sectioned(path, monkeypatch, 3000)
    assert len(files) > 5
    assert texts(records) == texts(read(path)[1])


def test_one_stream_is_read_whole(tmp_path, monkeypatch):
    path = tmp_path / "dump.xml.bz2"
    path.write_bytes(bz2.compress(dump(*PAGES)))
    files, _ = sectioned(path, monkeypatch, 1000)
    assert files == [RawFile("dump.xml.bz2", path)]


@pytest.mark.parametrize(
    "data", [b"word " * 2000, b"{}\n" * 3000, b"<?xml version='1.0' encoding='latin-1'?>" + dump(*PAGES)]
)
def test_other_files_are_not_cut(tmp_path, monkeypatch, data):
    (tmp_path / "a.txt").write_bytes(data)
    assert len(sectioned(tmp_path / "a.txt", monkeypatch, 1000)[0]) == 1


def test_sections_share_the_size_of_a_local_file_in_utf8(tmp_path, monkeypatch):
    path = tmp_path / "dump.xml"
    path.write_bytes(dump(*PAGES))
    files, _ = sectioned(path, monkeypatch, 5000)
    whole = RawFile("dump.xml", path)
    assert sum(file.state()[1] for file in files) == whole.state()[1] == path.stat().st_size
    assert len({file.state()[0] for file in files}) == 1
    assert in_sections(whole, SourceConfig(name="s", path="s", encoding="utf-8")) == files
    remote = replace(whole, remote=Remote("a/b", "c", "dump.xml", path.stat().st_size, "d"))
    assert in_sections(remote, SOURCE) == [remote]
    for options in ({"invalid_bytes": "replace"}, {"encoding": "gb18030"}, {"format": "text"}):
        assert in_sections(whole, SourceConfig.model_validate({"name": "s", "path": "s", **options})) == [whole]


def test_damage_costs_its_stream_only(tmp_path, monkeypatch):
    data = bytearray(multistream(PAGES, 10))
    starts = [found for found in range(len(data)) if data[found : found + 10] == b"BZh9" + MAGIC]
    data[starts[5] + 60] ^= 4
    path = tmp_path / "dump.xml.bz2"
    path.write_bytes(data)
    _, records = sectioned(path, monkeypatch, 3000)
    assert [record.reason for record in records if isinstance(record, Rejected)] == ["damaged bz2"]
    assert f"byte {starts[5]}" in next(record.sample for record in records if isinstance(record, Rejected))
    kept = [record.text.split(":")[0] for record in records if not isinstance(record, Rejected)]
    assert kept == [f"Seite {i}" for i in range(120) if not 40 <= i < 50]


def test_a_stream_that_is_not_found_is_reported(tmp_path, monkeypatch):
    data = bytearray(multistream(PAGES, 10))
    starts = [found for found in range(len(data)) if data[found : found + 10] == b"BZh9" + MAGIC]
    path = tmp_path / "dump.xml.bz2"
    for broken in starts[1:-1]:
        path.write_bytes(data[: broken + 6] + b"?" + data[broken + 7 :])
        _, records = sectioned(path, monkeypatch, 3000)
        assert [record.reason for record in records if isinstance(record, Rejected)] == ["damaged bz2"]
        assert len(records) == 111


def test_empty_streams_are_no_damage(tmp_path, monkeypatch):
    parts = multistream(PAGES, 10).split(b"BZh9" + MAGIC)
    path = tmp_path / "dump.xml.bz2"
    path.write_bytes((bz2.compress(b"") * 2 + b"BZh9" + MAGIC).join(parts).removeprefix(bz2.compress(b"") * 2))
    _, records = sectioned(path, monkeypatch, 3000)
    assert len(texts(records)) == 120


def test_a_dump_cut_short_keeps_its_whole_streams(tmp_path, monkeypatch):
    data = multistream(PAGES, 10)
    path = tmp_path / "dump.xml.bz2"
    path.write_bytes(data[: len(data) * 2 // 3])
    _, records = sectioned(path, monkeypatch, 3000)
    bad = [record.reason for record in records if isinstance(record, Rejected)]
    assert bad[0] == "truncated bz2"
    assert len(records) - len(bad) >= 60


def test_plan_covers_every_byte():
    for size in (0, 1, 1999, 2000, 2001, 12_345):
        assert plan_sections(size, "zstd") == []
    streams_per = plan_sections(100 << 20, "bz2")
    assert [section.start for section in streams_per[1:]] == [section.end for section in streams_per[:-1]]
    assert (streams_per[0].start, streams_per[-1].end) == (0, 100 << 20)


def test_find_stream_across_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "_BLOCK_BYTES", 7)
    (tmp_path / "a").write_bytes(b"x" * 20 + b"BZh0" + MAGIC + b"BZh91AY&SX" + b"BZh1" + MAGIC)
    with (tmp_path / "a").open("rb") as handle:
        assert find_stream(handle, 0, 100) == 40
        assert find_stream(handle, 40, 41) == 40
        assert find_stream(handle, 0, 40) is None
        assert find_stream(handle, 41, 100) is None


def test_sections_read_in_any_order_give_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "SECTION_BYTES", {"bz2": 4000, "": 4000})
    monkeypatch.setattr("groundup.corpus.parts.PART_BYTES", 6000)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "dump.xml.bz2").write_bytes(multistream([*PAGES, PAGES[3], page(900, "#REDIRECT [[A]]")], 7))
    config = recipe.build(CorpusConfig, {"sources": [{"name": "wiki", "path": str(tmp_path / "raw")}]}, "test")
    found = []
    for order in (1, -1):  # workers end in any order

        def run_all(engine, function, tasks, done=None, order=order):
            return [function(task) for task in tasks[::order]][::order]

        monkeypatch.setattr("groundup.corpus.engines.processes.LocalEngine.run_all", run_all)
        work = tmp_path / f"work{order}"
        build_corpus(config, tmp_path, work)
        files = sorted(path for path in work.rglob("*") if path.is_file() and "logs" not in path.parts)
        found.append(
            [(path.relative_to(work).as_posix(), hashlib.sha256(path.read_bytes()).digest()) for path in files]
        )
    assert found[0] == found[1]
    report = json.loads((tmp_path / "work1" / "report.json").read_text())
    assert (report["total"], report["kept"], report["duplicates"]["exact"]) == (122, 120, 1)
    assert report["rejected"] == {"redirect": 1}
    assert len(report["files"]) > 3
    assert all(file["problem"] == "" for file in report["files"])
