"""Wikitext becomes what a reader sees: articles in five languages, odd markup, and bombs in linear time."""

import re
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from groundup.corpus.reading.wiki.options import WikiConfig
from groundup.corpus.reading.wiki.wikitext import Dialect, plain_text

ARTICLES = Path(__file__).parents[3] / "data" / "wiki"
NAMES = sorted(path.stem for path in ARTICLES.glob("*.wikitext"))
DIALECTS = {language: Dialect.of(language, {}, WikiConfig()) for language in ("en", "de", "zh", "ja", "ar", "fr")}


def shown(wikitext, language="en", **options):
    dialect = Dialect.of(language, {}, WikiConfig.model_validate(options)) if options else DIALECTS[language]
    return plain_text(wikitext, dialect, "Title").text


def test_there_are_articles_in_five_languages():
    assert len(NAMES) >= 14
    assert {name[:2] for name in NAMES} == {"en", "de", "zh", "ja", "ar"}


@pytest.mark.parametrize("name", NAMES)
def test_an_article_reads_as_written_down_by_hand(name):
    wikitext = (ARTICLES / f"{name}.wikitext").read_text(encoding="utf-8")
    assert shown(wikitext, name[:2]) == (ARTICLES / f"{name}.txt").read_text(encoding="utf-8").strip()


@pytest.mark.parametrize(
    ("wikitext", "text"),
    [
        ("'''Bold''' and ''italic'' and '''''both'''''", "Bold and italic and both"),
        ("'''''Both''' then italic'' end", "Both then italic end"),
        ("l'''Iliade'' et l'''Odyssée''", "lIliade et lOdyssée"),  # two bold marks, so MediaWiki sees bold there too
        ("dans l'''Iliade'' seule", "dans l'Iliade seule"),
        ("''''Tis'''", "'Tis"),
        ("[[a]]s, [[b|c]]d, [[e (f)|]], [[:Category:G]], [[#h|i]], [[#j]]", "as, cd, e, Category:G, i, #j"),
        ("x [[Category:Y]] z [[fr:A]] w", "x z w"),
        ("[https://e.org/a label], [https://e.org], [mailto:a@b.c me] and [1]", "label, me and [1]"),
        ("a<br>b<br/>c<hr>d", "a\nb\nc\nd"),
        ("x<sup>−12</sup>, m<sup>2</sup>, 1<sup>st</sup>, CO<sub>2</sub>", "x⁻¹², m², 1st, CO2"),
        ("if a<b then List<T> and <unknown>x</unknown>", "if a<b then List<T> and <unknown>x</unknown>"),
        ("&lt;b&gt; &amp;nbsp; &#945;&#x3b2;&notanentity; AT&T; &", "<b> &nbsp; αβ&notanentity; AT&T; &"),
        ("<nowiki>{{a}} ''b'' [[c]] &amp;</nowiki>", "{{a}} ''b'' [[c]] &"),
        ("a <!-- b --> c<!-- d -->e", "a ce"),
        ("a\n<!-- a line of its own -->\nb", "a b"),
        ("a<ref>b <ref>c</ref> d", "ab d"),
        ("a<ref name=x/> b<Ref>{{cite web|title=<i>c</i>}}</REF> d", "a b d"),
        ("a<ref>b<ref>c</ref>d</ref> e", "a e"),
        ("<poem>\n''One'' [[two]],<ref>note</ref>\n:three;\n\nfour\n</poem>", "One two,\nthree;\n\nfour"),
        ("{{poemquote|One<br>\ntwo|By}}", "One\ntwo"),
        ("<gallery>\nA.jpg|Cap<ref>note</ref> one<!-- c -->\n</gallery>", "Cap one"),
        ("__TOC__a __init__ b__NOTOC__ __無目錄__", "a __init__ b"),
        ("<ruby>漢<rp>(</rp><rt>かん</rt><rp>)</rp></ruby>", "漢(かん)"),
        ("a\r\nb\rc\r\n\r\nd", "a b c\n\nd"),
        ("一行\n二行\nthree\n<br>\n four\n five", "一行二行 three\nfour\nfive"),
        ('a\n<math display="block">b</math>\nc <math>d</math>\ne', "a\n$b$\nc $d$ e"),
        ("{{PAGENAME}} and {{{1|default}}} and {{{2}}}", "Title and default and"),
        ("{{Lang|de|Haus}} {{lang_x}}{{ LANG-fr | mot }}", "Haus mot"),
        ("{{nowrap|1=a{{=}}b}} {{math|x {{=}} [[y|z=1]]}}", "a=b x = z=1"),
        ("f() [] (a) ( ) (;)", "f() [] (a) ( ) (;)"),
        ("\ufdd0\ufdd10\ufdd2a\ufdd3", "0a"),
        ("----\na\n----", "a"),
    ],
)
def test_markup(wikitext, text):
    assert shown(wikitext) == text


@pytest.mark.parametrize(
    ("wikitext", "text"),
    [
        ("Paris ({{x}}) is", "Paris is"),
        ("Paris ( {{x}} ; {{x}}, ) is", "Paris is"),
        ("Paris ({{x}}; listen) is", "Paris (listen) is"),
        ("Paris (listen; {{x}}) is", "Paris (listen) is"),
        ("Paris (a, {{x}}, b) is", "Paris (a, b) is"),
        ("a {{x}} b{{x}} , c {{x}}. {{x}}", "a b, c."),
        ("{{x}} a", "a"),
        ("巴黎（{{x}}；{{x}}）是", "巴黎是"),
        ("巴黎（{{x}}，音）是", "巴黎（音）是"),
        ("Elle {{x}} ; il {{x}} : « {{x}} »", "Elle ; il :"),
        ("((({{x}})))", ""),
        ("a ({{x}} ({{x}})) b", "a b"),
        ("* {{x}}\n* b\n* c, {{x}}", "- b\n- c"),
    ],
)
def test_what_is_dropped_leaves_no_hole(wikitext, text):
    assert shown(wikitext) == text


@pytest.mark.parametrize(
    ("wikitext", "text"),
    [
        ("{{Box\n| a = b\n| c = [[d\n\nText.\n\n== H ==\nMore.", "Text.\n\nH\n\nMore."),
        ("a {{open and [[b|c]] d", "a open and c d"),
        (
            "{{open\ntext [[a]]\n\n== H ==\n" + "long text " * 40 + "}} end",
            "open text a\n\nH\n\n" + "long text " * 40 + "end",
        ),
        ("a }} b ]] c {| d", "a b c d"),
        ("[[a] and [b]. Also [[c|d]", "a and [b]. Also d"),
        ("{|\n| a\n| b\n\nText after a table that nothing ends.", "Text after a table that nothing ends."),
        ("{{a|" * 60 + "x" + "}}" * 60 + " end", "end"),
    ],
)
def test_broken_markup_costs_little(wikitext, text):
    assert shown(wikitext) == text


def test_pictures_show_their_captions_in_any_language():
    assert shown("[[File:A.jpg|thumb|left|200px|alt=x|A [[big|large]] ship]]") == "A large ship"
    dialect = Dialect.of("de", {6: "Abbildung", 14: "Sachgruppe"}, WikiConfig())
    assert plain_text("[[Abbildung:A.jpg|mini|Ein Schiff]][[Sachgruppe:B]]", dialect).text == "Ein Schiff"
    assert shown("a [[File:Icon.svg|20px|Icon]] b [[Image:B.png|thumb]] c") == "a b c"
    assert shown("[[File:A.jpg|thumb|A ship]]\nText.", captions="drop") == "Text."
    assert shown("[[File:A.jpg|thumb|One]][[File:B.jpg|thumb|Two]]\nText.\n\nMore.") == "Text.\n\nOne\n\nTwo\n\nMore."
    assert shown("Text [[File:A.jpg|thumb|One]] goes\n[[File:B.jpg|thumb|Two]]\non.") == "Text goes on.\n\nOne\n\nTwo"
    assert (
        shown("* a [[File:A.jpg|thumb|One]]\n* b\n== H ==\n[[File:B.jpg|thumb|Two]]") == "- a\n- b\n\nOne\n\nH\n\nTwo"
    )
    assert shown("[[File:A.jpg|thumb|One<br>two <p>three</p>]]\nText.") == "Text.\n\nOne two three"


def test_disambiguation_pages_are_known_by_their_template():
    for text in (
        "'''A''' may be:\n* [[B]]\n{{Disambiguation|geo}}",
        "A:\n{{Begriffsklärung}}",
        "{{曖昧さ回避}}",
        "__DISAMBIG__",
    ):
        assert plain_text(text, DIALECTS["en"]).is_disambiguation
    assert not plain_text("{{About|x|y (disambiguation)}} A", DIALECTS["en"]).is_disambiguation


def test_templates_of_the_recipe_win():
    text = shown(
        "{{Höhe|12|NN}}, {{Foo bar|b}}, {{lang|de|x}}",
        templates={"Höhe": "$1 m< ($2)>", "Foo_Bar": "<$2>[$1]", "lang": ""},
    )
    assert text == "12 m (NN), [b],"


MARKUP = [
    *"{}[]|=<>'*#:;-_& \n\t",
    *(
        "{{",
        "}}",
        "[[",
        "]]",
        "{{{",
        "}}}",
        "{|",
        "|}",
        "-{",
        "}-",
        "<ref>",
        "</ref>",
        "<!--",
        "-->",
        "<nowiki>",
        "</nowiki>",
    ),
    *(
        "<math>",
        "</math>",
        "<pre>",
        "</pre>",
        "[[File:",
        "[[File:a|thumb|b ",
        "[[Category:a]]",
        "{{lang|de|",
        "{{convert|5|km}}",
        "{{!}}",
        "''",
        "'''",
    ),
    *(
        "\n==",
        "==\n",
        "\n*",
        "\n{|",
        "\n|}",
        "\n|-",
        "__TOC__",
        "&nbsp;",
        "[http://a ",
        "(",
        ")",
        "（",
        "）",
        "word",
        "字",
        "ﷺ",
    ),
    *(
        "zh-hans:",
        "\ufdd0",
        "\ufdd1",
        "\ufdd2",
        "\ufdd5",
        "<br>",
        "<sup>2</sup>",
        "<li>",
        "<table>",
        "</table>",
        "<gallery>",
    ),
]
SOUP = st.lists(st.sampled_from(MARKUP), max_size=60).map("".join)


@settings(max_examples=300)
@given(SOUP, st.sampled_from(sorted(DIALECTS)))
@example("<math><math>{</math><ref></math>", "ar")
def test_any_markup_gives_clean_text(wikitext, language):
    text = shown(wikitext, language)
    assert not re.search("[\ufdd0-\ufdd8]", text)
    assert text == text.strip()
    if not re.search("<(nowiki|math|pre)>", wikitext):
        assert not re.search(r"(?<=[^\n ])  |\[\[|\]\]|\{\{|\}\}|\n\n\n| \n", text)


@settings(max_examples=100)
@given(SOUP)
def test_text_without_markup_stays_as_it_is(wikitext):
    plain = re.sub(r"[^\w\n]+", " ", wikitext.replace("_", " ")).strip()
    lines = re.sub(" +", " ", "\n".join(line.strip() for line in plain.split("\n")))
    once = "\n\n".join(lines_of.replace("\n", " ").strip() for lines_of in re.split("\n\n+", lines)).strip()
    assert shown(once) == once


BOMBS = [
    *(
        "{",
        "{{",
        "{{a|",
        "{{a|[[",
        "[[a|",
        "[",
        "{|\n",
        "\n{|",
        "\n|}",
        "}}",
        "{{{",
        "}}}",
        "-{",
        "}-",
        "-{a}-",
        "-{zh:",
        "<ref>",
    ),
    *(
        "<ref name=a",
        "<!--",
        "<nowiki>",
        "<math><pre>",
        "<",
        "</ref>",
        "'",
        "' ",
        "a'''b'' ",
        "==",
        "\n= ",
        "\n=a=",
        "\n#*",
        ":",
    ),
    *(
        "\n:;",
        "__",
        "__a",
        "__a_",
        "&amp;",
        "&#",
        "[http://",
        "[http://a ",
        "<sup>",
        "<table>",
        " ",
        " , {{x}}",
        "({{x}}",
        "({{x}}) ",
    ),
    *(
        "( {{x}};",
        ") {{x}}",
        "{{x}} ",
        "\n{{x}}",
        "\n",
        "<br>",
        "[[File:a|thumb|",
        "[[File:a|thumb|b]]",
        "{{convert|1|to|",
        "{{zh|c=",
    ),
    *(
        "{{hlist|a|",
        "|",
        "\n|",
        "||",
        "\n|-\n| a=b | ",
        'a="b" ',
        "=",
        "<gallery>\nFile:a|alt=|",
        "\n----",
        "\n ",
        "{{{!}}",
        "]]",
    ),
    *("[[de:", "[[:", "「{{x}}", "[[a] ", "[a]] ", "\n\ufdd4", "[[File:a|thumb|b]]\n\n", "{{a}}\n==\n"),
]


@pytest.mark.parametrize("rows", ["drop", "rows"])
def test_bombs_take_linear_time(rows):
    """Quadratic time on any of these takes seconds; the limit is twenty times what they take."""
    dialect = Dialect.of("en", {}, WikiConfig(tables=rows))
    for unit in BOMBS:
        closing = "".join({"{": "}", "[": "]", "<": ">"}.get(sign, sign) for sign in reversed(unit))
        for bomb in (unit * (20_000 // len(unit)), unit * (10_000 // len(unit)) + closing * (10_000 // len(unit))):
            started = time.process_time()
            text = plain_text(f"Head.\n\n{bomb}\n\nTail.", dialect).text
            assert time.process_time() - started < 0.5, unit
            assert text.startswith("Head."), unit
