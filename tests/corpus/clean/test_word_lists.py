"""Unwanted words are found at word boundaries, and where there are none, as characters."""

import pytest

from groundup.corpus.clean import CleanConfig, Cleaner, Dropped, load_resources
from groundup.corpus.clean.word_lists import WordList, WordListConfig
from groundup.corpus.documents import Document
from groundup.errors import DataError, first_line


def words(*entries, **options):
    return WordList(WordListConfig(name="bad", path="x", **options), frozenset(entries))


def found(text, *entries):
    return [text[start:end] for start, end in words(*entries).matches(text)]


def test_boundaries():
    assert found("A class of ASS, glass, ass's and assess", "ass") == ["ASS"]
    assert found("hot dog, hot dogs, HOT DOG!", "hot dog") == ["hot dog", "HOT DOG"]
    assert found("你是sb吗", "sb") == ["sb"]
    assert found("他很坏蛋坏", "坏蛋", "坏") == ["坏蛋"]
    assert found("坏。大坏人 坏", "坏") == ["坏", "坏"]
    assert found("İxx bad", "bad") == ["bad"]
    assert found("ばかやろうと言う", "ばかやろう") == ["ばかやろう"]


def clean(tmp_path, text, **options):
    (tmp_path / "bad.txt").write_text("# words\nDarn\n坏蛋\n\n", encoding="utf-8")
    config = CleanConfig(word_lists=(WordListConfig(name="bad", path="bad.txt", **options),))
    cleaner = Cleaner(config, load_resources(config, (tmp_path / "nowhere", tmp_path)))
    return cleaner.clean(Document("a:1", text, "s")), cleaner.changes


def test_drop_and_mask(tmp_path):
    outcome, _ = clean(tmp_path, "darn it, you 坏蛋")
    assert outcome == Dropped("word list bad", 2, 0)
    outcome, changes = clean(tmp_path, "darn it, you 坏蛋", action="mask")
    assert outcome.text == "*** it, you ***"
    assert changes.edits == {"word list bad: masked": 2}
    assert clean(tmp_path, "darn it", max_matches=1)[0].text == "darn it"
    assert clean(tmp_path, "darn " + "good " * 99, max_share=0.02)[0].text.startswith("darn")
    assert isinstance(clean(tmp_path, "darn " + "good " * 9, max_share=0.02)[0], Dropped)


@pytest.mark.parametrize(
    ("content", "words"), [(None, "no such word list"), (b"\xff\xfe\x00", "UTF-8"), (b"# a\n", "empty")]
)
def test_lists_that_cannot_be_used(tmp_path, content, words):
    if content is not None:
        (tmp_path / "bad.txt").write_bytes(content)
    config = CleanConfig(word_lists=(WordListConfig(name="bad", path="bad.txt"),))
    with pytest.raises(DataError) as caught:
        load_resources(config, (tmp_path,))
    assert words in first_line(caught.value)
