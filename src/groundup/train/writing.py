"""A snapshot -> a sealed checkpoint in its place, by one process or by all ranks together.

    one process     write: fresh folder, files, manifest last, rename, prune
    all ranks       Joint: open (the first rank makes the folder and looks for room) -> each rank writes, flushes and
                    hashes its own files -> settle (all hear of all) -> the first rank seals, renames, prunes

Invariant: what has a manifest is whole. `open` and `settle` are collectives of the main thread; what lies between and
behind them is for any thread, and talks to nobody.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from groundup import stage
from groundup.errors import GroundupError, ResourceError, resource_errors
from groundup.parallel.exchange import texts_of_all
from groundup.sharded import INDEX
from groundup.train.folders import folder_name, partial_of, prune, remove_leftovers, require_room, take_place
from groundup.train.snapshot import Snapshot

STATE = "state.json"


def nothing() -> None:
    """Ahead of each file, where nobody asks for more."""


def write(folder: Path, snapshot: Snapshot, keep: int, before_file: Callable[[], None] = nothing) -> Path:
    """Write a snapshot under `folder`, prune all but the newest `keep`; returns its path. `before_file`: each time."""
    target = folder / folder_name(snapshot.step)
    partial = partial_of(target)
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    partial.mkdir()
    try:
        for name, tensors in snapshot.files.items():
            before_file()
            _write_tensors(partial / name, tensors)
        stage.write_json(partial / STATE, dict(snapshot.content))
        stage.seal(partial, snapshot.about)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    take_place(partial, target)
    prune(folder, keep)
    return target


class Joint:
    """One checkpoint that all ranks write into one folder, which all of them see."""

    def __init__(self, folder: Path, snapshot: Snapshot, mesh: DeviceMesh) -> None:
        """Open it: a collective. Raises ResourceError, on all ranks, when the first one finds no room or is refused."""
        self.snapshot, self._mesh = snapshot, mesh
        self.leads = mesh.get_rank() == 0
        self.target = folder / folder_name(snapshot.step)
        said: dict[str, str] = {}
        if self.leads:
            try:
                with resource_errors(folder):
                    said = {"partial": self._made().name}
            except GroundupError as error:
                said = {"fault": error.message}
        heard = json.loads(texts_of_all(json.dumps(said), mesh)[0])
        if "fault" in heard:
            raise ResourceError(heard["fault"])
        self.partial = folder / heard["partial"]
        self._files: dict[str, Any] = {}

    def _made(self) -> Path:
        """The folder to write in, made by the first rank."""
        folder = self.target.parent
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        require_room(folder, self.snapshot.size_bytes)
        partial = partial_of(self.target)
        partial.mkdir()
        return partial

    def write(self, before_file: Callable[[], None] = nothing) -> None:
        """Write, flush and hash this rank's files. Raises OSError where the system refuses, or ResourceError."""
        if not self.partial.is_dir():
            raise ResourceError(
                f"{self.partial}: not there on this machine; set runtime.workdir to a folder that all share"
            )
        for name, tensors in self.snapshot.files.items():
            before_file()
            _write_tensors(self.partial / name, tensors)
            self._files[name] = stage.facts_of(self.partial / name)
        stage.fsync_folder(self.partial)
        self.snapshot = replace(self.snapshot, files={})  # what is written need not stay in memory

    def settle(self, fault: str | None) -> ResourceError | None:
        """Let all hear how it went here (a collective); returns what went wrong, on all ranks, where something did.

        Then the folder is removed.
        """
        own = {"files": self._files} if fault is None else {"fault": fault}
        heard = [json.loads(text) for text in texts_of_all(json.dumps(own), self._mesh)]
        faults = [f"rank {rank}: {each['fault']}" for rank, each in enumerate(heard) if "fault" in each]
        if faults:
            if self.leads:
                shutil.rmtree(self.partial, ignore_errors=True)
            return ResourceError(faults[0], details=faults[1:])
        self._files = {name: facts for each in heard for name, facts in each["files"].items()}
        return None

    def seal(self, keep: int) -> Path:
        """Behind a `settle` without faults, on the first rank: index, manifest, rename; prune all but `keep`."""
        index = self.snapshot.index
        assert index is not None, "several ranks write parts"
        try:
            stage.write_text(self.partial / INDEX, json.dumps(index.as_json(), separators=(",", ":")) + "\n")
            stage.write_json(self.partial / STATE, dict(self.snapshot.content))
            stage.seal(self.partial, self.snapshot.about, self._files)
        except BaseException:
            shutil.rmtree(self.partial, ignore_errors=True)
            raise
        take_place(self.partial, self.target)
        prune(self.target.parent, keep)
        return self.target

    def agree(self, fault: str | None) -> ResourceError | None:
        """Let all hear whether the first rank has sealed it (a collective); returns why not."""
        heard = texts_of_all(fault or "", self._mesh)[0]
        return ResourceError(heard) if heard else None


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """A safetensors file. Raises OSError where the system refuses, which safetensors only tells in words."""
    try:
        save_file(dict(tensors), path, metadata={"format": "pt"})
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
    path.chmod(0o644)  # safetensors makes files that only their owner may read
