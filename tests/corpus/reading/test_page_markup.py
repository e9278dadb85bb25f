"""Markup that extractors lose becomes markup that they know; no text is lost on the way."""

import re
import time

from hypothesis import given
from hypothesis import strategies as st

from groundup.corpus.reading.page_markup import as_plain_markup, lists_as_lines

PIECES = [
    "<ul>",
    "</ul>",
    "<UL class=x>",
    "</UL >",
    "<li>",
    "</li>",
    "<a href=/>linked</a>",
    "words of an item",
    "<p>",
    "\n",
]


def words(markup):
    return re.sub(r"<[^>]*>|- |\s", "", markup)


@given(st.lists(st.sampled_from(PIECES), max_size=40))
def test_lists_keep_every_word_in_its_order(pieces):
    markup = "".join(pieces)
    assert words(lists_as_lines(markup)) == words(markup)


def test_lists_of_text_become_lines_and_menus_stay():
    assert lists_as_lines("<ul><li>one</li><li><p>two</p></ul>") == "<div><br>- one<br>- two</p></div>"
    menu = "<ul><li><a href=/>Home</a></li></ul>"
    assert lists_as_lines(menu) == menu
    assert lists_as_lines(f"<ul><li>words {menu}</li></ul>").count("<ul") == 2


def test_readings_powers_and_formulas():
    assert as_plain_markup("<ruby>漢<rp>(</rp><rt>かん</rt><rp>)</rp>字<rt>じ</ruby>") == "漢字"
    assert as_plain_markup("10<sup>6</sup>, 1<sup>st</sup>") == "10⁶, 1st"
    tex = '<annotation encoding="application/x-tex">{\\displaystyle a &lt; b}</annotation>'
    assert as_plain_markup(f"<math><mi>a</mi>{tex}</math>.") == "$a &lt; b$."
    assert as_plain_markup("<math><mi>x</mi> <mo>=</mo></math>") == "x="


def test_pages_made_to_hurt_take_no_time():
    start = time.monotonic()
    for bomb in ("<ul>" * 5000 + "a" * (1 << 20) + "</ul>" * 5000, "<ul><li>" * 100_000, "<math>" * 100_000):
        as_plain_markup(lists_as_lines(bomb))
    as_plain_markup("<ruby>" + "<rt>" * 200_000)
    assert time.monotonic() - start < 5
