"""The whole room: raw files in, splits and an account out; the same bytes whatever happens on the way."""

import gzip
import hashlib
import json
import os
import random
import signal
import subprocess
import sys

import pytest
from pydantic import ValidationError

from groundup import config as recipe
from groundup.corpus import (
    CorpusConfig,
    LocalEngine,
    build_corpus,
    part_reader,
    parts,
    prepare,
    raw_identity,
    read_documents,
    segments,
    shards,
)
from groundup.corpus.reading import line_sections
from groundup.errors import DataError, first_line

WORDS = [f"word{i}" for i in range(300)]


def texts(count, seed, words=40):
    rng = random.Random(seed)
    return [f"[{seed}-{i}] " + " ".join(rng.choices(WORDS, k=words)) for i in range(count)]


def jsonl(rows):
    return "".join(json.dumps({"text": row}) + "\n" for row in rows).encode()


def corpus(**values):
    return recipe.build(CorpusConfig, values, "test")


def content(folder):
    """Hash of each file that is state."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and "logs" not in path.parts]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def report_of(folder):
    def refuse(literal):
        raise AssertionError(f"{literal} is no JSON")

    return json.loads((folder / "report.json").read_text(encoding="utf-8"), parse_constant=refuse)


def assert_adds_up(account):
    assert account["total"] == account["loaded"] + sum(account["rejected"].values())
    dropped = sum(account["filtered"].values()) + sum(account["duplicates"].values()) + account["contaminated"]
    assert account["loaded"] == account["kept"] + dropped
    size = account["bytes"]
    lost = sum(size["filtered"].values()) + sum(size["duplicates"].values()) + size["contaminated"]
    assert size["loaded"] == size["kept"] + lost
    assert set(size["filtered"]) <= set(account["filtered"])
    assert bool(size["loaded"]) == bool(account["loaded"])


def assert_histograms_add_up(share):
    added = sum(method["bytes"] for method in share["added"].values())
    text_bytes = sum(split["bytes"] for split in share["splits"].values()) - added
    for kind in ("lengths", "scripts", "languages", "licenses"):
        assert sum(one["documents"] for one in share[kind].values()) == share["kept"]
        assert sum(one["bytes"] for one in share[kind].values()) == text_bytes


def assert_report_adds_up(report, added=0):
    for account in (report, *report["sources"].values(), *report["files"]):
        assert_adds_up(account)
    for share in (report, *report["sources"].values()):
        assert_histograms_add_up(share)
    for name, source in report["sources"].items():
        examples = [one for reasons in source["samples"].values() for known in reasons.values() for one in known]
        assert all(one["file"].startswith(f"{name}/") for one in examples)
        for kind in ("rejected", "filtered", "duplicates"):
            assert {reason for reason, count in source[kind].items() if count} == set(source["samples"][kind])
        assert source["filtered"].keys() <= report["rules"].keys()
    for key in ("total", "loaded", "kept"):
        assert report[key] == sum(f[key] for f in report["files"]) == sum(s[key] for s in report["sources"].values())
    for account in (report, *report["sources"].values()):
        further = sum(method["documents"] for method in account["added"].values())
        assert account["kept"] + further == sum(split["documents"] for split in account["splits"].values())
    assert report["kept"] + added == sum(shard["documents"] for shard in report["shards"])


@pytest.fixture
def raw(tmp_path):
    """Three sources: mixed files with bad ones among them, long texts, and a forced test set that overlaps."""
    folder = tmp_path / "raw"
    (folder / "mixed").mkdir(parents=True)
    good = texts(120, 1)
    near = [text + " end" for text in texts(5, 2, words=200)]
    files = {
        "mixed/a.jsonl.gz": gzip.compress(jsonl(good[:80] + good[:10] + ["  ", "x"])),
        "mixed/b.jsonl": jsonl(good[70:]) + b'{"text": "cut',
        "mixed/c.csv": b"text,n\n" + b"".join(f'"{t}",1\n'.encode() for t in texts(5, 2, words=200)),
        "mixed/d.json": json.dumps([{"text": text} for text in near]).encode(),
        "mixed/bad.txt": b"\xfd\xff\x00\x01" * 50,
        "mixed/cut.jsonl.gz": gzip.compress(jsonl(good))[:-9],
        "long.txt": "\n\n".join(texts(60, 3)).encode(),
        "held.txt": b"\r\n".join(t.encode() for t in texts(3, 4)),
        "held.jsonl": jsonl([good[0], *texts(3, 5)]),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    os.mkfifo(folder / "mixed" / "pipe.txt")
    return folder


def raw_config(raw, **values):
    sources = [
        {"name": "mixed", "path": str(raw / "mixed")},
        {"name": "long", "path": str(raw / "long.txt"), "max_document_bytes": 2048},
        {"name": "held", "path": str(raw / "held.*"), "split": "test"},
    ]
    defaults = {"clean": {"min_characters": 10}, "split": {"validation": 0.1}}
    return corpus(sources=sources, **{**defaults, **values})


def build(config, folder, workers=0):
    folder.mkdir(exist_ok=True)
    return build_corpus(config, folder, folder, LocalEngine(workers))


def test_every_record_is_accounted_for(raw, tmp_path):
    summary = build(raw_config(raw), tmp_path / "work")
    report = report_of(tmp_path / "work")
    assert_report_adds_up(report)
    assert report["rejected"] == {"binary data": 1, "empty text": 1, "truncated JSON": 1, "truncated gzip": 1}
    assert report["filtered"] == {"shorter than min_characters": 1}
    assert report["duplicates"] == {"exact": 10 + 10 + 1, "near": 5}
    assert summary["kept"] == report["kept"]
    by_name = {file["name"]: file for file in report["files"]}
    assert by_name["a.jsonl.gz"]["detected"] == "JSON lines in gzip"
    assert by_name["bad.txt"]["problem"].startswith("binary data")
    assert by_name["held.txt"]["kept"] == 1
    assert by_name["long.txt"]["kept"] > 3
    assert report["skipped"]["reasons"] == {"pipe, not a regular file": 1}
    changed = report["changed"]["line ends"]
    assert (changed["documents"], changed["characters_removed"], len(changed["samples"])) == (1, 2, 1)
    sample = report["samples"]["rejected"]["truncated JSON"][0]
    assert (sample["file"], sample["record"]) == ("mixed/b.jsonl", 51)
    assert not (tmp_path / "work" / "parts").exists()


def test_no_document_is_on_two_sides(raw, tmp_path):
    build(raw_config(raw, split={"validation": 0.3, "test": 0.2}), tmp_path / "work")
    sides = {split: list(read_documents(tmp_path / "work", split)) for split in ("train", "validation", "test")}
    everything = [document.text for documents in sides.values() for document in documents]
    assert len(everything) == len(set(everything)) == report_of(tmp_path / "work")["kept"]
    for documents in sides.values():
        pieces = [document for document in documents if document.source == "long"]
        assert len(pieces) in (0, report_of(tmp_path / "work")["sources"]["long"]["kept"])  # one text, one side
    held = [document.text for document in sides["test"] if document.source == "held"]
    assert texts(120, 1)[0] in held
    assert len(held) == 5
    assert not [document for document in (*sides["train"], *sides["validation"]) if document.source == "held"]
    assert list(read_documents(tmp_path / "work", "test", "held")) == [d for d in sides["test"] if d.source == "held"]


@pytest.fixture
def small_parts(monkeypatch):
    """Each file a part of its own, segments of 64 documents, and shards of fewer."""
    monkeypatch.setattr(parts, "PART_BYTES", 1)
    monkeypatch.setattr(segments, "SEGMENT_BITS", 6)
    monkeypatch.setattr(shards, "SHARD_BYTES", 4096)


def test_workers_and_places_change_nothing(raw, tmp_path, small_parts):
    build(raw_config(raw), tmp_path / "one")
    assert len(list((tmp_path / "one" / "documents").glob("train-mixed-*"))) > 3
    expected = content(tmp_path / "one")
    moved = tmp_path / "elsewhere"
    raw.rename(moved)
    for path in sorted(moved.rglob("*")):
        os.utime(path, (1, 1))
    build(raw_config(moved), tmp_path / "three")
    assert content(tmp_path / "three") == expected


def test_processes_change_nothing(raw, tmp_path, monkeypatch):
    build(raw_config(raw), tmp_path / "none")
    monkeypatch.setattr(prepare, "_WORTH_PROCESSES_BYTES", 0)
    build(raw_config(raw), tmp_path / "two", workers=2)
    assert content(tmp_path / "two") == content(tmp_path / "none")


def kept_documents(folder):
    return {split: list(read_documents(folder, split)) for split in ("train", "validation", "test")}


def test_sections_segments_and_parts_change_no_document(raw, tmp_path, monkeypatch):
    (raw / "mixed" / "big.jsonl").write_bytes(jsonl(texts(150, 9)) + b"\n\nbroken\n" + jsonl(texts(40, 10)))
    config = raw_config(raw, split={"validation": 0.3, "test": 0.1})
    build(config, tmp_path / "whole")
    expected, report = kept_documents(tmp_path / "whole"), report_of(tmp_path / "whole")
    monkeypatch.setattr(line_sections, "SECTION_BYTES", 5000)
    monkeypatch.setattr(parts, "PART_BYTES", 5000)
    monkeypatch.setattr(segments, "SEGMENT_BITS", 3)
    build(config, tmp_path / "cut")
    assert kept_documents(tmp_path / "cut") == expected
    cut = report_of(tmp_path / "cut")
    for differing in ("shards", "samples", "deduplication"):  # copies within one part are counted as it is read
        del cut[differing], report[differing]
    assert cut == report
    assert next(file for file in cut["files"] if file["name"] == "big.jsonl")["total"] == 191


def test_a_file_in_two_sources_has_the_same_numbers_in_both(tmp_path, monkeypatch):
    monkeypatch.setattr(line_sections, "SECTION_BYTES", 500)
    monkeypatch.setattr(parts, "PART_BYTES", 500)
    path = tmp_path / "big.jsonl"
    rows = [{"text": text, "title": f"title {text}"} for text in texts(20, 11)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sources = [{"name": field, "path": str(path), "text_field": field} for field in ("text", "title")]
    build(corpus(sources=sources, deduplicate={"near": False}, split={"validation": 0}), tmp_path / "work")
    for field in ("text", "title"):
        documents = list(read_documents(tmp_path / "work", "train", field))
        assert [(d.id, d.text) for d in documents] == [
            (f"big.jsonl:{number}", row[field]) for number, row in enumerate(rows, 1)
        ]


class Killed(BaseException):
    """Stands for a kill at an exact point."""


def test_a_kill_at_any_point_loses_one_part_and_changes_nothing(raw, tmp_path, small_parts, monkeypatch):
    config = raw_config(raw)
    build(config, tmp_path / "whole")
    expected = content(tmp_path / "whole")
    work = tmp_path / "work"
    replace, reads = os.replace, []
    read = part_reader._PartReader.read
    monkeypatch.setattr(
        part_reader._PartReader, "read", lambda self, *a: (reads.append(self.part.number), read(self, *a))[1]
    )
    for fatal in (1, 2, 5, 9, 16, 19, 24, 30, 10_000):
        calls = 0

        def dying(source, target, fatal=fatal):
            nonlocal calls
            calls += 1
            if calls >= fatal:
                raise Killed
            replace(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", dying)
            try:
                build(config, work)
            except Killed:
                continue
            break
    assert content(work) == expected
    assert len(reads) - len(set(reads)) <= 8  # at most the part in work at each kill was read again
    monkeypatch.setattr(part_reader, "read_part", None)
    build(config, work)  # finished: nothing is read
    assert content(work) == expected


def test_sigkill_of_a_running_build(raw, tmp_path, monkeypatch):
    script = tmp_path / "build.py"
    script.write_text(
        "import sys, os, signal\n"
        "from pathlib import Path\n"
        "from groundup import config\n"
        "from groundup.corpus import CorpusConfig, build_corpus, parts\n"
        "parts.PART_BYTES = 1\n"
        "import groundup.corpus.prepare as prepare\n"
        "def die(part): os.kill(os.getpid(), signal.SIGKILL)\n"
        "if sys.argv[3] == 'die': prepare.write_shards = die\n"
        "recipe = config.build(CorpusConfig, config.parse_yaml(Path(sys.argv[1]).read_text(), 'x'), 'x')\n"
        "build_corpus(recipe, Path('.'), Path(sys.argv[2]))\n"
    )
    config = raw_config(raw)
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml(config))
    work = tmp_path / "work"
    work.mkdir()
    command = [sys.executable, str(script), str(tmp_path / "recipe.yaml"), str(work)]
    assert subprocess.run([*command, "die"], check=False).returncode == -signal.SIGKILL
    finished = {path: path.stat().st_mtime_ns for path in (work / "parts").glob("*/part.json")}
    assert len(finished) == 9
    damaged = sorted(finished)[0].parent / "00000" / "rows.bin"
    damaged.write_bytes(b"\0" + damaged.read_bytes()[1:])
    subprocess.run([*command, "live"], check=True)
    monkeypatch.setattr(parts, "PART_BYTES", 1)
    build(config, tmp_path / "whole")
    assert content(work) == content(tmp_path / "whole")


def test_identity_is_content_and_options_not_places(raw, tmp_path):
    config = raw_config(raw)
    identity = raw_identity(config, tmp_path)
    assert recipe.digest(identity)
    assert "path" not in identity["sources"][0]
    name, content_hash = identity["sources"][1]["files"][0]
    assert (name, content_hash) == ("long.txt", hashlib.sha256((raw / "long.txt").read_bytes()).hexdigest())
    moved = raw.rename(tmp_path / "moved")
    assert raw_identity(raw_config(moved), tmp_path) == identity
    (moved / "long.txt").write_bytes(b"other")
    assert raw_identity(raw_config(moved), tmp_path) != identity
    assert raw_identity(raw_config(moved, clean={"min_characters": 11}), tmp_path)["clean"] != identity["clean"]


def test_file_names_and_order_decide_nothing_about_what_is_kept(tmp_path):
    rows = texts(30, 7, words=100)
    variants = [row + " tail" for row in rows]
    kept = []
    for names in (("a", "b"), ("b", "a")):
        folder = tmp_path / names[0]
        folder.mkdir()
        (folder / f"{names[0]}.jsonl").write_bytes(jsonl(rows))
        (folder / f"{names[1]}.jsonl").write_bytes(jsonl(variants))
        work = tmp_path / f"work-{names[0]}"
        build(corpus(sources=[{"name": "s", "path": str(folder)}], split={"validation": 0.2}), work)
        kept.append([{d.text for d in read_documents(work, split)} for split in ("train", "validation")])
    assert kept[0] == kept[1]
    assert len(kept[0][0] | kept[0][1]) == 30


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"\x7fELF\x00\x01\xff", "binary data"), (b"", "empty file"), (b"short", "shorter than min_characters")],
)
def test_nothing_kept_is_a_data_error(tmp_path, data, words):
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(DataError) as caught:
        build(
            corpus(sources=[{"name": "s", "path": str(tmp_path / "a.txt")}], clean={"min_characters": 9}),
            tmp_path / "w",
        )
    assert caught.value.exit_code == 3
    assert words in first_line(caught.value)
    assert "corpus.sources" in first_line(caught.value)


def test_configs_that_are_refused(tmp_path):
    with pytest.raises(Exception, match="two sources are named 'a'"):
        corpus(sources=[{"name": "a", "path": "x"}, {"name": "A", "path": "y"}])
    with pytest.raises(ValidationError):
        CorpusConfig(sources=())
