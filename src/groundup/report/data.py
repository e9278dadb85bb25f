"""Data sections of the page: what went in, what was dropped and why, and how text became tokens.

Each function gives plain values for the template, empty where the run has nothing for it; the page says so in place.
Invariant: counts and texts are read through `words` and `plain`, so whatever the files hold gives a page.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from groundup.report import provenance, words
from groundup.report.charts import bar
from groundup.report.plain import count, entries, mapping, named
from groundup.report.read import RunFiles
from groundup.report.words import number

FILE_ROWS = 200
FERTILITY_ROWS = 200
_FERTILITY_FIGURES = ("tokens_per_word", "tokens_per_character", "bytes_per_token", "to_own")


def corpus(run: RunFiles) -> dict[str, Any]:
    """Accounts per source and file, what was lost on the way with examples, and what the kept text is."""
    report = run.corpus
    if not report:
        return {}
    sources = [_account(name, entry) for name, entry in named(report.get("sources"))]
    files = [_account(name, entry) for name, entry in named(report.get("files"))]
    return {
        "all": _account("All sources", report),
        "sources": sources,
        "files": files[:FILE_ROWS],
        "more_files": max(len(files) - FILE_ROWS, 0),
        "splits": [_split(name, entry) for name, entry in named(report.get("splits")) if count(entry.get("documents"))],
        "edits": list(words.pairs(report.get("edits"))),
        "added": list(words.pairs(report.get("added"))),
        "deduplication": list(words.pairs(_plain(report.get("deduplication")))),
        "flows": provenance.flows(report),
        "histograms": provenance.histograms(report),
        "licenses": provenance.licenses(report),
        "contamination": provenance.contamination(run),
        "skipped": _skipped(mapping(report.get("skipped"))),
    }


def _plain(deduplication: Any) -> dict[str, Any]:
    """Without the sizes of clusters, which are drawn."""
    return {key: value for key, value in mapping(deduplication).items() if key != "cluster_sizes"}


def _split(name: str, entry: Mapping[str, Any]) -> dict[str, str]:
    return {
        "name": name,
        "documents": words.exact(entry.get("documents")),
        "characters": words.exact(entry.get("characters")),
        "bytes": words.size(entry.get("bytes")),
    }


def _skipped(skipped: Mapping[str, Any]) -> dict[str, Any]:
    """Files that were found beside the text and not read."""
    examples = [
        f"{example.get('source', '')}/{example.get('name', '')}: {example.get('reason', '')}"
        for example in entries(skipped.get("examples"))
    ]
    return {"total": words.exact(count(skipped.get("total"))), "examples": examples}


def _account(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    duplicates = mapping(entry.get("duplicates"))
    exact, near = count(duplicates.get("exact")), count(duplicates.get("near"))
    total, kept = count(entry.get("total")), count(entry.get("kept"))
    rejected, filtered = count(entry.get("rejected")), count(entry.get("filtered"))
    contaminated = count(entry.get("contaminated"))
    parts = [
        (kept, "kept"),
        (exact + near, "duplicate"),
        (filtered + contaminated, "filtered"),
        (rejected, "rejected"),
    ]
    return {
        "name": name,
        "detail": "; ".join(str(entry[key]) for key in ("detected", "problem") if entry.get(key)),
        "total": words.exact(total),
        "kept": words.exact(kept),
        "kept_share": words.percent(kept / total) if total else words.MISSING,
        "exact": words.exact(exact),
        "near": words.exact(near),
        "filtered": words.exact(filtered),
        "rejected": words.exact(rejected),
        "contaminated": words.exact(contaminated),
        "bar": bar(parts, total),
    }


def tokens(run: RunFiles) -> dict[str, Any]:
    """The vocabulary, the shards per split and source, and how densely conversations are packed."""
    shards = [
        {
            "split": str(split),
            "source": source,
            "documents": words.exact(entry.get("documents")),
            "tokens": words.exact(entry.get("tokens")),
            "bytes": words.size(entry.get("text_bytes")),
            "bytes_per_token": _ratio(entry.get("text_bytes"), entry.get("tokens")),
        }
        for split, sources in run.summary("shards").items()
        for source, entry in named(sources)
    ]
    train = mapping(run.summary("shards").get("train")).values()
    text_bytes = sum(count(mapping(entry).get("text_bytes")) for entry in train)
    train_tokens = sum(count(mapping(entry).get("tokens")) for entry in train)
    conversations = [
        _conversations(group, source, entry)
        for group, stage in (("trained on", "conversations"), ("held out", "questions"))
        for source, entry in named(run.summary(stage))
    ]
    return {
        "tokenizer": list(words.pairs(run.summary("tokenizer"))),
        "bytes_per_token": _ratio(text_bytes, train_tokens),
        "shards": shards,
        "conversations": conversations,
        "fertility": _fertility(run.fertility),
    }


def _fertility(report: Mapping[str, Any]) -> dict[str, Any]:
    """Tokens that each group of documents needs, with the run's tokenizer and with those it is compared with."""
    sizes = mapping(report.get("vocab_size"))
    groups = [("all", "all text", mapping(report.get("all")))]
    for kind in ("source", "language"):
        groups += [(kind, name, entry) for name, entry in named(report.get(f"{kind}s"))]
    rows = [
        {
            "kind": kind,
            "name": name,
            "tokenizer": label,
            "bytes": words.size(entry.get("bytes")),
            "words": words.exact(entry.get("words")),
            **{key: _decimals(figures.get(key)) for key in _FERTILITY_FIGURES},
        }
        for kind, name, entry in groups
        for label, figures in named(entry.get("tokenizers"))
    ]
    return {
        "rows": rows[:FERTILITY_ROWS],
        "more": max(len(rows) - FERTILITY_ROWS, 0),
        "tokenizers": [(str(label), f"{words.exact(size)} tokens") for label, size in sizes.items()],
        "compared": len(sizes) > 1,
    }


def _decimals(value: Any) -> str:
    found = number(value)
    return words.MISSING if found is None else f"{found:.2f}"


def _ratio(above: Any, below: Any) -> str:
    top, bottom = number(above), number(below)
    return f"{top / bottom:.2f}" if top is not None and bottom else words.MISSING


def _conversations(group: str, source: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    padding, records = number(entry.get("padding_share")), mapping(entry.get("records"))
    dropped = count(entry.get("dropped_too_long"))
    refused = {**mapping(records.get("rejected")), **mapping(entry.get("refused"))}
    reasons = [f"{reason}: {words.exact(amount)}" for reason, amount in refused.items()]
    return {
        "group": group,
        "source": source,
        "conversations": words.exact(entry.get("conversations")),
        "tokens": words.exact(entry.get("tokens")),
        "targets": words.exact(entry.get("targets")),
        "rows": words.exact(entry.get("rows")),
        "efficiency": words.percent(None if padding is None else 1 - padding),
        "truncated": words.exact(entry.get("truncated", 0)),
        "dropped": "; ".join([*([f"too long: {words.exact(dropped)}"] if dropped else []), *reasons]) or "none",
    }
