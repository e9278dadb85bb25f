"""Raw text -> clean, decontaminated, deduplicated, split documents, with every record accounted for.

prepare.py     the whole, and its fingerprint            report.py          what became of every record
reading/       sources -> documents or rejections: files, archives, encodings, formats, pages, MediaWiki dumps
clean/         document -> document or reason            frequent_lines.py  lines that stand in many documents
parts.py       the shares that workers read              part_reader.py     one share -> segments and accounts
segments.py    what is known of each document, on disk   segment_writer.py  how it gets there
contamination/ evaluation sets -> documents that hold their texts
duplicates/    segments -> which documents are duplicates, and of which
settle.py      duplicates -> counts and splits           split.py           cluster -> train, validation or test
augment/       train document -> further ones            shards.py          segments -> documents by split and source
accounts/      counts that add up, histograms            explanation/       what became of one
engines/       where tasks run: here, in processes, on Ray
documents.py   a document and its files                  closing.py         what says that some work is done
named_files.py files that a recipe names beside its sources
optional.py    libraries that only some need             sentences.py       text -> sentences
"""

from groundup.corpus.contamination.evaluation_sets import EvaluationSetConfig
from groundup.corpus.contamination.measure import measure_contamination, read_found
from groundup.corpus.documents import Document, read_documents, shard_paths
from groundup.corpus.engines.engine import Engine, EngineName, open_engine
from groundup.corpus.engines.processes import LocalEngine
from groundup.corpus.explanation.explained import lines_of
from groundup.corpus.explanation.explainer import Explainer
from groundup.corpus.prepare import CorpusConfig, build_corpus, file_identity, raw_identity
from groundup.corpus.reading.files import resolve_path
from groundup.corpus.reading.sources import SourceConfig

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
    "read_found",
    "resolve_path",
    "shard_paths",
]
