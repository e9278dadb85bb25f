"""A resumable step: identity -> fingerprint -> locked folder -> files -> manifest with hashes -> atomic rename.

    stages/<name>/<fingerprint>.lock       held by whoever works (see `locks.py`)
    stages/<name>/<fingerprint>.partial/   work in progress; a resumable stage goes on from what lies here
    stages/<name>/<fingerprint>/           finished: manifest.json was written last, then the folder was renamed

Invariant: a folder without the `.partial` ending is complete, and its manifest holds the SHA-256 of each file in it.
Files under `logs/` carry times and are left out of the canonical state hash; tensors that lie in parts enter it as the
whole files that one rank would have written.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from groundup import config
from groundup.errors import (
    FEW_INODES,
    OF_THE_PROCESS,
    DataError,
    ModelFileError,
    ResourceError,
    inodes_left,
    resource_errors,
)
from groundup.locks import lock
from groundup.sharded import whole_files

MANIFEST = "manifest.json"
DIGEST = "digest"
"""Key of a manifest's hash over the rest of it."""
FOREIGN = "not in the manifest"
"""Fault of a file that somebody else put into a finished folder."""
LOGS = "logs"
FORMAT_VERSION = 1
_HASH_BLOCK_BYTES = 1 << 20
_HASH_THREADS = min(os.cpu_count() or 1, 8)
_WORTH_THREADS_BYTES = 1 << 26


@dataclass(frozen=True)
class Stage:
    """One step of a pipeline. Only `identity` and `inputs` (upstream fingerprints) enter the fingerprint."""

    name: str
    identity: Mapping[str, Any]
    inputs: Mapping[str, str] = field(default_factory=dict)
    resumable: bool = False
    """True when `build` goes on from files it finds; otherwise left-overs of a killed attempt are removed first."""

    @property
    def fingerprint(self) -> str:
        """16 hex digits over name, format version, identity and inputs."""
        return config.digest(
            {"stage": self.name, "format": FORMAT_VERSION, "identity": self.identity, "inputs": dict(self.inputs)}
        )

    def folder(self, workdir: Path) -> Path:
        """Where the finished stage lies (or will lie)."""
        return workdir / "stages" / self.name / self.fingerprint


@dataclass(frozen=True)
class Finished:
    """A finished stage: its folder and what its manifest says."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        return str(self.manifest["fingerprint"])

    @property
    def summary(self) -> Mapping[str, Any]:
        """What `build` returned: counts and figures for reports."""
        return dict(self.manifest["summary"])

    @property
    def seconds(self) -> float:
        """Seconds of work over all attempts that could record them."""
        return float(self.manifest["seconds"])


def finished(stage: Stage, workdir: Path) -> Finished | None:
    """The finished stage if it is there, else None. Raises DataError where its manifest is damaged."""
    folder = stage.folder(workdir)
    if not (folder / MANIFEST).is_file():
        return None
    manifest = read_manifest(folder)
    if not _is_sound(manifest):
        raise DataError(
            f"{folder / MANIFEST}: differs from its own hash; restore it, or remove the folder and run again"
        )
    return Finished(folder, manifest)


def bring(
    stage: Stage, workdir: Path, build: Callable[[Path], Mapping[str, Any]], runtime: Mapping[str, Any] | None = None
) -> Finished:
    """Bring `stage` to done: return it if finished, else lock, build (or go on), seal and return it.

    `build(work)` fills the folder `work` and returns a JSON-like summary (`earlier_seconds` in it: work of attempts
    that were killed, counted in the stage's seconds). Raises LockedError when another process works on the same
    stage, ResourceError when the disk refuses; whatever was finished before stays as it was.
    """
    done = finished(stage, workdir)
    if done:
        return done
    folder = stage.folder(workdir)
    with resource_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with lock(folder.with_name(folder.name + ".lock")):
            done = finished(stage, workdir)
            return done or _build_and_seal(stage, folder, build, runtime or {})


def _build_and_seal(
    stage: Stage, folder: Path, build: Callable[[Path], Mapping[str, Any]], runtime: Mapping[str, Any]
) -> Finished:
    if folder.exists():
        raise DataError(f"{folder}: its {MANIFEST} is gone, so it cannot be trusted; remove the folder and run again")
    partial = folder.with_name(folder.name + ".partial")
    if not (partial / MANIFEST).is_file():
        _prepare_partial(partial, stage.resumable)
        started = time.monotonic()
        summary = dict(build(partial))
        earlier_seconds = float(summary.pop("earlier_seconds", 0.0))
        seal(
            partial,
            {
                "stage": stage.name,
                "fingerprint": stage.fingerprint,
                "identity": dict(stage.identity),
                "inputs": dict(stage.inputs),
                "runtime": dict(runtime),
                "summary": dict(summary),
                "seconds": round(earlier_seconds + time.monotonic() - started, 3),
                "finished_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "versions": versions(),
            },
        )
    os.replace(partial, folder)
    fsync_folder(folder.parent)
    return Finished(folder, read_manifest(folder))


def _prepare_partial(partial: Path, resumable: bool) -> None:
    """Keep a killed attempt's files when the stage goes on from them, without its half-written `.tmp` files."""
    if partial.exists() and not resumable:
        shutil.rmtree(partial)
    partial.mkdir(exist_ok=True)
    for leftover in [path for path in partial.rglob("*.tmp") if path.is_file()]:
        leftover.unlink()


def versions() -> dict[str, str]:
    """Versions that a reader of a manifest wants: Python and the libraries that shape a result."""
    names = ("groundup", "torch", "tokenizers", "safetensors", "numpy", "pyarrow")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    hasher = hashlib.sha256()
    with _named(path), path.open("rb") as handle:
        while block := handle.read(_HASH_BLOCK_BYTES):
            hasher.update(block)
    return hasher.hexdigest()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let an error of reading or syncing say which file it is about: the system tells that only of opening one."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def facts_of(path: Path) -> dict[str, Any]:
    """What a manifest says of a file, which is flushed to the disk first."""
    with _named(path):
        fsync_file(path)
        return {"bytes": path.stat().st_size, "sha256": hash_file(path)}


def seal(folder: Path, content: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Fsync and hash all files of `folder`, then write its manifest last. For stages and for checkpoints alike.

    `known`: `facts_of` files that others have written. Raises ResourceError where one of them is not there as it was.
    """
    known, files = known or {}, dict[str, Mapping[str, Any]]()
    for name, facts in known.items():
        if not (folder / name).is_file() or (folder / name).stat().st_size != facts["bytes"]:
            raise ResourceError(f"{folder / name}: not there as it was written; all ranks must share one folder")
    for path in sorted(_files_in(folder) | {folder / name for name in known}):  # a listing may come late over a network
        name = path.relative_to(folder).as_posix()
        files[name] = known.get(name) or facts_of(path)
    for sub in sorted(p for p in folder.rglob("*") if p.is_dir()):
        fsync_folder(sub)
    whole = {"format": FORMAT_VERSION, **content, "files": files}
    write_json(folder / MANIFEST, {**whole, DIGEST: _digest(whole)})
    fsync_folder(folder)


def _is_sound(manifest: Mapping[str, Any]) -> bool:
    """Whether a manifest is as it was written. Older ones have no hash of their own, and end with the files."""
    if DIGEST in manifest:
        return bool(manifest[DIGEST] == _digest(manifest))
    return list(manifest)[-1] == "files"


def _digest(manifest: Mapping[str, Any]) -> str:
    """Hash over what a manifest says, but for the hash itself: as JSON gives it back."""
    read = json.loads(json.dumps({name: value for name, value in manifest.items() if name != DIGEST}))
    return config.digest(read)


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the whole new one: temporary file, fsync, rename."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically: temporary file, fsync, rename. What a full disk lets be written is removed again."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with _named(path):
            with temporary.open("w", encoding="utf-8") as handle:
                handle.write(text)
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def fsync_file(path: Path) -> None:
    """Flush a file's bytes to the disk."""
    with _named(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


fsync_folder = fsync_file
"""Flush a folder's entries (names made, renamed, removed) to the disk."""


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a stage, checkpoint or export; raises DataError when it is missing or damaged."""
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{folder}: no {MANIFEST}, so this is no finished stage, checkpoint or export") from None
    except OSError as error:
        if error.errno in OF_THE_PROCESS:
            raise
        raise DataError(f"{path}: cannot be read ({error.strerror}); mend the disk or the permissions") from None
    except (ValueError, RecursionError) as error:
        problem = str(error)[:60]
        raise DataError(
            f"{path}: unreadable manifest ({problem}); restore it, or remove the folder and run again"
        ) from None
    if not isinstance(content, dict) or not _are_files(content.get("files")):
        raise DataError(f"{path}: not a manifest (no 'files'); remove the folder and run the same command again")
    if content.get("format") != FORMAT_VERSION:
        found = str(content.get("format"))[:20]
        raise ModelFileError(
            f"{path}: format version {found}, this Groundup reads {FORMAT_VERSION}; use the version that wrote it"
        )
    return content


def _are_files(files: Any) -> bool:
    return isinstance(files, dict) and all(
        isinstance(entry, dict) and isinstance(entry.get("bytes"), int) and isinstance(entry.get("sha256"), str)
        for entry in files.values()
    )


def verify(folder: Path) -> tuple[str, list[str]]:
    """Re-hash every file of `folder` against its manifest -> (canonical state hash, faults; empty when all is well).

    Raises DataError without a sound manifest, ModelFileError where an index of parts does not fit its files.
    """
    manifest = read_manifest(folder)
    faults, files = faults_of(folder, manifest), manifest["files"]
    return state_hash(files if faults else whole_files(folder, files)), faults


def faults_of(folder: Path, manifest: Mapping[str, Any], share: tuple[int, int] = (0, 1)) -> list[str]:
    """What does not hold of a manifest. `share` (i, n): hash only one of n equal parts of the files."""
    files = manifest["files"]
    faults = [] if _is_sound(manifest) else [f"{MANIFEST}: differs from its own hash"]
    largest_first = sorted(files, key=lambda name: (-files[name]["bytes"], name))
    hashed = set(largest_first[share[0] :: share[1]])
    names = sorted(files)
    large = sum(files[name]["bytes"] for name in hashed) > _WORTH_THREADS_BYTES
    with ThreadPoolExecutor(_HASH_THREADS) if large else nullcontext() as threads:
        found = (threads.map if threads else map)(partial(_fault, folder, files, hashed), names)
        faults += [f"{name}: {fault}" for name, fault in zip(names, found) if fault]
    present = {path.relative_to(folder).as_posix() for path in _files_in(folder)}
    faults.extend(f"{name}: {FOREIGN}" for name in sorted(present - files.keys()))
    return faults


def _files_in(folder: Path) -> set[Path]:
    """What a manifest is about. Hidden files are nobody's: file systems and browsers of files leave them anywhere."""
    found = {path for path in folder.rglob("*") if path.is_file()} - {folder / MANIFEST}
    return {path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)}


def _fault(folder: Path, files: Mapping[str, Mapping[str, Any]], hashed: Collection[str], name: str) -> str | None:
    """What is wrong with one of a manifest's files; of those that are not `hashed`, as far as can be seen."""
    path, expected = folder / name, files[name]
    if Path(name).is_absolute() or ".." in Path(name).parts:
        return "points outside the folder"
    if not path.is_file():
        return "missing"
    if (size := path.stat().st_size) != expected["bytes"]:
        return f"{size} bytes, {expected['bytes']} recorded"
    try:
        same = name not in hashed or hash_file(path) == expected["sha256"]
        return None if same else "content differs from its recorded SHA-256"
    except OSError as error:
        if error.errno in OF_THE_PROCESS:
            raise
        return f"cannot be read ({error.strerror})"


def state_hash(files: Mapping[str, Mapping[str, Any]]) -> str:
    """One hash over names and content of all state: every file but logs and inner manifests, which hold times."""
    names = {name: set(Path(name).parts) for name in files}
    return config.digest({n: files[n]["sha256"] for n, parts in names.items() if not parts & {LOGS, MANIFEST}})


def require_space(folder: Path, needed_bytes: int, purpose: str) -> None:
    """Raise ResourceError before a write that cannot fit on the disk."""
    left = inodes_left(folder)
    if left is not None and left < FEW_INODES:
        raise ResourceError(
            f"{purpose} needs {FEW_INODES} inodes in {folder}, {left} are left; delete files or set runtime.workdir"
        )
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise ResourceError(
            f"{purpose} needs {needed_bytes / 1e6:.0f} MB in {folder}, {free / 1e6:.0f} MB are free; "
            "free some space or set runtime.workdir"
        )
