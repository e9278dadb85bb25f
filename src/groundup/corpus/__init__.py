"""Raw text -> clean, deduplicated, split documents, with every record accounted for.

sources.py     path -> regular files              hub.py         hub name -> files, fetched when read
layouts.py     files -> those that are data       compressed.py  packed -> verified plain bytes
archives.py    archive -> members                 detect.py      first bytes -> format
encodings.py   bytes -> encoding, or candidates   alphabets.py   text -> whether a language spells so
formats.py     plain bytes -> rows                arrow.py       Parquet, Arrow -> rows
pages.py       HTML -> main text                  warc.py        WARC -> pages
records.py     row -> document or rejection       readers.py     file -> documents or rejections
clean.py       document -> document or reason     deduplicate.py texts -> duplicate clusters
split.py       cluster -> train, validation, test parts.py       one worker's share
prepare.py     the whole, its fingerprint         wiki/          MediaWiki dump -> articles
"""

from groundup.corpus.documents import Document, read_documents
from groundup.corpus.prepare import CorpusConfig, build_corpus, raw_identity
from groundup.corpus.sources import SourceConfig, resolve_path

__all__ = ["CorpusConfig", "Document", "SourceConfig", "build_corpus", "raw_identity", "read_documents", "resolve_path"]
