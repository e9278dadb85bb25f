"""A folder -> one canonical state hash and the list of its faults: stage, checkpoint, exported model or whole run.

    folder with manifest.json -> its files, re-hashed
    run folder (stages.json)  -> each finished stage, re-hashed -> one hash over (stage, hash)

Invariant: the hash depends on names and content of state only, so equal hashes on two machines mean equal results.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from groundup import config, stage
from groundup.errors import DataError, ModelFileError, RecipeError

STAGES = "stages.json"


def verify_folder(path: Path) -> tuple[str, list[str]]:
    """(state hash, faults) of what `path` holds; a run folder stands for its finished stages.

    Raises RecipeError when nothing is there, ModelFileError when it holds no manifest or a broken one.
    """
    if not path.is_dir():
        raise RecipeError(
            f"{str(path)[-90:]}: no such folder; give a stage, checkpoint, model or run folder, or a recipe"
        )
    try:
        if not (path / stage.MANIFEST).is_file() and (path / STAGES).is_file():
            return _verify_run(path)
        return stage.verify(path)
    except DataError as error:
        raise ModelFileError(error.message, details=error.details) from None


def _verify_run(run: Path) -> tuple[str, list[str]]:
    hashes: dict[str, str] = {}
    faults: list[str] = []
    for entry in _done_stages(run):
        name = str(entry.get("name"))
        link = run / "stages" / name
        folder = link if link.is_dir() else run / str(entry.get("folder"))
        try:
            hashes[name], found = stage.verify(folder)
        except (DataError, ModelFileError) as error:
            found = [error.message]
        faults += [f"{name}: {fault}" for fault in found]
    if not hashes and not faults:
        raise ModelFileError(f"{str(run)[-90:]}: a run without a finished stage, so there is nothing to verify; run it")
    return config.digest(hashes), faults


def _done_stages(run: Path) -> list[dict[str, Any]]:
    try:
        entries = json.loads((run / STAGES).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise ModelFileError(f"{str(run)[-90:]}/{STAGES}: unreadable; run the recipe again to restore it") from None
    found = entries if isinstance(entries, list) else []
    return [entry for entry in found if isinstance(entry, dict) and entry.get("state") == "done"]
