"""MediaWiki dumps -> articles as plain text, and why each other page is none.

options.py    what a recipe may choose           names.py      words of MediaWiki in many languages
streams.py    a dump -> sections for workers     pages.py      bytes -> <page> elements, one at a time
articles.py   pages -> rows or rejections        wikitext.py   markup -> text: elements, templates, links
templates.py  template -> its text               tables.py     {| ... |} -> nothing, or rows
lines.py      lists, headings, gaps, blanks

Invariant: time is linear in the size of a page and memory is bounded by it, whatever its markup.
"""
