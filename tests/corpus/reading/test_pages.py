"""The main text of a page comes out, what is around it does not, and no page harms the reader."""

import pytest

from groundup.corpus.reading.compressed import DamagedFile
from groundup.corpus.reading.encoding_names import Encoding
from groundup.corpus.reading.pages import (
    ATTRIBUTE_LIMIT,
    DEPTH_LIMIT,
    EXTRACTORS,
    PAGE_LIMIT_BYTES,
    decode_page,
    read_page,
)
from tests.corpus.languages import PAIRS, TEXTS, encoded

AROUND = ("Home", "Subscribe to our newsletter", "We use cookies", "Related stories", "All rights reserved")


def page(text, head="", language="en"):
    paragraphs = "".join(f"<p>{part}</p>\n" for part in text.strip().split("\n\n"))
    return f"""<!DOCTYPE html>
<html lang="{language}"><head><title>The &amp; title</title>{head}<style>p {{ color: red }}</style></head><body>
<div class="cookie-banner"><p>We use cookies</p><button>Accept</button></div>
<nav><ul><li><a href="/">Home</a></li><li><a href="/news">News</a></li></ul></nav>
<main><article><h1>The headline</h1>{paragraphs}</article></main>
<aside><h3>Related stories</h3><ul><li><a href="/1">One more story</a></li></ul></aside>
<script>var x = "<p>not text</p>";</script>
<form>Subscribe to our newsletter<input name="mail"></form>
<footer><p>&copy; 2024 All rights reserved</p></footer></body></html>"""


@pytest.mark.parametrize("extractor", EXTRACTORS)
@pytest.mark.parametrize("language", ["en", "de", "ru", "ar", "th", "zh", "zh-hant", "ja", "ko"])
def test_the_text_and_not_what_is_around_it(extractor, language):
    found = read_page(page(TEXTS[language], language=language).encode(), extractor, comments=False)
    assert " ".join(TEXTS[language].split()) in " ".join(found.text.split())
    assert not [words for words in (*AROUND, "not text", "color: red") if words in found.text]
    assert (found.title, found.language, found.encoding) == ("The & title", language, Encoding())


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_tables_lists_and_code_stay_readable(extractor):
    body = TEXTS["en"] + "\n\n" + "More words of the same kind follow here, so that the page is long enough. " * 5
    extra = """<h2>Figures</h2><table><tr><th>Year</th><th>Visitors</th></tr><tr><td>1901</td><td>2345</td></tr></table>
<ul><li>first of the points that matter</li><li>second of the points that matter</li></ul>
<pre><code>def tide(hour):
    return 2 * hour
</code></pre>"""
    markup = page(body).replace("</article>", f"{extra}</article>")
    lines = [line.strip() for line in read_page(markup.encode(), extractor, comments=False).text.splitlines()]
    assert any("1901" in line and "2345" in line for line in lines)
    assert sum("of the points that matter" in line for line in lines) == 2
    assert any("def tide(hour):" in line for line in lines)


@pytest.mark.parametrize(("language", "encoding"), PAIRS)
@pytest.mark.parametrize("how", ["server", "meta", "http-equiv", "none"])
def test_the_encoding_is_what_the_page_is_in(language, encoding, how):
    _, text = encoded(language, encoding)
    label = {"gb18030": "gb2312", "tis-620": "windows-874"}.get(encoding, encoding)
    head = {
        "meta": f'<meta charset="{label}">',
        "http-equiv": f'<meta http-equiv="Content-Type" content="text/html; charset={label}">',
    }.get(how, "")
    data = page(text, head).encode(encoding, "ignore")
    markup, found = decode_page(data, label if how == "server" else "")
    assert text.split("\n\n")[0] in markup
    assert found.how == ("detected" if how == "none" else "declared")


def test_wrong_declarations_give_way():
    russian = page(TEXTS["ru"], '<meta charset="iso-8859-1">')
    assert decode_page(russian.encode())[0] == russian, "UTF-8 beyond ASCII is UTF-8, whatever the page says"
    german = page(TEXTS["de"], '<meta charset="utf-8">')
    markup, found = decode_page(german.encode("cp1252"))
    assert (markup, found) == (german, Encoding("Windows-1252", "detected"))
    for language, encoding, label in (
        ("ru", "cp1251", "windows-1252"),
        ("zh-hant", "big5", "gb2312"),
        ("ja", "cp932", "big5"),
    ):
        lying = page(TEXTS[language], f'<meta charset="{label}">').encode(encoding)
        markup, found = decode_page(lying, "iso-8859-1")
        assert (markup, found.how) == (lying.decode(encoding), "detected")
    euro = page(TEXTS["fr"] + " 12 €" * 9, '<meta charset="iso-8859-15">').encode("iso8859-15", "ignore")
    assert decode_page(euro)[1] == Encoding("ISO-8859-15", "declared"), "a sister encoding is no reason to doubt it"
    wide = page(TEXTS["zh"], '<meta charset="utf-16">')
    assert decode_page(wide.encode())[0] == wide
    assert decode_page(wide.encode("utf-16"))[0] == wide
    commented = page(TEXTS["zh"], '<!-- <meta charset="big5"> --><meta charset="gbk">')
    assert decode_page(commented.encode("gbk"))[0] == commented


def test_a_fault_is_refused_or_replaced_when_asked():
    data = page(TEXTS["zh"], '<meta charset="gbk">').encode("gbk").replace("茶".encode("gbk"), b"\xff\xff", 1)
    with pytest.raises(DamagedFile, match="encoding not certain"):
        decode_page(data)
    markup, _ = decode_page(data, replace=True)
    assert markup.count("\ufffd") == 2


BOMBS = {
    "deep": "<div>" * (DEPTH_LIMIT + 1),
    "attributes": "<div " + " ".join(f"a{i}=1" for i in range(ATTRIBUTE_LIMIT + 1)) + ">",
    "elements": "<p>a" * 300_000,
    "large": "a" * PAGE_LIMIT_BYTES,
}


@pytest.mark.parametrize("extractor", EXTRACTORS)
@pytest.mark.parametrize("bomb", BOMBS)
def test_pages_made_to_hurt_are_refused(extractor, bomb):
    with pytest.raises(DamagedFile, match="page"):
        read_page(f"<html><body>{BOMBS[bomb]}".encode(), extractor, comments=False)


@pytest.mark.parametrize("extractor", EXTRACTORS)
@pytest.mark.parametrize(
    "markup",
    [
        "",
        "<",
        "<html",
        "<!--",
        "<!---->" * 5000 + "x",
        "<p>a\0b",
        "<title>",
        "<" * 5000,
        "&#0; &#xD800; &#1114112;",
        "<div>" * 4000 + "text",
        "<pre>a" + " " * 500_000 + "b",
        "<pre>" + "\n" * 100_000 + "b",
    ],
)
def test_broken_markup_raises_nothing(extractor, markup):
    found = read_page(markup.encode(), extractor, comments=False)
    assert found.text.encode().decode() == found.text


def test_comments_only_when_asked():
    talk = '<section id="comments" class="comments"><h3>Comments</h3>' + "".join(
        f'<div class="comment"><p>Reader number {i} disagrees with what the article says.</p></div>' for i in range(3)
    )
    markup = page(TEXTS["en"] * 2).replace("</main>", f"{talk}</section></main>")
    for extractor in EXTRACTORS:
        assert "Reader number" not in read_page(markup.encode(), extractor, comments=False).text
    assert "Reader number" in read_page(markup.encode(), "resiliparse", comments=True).text


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_readings_powers_and_formulas(extractor):
    markup = page(
        TEXTS["ja"] + "<ruby>漢<rp>(</rp><rt>かん</rt><rp>)</rp>字<rt>じ</ruby>です。10<sup>6</sup>、"
        '<math alttext="{\\displaystyle a&lt;b^2}"><mi>a</mi></math>、<math><mi>x</mi><mo>=</mo><mn>2</mn></math>',
        language="ja",
    )
    text = read_page(markup.encode(), extractor, comments=False).text
    assert "漢字です。10⁶、$a<b^2$、x=2" in text


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_lists_within_lists_are_text_and_menus_are_none(extractor):
    inner = "<ul><li>an inner point that is text</li></ul>"
    menu = '<ul><li><a href="/a">Sections of the site</a></li><li><a href="/b">Other sections</a></li></ul>'
    lists = f"<ul><li>an outer point that is text {inner}<LI><p>the second, with <a href='/'>a link</a> in it</p></ul>"
    markup = page(TEXTS["en"]).replace("</article>", f"{lists}</article>").replace("<aside>", f"<aside>{menu}")
    text = read_page(markup.encode(), extractor, comments=False).text
    assert all(words in text for words in ("inner point", "outer point", "the second, with a link in it"))
    assert "ections" not in text
