"""A source -> its files: local ones by path, those of a dataset on the Hugging Face hub by name.

    path --sources.find_files--> files --layouts--> without what is no data
    hub  --list of one commit--> files --layouts--> without what is no data; fetched when they are read

Invariant: a run reads one commit of a hub dataset, the one its identity names; each fetched file has the listed size.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from groundup.corpus.optional import load
from groundup.corpus.reading import layouts
from groundup.corpus.reading.compressed import is_of_machine
from groundup.corpus.reading.files import Found, RawFile, Remote, Skipped, find_files
from groundup.corpus.reading.layouts import CARD, Wanted
from groundup.corpus.reading.sources import SourceConfig
from groundup.errors import DataError

_TIMEOUT_SECONDS = 30
_SMALL_FILE_BYTES = 16 << 20


def find_source(source: SourceConfig, base: Path) -> Found:
    """Files of a source, and what of it is skipped and why, both sorted by name.

    Raises DataError when there is nothing to read, the wanted part of a dataset is not there, or the hub cannot be
    reached.
    """
    wanted = Wanted(source.dataset_config, source.dataset_split)
    if source.hub:
        return _find_on_hub(source, wanted)
    found = find_files(source.paths, base, source.include, source.exclude)
    paths = {file.name: file.path for file in found.files}
    return _data(found, lambda name: _start_of(paths[name]), wanted, str(source.paths[0]))


def with_license(source: SourceConfig, found: Found) -> SourceConfig:
    """The source with the licence that its dataset's card names, where the recipe names none."""
    return source if source.license else source.model_copy(update={"license": found.license})


def _start_of(path: Path) -> bytes:
    try:
        with path.open("rb") as handle:
            return handle.read(_SMALL_FILE_BYTES)
    except OSError:
        return b""


def _data(found: Found, read: Callable[[str], bytes], wanted: Wanted, where: str, is_repository: bool = False) -> Found:
    """What is data of the wanted part of a dataset, and the licence that its card names."""
    names, read_once = [file.name for file in found.files], cache(read)
    reasons = layouts.left_out(names, read_once, wanted, where, is_repository)
    card = layouts.license_of_card(read_once(CARD)) if CARD in names else ""
    return replace(_without(found, reasons, where), license=card)


def _without(found: Found, reasons: dict[str, str], where: str) -> Found:
    files = tuple(file for file in found.files if file.name not in reasons)
    skipped = [Skipped(file.name, reasons[file.name]) for file in found.files if file.name in reasons]
    if not files:
        raise DataError(
            f"{where}: no file of the dataset is left; see dataset_config, dataset_split, include and exclude"
        )
    return Found(files, tuple(sorted((*found.skipped, *skipped))))


def _find_on_hub(source: SourceConfig, wanted: Wanted) -> Found:
    with _hub_errors(source.hub):
        information = _api().dataset_info(
            source.hub, revision=source.hub_revision, files_metadata=True, timeout=_TIMEOUT_SECONDS
        )
    commit = str(information.sha)
    files: list[RawFile] = []
    skipped: list[Skipped] = []
    for sibling in information.siblings or []:
        name = str(sibling.rfilename)
        reason = source.choose(name)
        if reason and name != CARD:
            skipped.append(Skipped(name, reason))
            continue
        digest = sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
        remote = Remote(source.hub, commit, name, int(sibling.size or 0), str(digest))
        files.append(RawFile(name, Path(name), remote))
    found = Found(tuple(sorted(files)), tuple(sorted(skipped)))
    remotes = {file.name: file.remote for file in files if file.remote is not None}
    return _data(found, lambda name: _content(remotes[name]), wanted, source.hub, is_repository=True)


def _content(remote: Remote) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return _start_of(fetch(remote, Path(folder)))


@contextmanager
def fetched(file: RawFile, folder: Path) -> Iterator[Path]:
    """The path of a file: where it lies, or a copy in `folder` that goes again. Raises DataError as `fetch` does."""
    if file.remote is None:
        yield file.path
        return
    place = Path(tempfile.mkdtemp(dir=folder, prefix="hub-"))
    try:
        yield fetch(file.remote, place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def fetch(remote: Remote, folder: Path) -> Path:
    """A copy of a hub file in `folder`. Raises DataError when the hub cannot be reached or gives another size."""
    hub = load("huggingface_hub", "hub:")
    with _hub_errors(remote.repository):
        path = Path(
            hub.hf_hub_download(
                remote.repository,
                remote.name,
                repo_type="dataset",
                revision=remote.commit,
                local_dir=folder,
                endpoint=_api().endpoint,
                etag_timeout=_TIMEOUT_SECONDS,
            )
        )
    if path.stat().st_size != remote.size_bytes:
        raise DataError(
            f"{remote.repository}: {remote.name[:60]} has {path.stat().st_size} bytes, the hub listed "
            f"{remote.size_bytes}; run again"
        )
    return path


def _api() -> Any:
    load("huggingface_hub.utils", "hub:").disable_progress_bars()
    return load("huggingface_hub", "hub:").HfApi()


@contextmanager
def _hub_errors(repository: str) -> Iterator[None]:
    """Turn what the client raises into one DataError with a remedy."""
    errors = load("huggingface_hub.errors", "hub:")
    transport = load("huggingface_hub.utils", "hub:").httpx.HTTPError
    unreachable = "the hub cannot be reached: check the network, or download the dataset and give its path"
    remedies = (
        (errors.LocalEntryNotFoundError, unreachable),
        (errors.GatedRepoError, "access is restricted: ask for it on the hub and set HF_TOKEN"),
        (errors.RevisionNotFoundError, "no such revision: correct hub_revision"),
        (errors.RepositoryNotFoundError, "no such dataset, or a private one: correct hub, or set HF_TOKEN"),
        (errors.EntryNotFoundError, "a listed file is gone: run again"),
    )
    try:
        yield
    except (errors.HfHubHTTPError, errors.EntryNotFoundError, transport, OSError) as error:
        remedy = next((text for kind, text in remedies if isinstance(error, kind)), unreachable)
        if is_of_machine(error):
            raise
        raise DataError(f"hub {repository}: {remedy}", details=[str(error).splitlines()[0][:200]]) from None
