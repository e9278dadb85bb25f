"""Pages are cut at the same places however the blocks fall, and nothing between them is lost unseen."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.corpus.reading.wiki.pages import PageCutter, Unusable, find_page
from groundup.corpus.reading.wiki.streams import Damage
from tests.corpus.reading.wiki.made import FOOTER, HEADER

PAGES = [b"<page>one</page>", b"<page id='2'>two</page>", b"<page>" + b"3" * 500 + b"</page>"]
WHOLE = HEADER.encode() + b"\n".join(PAGES) + FOOTER.encode()


def cut(blocks, limit_bytes=1 << 20, at_start=True, needs_end=True, owned=lambda offset: True):
    return list(PageCutter(owned, at_start, needs_end, limit_bytes).cut(blocks))


def blocks_of(data, cuts):
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


@settings(max_examples=150)
@given(st.lists(st.integers(min_value=0, max_value=1 << 20), max_size=30))
def test_any_blocks_give_the_same_pages(cuts):
    assert cut(blocks_of(WHOLE, cuts)) == PAGES


@given(st.integers(min_value=0, max_value=len(WHOLE)))
def test_two_owners_share_all_pages(border):
    before = cut([WHOLE], owned=lambda offset: offset < border)
    after = cut([WHOLE[border:]], at_start=border == 0)
    assert before + after == PAGES


def test_find_page_is_not_fooled():
    assert find_page(b"<pages><pagetitle><page") == -1
    assert find_page(b"<pages><page\n>") == 7
    assert find_page(b"<page><page>", 1) == 6


def test_what_stands_between_pages_is_reported():
    stray = WHOLE.replace(b"</page>\n<page id", b"</page>\n<paeg>lost</paeg>\n<page id")
    found = cut(blocks_of(stray, range(0, 2000, 7)))
    assert [page for page in found if isinstance(page, bytes)] == PAGES
    (between,) = [page for page in found if isinstance(page, Unusable)]
    assert between.reason == "XML between pages"
    assert between.detail.startswith("<paeg>")
    assert not between.is_page
    assert cut([WHOLE + b"<x>"])[-1].reason == "XML between pages"


def test_a_page_that_nothing_ends_does_not_take_the_next():
    lost = WHOLE.replace(b"one</page>", b"one")
    for blocks in ([lost], blocks_of(lost, range(0, 3000, 11))):
        assert [getattr(page, "reason", page) for page in cut(blocks)] == ["page without its end", *PAGES[1:]]
    border = lost.index(b"<page id")
    assert len(cut([lost], owned=lambda offset: offset < border)) == 1
    assert cut([lost[border:]], at_start=False) == PAGES[1:]


def test_long_pages_are_given_up_in_small_memory():
    long = [b"<page>" + b"x" * 10_000] * 50 + [b"</page>", PAGES[0], FOOTER.encode()]
    found = cut([HEADER.encode(), *long], limit_bytes=20_000)
    assert [getattr(page, "reason", page) for page in found] == ["longer than max_document_bytes", PAGES[0]]


def test_damage_ends_the_page_it_falls_into():
    blocks = [
        HEADER.encode() + PAGES[0] + b"<page>cut",
        Damage("damaged bz2", "x"),
        b"rest</page>" + PAGES[1] + FOOTER.encode(),
    ]
    found = cut(blocks)
    assert [getattr(page, "reason", page) for page in found] == [
        PAGES[0],
        "damaged bz2",
        "page cut by damage",
        PAGES[1],
    ]


def test_the_end_is_asked_for_where_there_was_a_root():
    assert cut([b"".join(PAGES)], needs_end=False) == PAGES
    assert cut([b"".join(PAGES)])[-1].reason == "truncated XML"
    assert cut([WHOLE[:-30]])[-1].reason == "truncated XML"
