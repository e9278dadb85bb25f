"""Raw text -> clean, deduplicated, split documents, with every record accounted for.

sources.py     path -> regular files              compressed.py  packed -> verified plain bytes
detect.py      first bytes -> format              formats.py     plain bytes -> rows, one function a format
readers.py     file -> documents or rejections    clean/         document -> document or reason
deduplicate.py texts -> duplicate clusters        split.py       cluster -> train, validation or test
parts.py       one worker's share                 prepare.py     the whole, and what enters its fingerprint
"""

from groundup.corpus.documents import Document, read_documents
from groundup.corpus.prepare import CorpusConfig, build_corpus, raw_identity
from groundup.corpus.sources import SourceConfig, resolve_path

__all__ = ["CorpusConfig", "Document", "SourceConfig", "build_corpus", "raw_identity", "read_documents", "resolve_path"]
