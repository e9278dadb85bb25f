"""Closing files: what says that some work is done, and that its files are still as they were written.

Invariant: a closing file is written last and atomically, and neither it nor what it names may change unseen, so work
with an intact one need not be done again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from groundup import stage
from groundup.errors import OF_THE_PROCESS


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
    text = json.dumps(values, allow_nan=False)
    stage.write_text(folder / marker, f"{text}\n{_digest(text)}\n")
    return values


def finished(folder: Path, marker: str) -> dict[str, Any] | None:
    """What an intact closing file holds; None when it or a file it names is missing or changed."""
    try:
        text, digest = (folder / marker).read_text(encoding="utf-8").splitlines()
        values: dict[str, Any] = json.loads(text)
        intact = digest == _digest(text)
        intact = intact and all(stage.hash_file(folder / name) == it for name, it in values["files"].items())
    except OSError as error:
        if error.errno in OF_THE_PROCESS:
            raise
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return values if intact else None


def told(folder: Path, marker: str) -> dict[str, Any]:
    """What a closing file holds that was written, or found intact, by this process."""
    values: dict[str, Any] = json.loads((folder / marker).read_text(encoding="utf-8").splitlines()[0])
    return values


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
