"""Histograms have every document and byte in one bin each, whatever the labels, and name rare ones together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.corpus.accounts import histograms, labels
from groundup.corpus.accounts.histograms import KINDS, Named, histograms_of, length_name
from groundup.corpus.accounts.labels import Labels
from groundup.corpus.segments import ROW

ROWS = st.lists(
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 30), st.text(max_size=8)),
    max_size=40,
)


@given(st.lists(ROWS, max_size=3))
def test_every_document_is_in_one_bin_of_each_kind(parts):
    named, documents, size_bytes = Named(), 0, 0
    for part in parts:
        languages, rows = Labels(), np.zeros(len(part), dtype=ROW)
        for row, (characters, text_bytes, script, language) in zip(rows, part):
            row["characters"], row["text_bytes"], row["script"] = characters, text_bytes, script
            row["language"] = languages.number(language)
            documents, size_bytes = documents + 1, size_bytes + text_bytes
        named.add(histograms_of(rows), {"languages": languages.names, "licenses": Labels().names})
    named.check(documents, size_bytes, "all")
    for kind, bins in named.to_json().items():
        assert kind in KINDS
        assert sum(one["documents"] for one in bins.values()) == documents
        assert sum(one["bytes"] for one in bins.values()) == size_bytes
    if documents:
        with pytest.raises(AssertionError, match="do not add up"):
            named.check(documents - 1, size_bytes, "all")


@given(st.integers(1, 2**32 - 1))
def test_a_length_lies_in_the_bin_that_its_name_says(characters):
    rows = np.zeros(1, dtype=ROW)
    rows["characters"] = characters
    bits = int(histograms_of(rows)["lengths"][0, 0])
    low, _, high = length_name(bits).partition("-")
    assert int(low) <= characters <= int(high or low)


def test_names_are_limited(monkeypatch):
    monkeypatch.setattr(labels, "LABEL_LIMIT", 5)
    monkeypatch.setattr(histograms, "NAMES_SHOWN", 3)
    table = Labels()
    numbers = [table.number(name) for name in ("a", "b", "c", "d", "e", "a", "", None, 7, " a\n")]
    assert numbers == [2, 3, 4, 1, 1, 2, 0, 0, 0, 2]
    rows = np.zeros(len(numbers), dtype=ROW)
    rows["license"] = numbers
    named = Named()
    named.add(histograms_of(rows), {"languages": table.names, "licenses": table.names})
    found = {name: one["documents"] for name, one in named.to_json()["licenses"].items()}
    assert found == {"a": 3, "not given": 3, "other": 4}


def test_labels_from_data_are_printable():
    table = Labels()
    table.number("\x1b[31m\u202eMIT" + "x" * 1000)
    assert table.names[2].startswith("\\x1b[31m\\u202eMIT")
    assert len(table.names[2]) < 200
