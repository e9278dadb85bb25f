"""Closing files: what says that some work is done, and that its files are still as they were written.

Invariant: a closing file is written last and atomically, so work with an intact one need not be done again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from groundup import stage


def finish(
    folder: Path,
    marker: str,
    content: Mapping[str, Any],
    names: Iterable[str],
    hashed: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Write the closing file `marker` with the hashes of the files `names` of `folder`; returns what it holds.

    `hashed`: further files, whose hashes are known.
    """
    values = {**content, "files": {**{name: stage.hash_file(folder / name) for name in names}, **(hashed or {})}}
    stage.write_text(folder / marker, json.dumps(values, allow_nan=False))
    return values


def finished(folder: Path, marker: str) -> dict[str, Any] | None:
    """What an intact closing file holds; None when it is not there or a file it names is missing or changed."""
    try:
        values: dict[str, Any] = json.loads((folder / marker).read_text(encoding="utf-8"))
        intact = all(stage.hash_file(folder / name) == expected for name, expected in values["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return values if intact else None
