"""The report of a corpus: what went in, what was dropped and why, what came out.

Invariant: every account in it was checked to add up, it is valid JSON, and it holds nothing that differs between two
runs over the same files (no times, no places on the machine).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from groundup.corpus.accounts.account import Account, summed
from groundup.corpus.accounts.histograms import Named
from groundup.corpus.accounts.share import Share
from groundup.corpus.contamination.decontaminate import set_reports
from groundup.corpus.duplicates.cluster_sizes import KINDS, merged
from groundup.corpus.duplicates.deduplicate import Duplicates
from groundup.corpus.duplicates.signatures import SIGNATURE_SEED, DeduplicateConfig
from groundup.corpus.parts import Part
from groundup.corpus.reading.files import Found
from groundup.corpus.reading.sources import SourceConfig
from groundup.corpus.segments import Segment, Store
from groundup.corpus.settle import Tally
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
    segments: Sequence[Segment],
    duplicates: Duplicates,
    tallies: Sequence[Tally],
    sizes: Sequence[Mapping[str, Mapping[str, int]]],
) -> dict[str, Any]:
    """The whole of report.json but for `shards`. Raises AssertionError when an account does not add up."""
    files = _files(parts, read, segments, tallies)
    names = [source.name for source in sources]
    whole = Share(parts, read, segments, tallies, sizes, Store(tuple(segments)), duplicates)
    shares = {name: whole.of_source(i) for i, name in enumerate(names)}
    accounts = {name: summed(account for owner, _, account in files if owner == name) for name in names}
    histograms = {name: share.histograms() for name, share in shares.items()}
    total, histograms_of_all = summed(accounts.values()), Named()
    for name, account in accounts.items():
        _check(name, account, histograms[name], shares[name])
        histograms_of_all.add_all(histograms[name])
    _check("the corpus", total, histograms_of_all, whole)
    if duplicates.counted != total.duplicates:
        raise AssertionError(f"clusters hold {duplicates.counted} duplicates, the account {total.duplicates}")
    return {
        **total.to_json(),
        **whole.told(),
        **histograms_of_all.to_json(),
        "sources": {
            name: {
                **account.to_json(),
                **shares[name].told(),
                **histograms[name].to_json(),
                "cluster_sizes": _cluster_sizes(duplicates, i),
            }
            for i, (name, account) in enumerate(accounts.items())
        },
        "rules": dict(sorted({reason: rule for result in read for reason, rule in result["rules"].items()}.items())),
        "languages_from": "identification" if parts[0].clean.language else "metadata",
        "deduplication": _deduplication(config, duplicates),
        "decontamination": _decontamination(parts, read, parts[0].clean.samples),
        "skipped": _skipped(names, found),
        "files": [{"source": owner, **about, **account.to_json()} for owner, about, account in files],
    }


def _check(what: str, account: Account, histograms: Named, share: Share) -> None:
    account.check(what)
    text_bytes = sum(split["bytes"] for split in share.splits().values())
    histograms.check(account.kept, text_bytes, what)


def _files(
    parts: Sequence[Part], read: Sequence[Mapping[str, Any]], segments: Sequence[Segment], tallies: Sequence[Tally]
) -> list[tuple[str, dict[str, str], Account]]:
    """(source, name and findings, checked account) of each file, over all parts."""
    outcomes: dict[tuple[int, int, str], tuple[int, int]] = {}
    for segment, tally in zip(segments, tallies):
        for file, counts in tally.files.items():
            for name, (documents, size_bytes) in counts.items():
                before = outcomes.get((segment.part, file, name), (0, 0))
                outcomes[segment.part, file, name] = (before[0] + documents, before[1] + size_bytes)
    files: list[tuple[str, dict[str, str], Account]] = []
    for part, result in zip(parts, read):
        for number, values in enumerate(result["accounts"]):
            account = Account.from_json(values)
            account.keep(*outcomes.get((part.number, number, "kept"), (0, 0)))
            for kind in ("exact", "near"):
                account.drop_duplicates(kind, *outcomes.get((part.number, number, kind), (0, 0)))
            account.check(values["name"])
            about = {"name": values["name"], "detected": values["detected"], "problem": values["problem"]}
            if files and (files[-1][0], files[-1][1]["name"]) == (part.source.name, values["name"]):
                files[-1][1]["problem"] = files[-1][1]["problem"] or values["problem"]
                files[-1][2].add(account)  # another section of the same file
            else:
                files.append((part.source.name, about, account))
    return files


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
        "cluster_sizes": _cluster_sizes(duplicates),
        "unchecked": duplicates.unchecked,
    }


def _cluster_sizes(duplicates: Duplicates, source: int | None = None) -> dict[str, dict[str, int]]:
    """Clusters by size, for each kind: of all sources, or of those that a document of one is kept of."""
    if source is not None:
        return duplicates.sizes_by_source.get(source, {kind: {} for kind in KINDS})
    return {kind: merged(sizes[kind] for sizes in duplicates.sizes_by_source.values()) for kind in KINDS}


def _decontamination(parts: Sequence[Part], read: Sequence[Mapping[str, Any]], limit: int) -> list[dict[str, Any]]:
    """Of each evaluation set that documents were dropped for, what was found."""
    index = next((part.evaluation for part in parts if part.evaluation), None)
    found = ((part.source.name, result["contaminated"]) for part, result in zip(parts, read))
    return set_reports(index, found, limit) if index else []


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
