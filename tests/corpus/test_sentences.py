"""Sentences joined give the text back, and end where a reader would end them."""

import time

from hypothesis import given
from hypothesis import strategies as st

from groundup.corpus.sentences import count_sentences, split_sentences


def test_where_sentences_end():
    assert [s.strip() for s in split_sentences("It cost $4.50!  Yes...\n\nNo")] == ["It cost $4.50!", "Yes...", "No"]
    assert [s.strip() for s in split_sentences("He left. Mr. Smith stayed! Really? Yes")] == [
        "He left.",
        "Mr. Smith stayed!",
        "Really?",
        "Yes",
    ]
    assert split_sentences("今天很好。他说：“走吧！”我们走了……好") == [
        "今天很好。",
        "他说：“走吧！”",
        "我们走了……",
        "好",
    ]
    assert split_sentences("") == []


@given(st.text(st.sampled_from('aB .!?…。！”"\n'), max_size=80))
def test_nothing_is_lost(text):
    assert "".join(split_sentences(text)) == text
    assert count_sentences(text, 10**6) == len(split_sentences(text))
    assert count_sentences(text, 2) == min(2, len(split_sentences(text)))


def test_hostile_text_takes_linear_time():
    started = time.process_time()
    for unit in (".", ". ", '."', "…", "。”", "\n", "A."):
        split_sentences(unit * 200_000)
    assert time.process_time() - started < 10
