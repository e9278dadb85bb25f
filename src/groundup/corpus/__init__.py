"""Raw text -> clean, decontaminated, deduplicated, split documents, with every record accounted for.

sources.py     path -> regular files              hub.py         hub name -> files, fetched when read
layouts.py     files -> those that are data       line_sections.py  large file -> sections for workers
compressed.py  packed -> verified plain bytes     archives.py    archive -> members
detect.py      first bytes -> format              encodings.py   bytes -> encoding, or candidates
alphabets.py   text -> whether a language spells so
formats.py     plain bytes -> rows                arrow.py       Parquet, Arrow -> rows
pages.py       HTML -> main text                  warc.py        WARC -> pages
wiki/          MediaWiki dump -> articles         records.py     row -> document or rejection
readers.py     file -> documents or rejections    frequent_lines.py  lines that stand in many documents
clean/         document -> document or reason
parts.py       one worker's share                 segments.py    what is known of each document, on disk
shingles.py    text -> hashes of its words        signatures.py  hashes -> MinHash signature -> band keys
ngrams.py      evaluation texts -> index          decontaminate.py  document -> sets it holds texts of
runs.py        sorted records on disk             steps.py       tasks over ranges of their keys
near.py        buckets -> pairs                   components.py  pairs -> clusters, star by star
deduplicate.py segments -> duplicates             groups.py      cluster -> the document that is kept
settle.py      duplicates -> counts and splits    split.py       cluster -> train, validation or test
augment/       train document -> further ones     shards.py      segments -> documents by split and source
engines.py     where tasks run                 processes.py   on this machine; cluster.py, cluster_nodes.py: on Ray
report.py      what became of every record        additions.py   what augmentation added to it
prepare.py     the whole, and its fingerprint     contamination.py  evaluation texts in the finished corpus
"""

from groundup.corpus.contamination import measure_contamination
from groundup.corpus.documents import Document, read_documents, shard_paths
from groundup.corpus.engines import Engine, EngineName, open_engine
from groundup.corpus.evaluation_sets import EvaluationSetConfig
from groundup.corpus.prepare import CorpusConfig, build_corpus, file_identity, raw_identity
from groundup.corpus.processes import LocalEngine
from groundup.corpus.sources import SourceConfig, resolve_path

__all__ = [
    "CorpusConfig",
    "Document",
    "Engine",
    "EngineName",
    "EvaluationSetConfig",
    "LocalEngine",
    "SourceConfig",
    "build_corpus",
    "file_identity",
    "measure_contamination",
    "open_engine",
    "raw_identity",
    "read_documents",
    "resolve_path",
    "shard_paths",
]
