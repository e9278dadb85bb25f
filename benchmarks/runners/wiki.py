"""One tool over one dump, or over single articles, in a process of its own; one JSON line on stdout.

    python -m benchmarks.runners.wiki '{"tool": "groundup", "what": "text", "dump": "x.xml.bz2"}'

`text`: wikitext of all articles -> plain text, read by the standard library beforehand and not timed.
`dump`: the packed file -> plain text of all articles, all included.
`show`: {name: wikitext} -> {name: text}, for reading side by side.
Nothing here imports Groundup but for its own rows, so that peers run in their own environment.
"""

from __future__ import annotations

import bz2
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

REDIRECT = re.compile(r"\s*#REDIRECT", re.IGNORECASE)


def articles(dump: str) -> Iterator[str]:
    """Wikitext of the articles of a dump, by the standard library."""
    with bz2.open(dump) as handle:
        fields: dict[str, str] = {}
        for _, element in ElementTree.iterparse(handle):
            name = element.tag.rpartition("}")[2]
            if name in ("ns", "text"):
                fields[name] = element.text or ""
            elif name == "page":
                if fields.get("ns") == "0" and not REDIRECT.match(fields.get("text", "")):
                    yield fields.get("text", "")
                fields.clear()
                element.clear()


def groundup_text(language: str = "en") -> Callable[[str], str]:
    from groundup.corpus.reading.wiki.options import WikiConfig
    from groundup.corpus.reading.wiki.wikitext import Dialect, plain_text

    dialect = Dialect.of(language, {}, WikiConfig())
    return lambda wikitext: plain_text(wikitext, dialect).text


def groundup_dump(dump: str) -> Iterator[str]:
    from groundup.corpus.documents import Document
    from groundup.corpus.reading.files import RawFile
    from groundup.corpus.reading.readers import Reading
    from groundup.corpus.reading.sources import SourceConfig

    path = Path(dump)
    for record in Reading(RawFile(path.name, path), SourceConfig(name="wiki", path=dump), path.parent):
        if isinstance(record, Document):
            yield record.text


def gensim_text(language: str = "en") -> Callable[[str], str]:
    from gensim.corpora.wikicorpus import filter_wiki

    return filter_wiki


def gensim_words(language: str = "en") -> Callable[[str], str]:
    """What `WikiCorpus.get_texts` does with an article: filter, then tokens of 2 to 15 letters."""
    from gensim.corpora.wikicorpus import filter_wiki, tokenize

    return lambda wikitext: " ".join(tokenize(filter_wiki(wikitext), 2, 15, True))


def gensim_dump(make: Callable[[], Callable[[str], str]]) -> Callable[[str], Iterator[str]]:
    """`WikiCorpus.get_texts` in one process: `extract_pages`, then an article at a time, without its pool."""

    def run(dump: str) -> Iterator[str]:
        from gensim.corpora.wikicorpus import extract_pages

        convert = make()
        for _, text, _ in extract_pages(bz2.BZ2File(dump), ("0",)):
            if not REDIRECT.match(text):
                yield convert(text)

    return run


def mwparserfromhell_text(language: str = "en") -> Callable[[str], str]:
    import mwparserfromhell

    return lambda wikitext: str(mwparserfromhell.parse(wikitext).strip_code())


def mwparserfromhell_dump(dump: str) -> Iterator[str]:
    convert = mwparserfromhell_text()
    for wikitext in articles(dump):
        yield convert(wikitext)


TEXT: dict[str, Callable[..., Callable[[str], str]]] = {
    "groundup": groundup_text,
    "gensim: filter_wiki": gensim_text,
    "gensim: get_texts": gensim_words,
    "mwparserfromhell": mwparserfromhell_text,
}
DUMP: dict[str, Callable[[str], Iterable[str]]] = {
    "groundup": groundup_dump,
    "gensim: filter_wiki": gensim_dump(gensim_text),
    "gensim: get_texts": gensim_dump(gensim_words),
    "mwparserfromhell": mwparserfromhell_dump,
}


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Processor seconds, bytes in and out."""
    if job["what"] == "text":
        texts = list(articles(job["dump"]))
        n_bytes = sum(len(text.encode()) for text in texts)
        convert = TEXT[job["tool"]]()
        convert("'''warm''' [[up]] {{x}}")
        started = time.process_time()
        characters = sum(len(convert(text)) for text in texts)
        return {"seconds": time.process_time() - started, "bytes": n_bytes, "characters_out": characters}
    with bz2.open(job["dump"]) as handle:
        n_bytes = sum(len(block) for block in iter(lambda: handle.read(1 << 20), b""))
    next(iter(DUMP[job["tool"]](job["dump"])), None)  # imports
    started = time.process_time()
    characters = sum(len(text) for text in DUMP[job["tool"]](job["dump"]))
    return {"seconds": time.process_time() - started, "bytes": n_bytes, "characters_out": characters}


def main() -> None:
    """Run the job of the first argument."""
    job = json.loads(sys.argv[1])
    if job["what"] == "show":
        sources = json.loads(Path(job["articles"]).read_text(encoding="utf-8"))
        texts = {name: TEXT[job["tool"]](name[:2])(wikitext) for name, wikitext in sources.items()}
        print(json.dumps(texts))
    else:
        print(json.dumps(measure(job)))


if __name__ == "__main__":
    main()
