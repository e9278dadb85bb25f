"""Repeated lines go: in a document all but the first, in the corpus all but one, whatever the order."""

import numpy as np

from groundup.config import build
from groundup.corpus.clean import CleanConfig, Cleaner, Dropped, Resources, Text
from groundup.corpus.clean.frequent import FREQUENT_LINE, FrequentLines
from groundup.corpus.clean.lines import LinesConfig, document_hash, line_hash, repeated_lines
from groundup.corpus.documents import Document

LONG = "This line is long enough to be compared."


def test_within_a_document_the_first_stays(run):
    text = f"{LONG}\nshort\nshort\n  {LONG} \nother\n{LONG}"
    cleaned, changes = run(text, repeated_lines={})
    assert cleaned == f"{LONG}\nshort\nshort\nother"
    assert changes.edits == {"repeated lines: within the document": 2}
    assert run(text, repeated_lines={"within_document": False})[0] == text


def test_chinese_lines_count_at_half_the_length(run):
    line = "本页面最后修订于昨天晚上"
    assert run(f"{line}\n春天\n{line}\n春天", repeated_lines={})[0] == f"{line}\n春天\n春天"


def test_frequent_lines_stay_in_one_document(tmp_path):
    texts = [f"{LONG}\nbody {number} of a document" for number in range(3)]
    keeper = document_hash(texts[1])
    rows = np.array([(line_hash(LONG), keeper)], dtype=FREQUENT_LINE)
    rows.tofile(tmp_path / "lines")
    config = LinesConfig(across_documents=2)
    outcomes = [repeated_lines(config, FrequentLines(tmp_path / "lines", True), Text(text)) for text in texts]
    assert [outcome and outcome.string for outcome in outcomes] == [
        "body 0 of a document",
        None,
        "body 2 of a document",
    ]
    nobody = repeated_lines(config, FrequentLines(tmp_path / "lines", False), Text(texts[1]))
    assert nobody.string == "body 1 of a document"
    (tmp_path / "none").write_bytes(b"")
    assert repeated_lines(config, FrequentLines(tmp_path / "none", True), Text(texts[0])) is None


def test_a_document_of_frequent_lines_only_is_dropped_as_empty(tmp_path):
    np.array([(line_hash(LONG), 0)], dtype=FREQUENT_LINE).tofile(tmp_path / "lines")
    config = build(CleanConfig, {"repeated_lines": {"across_documents": 2}}, "test")
    cleaner = Cleaner(config, Resources(frequent_lines=FrequentLines(tmp_path / "lines", True)))
    assert cleaner.clean(Document("a:1", LONG, "s")) == Dropped("empty after cleaning")
