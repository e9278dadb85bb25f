"""Folders of checkpoints: their names, what killed writers leave, how a new one takes its place, which are kept.

    step-00000120                          sealed
    step-00000120.partial-<pid>            being written, or deleted
    step-00000120.partial-<pid>-old        made way for another of the same step
    step-00000120.damaged                  was fallen back from; kept to the end of the phase

Invariant: at every moment the newest sealed one is in its place, or can be put back there by `remove_leftovers`.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from groundup import stage
from groundup.log import logger

NAME = re.compile(r"step-(\d{8})")
DAMAGED = ".damaged"
"""Ending of a checkpoint that was fallen back from."""
_PARTIAL = ".partial-"
_OLD = "-old"


def folder_name(step: int) -> str:
    """Name of the folder of a step's checkpoint."""
    return f"step-{step:08d}"


def step_of(path: Path) -> int:
    """The step of a checkpoint's folder."""
    return int(path.name.removeprefix("step-"))


def partial_of(target: Path) -> Path:
    """Where this process writes what will be `target`."""
    return target.with_name(f"{target.name}{_PARTIAL}{os.getpid()}")


def require_room(folder: Path, size_bytes: int) -> None:
    """Raise ResourceError where a checkpoint of so many bytes of tensors does not fit on the disk."""
    folder.mkdir(parents=True, exist_ok=True)
    stage.require_space(folder, int(size_bytes * 1.1), "a checkpoint")


def take_place(partial: Path, target: Path) -> None:
    """Let a sealed folder be `target`, whatever was there."""
    if target.exists():
        # Out of the way by one rename: a kill between two steps of a deletion would leave half a checkpoint.
        os.replace(target, target.with_name(f"{partial.name}{_OLD}"))
    os.replace(partial, target)
    stage.fsync_folder(target.parent)
    remove_leftovers(target.parent)


def remove_leftovers(folder: Path) -> None:
    """Remove what writers left that were killed; whoever calls it holds the stage's lock, so none of them lives.

    What had made way for a checkpoint that never came is put back first.
    """
    for old in folder.glob(f"step-*{_PARTIAL}*{_OLD}"):
        target = old.with_name(old.name.partition(_PARTIAL)[0])
        if not target.exists() and (old / stage.MANIFEST).is_file():
            os.replace(old, target)
    for leftover in folder.glob(f"step-*{_PARTIAL}*"):
        _remove_any(leftover)


def _remove_any(path: Path) -> None:
    """A folder with all in it, or a file that somebody gave a checkpoint's name."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def set_aside(damaged: Sequence[Path]) -> None:
    """Rename checkpoints that were fallen back from, so that they do not count as the newest, which are kept."""
    for path in damaged:
        aside = path.with_name(path.name + DAMAGED)
        if aside.exists():
            _remove_any(aside)
        os.replace(path, aside)


def remove_damaged(folder: Path) -> None:
    """Remove what was set aside, once the phase is at its end without it."""
    for path in folder.glob(f"step-*{DAMAGED}"):
        _remove_any(path)


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints."""
    remove(candidates(folder)[keep:])


def remove(checkpoints: Sequence[Path]) -> None:
    """Delete these checkpoints."""
    for old in checkpoints:
        # Renamed first, so that a kill half-way through the deletion leaves no folder that looks like a checkpoint.
        doomed = partial_of(old)
        os.replace(old, doomed)
        shutil.rmtree(doomed)


def candidates(folder: Path) -> list[Path]:
    """Sealed checkpoint folders, newest first; anything else that lies about is left alone."""
    if not folder.is_dir():
        return []
    named = [path for path in folder.iterdir() if NAME.fullmatch(path.name)]
    return [path for path in sorted(named, reverse=True) if (path / stage.MANIFEST).is_file()]


def warn_of_others(folder: Path, candidates: Sequence[Path]) -> None:
    """Say what lies among the checkpoints and is none, as the half of one without its manifest."""
    there = sorted(folder.iterdir()) if folder.is_dir() else []
    names = [path.name for path in there if path not in candidates and not path.name.endswith(DAMAGED)]
    if names:
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        shown = ", ".join(names[:5])
        logger.warning(f"{folder}: ignored, not complete checkpoints (no {stage.MANIFEST}): {shown}{more}")


def are_there(folder: Path) -> bool:
    """Whether a whole checkpoint lies in `folder`."""
    return bool(candidates(folder))


def newer_than(folder: Path, step: int) -> list[Path]:
    """Checkpoints of later steps, newest first."""
    return [path for path in candidates(folder) if step_of(path) > step]
