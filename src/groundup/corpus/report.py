"""The report of a corpus: what went in, what was dropped and why, what came out.

Invariant: every account in it was checked to add up, it is valid JSON, and it holds nothing that differs between two
runs over the same files (no times, no places on the machine).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from groundup.corpus.account import Account, Samples, summed
from groundup.corpus.decontaminate import set_reports
from groundup.corpus.deduplicate import Duplicates
from groundup.corpus.documents import SPLITS
from groundup.corpus.parts import SAME_AS, Part
from groundup.corpus.segments import Segment, Store, part_number
from groundup.corpus.settle import Tally
from groundup.corpus.signatures import SIGNATURE_SEED, DeduplicateConfig
from groundup.corpus.sources import Found, SourceConfig
from groundup.errors import DataError
from groundup.log import logger

_LOG_LIMIT = 20
_SKIPPED_LIMIT = 20

_Order = tuple[int, int, int]
"""Where a record stands among all: its part, its file within it, its number."""


def make_report(
    config: DeduplicateConfig,
    sources: Sequence[SourceConfig],
    found: Sequence[Found],
    parts: Sequence[Part],
    read: Sequence[Mapping[str, Any]],
    segments: Sequence[Segment],
    duplicates: Duplicates,
    tallies: Sequence[Tally],
    sizes: Sequence[Mapping[str, Mapping[str, int]]],
) -> dict[str, Any]:
    """The whole of report.json but for `shards`. Raises AssertionError when an account does not add up."""
    files = _files(parts, read, segments, tallies)
    names = [source.name for source in sources]
    per_source = {name: summed(account for owner, _, account in files if owner == name) for name in names}
    owners = [parts[segment.part].source.name for segment in segments]
    total = summed(per_source.values())
    limit = parts[0].clean.samples
    changed, edits = _changes(read, limit)
    for what, account in (*per_source.items(), ("the corpus", total)):
        account.check(what)
    return {
        **total.to_json(),
        "splits": _sizes(sizes),
        "sources": {
            name: {**account.to_json(), "splits": _sizes([size for size, owner in zip(sizes, owners) if owner == name])}
            for name, account in per_source.items()
        },
        "changed": changed,
        "edits": edits,
        "deduplication": _deduplication(config, duplicates),
        "decontamination": _decontamination(parts, read, limit),
        "samples": _samples(parts, read, segments, tallies, duplicates, limit),
        "skipped": _skipped(names, found),
        "files": [{"source": owner, **about, **account.to_json()} for owner, about, account in files],
    }


def _files(
    parts: Sequence[Part], read: Sequence[Mapping[str, Any]], segments: Sequence[Segment], tallies: Sequence[Tally]
) -> list[tuple[str, dict[str, str], Account]]:
    """(source, name and findings, checked account) of each file, over all parts."""
    outcomes: Counter[tuple[int, int, str]] = Counter()
    for segment, tally in zip(segments, tallies):
        for file, counts in tally.files.items():
            outcomes.update({(segment.part, file, name): count for name, count in counts.items()})
    files: list[tuple[str, dict[str, str], Account]] = []
    for part, result in zip(parts, read):
        for number, values in enumerate(result["accounts"]):
            account = Account.from_json(values)
            account.kept = outcomes[part.number, number, "kept"]
            for kind in account.duplicates:
                account.duplicates[kind] += outcomes[part.number, number, kind]
            account.check(values["name"])
            about = {"name": values["name"], "detected": values["detected"], "problem": values["problem"]}
            if files and (files[-1][0], files[-1][1]["name"]) == (part.source.name, values["name"]):
                files[-1][1]["problem"] = files[-1][1]["problem"] or values["problem"]
                files[-1][2].add(account)  # another section of the same file
            else:
                files.append((part.source.name, about, account))
    return files


def _sizes(sizes: Sequence[Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, int]]:
    """Documents, characters and UTF-8 bytes of text in each split, over some segments."""
    return {
        split: {unit: sum(size[split][unit] for size in sizes) for unit in ("documents", "characters", "bytes")}
        for split in SPLITS
    }


def _changes(read: Sequence[Mapping[str, Any]], limit: int) -> tuple[dict[str, dict[str, Any]], dict[str, int]]:
    """rule -> documents it changed, characters they became shorter by, examples; and kind of edit -> how many."""
    totals: dict[str, Counter[str]] = {"documents": Counter(), "characters": Counter(), "edits": Counter()}
    samples: dict[str, list[dict[str, Any]]] = {}
    for result in read:
        for unit, counter in totals.items():
            counter.update(result["changes"][unit])
        for name, examples in result["changes"]["samples"].items():
            known = samples.setdefault(name, [])
            known.extend(examples[: limit - len(known)])
    changed = {
        name: {
            "documents": documents,
            "characters_removed": totals["characters"][name],
            "samples": samples.get(name, []),
        }
        for name, documents in sorted(totals["documents"].items())
    }
    return changed, dict(sorted(totals["edits"].items()))


def _deduplication(config: DeduplicateConfig, duplicates: Duplicates) -> dict[str, Any]:
    return {
        "near": config.near,
        "threshold": config.threshold,
        "num_perm": config.num_perm,
        "bands": config.bands,
        "shingle_tokens": config.shingle_tokens,
        "seed": SIGNATURE_SEED,
        "chance_compared_at_threshold": round(config.chance_compared(config.threshold), 4),
        "clusters": duplicates.clusters,
        "largest_cluster": duplicates.largest_cluster,
        "cluster_sizes": duplicates.cluster_sizes,
        "unchecked": duplicates.unchecked,
    }


def _decontamination(parts: Sequence[Part], read: Sequence[Mapping[str, Any]], limit: int) -> list[dict[str, Any]]:
    """Of each evaluation set that documents were dropped for, what was found."""
    index = next((part.evaluation for part in parts if part.evaluation), None)
    found = ((part.source.name, result["contaminated"]) for part, result in zip(parts, read))
    return set_reports(index, found, limit) if index else []


def _samples(
    parts: Sequence[Part],
    read: Sequence[Mapping[str, Any]],
    segments: Sequence[Segment],
    tallies: Sequence[Tally],
    duplicates: Duplicates,
    limit: int,
) -> dict[str, Any]:
    """The first examples of each reason in order of files and records, wherever parts begin and end."""
    samples, store = Samples(limit=limit), Store(tuple(segments))
    for result in read:
        samples.add_all({kind: reasons for kind, reasons in result["samples"].items() if kind != "duplicates"})
    for kind in ("exact", "near"):
        found = []
        for document, kept in [pair for tally in tallies for pair in tally.samples[kind]][:limit]:
            name, number = _name(parts, store, document)
            found.append((_order(parts[part_number(document)], name, number), name, number, kept))
        for part, result in zip(parts, read):
            for example in result["samples"]["duplicates"].get(kind, ()):
                name, number = example["file"], example["record"]
                found.append((_order(part, name, number), name, number, example[SAME_AS]))
        for _, name, number, same in sorted(found)[:limit]:
            segment = store.segment_with(same)
            kept = int(duplicates.of(segment)[1][same - segment.first])
            original, original_number = _name(parts, store, kept)
            samples.add("duplicates", kind, name, number, f"the same as {original}:{original_number}")
    return samples.values


def _order(part: Part, name: str, number: int) -> _Order:
    names = (f"{part.source.name}/{file.name}" for file in part.files)
    return part.number, next(index for index, known in enumerate(names) if known == name), number


def _name(parts: Sequence[Part], store: Store, document: int) -> tuple[str, int]:
    """(source and file name, record number) of a document."""
    row = store.rows(np.array([document], dtype=np.uint64))[0]
    part = parts[part_number(document)]
    return f"{part.source.name}/{part.files[row['file']].name}", int(row["number"])


def _skipped(names: Sequence[str], found: Sequence[Found]) -> dict[str, Any]:
    every = [(name, skipped) for name, files in zip(names, found) for skipped in files.skipped]
    return {
        "total": len(every),
        "reasons": dict(sorted(Counter(skipped.reason for _, skipped in every).items())),
        "examples": [
            {"source": name, "name": skipped.name, "reason": skipped.reason} for name, skipped in every[:_SKIPPED_LIMIT]
        ],
    }


def report_text(report: Mapping[str, Any]) -> str:
    """The report as JSON; one line a file, since there may be many thousand."""
    lines = [json.dumps(file, ensure_ascii=False, allow_nan=False) for file in report["files"]]
    others = {key: value for key, value in report.items() if key != "files"}
    text = json.dumps(others, indent=1, ensure_ascii=False, allow_nan=False)
    return text.removesuffix("\n}") + ',\n "files": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n"


def log_report(report: Mapping[str, Any]) -> None:
    """Say what each file was found to be and what went wrong; a bounded number of lines, however many files."""
    for file in report["files"][:_LOG_LIMIT]:
        logger.info(f"{file['source']}/{file['name']}: {file['detected']}, {file['kept']} of {file['total']} kept")
    _and_more(len(report["files"]), logger.info)
    problems = [file for file in report["files"] if file["problem"]]
    for file in problems[:_LOG_LIMIT]:
        logger.warning(f"{file['source']}/{file['name']}: {file['problem']}")
    _and_more(len(problems), logger.warning)
    for skipped in report["skipped"]["examples"]:
        logger.warning(f"{skipped['source']}/{skipped['name']}: skipped ({skipped['reason']})")
    _and_more(report["skipped"]["total"], logger.warning, "counted by reason in report.json")
    for reason, count in report["rejected"].items():
        logger.warning(f"rejected {count}: {reason}")
    for name, source in report["sources"].items():
        if not source["kept"]:
            logger.warning(f"source '{name}': no document was kept")


def _and_more(count: int, log: Callable[[str], None], where: str = "all in report.json") -> None:
    if count > _LOG_LIMIT:
        log(f"... and {count - _LOG_LIMIT} more ({where})")


def refuse_nothing(report: Mapping[str, Any]) -> None:
    """Raise DataError, naming the most frequent reasons, when no document was kept."""
    if report["kept"]:
        return
    reasons = Counter({**report["rejected"], **report["filtered"]}).most_common(5)
    most = f" (most: {reasons[0][0][:40]})" if reasons else ""
    raise DataError(
        f"no document was kept of {report['total']} records{most}; check corpus.sources and corpus.clean",
        details=[f"{count} x {reason}" for reason, count in reasons]
        + [f"{file['name']}: {file['problem']}" for file in report["files"][:5] if file["problem"]],
    )


def summary_of(report: Mapping[str, Any]) -> dict[str, Any]:
    """The totals for a manifest: the account, the splits, and the splits of each source."""
    keys = ("total", "loaded", "rejected", "kept", "filtered", "duplicates", "contaminated", "splits", "added")
    sources = {name: source["splits"] for name, source in report["sources"].items()}
    return {**{key: report[key] for key in keys}, "sources": sources}
