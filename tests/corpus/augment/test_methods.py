"""Each method changes what it says and nothing else, the same way for the same seed."""

from collections import Counter
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from groundup.corpus.augment.methods import (
    SentenceDeletionConfig,
    SentenceShuffleConfig,
    SpanNoiseConfig,
    SynonymsConfig,
    SynonymTable,
    read_synonyms,
    sentence_deletion,
    sentence_shuffle,
    span_noise,
    synonyms,
)
from groundup.corpus.sentences import split_sentences
from groundup.errors import DataError, first_line

TEXT = "One is here. Two is there! Three?\n\nFour comes. Five goes.\n\n六在这里。七在那里！八呢？"
STRINGS = st.text(st.sampled_from("ab c.!\n今天。"), max_size=60)
SHUFFLE = SentenceShuffleConfig(name="x", fraction=1.0)
DELETION = SentenceDeletionConfig(name="x", fraction=1.0, share=0.5)
NOISE = SpanNoiseConfig(name="x", fraction=1.0, share=0.5, mean_words=2.0)


@given(STRINGS, st.integers(0, 99))
def test_shuffling_keeps_every_character_in_its_paragraph(text, seed):
    shuffled = sentence_shuffle(SHUFFLE, text, Random(seed))
    assert [Counter(line) for line in shuffled.split("\n")] == [Counter(line) for line in text.split("\n")]
    assert shuffled == sentence_shuffle(SHUFFLE, text, Random(seed))


def test_shuffling_moves_whole_sentences():
    shuffled = sentence_shuffle(SHUFFLE, TEXT, Random(1))
    assert shuffled != TEXT
    wanted, found = ({sentence.strip() for sentence in split_sentences(text)} for text in (TEXT, shuffled))
    assert wanted == found


@example("。. 。", 29)  # what stays would be split in another way
@given(STRINGS, st.integers(0, 99))
def test_deletion_leaves_some_sentences_in_order(text, seed):
    left = sentence_deletion(DELETION, text, Random(seed))
    assert bool(left) == bool(text.strip())
    wanted, reached = "".join(left.split()), {0}  # white space aside: how far some of the sentences so far lead
    for sentence in ("".join(sentence.split()) for sentence in split_sentences(text)):
        reached |= {place + len(sentence) for place in reached if wanted.startswith(sentence, place)}
    assert len(wanted) in reached


@given(STRINGS, st.integers(0, 99))
def test_noise_takes_words_out_in_order(text, seed):
    noisy = span_noise(NOISE, text, Random(seed))
    characters = iter(text)
    assert all(character in characters for character in noisy)
    masked = span_noise(NOISE.model_copy(update={"placeholder": "_"}), text, Random(seed))
    assert len(noisy) <= len(text)
    assert (masked == text) == (noisy == text)


def test_noise_takes_about_its_share():
    words = [f"w{number}" for number in range(4000)]
    config = SpanNoiseConfig(name="x", fraction=1.0, share=0.15, mean_words=3.0)
    left = span_noise(config, " ".join(words), Random(3)).split()
    assert 0.10 < 1 - len(left) / len(words) < 0.20


def test_synonyms_replace_whole_words():
    table = SynonymTable({"big": ("large",), "高兴": ("开心",), "hot dog": ("sausage",)})
    config = SynonymsConfig(name="x", path="x", fraction=1.0, share=1.0)
    text = "Big bigger big. 他很高兴。"
    assert synonyms(config, table, text, Random(1)) == "Large bigger large. 他很开心。"
    half = config.model_copy(update={"share": 0.5})
    seen = {synonyms(half, table, text, Random(seed)) for seed in range(40)}
    assert len(seen) == 8


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such dictionary"),
        (b"\xff\xfe", "UTF-8"),
        (b"# none\n", "is empty"),
        (b"big\n", "line 1 has no synonym"),
    ],
)
def test_dictionaries_that_cannot_be_used(tmp_path, content, words):
    if content is not None:
        (tmp_path / "d.tsv").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_synonyms(SynonymsConfig(name="x", path="d.tsv", fraction=1.0), (tmp_path,))
    assert words in first_line(caught.value)


def test_a_dictionary_is_read(tmp_path):
    (tmp_path / "d.tsv").write_text("# words\nBig\tlarge\thuge\nbig\tgreat\n", encoding="utf-8")
    table = read_synonyms(SynonymsConfig(name="x", path="d.tsv", fraction=1.0), (tmp_path / "nowhere", tmp_path))
    assert table.entries == {"big": ("large", "huge", "great")}
