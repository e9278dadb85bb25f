"""Sorted runs on disk: everything written comes back once, by key, in arrays of a bounded size."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.corpus.duplicates import runs
from groundup.corpus.duplicates.runs import KEYS, KeyRange, RunWriter, count_records, even_ranges

RECORD = np.dtype([("key", "<u8"), ("value", "<u4")])
KEY_LISTS = st.lists(st.integers(0, KEYS - 1) | st.integers(0, 5) | st.just(KEYS - 1), max_size=120)


def written(path, keys, start=0):
    with RunWriter(path, RECORD) as writer:
        for i in range(0, len(keys), 7):
            part = keys[i : i + 7]
            numbers = np.arange(start + i, start + i + len(part))
            writer.write_columns(key=np.array(part, dtype=np.uint64), value=numbers)
    return path


@settings(deadline=None, max_examples=60)
@given(st.lists(KEY_LISTS, max_size=3), st.integers(1, 20))
def test_every_record_comes_back_once_in_bounded_pieces(tmp_path_factory, files, limit):
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "RUN_RECORDS", limit)
        paths = [written(folder / str(i), keys, 1000 * i) for i, keys in enumerate(files)]
        assert count_records(paths, RECORD) == sum(map(len, files))
        found = []
        for low, high in even_ranges(count_records(paths, RECORD)):
            for part in KeyRange.of(paths, RECORD, low, high).bounded():
                pieces = list(part.pieces())
                assert part.fits == (part.records <= limit)
                assert all(len(piece) <= limit for piece in pieces)
                keys = np.concatenate([piece["key"] for piece in pieces])
                assert part.fits or len(set(keys.tolist())) == 1  # only the records of one key are given in pieces
                assert all(low <= key < high for key in keys.tolist())
                assert [p.tolist() for p in part.pieces()] == [p.tolist() for p in pieces]
                found += [record for piece in pieces for record in piece.tolist()]
    expected = [(key, 1000 * i + j) for i, keys in enumerate(files) for j, key in enumerate(keys)]
    assert sorted(found) == sorted(expected)


def test_a_file_that_is_there_is_whole(tmp_path):
    with pytest.raises(KeyboardInterrupt), RunWriter(tmp_path / "a", RECORD) as writer:
        writer.write(np.zeros(3, dtype=RECORD))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
