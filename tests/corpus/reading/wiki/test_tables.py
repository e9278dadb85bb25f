"""Tables disappear whole, or stand as one line a row."""

from groundup.corpus.reading.wiki.options import WikiConfig
from groundup.corpus.reading.wiki.wikitext import Dialect, plain_text

TABLE = """{| class="wikitable" style="text-align:left"
|+ Visitors
! scope="col" | Year !! Number
|-
| 2018 || style="color:red" | 12,400
|- class="x"
| rowspan=2 | 2019
| 13,050{{cn}}
more
|
|}"""


def shown(wikitext, tables="rows"):
    return plain_text(wikitext, Dialect.of("en", {}, WikiConfig(tables=tables))).text


def test_dropped_or_as_rows():
    text = f"Before.\n{TABLE}\nAfter."
    assert shown(text, "drop") == "Before.\n\nAfter."
    assert shown(text) == "Before.\n\nVisitors\nYear | Number\n2018 | 12,400\n2019 | 13,050 more\n\nAfter."


def test_nested_and_indented_tables_are_one():
    nested = "a\n:{|\n| x\n{|\n| y\n|}\n| z\n|}\nb"
    assert shown(nested, "drop") == "a\n\nb"
    assert shown(nested).split("\n\n")[1].replace("{", "") == "x | y | z"


def test_an_unclosed_table_takes_only_its_own_lines():
    assert shown("a\n{|\n! h\n|-\n| x || y\n\nText.", "drop") == "a\n\nText."
    assert shown("a\n{|\n| x\n{|\n| y\n|}\nText.", "drop").endswith("Text.")


def test_bars_from_templates_make_tables_too():
    assert shown("a\n{{{!}}\n{{!}} x\n{{!}}}\nb", "drop") == "a\n\nb"
