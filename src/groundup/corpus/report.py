"""The report of a corpus: what went in, what was dropped and why, what came out.

Invariant: every account in it was checked to add up, it is valid JSON, and it holds nothing that differs between two
runs over the same files (no times, no places on the machine).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup.corpus.account import Account, Samples, summed
from groundup.corpus.augment import Added
from groundup.corpus.deduplicate import EXACT, KEPT, NEAR, SIGNATURE_SEED, DeduplicateConfig, Duplicates
from groundup.corpus.documents import SPLITS
from groundup.corpus.parts import Part
from groundup.corpus.sources import Found, SourceConfig
from groundup.corpus.table import Table
from groundup.errors import DataError
from groundup.log import logger

_LOG_LIMIT = 20
_SKIPPED_LIMIT = 20


def make_report(
    config: DeduplicateConfig,
    sources: Sequence[SourceConfig],
    found: Sequence[Found],
    parts: Sequence[Part],
    read: Sequence[Mapping[str, Any]],
    table: Table,
    duplicates: Duplicates,
    codes: NDArray[np.uint8],
) -> dict[str, Any]:
    """The whole of report.json but for `shards`. Raises AssertionError when an account does not add up."""
    files = _files(parts, read, table, duplicates)
    names = [source.name for source in sources]
    per_source = {name: summed(account for owner, _, account in files if owner == name) for name in names}
    source_of_row = np.array([names.index(part.source.name) for part in parts], dtype=np.int64)[table.part]
    total = summed(per_source.values())
    limit = parts[0].clean.samples if parts else 0
    changed, edits = _changes(read, limit)
    for what, account in (*per_source.items(), ("the corpus", total)):
        account.check(what)
    return {
        **total.to_json(),
        "splits": _sizes(table, codes, np.ones(len(codes), dtype=bool)),
        "sources": {
            name: {**account.to_json(), "splits": _sizes(table, codes, source_of_row == i)}
            for i, (name, account) in enumerate(per_source.items())
        },
        "changed": changed,
        "edits": edits,
        "deduplication": _deduplication(config, duplicates),
        "samples": _samples(parts, read, table, duplicates, limit),
        "skipped": _skipped(names, found),
        "files": [{"source": owner, **about, **account.to_json()} for owner, about, account in files],
    }


def with_added(
    report: Mapping[str, Any], parts: Sequence[Part], written: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The report with the documents that augmentation added: in `added`, and in the sizes of the train splits.

    Documents of the splits are then `kept` and what `added` counts, in all and for each source.
    """
    sources = {name: _Sums() for name in report["sources"]}
    for part, result in zip(parts, written):
        for method, counts in result["added"].items():
            sources[part.source.name].add(method, counts)
    total = _Sums()
    for sums in sources.values():
        for method, added in sums.methods.items():
            total.add(method, asdict(added))
    return {
        **report,
        "added": total.to_json(),
        "splits": total.with_train(report["splits"]),
        "sources": {
            name: {**source, "splits": sources[name].with_train(source["splits"]), "added": sources[name].to_json()}
            for name, source in report["sources"].items()
        },
    }


class _Sums:
    """Sums of what each method of augmentation added."""

    def __init__(self) -> None:
        self.methods: dict[str, Added] = {}

    def add(self, method: str, counts: Mapping[str, Any]) -> None:
        """One part's counts of a method."""
        self.methods.setdefault(method, Added()).add(Added(**counts))

    def to_json(self) -> dict[str, Any]:
        """method -> its counts."""
        return {name: asdict(added) for name, added in sorted(self.methods.items())}

    def with_train(self, splits: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
        """Sizes of the splits with what was added to the first, train."""
        added = self.methods.values()
        train = {unit: size + sum(getattr(one, unit) for one in added) for unit, size in splits[SPLITS[0]].items()}
        return {**splits, SPLITS[0]: train}


def _files(
    parts: Sequence[Part], read: Sequence[Mapping[str, Any]], table: Table, duplicates: Duplicates
) -> list[tuple[str, dict[str, str], Account]]:
    """(source, name and findings, checked account) of each file, over all parts."""
    count = sum(len(part.files) for part in parts)
    outcomes = {
        code: np.bincount(table.file[duplicates.outcome == code], minlength=count) for code in (KEPT, EXACT, NEAR)
    }
    files: list[tuple[str, dict[str, str], Account]] = []
    for part, result in zip(parts, read):
        for values in result["accounts"]:
            account = Account.from_json(values)
            number = len(files)
            account.kept = int(outcomes[KEPT][number])
            account.duplicates["exact"] += int(outcomes[EXACT][number])
            account.duplicates["near"] += int(outcomes[NEAR][number])
            account.check(values["name"])
            about = {"name": values["name"], "detected": values["detected"], "problem": values["problem"]}
            files.append((part.source.name, about, account))
    return files


def _sizes(table: Table, codes: NDArray[np.uint8], chosen: NDArray[np.bool_]) -> dict[str, dict[str, int]]:
    """Documents, characters and UTF-8 bytes of text in each split, of the chosen rows."""
    sizes = {}
    for code, name in enumerate(SPLITS, 1):
        rows = table.rows[chosen & (codes == code)]
        characters, size_bytes = (int(rows[field].sum(dtype=np.int64)) for field in ("characters", "text_bytes"))
        sizes[name] = {"documents": len(rows), "characters": characters, "bytes": size_bytes}
    return sizes


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
    members = np.bincount(duplicates.kept) if len(duplicates.kept) else np.zeros(0, dtype=np.int64)
    return {
        "near": config.near,
        "threshold": config.threshold,
        "num_perm": config.num_perm,
        "bands": config.bands,
        "shingle_tokens": config.shingle_tokens,
        "seed": SIGNATURE_SEED,
        "chance_compared_at_threshold": round(config.chance_compared(config.threshold), 4),
        "clusters": int((members > 1).sum()),
        "largest_cluster": int(members.max(initial=0)),
        "unchecked": duplicates.unchecked,
    }


def _samples(
    parts: Sequence[Part], read: Sequence[Mapping[str, Any]], table: Table, duplicates: Duplicates, limit: int
) -> dict[str, Any]:
    samples = Samples(limit=limit)
    for kind, code in (("exact", EXACT), ("near", NEAR)):
        for row in np.flatnonzero(duplicates.outcome == code)[:limit].tolist():
            name, number = _name(parts, table, row)
            original, original_number = _name(parts, table, int(duplicates.kept[row]))
            samples.add("duplicates", kind, name, number, f"the same as {original}:{original_number}")
    for result in read:
        samples.add_all(result["samples"])
    return samples.values


def _name(parts: Sequence[Part], table: Table, row: int) -> tuple[str, int]:
    """(source and file name, record number) of a row."""
    part = parts[table.part[row]]
    return f"{part.source.name}/{part.files[table.rows['file'][row]].name}", int(table.rows["number"][row])


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
