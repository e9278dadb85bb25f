"""One extractor over the same pages: its texts and its speed, as one JSON object on stdout.

    python -m benchmarks.runners.html_text groundup|peers SETTING PAGES.json SECONDS

Peers are called as their documentation does. Runs in the peers' environment, where Groundup is not, and in Groundup's.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def extractor(tool: str, setting: str) -> Callable[[str], str]:
    """Markup -> main text."""
    if tool == "groundup":
        read_page = import_module("groundup.corpus.reading.pages").read_page
        return lambda markup: str(read_page(markup.encode(), setting, False).text)
    return PEERS[setting]()


def _trafilatura(**options: Any) -> Callable[[], Callable[[str], str]]:
    def make() -> Callable[[str], str]:
        extract = import_module("trafilatura").extract
        return lambda markup: extract(markup, include_comments=False, **options) or ""

    return make


def _readability() -> Callable[[str], str]:
    document, parse = import_module("readability").Document, import_module("lxml.html").fromstring

    def extract(markup: str) -> str:
        try:
            blocks = parse(document(markup).summary()).iter("p", "li", "h2", "h3", "h4", "tr", "pre", "div")
        except Exception:
            return ""
        return "\n".join(block.text_content() if block.tag != "div" else (block.text or "") for block in blocks)

    return extract


def _justext() -> Callable[[str], str]:
    justext = import_module("justext")
    stop_words = frozenset().union(*(justext.get_stoplist(name) for name in ("English", "German", "French", "Spanish")))

    def extract(markup: str) -> str:
        try:
            return "\n".join(part.text for part in justext.justext(markup, stop_words) if not part.is_boilerplate)
        except Exception:
            return ""

    return extract


def _resiliparse() -> Callable[[str], str]:
    extract = import_module("resiliparse.extract.html2text").extract_plain_text
    return lambda markup: str(extract(markup, main_content=True, preserve_formatting=True))


def _selectolax() -> Callable[[str], str]:
    parser = import_module("selectolax.lexbor").LexborHTMLParser

    def extract(markup: str) -> str:
        tree = parser(markup)
        for node in tree.css("script, style, noscript, nav, header, footer, aside, form"):
            node.decompose()
        return tree.body.text(separator="\n") if tree.body else ""

    return extract


PEERS: dict[str, Callable[[], Callable[[str], str]]] = {
    "trafilatura": _trafilatura(),
    "trafilatura-precision": _trafilatura(favor_precision=True),
    "readability-lxml": _readability,
    "justext": _justext,
    "resiliparse": _resiliparse,
    "selectolax-body": _selectolax,
}


def main() -> None:
    """Texts of one pass, then as many passes as the time allows for the speed (the first is not counted)."""
    tool, setting, path, seconds = sys.argv[1:5]
    markups = json.loads(Path(path).read_text())
    extract = extractor(tool, setting)
    texts = [extract(markup) for markup in markups]
    size = sum(len(markup.encode()) for markup in markups)
    passes, started = 0, time.process_time()
    while passes == 0 or time.process_time() - started < float(seconds):
        for markup in markups:
            extract(markup)
        passes += 1
    speed = passes * size / 1e6 / (time.process_time() - started)
    json.dump({"texts": texts, "megabytes_per_second": speed}, sys.stdout)


if __name__ == "__main__":
    main()
