"""Raw text -> clean, decontaminated, deduplicated, split documents, with every record accounted for.

sources.py     what a recipe says of a source     files.py       path -> regular files
hub.py         hub name -> files, fetched when read
layouts.py     files -> those that are data       line_sections.py  large file -> sections for workers
compressed.py  packed -> verified plain bytes     archives.py    archive -> members (archive_members.py, seven_zip.py)
detect.py      first bytes -> format              encodings.py   bytes -> encoding, or candidates
encoding_names.py  label -> encoding              alphabets.py   text -> whether a language spells so
formats.py     plain bytes -> rows                json_records.py  JSON of any layout -> rows
arrow.py       Parquet, Arrow -> rows             delimited.py   CSV, TSV -> rows
pages.py       HTML -> main text                  page_markup.py  what extractors lose -> what they know
warc.py        WARC -> pages
wiki/          MediaWiki dump -> articles         records.py     row -> document or rejection
readers.py     file -> documents or rejections    frequent_lines.py  lines that stand in many documents
clean/         document -> document or reason
parts.py       shares for workers                 part_reader.py a share -> segments and accounts
segments.py    what is known of each document, on disk
shingles.py    text -> hashes of its words        signatures.py  hashes -> MinHash signature -> band keys
ngrams.py      evaluation texts -> index          decontaminate.py  document -> sets it holds texts of
runs.py        sorted records on disk             steps.py       tasks over ranges of their keys
near.py        buckets -> pairs                   components.py  pairs -> clusters, star by star
deduplicate.py segments -> duplicates             groups.py      cluster -> the document that is kept
settle.py      duplicates -> counts and splits    split.py       cluster -> train, validation or test
named_files.py files that a recipe names beside its sources
augment/       train document -> further ones     shards.py      segments -> documents by split and source
account.py     counts of records that add up      histograms.py  what is kept, by length, script, language, licence
writing.py     text -> its script                 labels.py      names -> numbers that fit into rows
share.py       what one source has of it all      cluster_sizes.py  how many duplicates hang together
engines.py     where tasks run                 processes.py   on this machine; cluster.py, cluster_nodes.py: on Ray
report.py      what became of every record        additions.py   what augmentation added to it
prepare.py     the whole, and its fingerprint     contamination.py  evaluation texts in the finished corpus
listing.py     duplicates and what is kept for them  lookup.py   a document of the finished corpus by its id
locate.py      id -> raw record                   explain.py     what happened to one record
differences.py two versions of a text, shortened  explained.py   the same in lines for people
"""

from groundup.corpus.contamination import measure_contamination
from groundup.corpus.documents import Document, read_documents, shard_paths
from groundup.corpus.engines import Engine, EngineName, open_engine
from groundup.corpus.evaluation_sets import EvaluationSetConfig
from groundup.corpus.explain import Explainer
from groundup.corpus.explained import lines_of
from groundup.corpus.files import resolve_path
from groundup.corpus.prepare import CorpusConfig, build_corpus, file_identity, raw_identity
from groundup.corpus.processes import LocalEngine
from groundup.corpus.sources import SourceConfig

__all__ = [
    "CorpusConfig",
    "Document",
    "Engine",
    "EngineName",
    "EvaluationSetConfig",
    "Explainer",
    "LocalEngine",
    "SourceConfig",
    "build_corpus",
    "file_identity",
    "lines_of",
    "measure_contamination",
    "open_engine",
    "raw_identity",
    "read_documents",
    "resolve_path",
    "shard_paths",
]
