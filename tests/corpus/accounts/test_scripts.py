"""The script of a text is that of most of its letters, whatever else stands around it and beside it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.corpus.accounts.scripts import SCRIPTS, scripts_of
from tests.corpus.languages import TEXTS

EXPECTED = {
    "Arabic": ["ar"],
    "Cyrillic": ["bg", "ru", "uk"],
    "Greek": ["el"],
    "Han": ["zh", "zh-hant"],
    "Han with kana": ["ja"],
    "Hangul": ["ko"],
    "Hebrew": ["he"],
    "Latin": ["cs", "de", "en", "es", "fr", "hu", "it", "pl", "pt", "ro", "tr", "vi"],
    "Thai": ["th"],
}


def names_of(texts):
    return [SCRIPTS[number] for number in scripts_of(texts)]


@pytest.mark.parametrize("script", EXPECTED)
def test_texts_in_many_languages(script):
    texts = [TEXTS[name] for name in EXPECTED[script]]
    assert names_of(texts) == [script] * len(texts)


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("", "no letters"),
        ("12 + 30 = 42 \u00d7 \u2603", "no letters"),
        ("\U000e0041 \U000f0000", "no letters"),
        ("caf\u00e9", "Latin"),
        ("\u0627\u0644 abc \u0643\u062a\u0627\u0628", "Arabic"),
        ("\u16a0\u16a2\u16a6", "other scripts"),
        ("a\u0301\u0301\u0301 \u0436\u0437", "Cyrillic"),
        ("\ud800\u4e2d", "Han"),
    ],
)
def test_edges(text, script):
    assert names_of([text]) == [script]


@given(st.lists(st.text(max_size=60), max_size=12))
def test_neighbours_do_not_matter(texts):
    assert scripts_of(texts) == [scripts_of([text])[0] for text in texts]
