"""Shards give back what was written, or say that they cannot."""

import pytest

from groundup.corpus.documents import (
    Document,
    LineWriter,
    from_line,
    read_documents,
    read_lines,
    record_number,
    shard_name,
    shard_paths,
    to_line,
)
from groundup.corpus.reading.compressed import DamagedFile
from groundup.errors import DataError

DOCUMENTS = [Document(f"f.txt:{i}", f"text {i} \u2028 \u0085 <b>", "s", {"id": i}) for i in range(50)]


def write(folder, name, documents):
    (folder / "documents").mkdir(exist_ok=True)
    with LineWriter(folder / "documents" / name) as writer:
        for document in documents:
            writer.write(to_line(document))


def test_lines_round_trip():
    assert [from_line(to_line(document)) for document in DOCUMENTS] == DOCUMENTS
    assert to_line(DOCUMENTS[0]).count(b"\n") == 1
    assert record_number(Document("odd:name.txt:17", "", "s")) == 17


def test_documents_by_split_and_source_in_order(tmp_path):
    write(tmp_path, shard_name("train", "b-1.x", 0), DOCUMENTS[:10])
    write(tmp_path, shard_name("train", "b-1.x", 1), DOCUMENTS[10:20])
    write(tmp_path, shard_name("train", "a", 0), DOCUMENTS[20:30])
    write(tmp_path, shard_name("test", "a", 0), DOCUMENTS[30:])
    assert list(read_documents(tmp_path, "train")) == DOCUMENTS[20:30] + DOCUMENTS[:20]
    assert list(read_documents(tmp_path, "train", "b-1.x")) == DOCUMENTS[:20]
    assert list(read_documents(tmp_path, "validation")) == []


def test_shards_after_the_99999th_stay_in_order(tmp_path):
    (tmp_path / "documents").mkdir()
    for number in (100_000, 99_999):
        (tmp_path / "documents" / shard_name("train", "a", number)).touch()
    assert [path.name for path in shard_paths(tmp_path, "train")] == [
        "train-a-99999.jsonl.zst",
        "train-a-100000.jsonl.zst",
    ]


def test_wrong_folders_splits_and_damaged_shards(tmp_path):
    with pytest.raises(DataError, match="no prepared corpus"):
        list(read_documents(tmp_path, "train"))
    with pytest.raises(DataError, match="train, validation, test"):
        list(read_documents(tmp_path, "val"))
    write(tmp_path, shard_name("train", "a", 0), DOCUMENTS)
    (path,) = shard_paths(tmp_path, "train")
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DamagedFile, match="truncated zstd"):
        list(read_lines(path))
    with pytest.raises(DataError, match="damaged shard"):
        list(read_documents(tmp_path, "train"))


def test_a_failed_writer_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), LineWriter(tmp_path / "x.zst") as writer:
        writer.write(b"line\n")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
