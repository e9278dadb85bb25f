"""Where the text of a run comes from: what became of it source by source and rule by rule, and what the kept text is.

Each function gives plain values for the template, empty where the run has nothing for it. Invariant: as in `data`,
whatever the files hold gives a page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from groundup.report import words
from groundup.report.charts import bar
from groundup.report.plain import count, entries, mapping, named
from groundup.report.read import RunFiles

SOURCES_SHOWN = 50
BINS_SHOWN = 32
EXAMPLES_SHOWN = 3
_UNKNOWN = ("not given", "no letters")
_DUPLICATES = {"exact": "Exact duplicate", "near": "Near duplicate"}


def flows(report: Mapping[str, Any]) -> dict[str, Any]:
    """What came in, was lost by each rule and kept: of all sources, and of each."""
    found = mapping(report.get("decontamination"))
    sets = entries(report.get("decontamination")) or list(found.values())
    rules = {str(reason): str(rule) for reason, rule in mapping(report.get("rules")).items()}
    sources = list(named(report.get("sources")))
    return {
        "all": _Flow("All sources", report, rules, sets).to_page(),
        "sources": [_Flow(name, entry, rules, sets, name).to_page() for name, entry in sources[:SOURCES_SHOWN]],
        "more": max(len(sources) - SOURCES_SHOWN, 0),
    }


class _Flow:
    """The way of one source's records (or of all) through the stage, as rows of a table."""

    def __init__(
        self,
        name: str,
        account: Mapping[str, Any],
        rules: Mapping[str, str],
        sets: list[dict[str, Any]],
        source: str | None = None,
    ) -> None:
        self._name, self._account, self._rules, self._sets, self._source = name, account, rules, sets, source
        self._bytes, self._samples = mapping(account.get("bytes")), mapping(account.get("samples"))
        self._total, self._loaded = count(account.get("total")), count(self._bytes.get("loaded"))

    def to_page(self) -> dict[str, Any]:
        """The rows with a line that sums them up."""
        kept, text_bytes = count(self._account.get("kept")), self._text_bytes()
        share = f" ({words.percent(kept / self._total)})" if self._total else ""
        sizes = f"; {words.size(self._loaded)} of text in, {words.size(text_bytes)} kept" if self._bytes else ""
        summary = f"{words.exact(self._total)} records in, {words.exact(kept)} kept{share}{sizes}"
        return {"name": self._name, "summary": summary, "rows": self._rows()}

    def _text_bytes(self) -> int:
        """Of the kept documents as they were cleaned."""
        return sum(count(bin_.get("bytes")) for bin_ in map(mapping, mapping(self._account.get("lengths")).values()))

    def _rows(self) -> list[dict[str, Any]]:
        kept = self._row("kept", "Kept", "its text as it was read", self._account.get("kept"), self._bytes.get("kept"))
        return [
            self._row("total", "Came in", "", self._total, self._bytes.get("loaded")),
            *self._dropped("rejected", "rejected", lambda reason: "Not readable"),
            *self._dropped("filtered", "filtered", lambda reason: f"Rule {self._rules.get(reason, 'of cleaning')}"),
            *self._contaminated(),
            *self._dropped("duplicates", "duplicate", lambda kind: _DUPLICATES.get(kind, kind), is_kind=True),
            kept,
            *self._edited(),
        ]

    def _row(
        self, colour: str, step: str, what: str, documents: Any, size_bytes: Any, examples: Iterable[str] = ()
    ) -> dict[str, Any]:
        amount, has_bytes = count(documents), bool(self._bytes) and colour != "rejected"
        text_share = count(size_bytes) / self._loaded if has_bytes and self._loaded else None
        return {
            "colour": colour,
            "step": step,
            "what": what,
            "documents": words.exact(amount),
            "share": words.percent(amount / self._total) if self._total else words.MISSING,
            "bytes": words.size(count(size_bytes)) if has_bytes else words.MISSING,
            "bytes_share": words.percent(text_share),
            "bar": bar([(amount, colour)], self._total),
            "examples": list(examples)[:EXAMPLES_SHOWN],
        }

    def _dropped(self, key: str, colour: str, step: Any, is_kind: bool = False) -> list[dict[str, Any]]:
        """A row for each reason, the most frequent first."""
        reasons = {str(reason): count(amount) for reason, amount in mapping(self._account.get(key)).items()}
        sizes, samples = mapping(self._bytes.get(key)), mapping(self._samples.get(key))
        return [
            self._row(
                colour,
                step(reason),
                "" if is_kind else reason.removeprefix(f"{self._rules.get(reason, '')}: "),
                amount,
                sizes.get(reason),
                map(_example, entries(samples.get(reason))),
            )
            for reason, amount in sorted(reasons.items(), key=lambda item: -item[1])
            if amount
        ]

    def _contaminated(self) -> list[dict[str, Any]]:
        """One row: a document may hold texts of several sets."""
        documents = count(self._account.get("contaminated"))
        if not documents:
            return []
        names, examples = [], []
        for found in self._sets:
            per_source = mapping(found.get("documents_per_source"))
            if count(found.get("documents") if self._source is None else per_source.get(self._source)):
                names.append(str(found.get("name", "?")))
                examples += [sample for sample in entries(found.get("samples")) if self._is_mine(sample)]
        size_bytes = self._bytes.get("contaminated")
        shown = [
            f"{one.get('document', '')} holds {one.get('example', '')}: {one.get('excerpt', '')}" for one in examples
        ]
        return [self._row("filtered", "Contaminated", ", ".join(names), documents, size_bytes, shown)]

    def _is_mine(self, sample: Mapping[str, Any]) -> bool:
        return self._source is None or str(sample.get("document", "")).startswith(f"{self._source}/")

    def _edited(self) -> list[dict[str, Any]]:
        """What rules changed; documents that a later rule dropped are counted too."""
        rows = []
        for name, entry in named(self._account.get("changed")):
            if not count(entry.get("documents")):
                continue
            shown = [
                f"{one.get('source', '')}/{one.get('id', '')}: {one.get('before', '')} → {one.get('after', '')}"
                for one in entries(entry.get("samples"))
            ]
            row = self._row("edited", f"Edited by {name}", "", entry.get("documents"), 0, shown)
            removed = count(entry.get("bytes_removed"))
            row["bytes"] = (
                f"{'−' if removed >= 0 else '+'}{words.size(abs(removed))}" if "bytes_removed" in entry else "–"
            )
            rows.append({**row, "bytes_share": ""})
        return rows


def _example(sample: Mapping[str, Any]) -> str:
    """Where it was, what was measured against what, and how it begins."""
    record, where = count(sample.get("record")), str(sample.get("file", ""))
    place = f"{where}:{record}" if record else where
    value = sample.get("value")
    measured = f" ({words.value('', value)}, bound {words.value('', sample.get('bound'))})" if value is not None else ""
    return f"{place}{measured}: {sample.get('excerpt', '')}"


def histograms(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Tables of bars of the kept documents: by length, script and language, and of the clusters of duplicates."""
    tables = [
        _bins("Length", "Characters", mapping(report.get("lengths")), "as cleaned"),
        _bins(
            "Script of most letters", "Script", mapping(report.get("scripts")), "told by Unicode blocks; no language"
        ),
    ]
    languages = mapping(report.get("languages"))
    if set(languages) - set(_UNKNOWN):
        is_identified = report.get("languages_from") == "identification"
        note = "identified while cleaning" if is_identified else "as the text's own metadata says"
        tables.append(_bins("Language", "Language", languages, note))
    clusters = mapping(mapping(report.get("deduplication")).get("cluster_sizes"))
    for kind, title in (("exact", "Exact duplicates"), ("near", "Near duplicates")):
        tables.append(_clusters(title, mapping(clusters.get(kind))))
    return [table for table in tables if table["rows"]]


def _bins(title: str, header: str, bins: Mapping[str, Any], note: str) -> dict[str, Any]:
    found = {str(name): mapping(bin_) for name, bin_ in bins.items()}
    documents = {name: count(bin_.get("documents")) for name, bin_ in found.items()}
    most, total = max(documents.values(), default=0), sum(documents.values())
    rows = [
        {
            "name": name.replace("-", "–") if header == "Characters" else name,
            "bar": bar([(amount, "kept")], most),
            "count": words.exact(amount),
            "share": words.percent(amount / total) if total else words.MISSING,
            "bytes": words.size(count(found[name].get("bytes"))),
        }
        for name, amount in documents.items()
    ]
    more = max(len(rows) - BINS_SHOWN, 0)
    return {
        "title": title,
        "header": header,
        "unit": "Documents",
        "note": note,
        "rows": rows[:BINS_SHOWN],
        "more": more,
    }


def _clusters(title: str, sizes: Mapping[str, Any]) -> dict[str, Any]:
    clusters = {str(size): count(amount) for size, amount in sizes.items()}
    most, total = max(clusters.values(), default=0), sum(clusters.values())
    rows = [
        {
            "name": size.replace("-", "–"),
            "bar": bar([(amount, "duplicate")], most),
            "count": words.exact(amount),
            "share": words.percent(amount / total) if total else words.MISSING,
            "bytes": "",
        }
        for size, amount in clusters.items()
        if amount
    ]
    note = "a cluster is a kept document and what was dropped for it"
    return {"title": title, "header": "Cluster of", "unit": "Clusters", "note": note, "rows": rows, "more": 0}


def licenses(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """Each licence as it was given, with the sources that it was given for."""
    owners: dict[str, list[str]] = {}
    for name, entry in named(report.get("sources")):
        for license_ in mapping(entry.get("licenses")):
            owners.setdefault(str(license_), []).append(name)
    return [
        {
            "name": str(license_),
            "documents": words.exact(count(mapping(bin_).get("documents"))),
            "bytes": words.size(count(mapping(bin_).get("bytes"))),
            "sources": words.value("", owners.get(str(license_), [])),
        }
        for license_, bin_ in list(mapping(report.get("licenses")).items())[:BINS_SHOWN]
    ]


def contamination(run: RunFiles) -> dict[str, Any]:
    """Sets by sources: documents of the train split that share a text with the set; and what was dropped before."""
    sets = entries(run.contamination.get("sets"))
    dropped = {
        str(each.get("name", "")): count(each.get("documents")) for each in entries(run.corpus.get("decontamination"))
    }
    sources = [name for name, _ in named(run.corpus.get("sources"))]
    rows = []
    for each in sets[:SOURCES_SHOWN]:
        per_source = mapping(each.get("documents_per_source"))
        name = str(each.get("name", "?"))
        rows.append(
            {
                "name": name,
                "examples": words.exact(count(each.get("examples"))),
                "found": words.exact(count(each.get("examples_found"))),
                "share": words.percent(each.get("examples_found_fraction")),
                "dropped": words.exact(dropped[name]) if name in dropped else words.MISSING,
                "cells": [count(per_source.get(source)) for source in sources[:SOURCES_SHOWN]],
                "samples": [_held(sample) for sample in entries(each.get("samples"))[:EXAMPLES_SHOWN]],
            }
        )
    return {"sources": sources[:SOURCES_SHOWN], "rows": rows}


def _held(sample: Mapping[str, Any]) -> str:
    share = words.percent(sample.get("share"), 0)
    return f"{sample.get('document', '')} holds {share} of {sample.get('example', '')}: {sample.get('excerpt', '')}"
